"""Reads state dicts and files of weights, and checks that their tensors are finite and floating point."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import reduce
from pathlib import Path
from types import EllipsisType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .. import _checks
from .._files import read_arrays, read_tensors

_NOT_WEIGHTS = ("done", "log")  # entries that training scripts in TensorFlow save beside the variables
_MAX_NAME = 60  # characters of a name in a message
_STATE_DICT_KEYS = ("state_dict", "model_state_dict")  # entries of checkpoints that hold the weights


def read(mapping: Any) -> dict[str, Any]:
    """Returns the entries of a mapping, or of the file at that path, by their names.

    Raises:
        TypeError: ``mapping`` is neither a mapping nor a path.
        OSError: the file cannot be read.
        ValueError: the file does not hold a state dict.
    """
    if isinstance(mapping, (str, os.PathLike)):
        path = Path(mapping)
        mapping = _read_file(path)
        if not isinstance(mapping, Mapping):
            raise ValueError(f"{path} {_NOT_A_STATE_DICT} (it holds {_checks.shown(mapping)}): {_FIX}")
    if not isinstance(mapping, Mapping):
        raise TypeError(
            f"mapping must be a state dict, or the path of a .pt, .pth or .npz file, got {type(mapping).__name__}"
        )
    for name in _STATE_DICT_KEYS:
        if isinstance(mapping.get(name), Mapping):
            mapping = mapping[name]
    return {str(name): mapping[name] for name in mapping if name not in _NOT_WEIGHTS}


_NOT_A_STATE_DICT, _FIX = "is not a state dict", "save the weights alone with torch.save(model.state_dict(), path)"


def _read_file(path: Path) -> Any:
    if path.suffix.lower() == ".npz":
        return read_arrays(path, "is not an .npz file of arrays", "save it with numpy.savez(path, **weights)")
    return read_tensors(path, _NOT_A_STATE_DICT, _FIX)


def pattern(template: str) -> re.Pattern[str]:
    """Returns the regular expression of a template: {k} stands for a number, {*} for any text."""
    number = r"(0|[1-9][0-9]{0,8})"
    return re.compile(re.escape(template).replace(r"\{k\}", number).replace(r"\{\*\}", ".+"), re.DOTALL)


def as_tensor(name: str, value: object) -> Tensor:
    """Returns a real or complex tensor, detached, from a tensor or a NumPy array."""
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.kind not in "fc" or array.dtype.itemsize > 16 or array.dtype in (np.longdouble, np.clongdouble):
            raise TypeError(
                f"{name} must be an array of float16, float32 or float64, got {array.dtype}: use "
                f"{name}.astype(numpy.float64)"
            )
        value = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=True))
    t = _checks.tensor(name, value).detach().resolve_conj().resolve_neg()
    if t.is_meta:
        raise TypeError(
            f"{name} must hold values, but it is on the meta device: load the weights into the network first"
        )
    return t


def is_finite(name: str, t: Tensor) -> bool:
    """Returns whether an entry of a state dict of ``nn`` is finite. Logarithms may be −∞, the logarithm of zero."""
    allowed = torch.isfinite(t)
    if name.split(".")[-2:][0].startswith("log_"):
        allowed = allowed | (t == -torch.inf)
    return bool(allowed.all())


def finite(name: str, value: object) -> Tensor:
    """Returns a finite, real tensor, detached, from a tensor or a NumPy array."""
    t = as_tensor(name, value)
    _checks.real(name, t)
    return _checks.finite_values(name, t)


AskedSelection: TypeAlias = tuple[float, float] | EllipsisType | None  # an ellipsis stands for a missing option
# The part of a message that says what an option decides.
_DECIDES = {
    "network": "network it is", "shrinkage": "shrinkage it has", "of_y": "of its square matrices multiplies y",
}  # fmt: skip


class Source:
    """The tensors of a network, converted to the widest of their dtypes.

    Args:
        values: tensors or arrays by name.
        convention: the name of the network in messages.
    """

    def __init__(self, values: Mapping[str, object], convention: str) -> None:
        tensors = {name: finite(name, value) for name, value in values.items()}
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
        """Returns a matrix after a check of its shape. None stands for any number of rows or columns."""
        return _of_shape(name, self[name], rows, columns)

    def given(
        self, name: str, value: object, rows: int | None = None, columns: int | None = None, *, such_as: str = ""
    ) -> Tensor:
        """Returns a matrix that the mapping does not store, from an option, after a check of its shape."""
        if value is None:
            example = f", such as {such_as}" if such_as else ""
            raise ValueError(f"{self.convention} does not store {name}: give {name}={example}")
        return _of_shape(name, finite(name, value).to(self.device, self.dtype), rows, columns)

    def choice(self, name: str, value: object, *words: str) -> str:
        """Returns an option whose value is one of two words."""
        first, second = (f'"{word}"' for word in words)
        if value is None:
            raise ValueError(
                f"{self.convention} does not tell which {_DECIDES[name]}: give {name}=, {first} or {second}"
            )
        _checks.choice(name, value, words)
        return str(value)

    def selection(self, value: AskedSelection) -> tuple[float, float] | None:
        """Returns the option ``selection``: two percentages, or None for no support selection."""
        if value is ...:
            raise ValueError(
                f"{self.convention} does not store its support selection: give selection=, two percentages (growth per "
                "layer, maximum), or None if all elements are shrunk"
            )
        return value

    def values(self, name: str, *sizes: int) -> Tensor:
        """Returns the values of a tensor in the shape () or (n,), after a check that ``sizes`` contains their number.

        The stored tensor may have any shape in which at most one dimension exceeds 1.
        """
        t = self[name]
        if t.numel() not in sizes or sum(size > 1 for size in t.shape) > 1:
            raise ValueError(
                f"{name} must hold {' or '.join(str(s) for s in sorted(set(sizes)))} value(s), got shape "
                f"{_checks.shape_text(t.shape)}"
            )
        return t.reshape(()) if t.numel() == 1 else t.reshape(-1)

    def numbers(self, template: str) -> set[int]:
        """Returns the numbers k for which the mapping has the name ``template``."""
        matches = (pattern(template).fullmatch(name) for name in self._tensors)
        return {int(match[1]) for match in matches if match}

    def layers(self, template: str, first: int = 0) -> list[str]:
        """Returns the names that follow a template, in the order of their numbers, after a check for gaps."""
        numbers = self.numbers(template)
        for k in range(first, max(numbers, default=first - 1) + 1):
            if k not in numbers:
                raise ValueError(
                    f"{template.format(k=k)} is missing: layers are numbered from {first} to {max(numbers)}, "
                    "without a gap"
                )
        return [template.format(k=k) for k in sorted(numbers)]

    def one_a_layer(self, *templates: str, first: int = 0) -> list[list[str]]:
        """Returns the names that follow each template, after a check that all groups have the same number of layers."""
        groups = [self.layers(template, first) for template in templates]
        for template, group in zip(templates, groups, strict=True):
            if len(group) != len(groups[0]):
                raise ValueError(
                    f"each layer must have both {templates[0]} and {template}, got {len(groups[0])} and {len(group)}: "
                    "add the missing layers"
                )
        return groups


def listed(names: Iterable[str], maximum: int = 12) -> str:
    """Returns the first names as a text for messages."""
    names = sorted(" ".join(name.split())[:_MAX_NAME] for name in names)
    return ", ".join(names[:maximum]) + (f" and {len(names) - maximum} more" if len(names) > maximum else "")


def _of_shape(name: str, value: Tensor, rows: int | None, columns: int | None) -> Tensor:
    _checks.matrix(name, value)
    wanted = tuple(have if want is None else want for want, have in zip((rows, columns), value.shape, strict=True))
    if value.shape != wanted:
        raise ValueError(
            f"{name} must be {_checks.shape_text(wanted)} to fit the other tensors, got "
            f"{_checks.shape_text(value.shape)}"
        )
    return value
