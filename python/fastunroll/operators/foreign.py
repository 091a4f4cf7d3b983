"""Operators of other libraries. Each class calls the products of one library."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import _checks
from ..arrays import from_array
from ..computed_weights import compute_weights
from .dense import Dense
from .linear_operator import LinearOperator


class Wrapped(LinearOperator):
    """Any object with ``A(x)`` and ``A.adjoint(y)``; its ``norm()``, ``shape_in`` and ``shape_out`` are used.

    unpacks: products are tuples of one tensor.
    """

    def __init__(self, obj: Any, unpacks: bool = False) -> None:
        super().__init__()
        self.obj, self.unpacks = obj, unpacks

    def product_name(self, method: str) -> str:
        return {"forward": "A(x)", "adjoint": "A.adjoint(y)"}.get(method, f"A.{method}")

    def written(self, method: str) -> Callable[[Tensor], Any]:
        if self.unpacks:
            return super().written(method)
        product: Callable[[Tensor], Any] = self.obj if method == "forward" else self.obj.adjoint
        return product

    @property
    def source(self) -> Any:
        return getattr(self.obj, "source", self.obj)

    @property
    def shape_in(self) -> tuple[int, ...] | None:  # type: ignore[override]
        return stated_shape(self.obj, "shape_in")

    @property
    def shape_out(self) -> tuple[int, ...] | None:  # type: ignore[override]
        return stated_shape(self.obj, "shape_out")

    def _one(self, found: Any) -> Tensor:
        return found[0] if self.unpacks and isinstance(found, tuple) and len(found) == 1 else found

    def forward(self, x: Tensor) -> Tensor:
        return self._one(self.obj(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self._one(self.obj.adjoint(y))

    def stated_norm(self) -> float | None:
        norm = getattr(self.obj, "norm", None)
        return float(norm()) if callable(norm) else None

    def norm(self) -> float:
        stated = self.stated_norm()
        return super().norm() if stated is None else stated

    def extra_repr(self) -> str:
        return "" if isinstance(self.obj, nn.Module) else type(self.obj).__name__


class GramOperator(Wrapped):
    """An operator of MRpro, with its own AᴴA: ``gram``."""

    collapsed = True

    def normal(self, x: Tensor) -> Tensor:
        """AᴴA x, as the operator's ``gram`` computes it."""
        return self._one(self.obj.gram(x))


class DeepinvOperator(LinearOperator):
    """A linear physics of DeepInverse. Calling it would add noise, so ``A`` and ``A_adjoint`` are called."""

    def __init__(self, physics: Any) -> None:
        super().__init__()
        self.physics = physics

    @property
    def source(self) -> Any:
        return self.physics

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.physics.A(x)
        return found

    def adjoint(self, y: Tensor) -> Tensor:
        found: Tensor = self.physics.A_adjoint(y)
        return found


class LinearLayer(Dense, differentiable=True):
    """A ``torch.nn.Linear`` without a bias, whose weight is the matrix."""

    def __init__(self, layer: nn.Linear) -> None:
        LinearOperator.__init__(self)
        self.layer = layer
        self._factor = None

    @property
    def matrix(self) -> Tensor:  # type: ignore[override]
        compute_weights(self.layer)
        weight: Tensor = self.layer.weight
        return weight


class SparseMatrix(LinearOperator):
    """A sparse matrix (m, n) of PyTorch, in COO, CSR or CSC format."""

    A: Tensor
    same_dtype = True

    def __init__(self, A: Tensor) -> None:
        super().__init__()
        if A.layout not in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc):
            raise TypeError(f"A must be dense, or sparse in COO, CSR or CSC format, got {A.layout}")
        if A.dim() != 2:
            raise ValueError(f"a sparse A must be a matrix (m, n), got shape {_checks.shape_text(A.shape)}")
        if not (A.is_floating_point() or A.is_complex()):
            raise TypeError(f"A must be floating point, got {A.dtype}: use A.float()")
        self.register_buffer("A", A)
        self.shape_out, self.shape_in = (A.shape[0],), (A.shape[1],)

    def __deepcopy__(self, memo: dict[int, Any]) -> SparseMatrix:
        """PyTorch copies no sparse tensor in CSR or CSC format by itself."""
        return SparseMatrix(self.A.clone())

    def _product(self, name: str, A: Tensor, x: Tensor) -> Tensor:
        _checks.columns(name, _checks.tensor(name, x), A.shape[1], self.A.shape)
        A, x = _checks.require_same_dtype_and_device(A=A, **{name: x})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that PyTorch's support is in beta
            found = A @ x.reshape(-1, A.shape[1]).mT
        return found.mT.reshape(*x.shape[:-1], A.shape[0])

    def forward(self, x: Tensor) -> Tensor:
        return self._product("x", self.A, x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._product("y", self._transpose(), y.conj()).conj().resolve_conj()

    def _transpose(self) -> Tensor:
        """Aᵀ, which PyTorch cannot make of a sparse tensor in inference mode."""
        if not torch.is_inference_mode_enabled():
            return self.A.mT
        with torch.inference_mode(False), torch.no_grad():
            return self.A.mT


class NumpyOperator(LinearOperator):
    """Products that NumPy makes, on the CPU: x goes in as an array, and what comes out has its device and precision."""

    def __init__(self, shape_in: tuple[int, ...], shape_out: tuple[int, ...]) -> None:
        super().__init__()
        self.shape_in, self.shape_out = shape_in, shape_out

    def require_sample(self, name: str, x: Tensor) -> Tensor:
        """X or y, if it is a batch of samples of the shape that the operator states."""
        _checks.tensor(name, x)
        takes = self.shape_out if name == "y" else self.shape_in
        assert takes is not None
        if x.shape[max(0, x.dim() - len(takes)) :] != takes:
            raise ValueError(
                f"{name} must have the shape {_checks.shape_text(('...', *takes))}, got {_checks.shape_text(x.shape)}"
            )
        return x

    def _through(
        self, name: str, product: Callable[[NDArray[Any]], NDArray[Any]], x: Tensor, takes: Any, returns: Any
    ) -> Tensor:
        """``product`` of batches (B, *takes), which returns (B, *returns)."""
        batch = self.require_sample(name, x).shape[: x.dim() - len(takes)]
        array = x.detach().cpu().resolve_conj().resolve_neg().numpy().reshape(math.prod(batch), *takes)
        found = np.asarray(product(array)) if math.prod(batch) else np.empty((0, *returns), array.dtype)
        if found.size != math.prod(batch) * math.prod(returns):
            raise ValueError(
                f"{self.product_name('forward' if name == 'x' else 'adjoint')} must return {math.prod(batch)} samples "
                f"of shape {_checks.shape_text(returns)}, got {_checks.shape_text(found.shape)}"
            )
        dtype = x.dtype.to_complex() if np.iscomplexobj(found) else x.dtype.to_real()
        return from_array(found, "A").reshape(*batch, *returns).to(device=x.device, dtype=dtype)


class MatvecOperator(NumpyOperator):
    """A ``LinearOperator`` of SciPy or PyLops. Samples are flat vectors, or of the ``dims`` that PyLops states."""

    def __init__(self, obj: Any) -> None:
        m, n = obj.shape
        super().__init__(tuple(getattr(obj, "dims", (n,))), tuple(getattr(obj, "dimsd", (m,))))
        self.obj = obj

    @property
    def source(self) -> Any:
        return self.obj

    def product_name(self, method: str) -> str:
        return f"{type(self.obj).__name__}.{'matvec' if method == 'forward' else 'rmatvec'}"

    def _columns(self, name: str, one: str, many: str, x: Tensor, takes: Any, returns: Any) -> Tensor:
        def product(samples: NDArray[Any]) -> NDArray[Any]:
            flat = samples.reshape(len(samples), -1)
            if len(flat) == 1:
                return np.asarray(getattr(self.obj, one)(flat[0]))
            return np.asarray(getattr(self.obj, many)(np.ascontiguousarray(flat.T))).T

        return self._through(name, product, x, takes, returns)

    def forward(self, x: Tensor) -> Tensor:
        return self._columns("x", "matvec", "matmat", x, self.shape_in, self.shape_out)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._columns("y", "rmatvec", "rmatmat", y, self.shape_out, self.shape_in)


class SigpyOperator(NumpyOperator):
    """A linear operator of SigPy, which takes one sample at a time, and has its own AᴴA: ``N``."""

    collapsed = True

    def __init__(self, linop: Any) -> None:
        super().__init__(tuple(linop.ishape), tuple(linop.oshape))
        self.linop = linop

    @property
    def source(self) -> Any:
        return self.linop

    def product_name(self, method: str) -> str:
        return f"{type(self.linop).__name__}{ {'adjoint': '.H', 'normal': '.N'}.get(method, '') }"

    def forward(self, x: Tensor) -> Tensor:
        return self._through("x", _each(self.linop), x, self.shape_in, self.shape_out)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._through("y", _each(self.linop.H), y, self.shape_out, self.shape_in)

    def normal(self, x: Tensor) -> Tensor:
        """AᴴA x, as the operator's ``N`` computes it."""
        return self._through("x", _each(self.linop.N), x, self.shape_in, self.shape_in)


def _each(product: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda samples: np.stack([product(sample) for sample in samples])


def stated_shape(obj: Any, name: str) -> tuple[int, ...] | None:
    """The shape of one sample that an object states, or None."""
    value = getattr(obj, name, None)
    if value is None:
        return None
    shape = _checks.shape(f"A.{name}", value)
    if not shape:
        raise ValueError(f"A.{name} must have at least one dimension, got (): a number is of shape (1,)")
    return shape
