"""The linear step of a layer: how z follows from the iterate v and the measurements y, before the proximal step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from . import _checks, ops
from .operators import as_operator
from .products import product

Values: TypeAlias = Tensor | float | Sequence[Tensor | float]  # one for all layers, or one for each
Operator: TypeAlias = Any  # what fastunroll.operators.as_operator takes


def listed(value: Any) -> list[Any]:
    """One entry for all layers, or one for each layer."""
    return [*value] if isinstance(value, (list, tuple, torch.nn.ParameterList)) else [value]


@dataclass(frozen=True)
class AffineStep:
    """The linear step z = W₁ y + W₂ v, with two matrices that need not know A: that of LISTA.

    Args:
        W1: (n, m), one matrix or a list with one for each layer.
        W2: (n, n), one matrix or a list with one for each layer.

    Raises:
        TypeError: a matrix is no tensor, or not floating point.
        ValueError: a matrix has another shape than the first, or W2 does not fit W1.
    """

    W1: Tensor | Sequence[Tensor]
    W2: Tensor | Sequence[Tensor]

    def __post_init__(self) -> None:
        n = require_matrices("W1", self.W1, None)[0]
        require_matrices("W2", self.W2, (n, n))


@dataclass(frozen=True)
class GradientStep:
    """The linear step z = v + Wᴴ (t ∘ (y − A v)): with W = A a gradient step of length t on ½‖A v − y‖².

    ``via="gram"`` computes the same, but for rounding, by the Gram matrix: z = v + t ∘ (Wᴴy − G v) with G = WᴴA. Of a
    matrix G is made once, and again when A or W has changed or learns, so keep the object between calls. A layer then
    costs d·n² multiplications a sample instead of (1 + d)·m·n, where d is the share of v that is not zero. It pays for
    n ≤ 2m and v sparse (n = 2m, 1024 samples: 1.6 times as fast with d = 0.08, equal with d = 0.45), and loses for
    n = 4m.

    Args:
        A: (m, n), one matrix or a list with one for each layer; or a linear operator.
        W: (m, n), one matrix or a list with one for each layer; A by default, as with operators.
        step: t, one number, or one for each row of A (by the Gram matrix: for each coordinate); one or a list with one
            for each layer. 1 by default.
        via: ``"residual"`` or ``"gram"``.

    Raises:
        TypeError: A or W is neither a floating-point matrix nor an operator, or their dtypes differ.
        ValueError: their shapes or devices differ, W is given with an operator, or the Gram matrix with a list.
    """

    A: Operator | Sequence[Tensor]
    W: Tensor | Sequence[Tensor] | None = None
    step: Values | None = None
    via: str = "residual"
    _kept: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _checks.choice("via", self.via, ("residual", "gram"))
        if not _are_matrices(self.A):
            operator = as_operator(self.A)
            matrix = operator.matrix
            object.__setattr__(self, "A", operator if matrix is None or matrix.dim() == 3 else matrix)
        if not self.is_dense:
            if self.W is not None:
                raise ValueError("W is a matrix beside a matrix A: the gradient step of an operator is by its adjoint")
            return
        shape = require_matrices("A", self.A, None)
        if self.W is not None:
            require_matrices("W", self.W, shape)
        if self.via == "gram":
            if len(listed(self.A)) > 1 or len(listed(self.W)) > 1:
                raise ValueError('via="gram" makes one Gram matrix, but A or W is a list with one for each layer')
            A, W = self._pair()
            _checks.require_same_dtype_and_device(A=A, W=W)

    @property
    def is_dense(self) -> bool:
        """Whether A is a matrix, or a list of matrices."""
        return _are_matrices(self.A)

    def _pair(self) -> tuple[Tensor, Tensor]:
        (A,), (W,) = listed(self.A), listed(self.W)
        return A, A if W is None else W

    @property
    def gram_matrix(self) -> Tensor:
        """G = WᴴA, (n, n)."""
        A, W = self._pair()
        if not A.is_cpu or ops.is_tracing() or ops.differentiable(A, W) or torch.is_inference_mode_enabled():
            return product(A.mT, W, adjoint=True).mT
        # Some optimisers, and edits through .data, leave no trace but the values.
        if not self._kept or not (torch.equal(self._kept[0][0], A) and torch.equal(self._kept[0][1], W)):
            # Of copies: another thread may change A and W meanwhile.
            A, W = A.detach().clone(), W.detach().clone()
            self._kept[:] = [(A, W, product(A.mT, W, adjoint=True).mT.contiguous())]
        return self._kept[0][2]


@dataclass(frozen=True)
class DataStep:
    """The linear step z = argmin ½‖A z − y‖² + ρ/2·‖z − v‖² = (AᴴA + ρI)⁻¹(Aᴴy + ρ v): that of ADMM and of HQS.

    It is ``A.solve(b, rho)``: in closed form for operators that have one, else by conjugate gradients.

    Args:
        A: (m, n), or a linear operator.
        rho: ρ > 0, one number, or a list with one for each layer.
    """

    A: Operator
    rho: Values

    def __post_init__(self) -> None:
        object.__setattr__(self, "A", as_operator(self.A))


def _are_matrices(A: object) -> bool:
    """Whether this is one matrix, or a list of matrices: not an operator, nor a matrix for every sample."""
    if isinstance(A, (list, tuple, torch.nn.ParameterList)):
        return not any(callable(entry) for entry in A)
    return isinstance(A, Tensor) and A.dim() != 3


def require_matrices(name: str, given: Tensor | Sequence[Tensor], shape: tuple[int, int] | None) -> tuple[int, int]:
    """The shape of the matrices ``given``, if they have one shape: that of the first unless ``shape`` is told."""
    found = listed(given)
    if not found:
        raise ValueError(f"{name} must hold a matrix, got an empty list")
    rows, columns = shape or _checks.matrix(name, found[0]).shape
    for k, w in enumerate(found):
        label = f"{name}[{k}]" if len(found) > 1 else name
        if _checks.matrix(label, w).shape != (rows, columns):
            raise ValueError(
                f"{label} must be {_checks.shape_text((rows, columns))}, got {_checks.shape_text(w.shape)}"
            )
    return rows, columns
