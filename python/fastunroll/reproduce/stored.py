"""Reads the results and weights of earlier runs, with checks, and writes files that are complete or do not exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .._files import read_json, read_tensors, write_whole

_NOT_A_RESULT, _FIX = "is not a result of fastunroll reproduce", "give another --out"
_NUMBERS = (int, float)


class ReproduceError(Exception):
    """An argument or a file of an earlier run cannot be used. The message is one sentence."""


def _is_curve(found: object) -> bool:
    """Returns whether ``found`` holds the pooled and per-sample errors of every layer."""
    if not isinstance(found, dict) or not {"pooled", "per_sample"} <= found.keys():
        return False
    return all(isinstance(v, list) and v and all(type(x) in _NUMBERS for x in v) for v in found.values())


def _is_row(found: object) -> bool:
    types: dict[str, tuple[type, ...]] = {
        "name": (str,), "setting": (str,), "seed": (int,), "size": (list,), "steps": _NUMBERS, "tests": (int,),
        "seconds": _NUMBERS, "layers": (dict,),
    }  # fmt: skip
    trained: dict[str, tuple[type, ...]] = {
        "untrained": (dict,), "parameters": (int,), "step_ms": _NUMBERS, "eager_step_ms": _NUMBERS,
    }  # fmt: skip
    if not isinstance(found, dict):
        return False
    types |= trained if "step_ms" in found else {}
    if found.keys() != types.keys() or any(type(found[name]) not in kinds for name, kinds in types.items()):
        return False
    size = len(found["size"]) == 2 and all(type(s) is int and s > 0 for s in found["size"])
    return size and all(_is_curve(found[name]) for name in ("layers", "untrained") if name in found)


def read_results(path: Path) -> dict[str, Any]:
    """Returns the results of earlier jobs by their keys, and no results if there is no file.

    Raises:
        ReproduceError: the file is not a file of results, or is damaged.
    """
    if not path.exists():
        return {}
    try:
        content = read_json(path, _NOT_A_RESULT, _FIX)
    except (OSError, ValueError) as error:
        raise ReproduceError(str(error)) from None
    found = content.get("results") if isinstance(content, dict) else None
    if not (isinstance(found, dict) and all(map(_is_row, found.values()))):
        raise ReproduceError(f"{path} {_NOT_A_RESULT}: {_FIX}")
    return found


def read_weights(net: torch.nn.Module, path: Path) -> None:
    """Loads the weights of a file into a network.

    Raises:
        ReproduceError: the file does not hold weights of this network, or is damaged.
    """
    wrong, fix = "does not hold the weights of this network", "delete it, or give another --out"
    own = net.state_dict()
    try:
        found = read_tensors(path, wrong, fix)
    except (OSError, RuntimeError, ValueError) as error:
        raise ReproduceError(str(error)) from None
    same = isinstance(found, dict) and found.keys() == own.keys()
    if not same or not all(torch.is_tensor(v) and v.numel() == own[name].numel() for name, v in found.items()):
        raise ReproduceError(f"{path} {wrong}: {fix}")
    net.load_state_dict({name: v.reshape(own[name].shape) for name, v in found.items()})


def write_weights(net: torch.nn.Module, path: Path) -> None:
    write_whole(path, lambda file: torch.save(net.state_dict(), file))
