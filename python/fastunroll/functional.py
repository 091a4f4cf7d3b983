"""Iterations of algorithms as functions: one step, and K steps of a solver."""

from __future__ import annotations

from torch import Tensor

from . import _checks, ops
from .arrays import takes_arrays
from .engine.run import run_compiled
from .operators.convert import OperatorLike, matrix_or_operator
from .operators.linear_operator import LinearOperator
from .operators.products import gradient, sample_shape
from .prox import soft_threshold


def step_arguments(x: Tensor, y: Tensor, A: Tensor) -> list[Tensor]:
    """x, y and A, if they fit each other."""
    A = _checks.matrix("A", A)
    _checks.columns("x", _checks.tensor("x", x), A.shape[1], A.shape)
    _checks.columns("y", _checks.tensor("y", y), A.shape[0], A.shape)
    _checks.same_batch("x", x, "y", y)
    A, x, y = _checks.require_same_dtype_and_device(A=A, x=x, y=y)
    return [x, y, A]


def arguments(x: Tensor, y: Tensor, A: OperatorLike) -> tuple[Tensor, Tensor, Tensor | LinearOperator, int]:
    """x, y and A, a matrix or an operator, if they fit each other, and how many dimensions a sample of x has."""
    A = matrix_or_operator(A)
    if isinstance(A, Tensor):
        x, y, A = step_arguments(x, y, A)
        return x, y, A, 1
    _checks.same_device("y", _checks.tensor("y", y), _checks.tensor("x", x))
    if x.dtype.to_real() != y.dtype.to_real():
        raise TypeError(f"x and y must have one precision, got {x.dtype} and {y.dtype}: convert one with .to()")
    return x, y, A, x.dim() - len(sample_shape(A, x, y))


def _step(x: Tensor, y: Tensor, A: Tensor, step: Tensor, theta: Tensor | None) -> Tensor:
    form = ops.NetworkSpec(1, linear="gradient", prox="identity" if theta is None else "soft")
    return run_compiled(form, ops.Parameters([A], [], [step], [] if theta is None else [theta]), y, x)[0]


@takes_arrays("x")
def gradient_step(x: Tensor, y: Tensor, A: OperatorLike, step: Tensor | float) -> Tensor:
    """A gradient step on ½‖A x − y‖², for each sample: x − step·Aᴴ(A x − y).

    Differentiable in every argument. Zeros of ``x`` cost nothing for a matrix.

    Args:
        x: (..., n); for an operator (..., *A.shape_in).
        y: (..., m), with the leading shape of ``x``; for an operator (..., *A.shape_out).
        A: (m, n), or one for every sample (B, m, n), or any operator (:func:`fastunroll.operators.as_operator`).
        step: one number ≥ 0, or a tensor holding one.

    Returns:
        The shape of ``x``; an array where ``x`` is one.

    Raises:
        TypeError: not floating point, dtypes differ, or A is neither a matrix nor an operator.
        ValueError: shapes do not fit, devices differ, or a number ``step`` is negative or not finite.

    Equivalent to::

        x - step * (x @ A.mT - y) @ A.conj()
    """
    x, y, A, _ = arguments(x, y, A)
    step = _checks.scalar("step", step, x)
    return _step(x, y, A, step, None) if isinstance(A, Tensor) else x - step * gradient(A, x, y)


@takes_arrays("x")
def ista_step(x: Tensor, y: Tensor, A: OperatorLike, step: Tensor | float, theta: Tensor | float) -> Tensor:
    """One iteration of ISTA, in one native call for a matrix: S_θ(x − step·Aᴴ(A x − y)), with S the soft threshold.

    With step ≤ 1/‖A‖² and θ = step·λ it decreases ½‖A x − y‖² + λ‖x‖₁. Differentiable in every argument.

    Args:
        x: (..., n); for an operator (..., *A.shape_in).
        y: (..., m), with the leading shape of ``x``; for an operator (..., *A.shape_out).
        A: (m, n), or one for every sample (B, m, n), or any operator (:func:`fastunroll.operators.as_operator`).
        step: one number ≥ 0, or a tensor holding one.
        theta: a number ≥ 0, or a tensor that broadcasts with ``x``; fused if it holds 1 or n values.

    Returns:
        The shape of ``x``; an array where ``x`` is one.

    Raises:
        TypeError: not floating point, dtypes differ, or A is neither a matrix nor an operator.
        ValueError: shapes do not fit, devices differ, or a number is negative or not finite.

    Equivalent to::

        z = x - step * (x @ A.mT - y) @ A.conj()
        torch.sgn(z) * torch.relu(z.abs() - theta)

    Reference: Daubechies, Defrise and De Mol 2004; Beck and Teboulle 2009.
    """
    x, y, A, _ = arguments(x, y, A)
    theta, step = _checks.threshold("theta", theta, x), _checks.scalar("step", step, x)
    if not isinstance(A, Tensor):
        return soft_threshold(x - step * gradient(A, x, y), theta)
    if (theta.numel() == 1 and theta.dim() <= x.dim()) or theta.shape == A.shape[1:]:
        return _step(x, y, A, step, theta)
    return soft_threshold(_step(x, y, A, step, None), theta)


def ista(
    y: Tensor,
    A: Tensor,
    x0: Tensor | None,
    step: Tensor,
    theta: Tensor,
    momentum: Tensor | None,
    iterations: int,
    keep: bool,
    nonnegative: bool,
) -> Tensor:
    """Iterations of x⁺ = S_θ(v − step·Aᵀ(A v − y)), v = x + β(x − x_before), from x0 or zero, in one native call.

    (iterations, ..., n) if ``keep``, else (..., n). θ has 1 value or n, momentum β a value an iteration. max(z − θ, 0)
    if ``nonnegative``. Arguments fit, and have one dtype and device.
    """
    scheme, prox = "proximal_gradient" if momentum is None else "fista", "nonnegative" if nonnegative else "soft"
    form = ops.NetworkSpec(iterations, linear="gradient", scheme=scheme, prox=prox)
    beta = [] if momentum is None else [momentum.to(step)]
    if x0 is not None:
        x0 = x0.expand(*y.shape[:-1], A.shape[1])
    return run_compiled(form, ops.Parameters([A], [], [step], [theta], [], beta), y, x0, keep=keep)[0]
