"""How long each kernel took on a device: files that come with the package, or that ``fastunroll tune`` has written."""

from __future__ import annotations

import json
import os
import re
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

COMES_WITH = Path(__file__).with_name("measured")


@dataclass(frozen=True)
class Case:
    """times: microseconds of a call with 16 layers, m = n / 2, by the name of the kernel."""

    kind: str
    precision: str
    gradient: bool
    n: int
    batch: int
    times: dict[str, float]


@dataclass(frozen=True)
class Timings:
    """What was measured on a device, and when."""

    device: str
    date: str
    cases: tuple[Case, ...]

    def write(self, path: Path) -> None:
        """Whole or not at all, whoever reads it meanwhile."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            part.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @staticmethod
    def read(path: Path) -> Timings:
        """Raises ValueError for a file that is none of ours."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            cases = tuple(Case(**case) for case in found["cases"])
            for c in cases:
                if not (c.n > 0 and c.batch > 0 and c.times and all(t > 0 for t in c.times.values())):
                    raise ValueError(f"sizes and times must be positive, got {c}")
            return Timings(found["device"], found["date"], cases)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} is no file of timings ({error}): `fastunroll tune` writes it anew") from error


def name_of(device: torch.device) -> str:
    """As its driver calls it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def file_name(device: str) -> str:
    """That of the timings of a device of this name."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") + ".json"


def own_folder() -> Path:
    """Where ``fastunroll tune`` writes to; what lies there goes before what comes with the package."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fastunroll"


_known: dict[torch.device, Timings | None] = {}


def of_device(device: torch.device) -> Timings | None:
    """None if nothing has been measured there. Files are read once in a process."""
    if device not in _known:
        _known[device] = _read(device)
    return _known[device]


def forget() -> None:
    """So that files are read again."""
    _known.clear()


def _read(device: torch.device) -> Timings | None:
    name = file_name(name_of(device))
    for folder in (own_folder, lambda: COMES_WITH):
        try:
            return Timings.read(folder() / name)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RuntimeError) as error:  # there may be no home either
            warnings.warn(f"fastunroll chooses kernels without timings of this device: {error}", stacklevel=2)
    return None
