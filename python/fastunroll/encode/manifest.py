"""The job file in a folder of unfinished work, and the names of the files of a job."""

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
VERSION = 2  # the version of the layout of the folder and of its shards
_SHARD = re.compile(r"shard-([0-9]{6,})\.npz(\.partial)?")


def shard_path(folder: Path, index: int) -> Path:
    """Returns the path of the file of a shard."""
    return folder / f"shard-{index:06d}.npz"


@dataclass(frozen=True)
class Manifest:
    """The content of a job file.

    Attributes:
        settings: the settings of the job, see :class:`fastunroll.encode.job.Job`.
        shard_size: the number of samples in a shard.
    """

    settings: dict[str, Any]
    shard_size: int

    @property
    def count(self) -> int:
        """The number of samples of the job."""
        samples: int = self.settings["samples"][0]
        return samples

    @property
    def shards(self) -> int:
        return -(-self.count // self.shard_size)

    @property
    def job(self) -> str:
        """A short name. Jobs with different settings have different names."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]

    def bounds(self, index: int) -> tuple[int, int]:
        """Returns the first sample of a shard and the sample after its last."""
        return index * self.shard_size, min((index + 1) * self.shard_size, self.count)

    def names(self, name: str) -> bool:
        """Returns whether a file of this name is a shard of the job, or an unfinished shard."""
        match = _SHARD.fullmatch(name)
        if match is None:
            return False
        index = int(match[1])
        return index < self.shards and match[1] == f"{index:06d}"

    def write(self, folder: Path) -> None:
        """Writes the job file."""
        content = {"version": VERSION, "fastunroll": __version__, **asdict(self)}
        storage.write_text(folder / MANIFEST, json.dumps(content, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """Returns the content of the job file of a folder, or None if there is no job file.

    Raises:
        EncodeError: the job file cannot be read, is damaged, or is from another version.
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
    """Returns whether a value from a file can be the settings of a job: two shapes, and plain numbers and strings."""
    if not isinstance(value, dict) or not all(map(_is_plain, value.values())):
        return False
    shapes = [value.get(key) for key in ("samples", "shape of the dictionary")]
    return all(isinstance(shape, list) and len(shape) == 2 and all(map(is_size, shape)) for shape in shapes)


def is_size(value: object) -> TypeGuard[int]:
    """Returns whether a value is an integer that can be a count."""
    return type(value) is int and 0 <= value < 2**63


def _is_plain(value: object) -> bool:
    """Returns whether a value is a plain value or a list of plain values. Nested lists could have any depth."""
    parts = value if isinstance(value, list) else [value]
    return all(part is None or isinstance(part, (str, bool, int, float)) for part in parts)


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Returns the differences between the settings of two jobs in words, or "" if the settings are equal."""
    differences = []
    for key, b in now.items():
        a = before.get(key)
        if a != b:
            hidden = key.startswith(("content", "time"))
            differences.append(f"the {key} differs" if hidden else f"{key} was {_words(a)} and is now {_words(b)}")
    if before.keys() - now.keys():
        differences.append("it has settings that this version of fastunroll does not know")
    return ", ".join(differences)


def _words(value: Any) -> str:
    if value is None:
        return "not given"
    return value if isinstance(value, str) and len(value) <= 80 and value.isprintable() else _checks.shown(value)
