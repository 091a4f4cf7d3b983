"""Converts an operator to operators of other libraries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import _checks
from ..arrays import from_array
from .channels import RealChannels
from .linear_operator import LinearOperator


def to_scipy(op: LinearOperator, shape_in: tuple[int, ...] | None, dtype: Any) -> Any:
    """``op`` for one sample, as a ``scipy.sparse.linalg.LinearOperator`` of flat vectors; see the method."""
    from scipy.sparse.linalg import LinearOperator as ScipyOperator

    takes = op.shape_in if shape_in is None else _checks.shape("shape_in", shape_in)
    if takes is None:
        raise ValueError(
            f"shape_in, the shape of one sample of x, must be given, since {type(op).__name__} states none"
        )
    like = op.example()
    with torch.no_grad():
        x = torch.zeros(1, *takes, dtype=like.dtype, device=like.device)
        y = op(x)
        x = op.adjoint(y)  # complex, where x may be
    returns = tuple(y.shape[1:])
    found = np.dtype(str(torch.promote_types(x.dtype, y.dtype)).removeprefix("torch.")) if dtype is None else dtype

    def product(method: Any, value: NDArray[Any], shape: tuple[int, ...], example: Tensor) -> NDArray[Any]:
        """Of vectors (size,) or (size, 1), or of columns (size, count)."""
        columns = from_array(np.asarray(value)).reshape(math.prod(shape), -1).mT.reshape(-1, *shape)
        is_complex = example.is_complex() or columns.is_complex()
        own = example.dtype.to_complex() if is_complex else example.dtype
        with torch.no_grad():
            results = method(columns.to(device=example.device, dtype=own))
        flat: NDArray[Any] = results.reshape(len(columns), -1).mT.resolve_conj().cpu().numpy()
        return flat[:, 0] if value.ndim == 1 else flat

    return ScipyOperator(
        (math.prod(returns), math.prod(takes)),
        matvec=lambda v: product(op, v, takes, x),
        rmatvec=lambda v: product(op.adjoint, v, returns, y),
        matmat=lambda v: product(op, v, takes, x),
        rmatmat=lambda v: product(op.adjoint, v, returns, y),
        dtype=found,
    )


def to_deepinv(op: LinearOperator) -> Any:
    """``op`` as a ``deepinv.physics.LinearPhysics``; see the method."""
    from deepinv.physics import LinearPhysics

    if any(getattr(part, "takes_complex", False) for part in op.modules()):
        op = RealChannels(op)

    class Physics(LinearPhysics):
        """The products of a :class:`fastunroll.operators.LinearOperator`."""

        def __init__(self) -> None:
            super().__init__()
            self.operator = op

        def A(self, x: Tensor, **_: Any) -> Tensor:
            found: Tensor = self.operator(x)
            return found

        def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
            return self.operator.adjoint(y)

        def A_adjoint_A(self, x: Tensor, **_: Any) -> Tensor:
            return self.operator.normal(x)

        def prox_l2(self, z: Any, y: Tensor, gamma: Any, *arguments: Any, **options: Any) -> Tensor:
            """argmin_x γ/2·‖A x − y‖² + ½‖x − z‖² = (AᴴA + I/γ)⁻¹(Aᴴy + z/γ); by DeepInverse for a γ of each sample."""
            if isinstance(gamma, Tensor) and gamma.numel() != 1:
                found: Tensor = super().prox_l2(z, y, gamma, *arguments, **options)
                return found
            gamma = gamma.reshape(()) if isinstance(gamma, Tensor) else gamma
            b = self.operator.adjoint(y)
            return self.operator.solve(b if z is None else b + z / gamma, 1 / gamma)

    return Physics()
