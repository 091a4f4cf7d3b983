"""Random calls of measures and losses of pictures, and of losses without ground truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import torch
from fastunroll import training
from torch import Tensor

from . import matrices
from .draw import Draw
from .imaging import Pictures, lead, pictures
from .imaging_compositions import operator
from .imaging_operators import held
from .subject import Leaves, Subject, widened_copy
from .tensors import expanded, spoil

DTYPES = [torch.float64, torch.float32, torch.complex128, torch.complex64, torch.bfloat16, torch.float16]


def _square(t: Tensor) -> Tensor:
    return (t * t.conj()).real if t.is_complex() else t * t


def _psnr(x: Tensor, truth: Tensor, top: float) -> Tensor:
    return 20 * math.log10(top) - 10 * torch.log10(_square(x - truth).flatten(-2).mean(-1))


def _ssim(x: Tensor, truth: Tensor, top: float, gaussian: bool) -> Tensor:
    """Window by window, with the moments about the means of each window."""
    side = 11 if gaussian else 7
    at = torch.arange(side, dtype=torch.float64) - side // 2
    one = torch.exp(-at.square() / (2 * 1.5**2)) if gaussian else torch.ones_like(at)
    w = torch.outer(one, one)
    w = w / w.sum()
    a, b = (t.unfold(-2, side, 1).unfold(-2, side, 1) for t in (x, truth))

    def mean(t: Tensor) -> Tensor:
        return (w * t).sum((-2, -1))

    mu, nu = mean(a), mean(b)
    da, db = a - mu[..., None, None], b - nu[..., None, None]
    unbiased = 1.0 if gaussian else side**2 / (side**2 - 1)
    vx, vy, cov = (unbiased * mean(t) for t in (da * da, db * db, da * db))
    c1, c2 = (0.01 * top) ** 2, (0.03 * top) ** 2
    found = (2 * mu * nu + c1) * (2 * cov + c2) / ((mu.square() + nu.square() + c1) * (vx + vy + c2))
    return found.mean((-2, -1))


def _magnitude(t: Tensor) -> Tensor:
    return t.abs() if t.is_complex() else t


def measures(d: Draw) -> Subject:
    """PSNR and SSIM of each picture; losses of a batch."""
    dtype = d.pick("dtype", DTYPES, [8, 4, 4, 2, 1, 1])
    which = d.pick("measure", ["psnr", "ssim", "structural_similarity", "absolute_error", "mean_square", "supervised"])
    gaussian = which == "structural_similarity" or (which == "ssim" and d.chance("gaussian", 0.5))
    least = 11 if gaussian else 7 if which == "ssim" else 1
    size = tuple(d.random.randint(least, least + 6) for _ in range(2))
    batch, top = lead(d), d.pick("range", [1.0, 0.3, *([255.0] if dtype.itemsize > 2 else [])])
    if which not in ("psnr", "ssim") and (0 in batch or not batch):
        batch = (3,)
    truth = d.normal(*batch, *size, dtype=dtype).abs().to(dtype) * top
    x = (truth + 0.2 * top * d.normal(*batch, *size, dtype=dtype)).to(dtype)
    leaves = {"x": expanded(d, x), "truth": truth}
    each = which in ("psnr", "ssim")
    if each and d.chance("not finite", 0.1):
        name = d.random.choice([name for name in leaves if leaves[name].numel()] or [""])
        leaves |= {name: spoil(d, leaves[name])} if name else {}
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "psnr": lambda x, t: _psnr(_magnitude(x), _magnitude(t), top),
        "ssim": lambda x, t: _ssim(_magnitude(x), _magnitude(t), top, gaussian),
        "structural_similarity": lambda x, t: 1 - _ssim(_magnitude(x), _magnitude(t), top, True).mean(),
        "absolute_error": lambda x, t: (x - t).abs().mean(),
        "mean_square": lambda x, t: _square(x - t).sum() / x.shape[0],
        "supervised": lambda x, t: torch.log(_square(x - t).sum() / _square(t).sum()),
    }

    def run(v: Leaves) -> Tensor:
        if which == "psnr":
            return fu.metrics.psnr(v["x"], v["truth"], top)
        if which == "ssim":
            return fu.metrics.ssim(v["x"], v["truth"], top, gaussian=gaussian)
        loss = training.structural_similarity(top) if gaussian else getattr(training, which)
        return loss(v["x"], v["x"], v["truth"])

    halved = dtype.itemsize == 2
    precision = torch.float32 if halved and (each or gaussian) else dtype
    without = ["grad", "second", "jvp", "compiled", "vmap", "per_sample_gradient"] if halved else []
    return Subject(
        which, leaves, run, lambda v: losses[which](v["x"], v["truth"]), batch if each else None,
        ("x", "truth") if each else (), precision=precision, spreads=True, options={"without": without},
    )  # fmt: skip


def _turned(x: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """A random transform, of the sequence of a generator."""

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    if kind == "rotate":
        return torch.rot90(x, draw(1, 4), (-2, -1))
    if kind == "flip":
        return x.flip([(-1,), (-2,), (-2, -1)][draw(0, 3)])
    return x.roll(tuple(draw(0, n) for n in x.shape[-2:]), (-2, -1))


def without_truth(d: Draw) -> Subject:
    """Losses of the network x̂ = w · Aᴴy/(1 + |Aᴴy|²), of the operator or of a part of it."""
    p = pictures(d)
    p = Pictures(p.real, p.is_complex, p.size, p.lead if p.lead and 0 not in p.lead else (2,))
    o = operator(d, p)
    way, seed = held(d, o), d.random.randrange(5)
    which = d.pick("loss", ["measurement_error", "sure", "splitting", "equivariance"])
    sigma, share = d.uniform(0.05, 0.5), d.uniform(0.1, 0.7)
    square = o.shape_in[-1] == o.shape_in[-2]
    kind = d.pick("transform", ["flip", "shift", *(["rotate"] if square else [])])
    together = d.pick("together", [(), (-1,), (-2,), (-2, -1)])
    leaves = {
        "y": d.normal(*p.lead, *o.shape_out, dtype=o.measured(p)),
        "w": torch.tensor(d.uniform(0.5, 1), dtype=p.real),
    }
    made = None if way == "tensors" else o.make(o.leaves, False)
    matrix = None if made is None else o.matrix(widened_copy(made))
    generated = o.measured(p)

    def run(v: Leaves) -> Tensor:
        A = o.make(v, False) if made is None else made

        def net(y: Tensor, operator: Any = A) -> Tensor:
            back = operator.adjoint(y)
            found: Tensor = v["w"] * back / (1 + _square(back))
            return found

        loss = {
            "measurement_error": lambda: training.measurement_error(A),
            "sure": lambda: training.sure(net, A, sigma, step=0.1, seed=seed),
            "splitting": lambda: training.splitting(net, A, share=share, together=together, seed=seed),
            "equivariance": lambda: training.equivariance(net, A, kind, seed=seed),
        }[which]()
        return loss(net(v["y"]), v["y"], None)

    def exact(v: Leaves) -> Tensor:
        A, y = o.matrix(o.make(v, False)) if matrix is None else matrix, v["y"]
        generator = torch.Generator().manual_seed(seed)

        def forward(x: Tensor) -> Tensor:
            return matrices.product(A, x, o.shape_in, o.shape_out)

        def net(y: Tensor, kept: Tensor | float = 1.0) -> Tensor:
            back = matrices.adjoint(A, o.is_real, kept * y, o.shape_in, o.shape_out)
            return v["w"] * back / (1 + _square(back))

        x = net(y)
        error = _square(forward(x) - y).mean()
        if which == "measurement_error":
            return error
        if which == "sure":
            b = torch.randn(y.shape, generator=generator, dtype=generated).to(y.dtype)
            change = (b.conj() * (forward(net(y + 0.1 * b)) - forward(x))).sum()
            return error - sigma**2 + 2 * sigma**2 / (0.1 * y.numel()) * change.real
        if which == "splitting":
            shape = [1 if n - y.dim() in together else size for n, size in enumerate(y.shape)]
            held_out = (torch.rand(shape, generator=generator) < share).double().expand(y.shape)
            found = net((1 - held_out) * y, 1 - held_out)
            return (held_out * _square(forward(found) - y)).sum() / max(1.0, float(held_out.sum()))
        turned = _turned(x, kind, generator)
        return _square(turned - net(forward(turned))).sum() / x.numel()

    return Subject(
        which, {**leaves, **(o.leaves if way == "tensors" else {})}, run, exact, None, ("y",), precision=p.dtype,
        slack=10 * torch.finfo(p.real).eps,  # of a loss of size 1, whose gradient is 0 where nothing is left out or in
        options={"without": ["vmap", "per_sample_gradient"]},
    )  # fmt: skip
