"""The times of kernels on a device, in files of the package or of ``fastunroll tune``."""

from __future__ import annotations

import math
import os
import re
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..._files import read_json, write_json

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
    """The measurements on a device, with their date."""

    device: str
    date: str
    cases: tuple[Case, ...]

    def write(self, path: Path) -> None:
        """Writes the whole file or nothing, also while others read it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(self))

    @staticmethod
    def read(path: Path) -> Timings:
        """The timings in a file.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file does not hold timings.
        """
        found = read_json(path, _WRONG, _FIX)
        names: dict[str, type] = {"device": str, "date": str, "cases": list}
        if not (isinstance(found, dict) and _are(found, names) and all(map(_is_case, found["cases"]))):
            raise ValueError(f"{path} {_WRONG}: {_FIX}")
        return Timings(found["device"], found["date"], tuple(Case(**case) for case in found["cases"]))


_WRONG, _FIX = "is no file of timings", "`fastunroll tune` writes it anew"
_FIELDS: dict[str, type] = {"kind": str, "precision": str, "gradient": bool, "n": int, "batch": int, "times": dict}


def _are(found: dict[str, Any], types: dict[str, type]) -> bool:
    return found.keys() == types.keys() and all(type(found[name]) is kind for name, kind in types.items())


def _is_case(found: object) -> bool:
    """Whether an entry has the fields of a :class:`Case`, with positive sizes and positive, finite times."""
    if not (isinstance(found, dict) and _are(found, _FIELDS)):
        return False
    times = found["times"].values()
    numbers = all(type(t) in (int, float) for t in times)
    return min(found["n"], found["batch"]) > 0 and len(times) > 0 and numbers and all(0 < t < math.inf for t in times)


def name_of(device: torch.device) -> str:
    """The name of a device by its driver."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def file_name(device: str) -> str:
    """The name of the file with the timings of a device."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") + ".json"


def own_folder() -> Path:
    """The folder of ``fastunroll tune``. Its files take precedence over those of the package."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fastunroll"


_known: dict[torch.device, Timings | None] = {}


def of_device(device: torch.device) -> Timings | None:
    """The timings of a device; None if there are none. A process reads the files once."""
    if device not in _known:
        _known[device] = _read(device)
    return _known[device]


def forget() -> None:
    """Makes the next call read the files again."""
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
