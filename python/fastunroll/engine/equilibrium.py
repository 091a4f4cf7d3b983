"""Runs one layer to its fixed point, and differentiates the fixed point implicitly: deep equilibrium networks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .._precision import own_precision
from ..operators.products import batch_shape
from ..warn import ConvergenceWarning, warn
from .layers import Layers
from .run import stepwise_pieces

_HISTORY = 5  # iterates that Anderson acceleration combines


def run_to_equilibrium(net: Layers, y: Tensor, x0: Tensor | None, iterations: int, tol: float) -> Tensor:
    """x of the fixed point of the first layer, from x0 or from zero.

    The backward pass solves the linear system of the implicit function theorem by the same iteration. Neither keeps the
    iterates, so memory is that of two layers.
    """
    with own_precision(y):
        scheme, linear, shrink = stepwise_pieces(net, y)
        data = linear.data(y)
        x = linear.zero(y, data) if x0 is None else x0
        s = scheme.initial(x, y, linear)
        batch = y.shape[:-1] if net.is_dense else batch_shape(net.first[0], y)
        state = _State(x, s, len(batch))

        def layer(z: Tensor) -> Tensor:
            return state.packed(*scheme.step(0, *state.unpacked(z), data, linear, shrink))

        with torch.no_grad():
            z = _fixed_point(layer, state.packed(x, s), iterations, tol, "the layers")
        if torch.is_grad_enabled():
            z = _differentiable(layer, z, iterations, tol)
        return state.unpacked(z)[0]


class _State:
    """The tensors x and s of a layer as one real tensor (B, n), a row for each sample."""

    def __init__(self, x: Tensor, s: Tensor | None, lead: int) -> None:
        self.lead = tuple(x.shape[:lead])
        self.like = [t for t in (x, s) if t is not None]
        self.sizes = [_rows(t, lead).shape[1] for t in self.like]

    def packed(self, *tensors: Tensor | None) -> Tensor:
        return torch.cat([_rows(t, len(self.lead)) for t in tensors if t is not None], 1)

    def unpacked(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        found = []
        for part, like in zip(z.split(self.sizes, 1), self.like, strict=True):
            values = torch.view_as_complex(part.unflatten(1, (-1, 2)).contiguous()) if like.is_complex() else part
            found.append(values.reshape(like.shape))
        return found[0], (found[1] if len(found) > 1 else None)


def _rows(t: Tensor, lead: int) -> Tensor:
    real = torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
    return real.reshape(t.shape[:lead].numel(), real.shape[lead:].numel())


def _differentiable(layer: Callable[[Tensor], Tensor], z: Tensor, iterations: int, tol: float) -> Tensor:
    """A fixed point z with the gradient of the layer's parameters: ḡ = (I − Jᵀ)⁻¹ ∂L/∂z goes into the layer at z."""
    found = layer(z)
    if not found.requires_grad:
        return z
    point = z.clone().requires_grad_()
    with torch.enable_grad():
        there = layer(point)

    def implicit(gradient: Tensor) -> Tensor:
        def adjoint(g: Tensor) -> Tensor:
            (product,) = torch.autograd.grad(there, point, g, retain_graph=True, allow_unused=True)
            return gradient if product is None else gradient + product

        with torch.no_grad():
            return _fixed_point(adjoint, gradient, iterations, tol, "the backward pass")

    found.register_hook(implicit)
    return found


def _fixed_point(f: Callable[[Tensor], Tensor], z: Tensor, iterations: int, tol: float, what: str) -> Tensor:
    """z = f(z), (B, n), by Anderson acceleration. Each sample has combinations of its own, and stops by itself.

    Reference: Walker and Ni, *Anderson acceleration for fixed-point iterations*, 2011.
    """
    points: list[Tensor] = []
    images: list[Tensor] = []
    is_done = torch.zeros(len(z), dtype=torch.bool, device=z.device)
    best, least = z, z.new_full((len(z),), torch.inf)
    for _ in range(iterations):
        image = f(z)
        residual = torch.linalg.vector_norm(image - z, dim=1)
        scale = torch.linalg.vector_norm(image, dim=1)
        is_better = ~is_done & ~(residual > least)
        best = torch.where(is_better[:, None], image, best)
        least = torch.where(is_better, residual, least)
        is_done = is_done | (residual <= tol * scale)
        if bool(is_done.all()):
            return best
        points, images = [*points[1 - _HISTORY :], z], [*images[1 - _HISTORY :], image]
        z = _combined(torch.stack(points, 1), torch.stack(images, 1))
    unfinished = int((~is_done & z.isfinite().all(1)).sum())
    if unfinished:
        warn(
            f"{what} of {unfinished} of {len(z)} samples did not reach the tolerance {tol:g} of a fixed point in "
            f"{iterations} iterations: allow more, or a larger tolerance",
            ConvergenceWarning,
        )
    return best


def _combined(points: Tensor, images: Tensor) -> Tensor:
    """Σ_i α_i f(z_i), (B, n), with Σ α_i = 1 and the least ‖Σ_i α_i (f(z_i) − z_i)‖, of points (B, count, n)."""
    residuals = images - points
    gram = residuals @ residuals.mT
    largest = gram.diagonal(dim1=1, dim2=2).amax(1)[:, None, None]
    safe = torch.where(largest > 0, largest, torch.ones_like(largest))
    regular = gram / safe + torch.finfo(gram.dtype).eps ** 0.75 * torch.eye(gram.shape[1], device=gram.device)
    weights, _ = torch.linalg.solve_ex(regular, gram.new_ones(gram.shape[:2]))
    weights = weights / weights.sum(1, keepdim=True)
    return (weights[:, None] @ images)[:, 0]
