"""The linear steps of layers. A linear step computes z from the iterate v and the measurements y."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from . import _checks, ops
from ._precision import own_precision
from .arrays import as_tensor
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
        _replace_arrays(self, "W1", "W2")
        n = require_matrices("W1", self.W1, None)[0]
        require_matrices("W2", self.W2, (n, n))

    def operands(self) -> tuple[list[Any], list[Any], Values | None]:
        """The matrices W₁ and W₂ of all layers. There is no step size."""
        return listed(self.W1), listed(self.W2), None


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
        _replace_arrays(self, "W", *(["A"] if isinstance(self.A, (list, tuple)) else []))
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

    def operands(self) -> tuple[list[Any], list[Any], Values | None]:
        """The matrices A and W of all layers, or the operator; and the step sizes."""
        return listed(self.A) if self.is_dense else [self.A], [] if self.W is None else listed(self.W), self.step

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

    For a matrix it is a gradient step of the singular value decomposition A = U diag(s) Vᴴ, which is computed once:
    z = v + V (s/(s² + ρ) ∘ (Uᴴy − diag(s)Vᴴv)). Another ρ costs nothing. If A learns, it is a gradient step
    z = v + Wᴴ(y − A v) with W = (AAᴴ + ρI)⁻¹A, and each layer computes a Cholesky factorisation. For an operator it is
    ``A.solve(b, rho)``, which is in closed form for operators that have one, else by conjugate gradients.

    Args:
        A: (m, n), or a linear operator.
        rho: ρ > 0, one number, or a list with one for each layer.
        svd: the decomposition of the matrix A, if it is known.
    """

    A: Operator
    rho: Values
    svd: SVD | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.A, Tensor) and self.A.layout == torch.strided and self.A.dim() == 2):
            object.__setattr__(self, "A", as_operator(self.A))

    @property
    def matrix(self) -> Tensor | None:
        """A, if it is a matrix or an operator that has one."""
        matrix: Tensor | None = self.A if isinstance(self.A, Tensor) else self.A.matrix
        return matrix if matrix is not None and matrix.dim() == 2 else None

    def operands(self) -> tuple[list[Any], list[Any], Values | None]:
        """The matrix A or the operator, no W, and ρ."""
        matrix = self.matrix
        return [self.A if matrix is None else matrix], [], self.rho

    def as_gradient_steps(
        self, A: Tensor, rho: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor | None]:
        """B, W and t of the gradient steps z = v + Wᴴ(t ∘ (Mᴴy − B v)) that equal it for a matrix A; and M, or None."""
        svd = _svd_of(A) if self.svd is None else self.svd
        if svd is None:
            return [A], [solving_matrix(A, r) for r in rho], [], None
        s = svd.s.to(torch.promote_types(svd.s.dtype, torch.float32))
        step = [(s / (s.square() + (r.real if r.is_complex() else r))).to(svd.s.dtype) for r in rho]
        return [svd.sVh], [svd.Vh], step, svd.U


class SVD(NamedTuple):
    """The singular value decomposition A = U diag(s) Vᴴ of a matrix (m, n), with r = min(m, n).

    U: (m, r). s: (r,). Vh: Vᴴ, (r, n). sVh: diag(s)Vᴴ, (r, n).
    """

    U: Tensor
    s: Tensor
    Vh: Tensor
    sVh: Tensor

    @staticmethod
    def of(A: Tensor) -> SVD | None:
        """The decomposition, computed in double precision; None if A is not finite."""
        if not A.isfinite().all():
            return None
        exact = A.detach().to(torch.complex128 if A.is_complex() else torch.float64)
        U, s, Vh = torch.linalg.svd(exact, full_matrices=False)
        real = A.real.dtype if A.is_complex() else A.dtype
        U, Vh, sVh = (t.to(A.dtype).contiguous() for t in (U, Vh, s[:, None] * Vh))
        return SVD(U, s.to(real), Vh, sVh)


def _svd_of(A: Tensor) -> SVD | None:
    """The decomposition of A, kept while A does not change; None if A learns, is not finite, or holds no values."""
    if ops.is_tracing() or ops.differentiable(A) or A.is_meta or not (ops.is_plain(A) and A.is_contiguous()):
        return None
    with torch.inference_mode(False), torch.no_grad():  # kept for calls of any mode
        return ops.cached("singular values", [A], lambda: SVD.of(A))


def solving_matrix(A: Tensor, rho: Tensor) -> Tensor:
    """W = (AAᴴ + ρI)⁻¹A by a differentiable Cholesky factorisation.

    W is NaN if the factorisation fails. It is zero, the limit, if ρ is infinite.
    """
    wide = A.to(torch.promote_types(A.dtype, torch.float32))  # PyTorch cannot factorise in half precision
    eye = torch.eye(A.shape[0], dtype=wide.dtype, device=A.device)
    infinite = rho.isinf()
    with own_precision(A):
        factor, failed = torch.linalg.cholesky_ex(wide @ wide.mH + torch.where(infinite, 1, rho) * eye)
        W = torch.cholesky_solve(wide, torch.where(failed == 0, factor, math.nan))
    return torch.where(infinite, 0, W).to(A.dtype).contiguous()


def _replace_arrays(step: object, *names: str) -> None:
    """Makes arrays, and those in lists, tensors."""
    for name in names:
        value = getattr(step, name)
        if isinstance(value, (list, tuple)):
            if not all(isinstance(entry, Tensor) for entry in value):
                object.__setattr__(step, name, [as_tensor(entry, name) for entry in value])
        elif not isinstance(value, Tensor):
            object.__setattr__(step, name, as_tensor(value, name))


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
    rows, columns = _checks.matrix(name, found[0]).shape if shape is None else shape
    usual = (rows, columns)
    if all(type(w) in (Tensor, torch.nn.Parameter) and w.shape == usual and w.is_floating_point() for w in found):
        return usual  # quickly: every call of a network that learns comes here
    for k, w in enumerate(found):
        label = f"{name}[{k}]" if len(found) > 1 else name
        if _checks.matrix(label, w).shape != (rows, columns):
            raise ValueError(
                f"{label} must be {_checks.shape_text((rows, columns))}, got {_checks.shape_text(w.shape)}"
            )
    return rows, columns
