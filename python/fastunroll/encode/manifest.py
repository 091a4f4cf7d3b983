"""The job file in a folder of unfinished work, and the names by which a job knows its own files."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeGuard

from .. import __version__, _checks
from . import storage
from .errors import DamagedError, EncodeError

MANIFEST = "job.json"
VERSION = 2  # of the layout of a folder, and of the shards in it
_SHARD = re.compile(r"shard-([0-9]{6,})\.npz(\.partial)?")


def identity(settings: dict[str, Any]) -> str:
    """A short name of a job, which no job with other settings has."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def shard_path(folder: Path, index: int) -> Path:
    """The file of a shard."""
    return folder / f"shard-{index:06d}.npz"


@dataclass(frozen=True)
class Manifest:
    """What a job file says.

    Attributes:
        settings: of the job, as :class:`fastunroll.encode.job.Job` has them.
        shard_size: samples a shard.
    """

    settings: dict[str, Any]
    shard_size: int

    @property
    def count(self) -> int:
        """Samples of the job."""
        samples: int = self.settings["samples"][0]
        return samples

    @property
    def columns(self) -> int:
        """Of the codes."""
        n: int = self.settings["shape of the dictionary"][1]
        return n

    @property
    def shards(self) -> int:
        return -(-self.count // self.shard_size)

    @property
    def job(self) -> str:
        return identity(self.settings)

    def bounds(self, index: int) -> tuple[int, int]:
        """First and last-but-one sample of a shard."""
        return index * self.shard_size, min((index + 1) * self.shard_size, self.count)

    def names(self, name: str) -> bool:
        """Whether a file of this name in the folder is a shard of the job, or the start of one."""
        found = _SHARD.fullmatch(name)
        if found is None:
            return False
        index = int(found[1])
        return index < self.shards and found[1] == f"{index:06d}"

    def write(self, folder: Path) -> None:
        """Writes the job file.

        Raises:
            WriteError: the disk is full, or fails.
        """
        content = {"version": VERSION, "fastunroll": __version__, **asdict(self)}
        storage.write_text(folder / MANIFEST, json.dumps(content, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """What the job file of a folder says; None if there is none.

    Raises:
        EncodeError: it cannot be read, is damaged, or is from another version.
    """
    path = folder / MANIFEST
    if not os.path.lexists(path):
        return None
    anew = f"move {folder} away to start anew, or give another --output"
    try:
        found = storage.parsed(path, storage.read_bytes(path))
    except DamagedError:
        raise EncodeError(f"{path} is damaged: {anew}") from None
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise EncodeError(f"{path} is not from this version of fastunroll encode: {anew}")
    settings, size = found.get("settings"), found.get("shard_size")
    if not is_settings(settings) or not is_size(size) or size == 0:
        raise EncodeError(f"{path} is damaged: {anew}")
    return Manifest(settings, size)


def is_settings(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a value from a file can be the settings of a job: both shapes, and plain numbers and strings."""
    if not isinstance(value, dict) or not all(map(_is_plain, value.values())):
        return False
    shapes = [value.get(key) for key in ("samples", "shape of the dictionary")]
    return all(isinstance(shape, list) and len(shape) == 2 and all(map(is_size, shape)) for shape in shapes)


def is_size(value: object) -> TypeGuard[int]:
    """Whether it is a whole number that can count something."""
    return type(value) is int and 0 <= value < 2**63


def _is_plain(value: object) -> bool:
    """Whether it is what settings consist of: no lists in lists, whose depth has no limit."""
    parts = value if isinstance(value, list) else [value]
    return all(part is None or isinstance(part, (str, bool, int, float)) for part in parts)


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs between the settings of two jobs, in words; empty if nothing does."""
    found = []
    for key, b in now.items():
        a = before.get(key)
        if a != b:
            hidden = key.startswith(("content", "time"))
            found.append(f"the {key} differs" if hidden else f"{key} was {_words(a)} and is now {_words(b)}")
    if before.keys() - now.keys():
        found.append("it has settings that this version of fastunroll does not know")
    return ", ".join(found)


def _words(value: Any) -> str:
    if value is None:
        return "not given"
    return value if isinstance(value, str) and len(value) <= 80 and value.isprintable() else _checks.shown(value)
