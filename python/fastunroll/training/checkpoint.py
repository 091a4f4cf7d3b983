"""Writes checkpoints of training so that no crash loses them, and checks every entry of a checkpoint before its use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import _checks
from .._files import read_tensors, write_whole

_NOT_A_CHECKPOINT, _FIX = "is not a checkpoint of fastunroll.training", "delete it, or give another file"
_MAX_INTEGER = 2**63
ENTRIES = ("settings", "state", "model", "best", "generators", "optimizer")


class Mismatch(Exception):
    """An entry of a checkpoint does not fit. The message continues a sentence that starts with the path of the file."""


def checked_path(checkpoint: object) -> Path | None:
    """Returns the path of a checkpoint, and makes the folder that holds it.

    Raises:
        TypeError, ValueError: ``checkpoint`` is not the path of a file.
        OSError: the path is a folder, or its folder cannot be made.
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
    """Writes a checkpoint. A crash at any moment leaves either the old file or the new file."""
    write_whole(path, lambda file: torch.save(content, file))


def read(path: Path) -> dict[str, Any]:
    """Returns the entries of a checkpoint file by name. It checks the names (:data:`ENTRIES`), not the values.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is no checkpoint, or it is damaged.
    """
    content = read_tensors(path, _NOT_A_CHECKPOINT, _FIX)
    if not isinstance(content, dict) or content.keys() != set(ENTRIES):
        raise ValueError(f"{path} {_NOT_A_CHECKPOINT}: {_FIX}")
    return content


def refusal(path: Path, error: Mismatch) -> ValueError:
    """Returns the exception that tells the user which file does not fit, and why."""
    return ValueError(f"{path} {error}: {_FIX}")


def equal(found: object, wanted: object) -> bool:
    """Returns whether two plain values are equal, and False if the comparison fails (tensors, endless nesting)."""
    try:
        return bool(found == wanted)
    except (RuntimeError, TypeError, ValueError):
        return False


def require_integer(name: str, found: object, minimum: float, maximum: float = _MAX_INTEGER) -> None:
    """Raises :class:`Mismatch` unless ``found`` is an integer between ``minimum`` and ``maximum``, both included."""
    if type(found) is not int or not minimum <= found <= maximum:
        raise Mismatch(f"is damaged, since its {name} is {_checks.shown(found)} and not a whole number in its range")


def checked_tensors(name: str, found: object, like: Mapping[str, Tensor], owner: str) -> dict[str, Tensor]:
    """Returns the tensors of ``found`` after a check that names, sizes and dtypes are the same as in ``like``.

    The shapes () and (1,) of a scalar are exchangeable, because versions of fastunroll have stored both.

    Args:
        name: the entry of the checkpoint, for the message.
        found: the stored tensors by name.
        like: tensors with the expected names, shapes and dtypes.
        owner: the object that has these tensors ("network"), for the message.
    """
    if not isinstance(found, dict) or found.keys() != like.keys():
        raise Mismatch(f"is of another {owner}: its {name} has other names")
    out = {}
    for key, own in like.items():
        value = found[key]
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized or value.is_nested:
            raise Mismatch(f"is damaged, since {key} of its {name} is not a dense tensor")
        if value.numel() != own.numel() or (own.numel() != 1 and value.shape != own.shape):
            raise Mismatch(
                f"is of another {owner}: {key} of its {name} has the shape {_checks.shape_text(value.shape)}, and here "
                f"it has {_checks.shape_text(own.shape)}"
            )
        if value.dtype != own.dtype:
            raise Mismatch(f"is of another {owner}: {key} of its {name} is {value.dtype}, and here it is {own.dtype}")
        out[key] = value.reshape(own.shape)
    return out


def require_fields(name: str, found: object, types: Mapping[str, Sequence[type]]) -> None:
    """Raises :class:`Mismatch` unless ``found`` is a dictionary with the fields and types that ``types`` lists."""
    if (
        not isinstance(found, dict)
        or found.keys() != types.keys()
        or any(type(found[name]) not in kinds for name, kinds in types.items())
    ):
        raise Mismatch(f"is damaged, since its {name} must hold {', '.join(types)}, each of the right type")


def generator(found: object, processes: int, rank: int) -> torch.Generator:
    """Returns the random generator of process ``rank`` from the stored states of the generators of all processes."""
    out = torch.Generator()
    damaged = Mismatch("is damaged, since it does not hold the state of a generator for each process")
    if not isinstance(found, list) or len(found) != processes:
        raise damaged
    like = out.get_state()
    state = checked_tensors("generators", {"state": found[rank]}, {"state": like}, "generator")["state"]
    try:
        return out.set_state(state)
    except (RuntimeError, TypeError):
        raise damaged from None


def adam_state(found: object, own: torch.optim.Adam) -> dict[str, Any]:
    """Returns the stored state ``found`` of an Adam optimiser after a check that it fits the optimiser ``own``.

    The groups of parameters must be the same, and each parameter must have a step count and two moments of its shape.
    """
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
        if not isinstance(entry, dict) or not isinstance(steps := entry.get("step"), Tensor) or steps.numel() != 1:
            raise damaged
        p = parameters[index]
        state[index] = checked_tensors("optimiser", entry, {"step": steps, "exp_avg": p, "exp_avg_sq": p}, "network")
        if not steps.is_floating_point() or not 0 <= float(steps) < math.inf:
            raise damaged
    return {"state": state, "param_groups": wanted["param_groups"]}
