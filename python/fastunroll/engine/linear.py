"""The linear steps of :mod:`fastunroll.steps` as the stepwise engine calls them: one layer k at a time.

``data(y)`` is what the layers need of the measurements, made once; ``step(k, v, data)`` is z. ``zero(y, data)`` is
x = 0, the start of the layers where no other is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..operators.products import Products
from ..products import product


def at(values: Sequence[Any], k: int) -> Any:
    """The entry of layer k. All layers share a list of one entry."""
    return values[min(k, len(values) - 1)]


def separate(values: Sequence[Tensor]) -> list[Tensor]:
    """Splits one tensor with the values of all layers into one tensor for each layer."""
    return [*values[0].reshape(-1, 1)] if len(values) == 1 and values[0].numel() > 1 else [*values]


def stacked(values: Sequence[Tensor], count: int) -> Tensor:
    """The values of each layer as a row, (K, …), of one entry for all layers or one for each."""
    rows = torch.stack([t.reshape(-1) for t in values])
    return rows.expand(count, -1)


class Matrix:
    """A matrix as an operator, for batches of samples (..., n)."""

    def __init__(self, A: Tensor) -> None:
        self.A = A

    def __call__(self, x: Tensor) -> Tensor:
        return product(x, self.A)

    def adjoint(self, r: Tensor) -> Tensor:
        return product(r, self.A, adjoint=True)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return self.adjoint(product(x, self.A, start=-y))

    def zero(self, y: Tensor) -> Tensor:
        """x = 0 for each sample."""
        return y.new_zeros(*y.shape[:-1], self.A.shape[1])


class Affine:
    """z = W₁ y + W₂ v."""

    def __init__(self, W1: Sequence[Any], W2: Sequence[Any]) -> None:
        self.W1, self.W2 = W1, W2

    def data(self, y: Tensor) -> Tensor:
        return y

    def zero(self, y: Tensor, data: Tensor) -> Tensor:
        found: Tensor = self.W2[0].zero(y)
        return found

    def __call__(self, k: int, v: Tensor, data: Tensor) -> Tensor:
        z: Tensor = at(self.W1, k)(data) + at(self.W2, k)(v)
        return z


class Gradient:
    """z = v + Wᴴ (t ∘ (y − A v)); W is A where there is none."""

    def __init__(self, A: Sequence[Any], W: Sequence[Any], step: Sequence[Tensor]) -> None:
        self.A, self.W, self.t = A, W or A, step

    def data(self, y: Tensor) -> Tensor:
        return y

    def zero(self, y: Tensor, data: Tensor) -> Tensor:
        found: Tensor = self.A[0].zero(y)
        return found

    def residual(self, k: int, v: Tensor, data: Tensor) -> Tensor:
        """y − A v."""
        r: Tensor = data - at(self.A, k)(v)
        return r

    def along(self, k: int, v: Tensor, r: Tensor) -> Tensor:
        """v + Wᴴ (t ∘ r)."""
        z: Tensor = v + at(self.W, k).adjoint(at(self.t, k) * r if self.t else r)
        return z

    def __call__(self, k: int, v: Tensor, data: Tensor) -> Tensor:
        return self.along(k, v, self.residual(k, v, data))


class OperatorGradient(Gradient):
    """The gradient step of an operator, by ``A.gradient``, which may be cheaper than a product with A and one with Aᴴ.

    Only the product Aᴴy tells the shape and the dtype of x. It is the negative gradient at zero too, so the first layer
    of a network that starts there takes no further product.
    """

    _zero: Tensor | None = None

    def __init__(self, A: Products, step: Sequence[Tensor]) -> None:
        super().__init__([A], [], step)
        self.products = A

    def zero(self, y: Tensor, data: Tensor) -> Tensor:
        self._At_y: Tensor = self.products.adjoint(y)
        self._zero = torch.zeros_like(self._At_y)
        return self._zero

    def residual(self, k: int, v: Tensor, data: Tensor) -> Tensor:
        return data - self.products.forward(v)

    def __call__(self, k: int, v: Tensor, data: Tensor) -> Tensor:
        slope = -self._At_y if v is self._zero else self.products.gradient(v, data)
        if self.t:
            slope = at(self.t, k) * slope  # by the same name: z may take the memory of the gradient
        z: Tensor = v - slope
        return z


class _OfAdjoint:
    """A step whose layers take Aᴴy in the place of y."""

    def __init__(self, adjoint: Any) -> None:
        self.adjoint = adjoint

    def data(self, y: Tensor) -> Tensor:
        found: Tensor = self.adjoint(y)
        return found

    def zero(self, y: Tensor, data: Tensor) -> Tensor:
        return torch.zeros_like(data)


class CollapsedGradient(_OfAdjoint):
    """The same of an operator whose AᴴA is cheaper than two products: Aᴴy is computed once for all layers."""

    def __init__(self, A: Products, step: Sequence[Tensor]) -> None:
        super().__init__(A.adjoint)
        self.A, self.t = A, step

    def __call__(self, k: int, v: Tensor, data: Tensor) -> Tensor:
        slope = self.A.collapsed_gradient(v, data)
        if self.t:
            slope = at(self.t, k) * slope  # by the same name: z may take the memory of the gradient
        z: Tensor = v - slope
        return z


class Gram(_OfAdjoint):
    """z = v + t ∘ (Wᴴy − G v)."""

    def __init__(self, adjoint: Any, G: Any, step: Sequence[Tensor]) -> None:
        super().__init__(adjoint)
        self.G, self.t = G, step

    def __call__(self, k: int, v: Tensor, data: Tensor) -> Tensor:
        r = data - self.G(v)
        z: Tensor = v + (at(self.t, k) * r if self.t else r)
        return z


class Data(_OfAdjoint):
    """z = (AᴴA + ρI)⁻¹(Aᴴy + ρ v)."""

    def __init__(self, A: Products, rho: Sequence[Tensor]) -> None:
        super().__init__(A.adjoint)
        self.A, self.rho = A, rho

    def __call__(self, k: int, v: Tensor, data: Tensor) -> Tensor:
        rho = at(self.rho, k)
        z: Tensor = self.A.data_step(v, data, rho)
        return z
