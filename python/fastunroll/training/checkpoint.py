"""Checkpoints of training: written so that no crash loses them, and compared with what training expects before use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import _checks
from .._files import read_tensors, write_whole

_WRONG, _FIX = "is not a checkpoint of fastunroll.training", "delete it, or give another file"
_LARGEST = 2**63
ENTRIES = ("facts", "state", "model", "best", "generators", "optimizer")


class Mismatch(Exception):
    """An entry of a checkpoint is not what it must be. The message is the rest of a sentence that names the file."""


def checked_path(checkpoint: object) -> Path | None:
    """The path of a checkpoint, in a folder that exists now.

    Raises:
        TypeError, ValueError: it is no path.
        OSError: it is a folder, or the folder cannot be made.
    """
    if checkpoint is None:
        return None
    if not isinstance(checkpoint, (str, Path)):
        raise TypeError(f"checkpoint must be the path of a file, or None, got {_checks.shown(checkpoint)}")
    if "\0" in str(checkpoint):
        raise ValueError(f"checkpoint must be the path of a file, but {str(checkpoint)!r} holds a null character")
    path = Path(checkpoint)
    if path.is_dir():
        raise IsADirectoryError(f"checkpoint must be the path of a file, but {str(path)!r} is a folder: add a name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or str(error)
        raise type(error)(
            f"the folder of checkpoint {str(path)!r} cannot be made ({why}): give another path"
        ) from error
    return path


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a checkpoint. A crash at any moment leaves the old file or the new one."""
    write_whole(path, lambda file: torch.save(content, file))


def read(path: Path) -> dict[str, Any]:
    """The entries of a checkpoint file by name: all of :data:`ENTRIES`, not yet compared with anything.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is something else, or is damaged.
    """
    content = read_tensors(path, _WRONG, _FIX)
    if not isinstance(content, dict) or content.keys() != set(ENTRIES):
        raise ValueError(f"{path} {_WRONG}: {_FIX}")
    return content


def refusal(path: Path, error: Mismatch) -> ValueError:
    """The sentence that refuses a file."""
    return ValueError(f"{path} {error}: {_FIX}")


def equal(found: object, wanted: object) -> bool:
    """Whether plain values are equal; False where they cannot be compared, as tensors and endless nesting cannot."""
    try:
        return bool(found == wanted)
    except (RuntimeError, TypeError, ValueError):
        return False


def number(name: str, found: object, least: float, most: float = _LARGEST) -> None:
    """Refuses what is not a whole number from ``least`` to ``most``."""
    if type(found) is not int or not least <= found <= most:
        raise Mismatch(f"is damaged, since its {name} is {_checks.shown(found)} and not a whole number in its range")


def tensors(name: str, found: object, like: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """Tensors by name with the names, sizes and kinds of those of ``like``, in their shapes.

    A number may have the shape () or (1,), as versions have kept it in one or the other.
    """
    if not isinstance(found, dict) or found.keys() != like.keys():
        raise Mismatch(f"is of another {what}: its {name} has other names")
    out = {}
    for key, own in like.items():
        value = found[key]
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized or value.is_nested:
            raise Mismatch(f"is damaged, since {key} of its {name} is no dense tensor")
        if value.numel() != own.numel() or (own.numel() != 1 and value.shape != own.shape):
            raise Mismatch(
                f"is of another {what}: {key} of its {name} has the shape {_checks.shape_text(value.shape)}, and here "
                f"it has {_checks.shape_text(own.shape)}"
            )
        if value.dtype != own.dtype:
            raise Mismatch(f"is of another {what}: {key} of its {name} is {value.dtype}, and here it is {own.dtype}")
        out[key] = value.reshape(own.shape)
    return out


def record(name: str, found: object, types: Mapping[str, Sequence[type]]) -> None:
    """Refuses what is not a dictionary with values of these types."""
    if (
        not isinstance(found, dict)
        or found.keys() != types.keys()
        or any(type(found[name]) not in kinds for name, kinds in types.items())
    ):
        raise Mismatch(f"is damaged, since its {name} must hold {', '.join(types)}, each of its type")


def generator(found: object, processes: int, rank: int) -> torch.Generator:
    """The generator of this process, out of the states of those of all processes."""
    out = torch.Generator()
    damaged = Mismatch("is damaged, since it does not hold the state of a generator for each process")
    if not isinstance(found, list) or len(found) != processes:
        raise damaged
    like = out.get_state()
    state = tensors("generators", {"state": found[rank]}, {"state": like}, "generator")["state"]
    try:
        return out.set_state(state)
    except (RuntimeError, TypeError):
        raise damaged from None


def adam_state(found: object, own: torch.optim.Adam) -> dict[str, Any]:
    """The state of an optimiser that fits ``own``: a learning rate for each group, two moments for each parameter."""
    wanted = own.state_dict()
    damaged = Mismatch("is damaged, since the state of its optimiser does not fit the parameters")
    if not isinstance(found, dict) or found.keys() != wanted.keys() or not isinstance(found["state"], dict):
        raise damaged
    groups = found["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(wanted["param_groups"]):
        raise damaged
    for group, like in zip(groups, wanted["param_groups"], strict=True):
        if not isinstance(group, dict) or not equal(group.get("params"), like["params"]):
            raise damaged
    parameters = [p for group in own.param_groups for p in group["params"]]
    state = {}
    for index, entry in found["state"].items():
        if type(index) is not int or not 0 <= index < len(parameters):
            raise damaged
        if not isinstance(entry, dict) or not isinstance(taken := entry.get("step"), Tensor) or taken.numel() != 1:
            raise damaged
        p = parameters[index]
        state[index] = tensors("optimiser", entry, {"step": taken, "exp_avg": p, "exp_avg_sq": p}, "network")
        if not taken.is_floating_point() or not 0 <= float(taken) < math.inf:
            raise damaged
    return {"state": state, "param_groups": wanted["param_groups"]}
