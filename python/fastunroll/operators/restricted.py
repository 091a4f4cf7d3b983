"""An operator of which some measurements are left out."""

from __future__ import annotations

from torch import Tensor

from .fourier import Fourier
from .linear_operator import LinearOperator
from .mask import Mask
from .multi_coil import MultiCoilFourier


def restricted(A: LinearOperator, keep: Tensor) -> LinearOperator:
    """diag(keep)·A, with weights of the measurements that broadcast with y.

    Operators with a mask take weights that fit the mask into it, so that their AᴴA costs no more.
    """
    if type(A) is Mask:
        return Mask(A.mask * keep, dims=A.picture_dims)
    if type(A) is Fourier:
        return Fourier(A.mask * keep, A.centered, dims=A.picture_dims, real=A.real)
    if type(A) is MultiCoilFourier:
        dims, coils = A.picture_dims, -A.picture_dims - 1
        if keep.dim() > dims and keep.shape[coils] == 1:
            return MultiCoilFourier(A.mask * keep.squeeze(coils), A.maps, A.centered, dims=dims)
    return Restricted(A, keep)


class Restricted(LinearOperator, differentiable=True):
    """diag(keep)·A, as a composition: y = keep · A x.

    Args:
        op: A.
        keep: real weights that broadcast with y.
    """

    def __init__(self, op: LinearOperator, keep: Tensor) -> None:
        super().__init__()
        self.operator: LinearOperator = op
        self.register_buffer("keep", keep)
        self.shape_in, self.shape_out = op.shape_in, op.shape_out

    @property
    def dims_in(self) -> int | None:
        return self.operator.dims_in

    @property
    def dims_out(self) -> int | None:
        return self.operator.dims_out

    @property
    def own_batch(self) -> tuple[int, ...]:
        return self.operator.own_batch

    def forward(self, x: Tensor) -> Tensor:
        """Keep · A x."""
        y: Tensor = self.keep * self.operator(x)
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ(keep · y)."""
        return self.operator.adjoint(self.keep * y)

    def norm(self) -> float:
        """‖A‖·max|keep|, an upper bound."""
        return self.operator.norm() * float(self.keep.abs().max())
