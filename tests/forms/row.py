"""What all rows of the table have, whatever their operator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Row(ABC):
    """An operator, a proximal operator and a scheme, of which layers are made, and the size of a call."""

    operator: str
    prox: str = "soft"
    scheme: str = "proximal_gradient"
    layers: int = 3
    batch: Any = 5  # samples; the leading dimensions, if they are several
    starts: bool = False  # whether x0 is given, and the second state if a call takes one
    dtype: torch.dtype = torch.float64

    has_device_kernels: ClassVar[bool] = False  # else devices run these layers in plain PyTorch
    skips_zeros: ClassVar[bool] = False  # whether products may leave out the zeros of an iterate
    rounds_by_set: ClassVar[bool] = False  # whether last bits are those of an instruction set, as of Fourier transforms
    tiny: ClassVar[dict[str, Any]]  # a size at which every number can be varied
    large: ClassVar[dict[str, Any]]  # a size that several threads share
    threads: ClassVar[int] = 7  # the most that a test takes

    @property
    def columns(self) -> tuple[str, ...]:
        """The three columns of the table, and the dtype."""
        return self.operator, self.prox, self.scheme, str(self.dtype)[6:]

    @property
    def shape(self) -> tuple[int, ...]:
        """The leading dimensions."""
        return self.batch if isinstance(self.batch, tuple) else (self.batch,)

    def of_size(self, size: dict[str, Any]) -> Any:
        return replace(self, **size)

    @abstractmethod
    def draw(self, seed: int) -> Any:
        """One call with random parameters: a :class:`Problem`."""


def build(form: Row, *, requires_grad: bool = False, seed: int = 0) -> Any:
    """One call of a row with random parameters, of which gradients are recorded if it is asked for."""
    p = form.draw(seed)
    return p.learning() if requires_grad else p


class Problem(ABC):
    """Arguments of one call of a row."""

    form: Any

    @property
    @abstractmethod
    def leaves(self) -> list[Tensor]:
        """Everything a gradient can be asked for."""

    @property
    @abstractmethod
    def of_each_sample(self) -> list[Tensor]:
        """The leaves of which each sample has its own part, along their first dimension."""

    @abstractmethod
    def with_leaves(self, leaves: list[Tensor]) -> Any:
        """The same call of other tensors, in the order of ``leaves``."""

    @abstractmethod
    def of_samples(self, samples: Any) -> Any:
        """The same call of some of its samples, in any order."""

    @abstractmethod
    def native(self) -> tuple[Tensor, ...]:
        """Every layer, (K, B, ...), and the second state, (B, ...), if a call returns one."""

    @abstractmethod
    def plain(self) -> tuple[Tensor, ...]:
        """The same in plain PyTorch."""

    def learning(self) -> Any:
        """The same call of copies, of which all gradients are recorded."""
        return self.with_leaves([t.detach().clone().requires_grad_() for t in self.leaves])


def loss(results: Sequence[Tensor]) -> Tensor:
    """Σ x² + x over all real and imaginary parts x: the gradient of each of them depends on itself alone."""
    parts = [torch.view_as_real(t) if t.is_complex() else t for t in results]
    return sum((t.square().sum() + t.sum() for t in parts), torch.zeros(()))


def gradients(results: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[Tensor]:
    return [*torch.autograd.grad(loss(results), leaves, allow_unused=True, materialize_grads=True)]


R = TypeVar("R", bound=Row | tuple[Any, ...])


def covering(rows: Sequence[R], strength: int) -> list[R]:
    """A few rows, in which each value of a column (``strength`` 1), or of two columns together (2), still appears.

    Rows of another table are tuples of their columns.
    It is a covering array, made greedily (Cohen, Dalal, Fredman and Patton, 1997): the next row is always the first of
    those that show the most values not yet shown.
    """
    shown = [set(combinations(enumerate(getattr(row, "columns", row)), strength)) for row in rows]
    left, chosen = set().union(*shown), []
    while left:
        best = max(range(len(rows)), key=lambda i: len(shown[i] & left))
        left -= shown[best]
        chosen.append(best)
    return [rows[i] for i in sorted(chosen)]
