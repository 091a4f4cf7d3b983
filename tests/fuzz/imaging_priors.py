"""Random priors of pictures, each with its formula in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastunroll as fu
import torch
from fastunroll import prox
from torch import Tensor, nn
from torch.nn.functional import conv2d
from twins import shrink

from . import matrices, oracle
from .draw import Draw
from .imaging import Pictures
from .matrices import Size

Formula = Callable[[Any, int, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Prior:
    """A prior: how it is made for pictures of a size, and prox_θ(z) in layer k as a function of the prior, k, z and θ.

    takes: the pictures that it takes. fits: the sizes of these. is_native: whether there are kernels for it.
    kink: whether its slope jumps at zero, where binary masks leave pictures: a learned mask has several right slopes.
    """

    make: Callable[[Draw, Pictures, int], prox.Proximal]
    formula: Formula
    takes: str = "either"
    fits: Callable[[Size], bool] = lambda size: True
    weight: float = 1.0
    is_native: bool = False
    kink: bool = False

    def takes_gradients_of(self, d: Draw) -> bool:
        """Whether the tensors of the operator that was drawn may learn beside it."""
        return not (self.kink and "mask=binary" in d.said)


def _elementwise(f: Callable[[Tensor, Tensor], Tensor]) -> Formula:
    return lambda prior, k, z, theta: f(z, theta)


def total_variation(prior: Any, k: int, z: Tensor, theta: Tensor) -> Tensor:
    """z − Dᵀp, with p by accelerated projected gradients on the dual problem."""
    dims = prior.sample_dims
    size = tuple(z.shape[-dims:])
    D, each = matrices.differences(size), (dims, *size)

    def forward(x: Tensor) -> Tensor:
        return matrices.product(D, x, size, each)

    def adjoint(p: Tensor) -> Tensor:
        return matrices.product(D.mT, p, each, size)

    level = theta if theta.dim() < dims else theta.unsqueeze(-dims - 1)  # (..., 1, 1) beside (..., 2, H, W)
    p = q = forward(torch.zeros_like(z))
    for beta in oracle.momentum(prior.inner_iterations + 1)[1:]:
        v = q + forward(z - adjoint(q)) / (4 * dims)
        square = v.abs().square().sum(-dims - 1, keepdim=True)
        shorter = square <= level.square()
        length = torch.where(shorter, 1.0, square).sqrt()
        before, p = p, torch.where(shorter, v, v * (level / length))
        q = p + beta * (p - before)
    return z - adjoint(p)


def wavelet(prior: Any, k: int, z: Tensor, theta: Tensor) -> Tensor:
    """Wᵀ S_θ(W z) with a threshold for each detail, on the grid of layer k."""
    name, levels, size = prior.wavelet.name, prior.levels, tuple(z.shape[-2:])
    W = matrices.wavelet(name, levels, size)
    moves = torch.randint(2**levels, (1024, 2), generator=torch.Generator().manual_seed(prior.seed))
    down, right = moves[k % 1024].tolist() if prior.shift else (0, 0)
    every = theta.reshape(levels if theta.numel() > 1 else 1, -1).expand(levels, 3)
    zero = theta.new_zeros(())

    def level_of(i: int, j: int) -> Tensor:
        for level in range(levels):
            h, w = size[0] >> level + 1, size[1] >> level + 1
            if i >= h or j >= w:
                return every[level, 2 if i >= h and j >= w else 0 if i >= h else 1]
        return zero

    thresholds = torch.stack([level_of(i, j) for i in range(size[0]) for j in range(size[1])]).reshape(size)
    is_detail = torch.ones(size, dtype=torch.bool)
    is_detail[: size[0] >> levels, : size[1] >> levels] = False
    c = matrices.product(W, z.roll((down, right), (-2, -1)), size, size)
    c = torch.where(is_detail, shrink(c, thresholds), c)
    return matrices.product(W.mT, c, size, size).roll((-down, -right), (-2, -1))


def _bank(prior: Any, k: int) -> Tensor:
    filters: Tensor = (prior.copies[k] if isinstance(prior, prox.PerLayer) else prior).filters
    return filters


def filter_bank(prior: Any, k: int, z: Tensor, theta: Tensor) -> Tensor:
    """Filters and their adjoints, patch by patch."""
    f = _bank(prior, k)
    h = f.shape[-1]
    patches = z.unfold(-2, h, 1).unfold(-2, h, 1)
    c = torch.einsum("...ijab,nab->...nij", patches, f.to(z.dtype))
    level = theta.reshape(-1, 1, 1)
    clipped = c - shrink(c, level) if c.is_complex() else torch.minimum(torch.maximum(c, -level), level)
    x, (rows, columns) = z, c.shape[-2:]
    for a in range(h):
        for b in range(h):
            part = torch.einsum("...nij,n->...ij", clipped, f[:, a, b].to(z.dtype))
            x = x - torch.nn.functional.pad(part, (b, z.shape[-1] - columns - b, a, z.shape[-2] - rows - a))
    return x


def _channels(z: Tensor) -> Tensor:
    parts = torch.stack([z.real, z.imag], -3) if z.is_complex() else z[..., None, :, :]
    return parts.reshape(-1, *parts.shape[-3:])


def _pictures(x: Tensor, z: Tensor) -> Tensor:
    return (torch.complex(x[:, 0], x[:, 1]) if z.is_complex() else x).reshape(z.shape)


def _padded(x: Tensor, convolution: Any) -> Tensor:
    return conv2d(x, convolution.weight, padding=1)


def dncnn(prior: Any, k: int, z: Tensor, theta: Tensor) -> Tensor:
    first, last = prior.module.convolutions
    x = _channels(z)
    if prior.noise_level:
        x = torch.cat([x, theta.sqrt().reshape(1, 1, 1, 1).expand(len(x), 1, *x.shape[-2:])], 1)
    return z - _pictures(_padded(_padded(x, first).relu(), last), z)


def learned_transform(prior: Any, k: int, z: Tensor, theta: Tensor) -> Tensor:
    F, inverse = prior.transform, prior.inverse
    u = _channels(z)
    u = _padded(u, prior.extract) if prior.residual else u
    c = shrink(_padded(_padded(u, F[0]).relu(), F[2]), theta)
    u = _padded(_padded(c, inverse[0]).relu(), inverse[2])
    return z + _pictures(_padded(u, prior.restore), z) if prior.residual else _pictures(u, z)


class Shrinking(nn.Module):
    """A denoiser of another library: pictures (N, C, H, W) and σ."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1 + sigma.reshape(-1, 1, 1, 1))


def contraction(z: Tensor) -> Tensor:
    """A denoiser that contracts by 0.6."""
    return 0.6 * z / (1 + z.abs())


def _total_variation(d: Draw, p: Pictures, layers: int) -> prox.Proximal:
    """Of volumes, or of each picture of a stack by itself."""
    dims = 3 if p.dims == 3 and d.chance("total variation of volumes", 0.7) else 2
    return prox.TotalVariation(d.pick("inner iterations", [1, 2, 5, 12]), dims)


def _wavelet_l1(d: Draw, p: Pictures, layers: int) -> prox.Proximal:
    levels = d.pick("levels", [n for n in (1, 2) if all(side % 2**n == 0 for side in p.size[-2:])])
    options = {"per": d.pick("per", ["band", "level", "all"]), "shift": d.random.random() < 0.7}
    return prox.WaveletL1(d.pick("wavelet", ["haar", "db2", "sym4"]), levels, **options, seed=d.random.randrange(9))


def _filter_bank(d: Draw, p: Pictures, layers: int) -> prox.Proximal:
    size = d.random.randint(2, min(3, *p.size[-2:]))
    bank = prox.FilterBank(d.random.randint(1, size**2 - 1), size)
    return prox.PerLayer(bank, layers + d.random.randint(0, 1)) if d.chance("per layer", 0.4) else bank


def _learned_transform(d: Draw, p: Pictures, layers: int) -> prox.Proximal:
    return prox.LearnedTransform(2 if p.is_complex else 1, 3, residual=d.random.random() < 0.6)


def _dncnn(d: Draw, p: Pictures, layers: int) -> prox.Proximal:
    level = d.chance("noise level", 0.4)
    module = fu.nn.DnCNN(2 if p.is_complex else 1, 3, 2, noise_level=level)
    return prox.Denoiser(module, 0.3 if level else False)


def _even(size: Size) -> bool:
    return size[-1] % 2 == size[-2] % 2 == 0


def _wide(size: Size) -> bool:
    return min(size[-2:]) > 1


PRIORS: dict[str, Prior] = {
    "TotalVariation": Prior(_total_variation, total_variation, weight=4, is_native=True),
    "L1": Prior(lambda d, p, layers: prox.L1(), _elementwise(shrink), weight=4, is_native=True),
    "NonNegativeL1": Prior(
        lambda d, p, layers: prox.NonNegativeL1(), _elementwise(lambda z, theta: torch.relu(z - theta)), "real",
        weight=2, is_native=True,
    ),
    "Box": Prior(
        lambda d, p, layers: prox.Box(-0.3, 0.5), _elementwise(lambda z, theta: z.clamp(-0.3, 0.5)), "real", weight=2,
        is_native=True,
    ),
    "Identity": Prior(lambda d, p, layers: prox.Identity(), _elementwise(lambda z, theta: z), is_native=True),
    "ElasticNet": Prior(
        lambda d, p, layers: prox.ElasticNet(0.5), _elementwise(lambda z, theta: shrink(z, theta) / (1 + 0.5 * theta))
    ),
    "Firm": Prior(
        lambda d, p, layers: prox.Firm(),
        _elementwise(lambda z, t: torch.where(z.abs() > 3 * t, z, 1.5 * shrink(z, t))),
    ),
    "WaveletL1": Prior(_wavelet_l1, wavelet, fits=_even, weight=5),
    "FilterBank": Prior(_filter_bank, filter_bank, fits=_wide, weight=4),
    "LearnedTransform": Prior(_learned_transform, learned_transform, weight=2, kink=True),
    "DnCNN": Prior(_dncnn, dncnn, weight=2, kink=True),
    "denoiser": Prior(
        lambda d, p, layers: prox.Denoiser(Shrinking(), True, channels=2 if p.is_complex else 1),
        lambda prior, k, z, theta: z / (1 + theta.sqrt()),
    ),
    "function": Prior(lambda d, p, layers: prox.Denoiser(contraction), lambda prior, k, z, theta: contraction(z)),
}  # fmt: skip


def prior(d: Draw, p: Pictures, size: Size, layers: int) -> tuple[Prior, prox.Proximal]:
    """One for pictures of this size, with weights that are nobody's start, so small that iterates stay bounded."""
    fields = "either", "complex" if p.is_complex else "real"
    names = [name for name, one in PRIORS.items() if one.takes in fields and one.fits(size)]
    name = d.pick("prior", names, [PRIORS[name].weight for name in names])
    made = PRIORS[name].make(d, Pictures(p.real, p.is_complex, size, p.lead), layers)
    with torch.no_grad():
        for t in made.parameters():
            t.copy_(0.6 * torch.randn(t.shape, dtype=torch.float64) / max(1, t[0].numel()) ** 0.5)
    return PRIORS[name], made.to(p.real)
