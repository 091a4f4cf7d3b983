"""What a state dict or a file holds: named, finite tensors of one floating-point type."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import _checks

_RECORDS = ("done", "log")  # what training scripts in TensorFlow save beside the variables
_NESTED = ("state_dict", "model_state_dict")  # where checkpoints keep the weights


def read(mapping: Any) -> dict[str, Any]:
    """What ``mapping``, or the file at that path, names."""
    if isinstance(mapping, (str, os.PathLike)):
        mapping = _read_file(Path(mapping))
    if not isinstance(mapping, Mapping):
        raise TypeError(
            f"mapping must be a state dict, or the path of a .pt, .pth or .npz file, got {type(mapping).__name__}"
        )
    for name in _NESTED:
        if isinstance(mapping.get(name), Mapping):
            mapping = mapping[name]
    return {str(name): mapping[name] for name in mapping if name not in _RECORDS}


def _read_file(path: Path) -> Any:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if name not in _RECORDS}
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors: save the weights alone with torch.save(model.state_dict(), path)"
        ) from error


def pattern(template: str) -> re.Pattern[str]:
    """Names such as ``theta.{k}``, with a number for {k}; {*} is anything."""
    return re.compile(re.escape(template).replace(r"\{k\}", r"(\d+)").replace(r"\{\*\}", ".+"))


def as_tensor(name: str, value: object) -> Tensor:
    """A finite, real tensor of its own from a tensor or an array."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = torch.as_tensor(np.array(value))
    t = _checks.tensor(name, value).detach()
    _checks.real(name, t)
    if not bool(torch.isfinite(t).all()):
        raise ValueError(f"{name} must be finite, but it holds NaN or infinity: check how it was computed")
    return t


class Source:
    """The tensors of one network, brought to the widest of their types.

    Args:
        values: tensors or arrays by name.
        convention: what to call the network in messages.
    """

    def __init__(self, values: Mapping[str, object], convention: str) -> None:
        tensors = {name: as_tensor(name, value) for name, value in values.items()}
        self.convention = convention
        self.dtype = reduce(torch.promote_types, (t.dtype for t in tensors.values()))
        self._tensors = {name: t.to(self.dtype) for name, t in tensors.items()}
        self.device = next(iter(tensors.values())).device

    @property
    def names(self) -> list[str]:
        return list(self._tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise ValueError(f"{name} is missing: the mapping holds {listed(self._tensors)}")
        return self._tensors[name]

    def matrix(self, name: str, rows: int | None = None, columns: int | None = None) -> Tensor:
        """A matrix of so many rows and columns; any number for None."""
        return _fitting(name, self[name], rows, columns)

    def given(self, name: str, value: object, rows: int | None = None, columns: int | None = None) -> Tensor:
        """A matrix that the mapping does not store, from an option."""
        if value is None:
            raise ValueError(f"{self.convention} does not store {name}: give {name}=")
        return _fitting(name, as_tensor(name, value).to(self.device, self.dtype), rows, columns)

    def values(self, name: str, *sizes: int) -> Tensor:
        """One value, (), or several, (n,): as many as one of ``sizes``, in any shape with one dimension above 1."""
        t = self[name]
        if t.numel() not in sizes or sum(size > 1 for size in t.shape) > 1:
            raise ValueError(
                f"{name} must hold {' or '.join(str(s) for s in sorted(set(sizes)))} value(s), got shape "
                f"{_checks.shape_text(t.shape)}"
            )
        return t.reshape(()) if t.numel() == 1 else t.reshape(-1)

    def layers(self, template: str, first: int = 0) -> list[str]:
        """The names of a numbered group, in order, without a gap; none if there are none."""
        found = (pattern(template).fullmatch(name) for name in self._tensors)
        numbers = {int(match[1]) for match in found if match}
        for k in range(first, max(numbers, default=first - 1) + 1):
            if k not in numbers:
                raise ValueError(
                    f"{template.format(k=k)} is missing: layers are numbered from {first} to {max(numbers)}, "
                    "without a gap"
                )
        return [template.format(k=k) for k in sorted(numbers)]

    def one_a_layer(self, *templates: str, first: int = 0) -> list[list[str]]:
        """The names of several groups, of the same number of layers."""
        groups = [self.layers(template, first) for template in templates]
        for template, group in zip(templates, groups, strict=True):
            if len(group) != len(groups[0]):
                raise ValueError(
                    f"there are {len(groups[0])} of {templates[0]} but {len(group)} of {template}: each layer needs "
                    "both"
                )
        return groups


def listed(names: Iterable[str], most: int = 12) -> str:
    names = sorted(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _fitting(name: str, value: Tensor, rows: int | None, columns: int | None) -> Tensor:
    _checks.matrix(name, value)
    wanted = tuple(have if want is None else want for want, have in zip((rows, columns), value.shape, strict=True))
    if value.shape != wanted:
        raise ValueError(
            f"{name} must be {_checks.shape_text(wanted)} to fit the others, got {_checks.shape_text(value.shape)}"
        )
    return value
