"""(AᴴA + ρI)⁻¹ b: by a factorisation of a matrix, or by conjugate gradients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import _checks
from ..ops.conjugate_gradients import Start, solution
from ..ops.tensors import is_jit_tracing, is_tracing

if TYPE_CHECKING:
    from .linear_operator import LinearOperator

HALF = (torch.float16, torch.bfloat16)


class Factorised:
    """K = (A Aᴴ + ρI)⁻¹A = A(AᴴA + ρI)⁻¹ of a matrix: the smaller Gram matrix is factorised, in double precision.

    x = w + Kᴴ(y − A w) minimises ½‖A x − y‖² + ρ/2‖x − w‖²: a correction of w needs no division by ρ, and loses nothing
    where ρ is small. A may be a matrix for every sample, (B, m, n).
    """

    def __init__(self, A: Tensor) -> None:
        self.A, self.K = A, A
        self.wide = wide = A.to(torch.complex128 if A.is_complex() else torch.float64)
        self.gram = wide @ wide.mH if A.shape[-2] <= A.shape[-1] else wide.mH @ wide

    def cholesky(self, rho: Tensor) -> Tensor:
        """The factor of A Aᴴ + ρI, or of AᴴA + ρI where that is smaller."""
        eye = torch.eye(self.gram.shape[-1], dtype=self.wide.dtype, device=self.A.device)
        L, failed = torch.linalg.cholesky_ex(self.gram + rho * eye)
        if is_tracing() or L.is_meta:  # values cannot be read
            return torch.where((failed == 0)[..., None, None], L, math.nan)
        if bool(failed.any()):
            raise ValueError(
                f"rho must be large enough to make AᴴA + ρI regular in double precision, but {float(rho):.3g} is not: "
                "give a larger rho, with adaptive=False if it started larger"
            )
        return L

    def factorise(self, rho: Tensor) -> None:
        A, L = self.wide, self.cholesky(rho)
        K = torch.cholesky_solve(A, L) if A.shape[-2] <= A.shape[-1] else torch.cholesky_solve(A.mH, L).mH
        self.K = K.to(self.A.dtype).contiguous()

    def solve(self, b: Tensor, L: Tensor, rho: Tensor) -> Tensor:
        """(AᴴA + ρI)⁻¹ b for b (..., n, 1) in double precision, with the factor of :meth:`cholesky`."""
        A = self.wide
        if A.shape[-2] > A.shape[-1]:
            return torch.cholesky_solve(b, L)
        return (b - A.mH @ torch.cholesky_solve(A @ b, L)) / rho


def rho_beside(rho: Tensor | float, b: Tensor) -> Tensor:
    """ρ > 0 as a tensor of shape () beside b."""
    if not isinstance(rho, Tensor):
        _checks.positive("rho", rho)
    return _checks.scalar("rho", rho, b)


def solve(op: LinearOperator, b: Tensor, rho: Tensor | float, start: Start | None = None) -> Tensor:
    """The solution of (AᴴA + ρI) x = b for each sample, by conjugate gradients from ``start(b, rho)``, or from zero."""
    if _checks.tensor("b", b).dtype in HALF:  # the residual is of the precision in which A computes
        b = b.to(op.normal(torch.zeros_like(b)).dtype)
    rho = rho_beside(rho, b)
    if is_jit_tracing():
        raise ValueError(
            "torch.jit.trace does not record how many steps conjugate gradients take for other values: give "
            f"{type(op).__name__} a solve(b, rho), or use torch.compile"
        )
    return solution(op, b, rho, start)
