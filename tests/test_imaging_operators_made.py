"""Operators that are made of a tensor within a transform of PyTorch, which differentiates them or maps a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

lin = fu.operators
DOUBLE, COMPLEX = torch.float64, torch.complex128
pytestmark = pytest.mark.filterwarnings("ignore:.*(torch.jit.script|should not be instantiated).*:DeprecationWarning")


def random(*shape: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


SIZE, VOLUME = (5, 7), (3, 4, 5)
MASK, MAPS, BLUR = random(*SIZE), random(2, *SIZE, dtype=COMPLEX), lin.Blur(random(1, 3))
# The operator of a tensor, the tensor, and pictures.
MADE: dict[str, tuple[Callable[[Tensor], Any], Tensor, Tensor]] = {
    "circular blur": (lin.Blur, random(3, 2), random(3, *SIZE)),
    "reflected blur": (lambda t: lin.Blur(t, "reflect"), random(3, 2), random(3, *SIZE)),
    "scan": (lin.Fourier, MASK, random(3, *SIZE, dtype=COMPLEX)),
    "columns of real pictures": (lambda t: lin.Fourier(t, real=True), random(SIZE[1]), random(3, *SIZE)),
    "mask of coils": (
        lambda t: lin.MultiCoilFourier(t, MAPS), random(*SIZE),
        random(3, *SIZE, dtype=COMPLEX),
    ),
    "maps": (
        lambda t: lin.MultiCoilFourier(MASK, t), MAPS,
        random(3, *SIZE, dtype=COMPLEX),
    ),
    "mask": (lin.Mask, random(*SIZE), random(3, *SIZE)),
    "blur of volumes": (lambda t: lin.Blur(t, dims=3), random(2, 3, 2), random(3, *VOLUME)),
    "reflected blur of volumes": (lambda t: lin.Blur(t, "reflect", dims=3), random(1, 2, 3), random(3, *VOLUME)),
    "scan of volumes": (
        lambda t: lin.Fourier(t, dims=3), random(*VOLUME[1:]), random(3, *VOLUME, dtype=COMPLEX),
    ),
    "maps of volumes": (
        lambda t: lin.MultiCoilFourier(MASK[0, :5], t, dims=3), random(2, *VOLUME, dtype=COMPLEX),
        random(3, *VOLUME, dtype=COMPLEX),
    ),
    "downsampling": (lambda t: lin.Downsample(3, t), random(2, 3), random(3, 6, 9)),
    "dictionary": (lambda t: lin.Convolution(t, 2).H, random(2, 3, 1), random(3, *SIZE)),
    "multiple": (lambda t: t * BLUR, random(), random(3, *SIZE)),
    "stack": (lambda t: lin.Stack(lin.Mask(t), lin.Mask(2 * t)), random(*SIZE), random(3, *SIZE)),
}  # fmt: skip
METHODS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "forward": lambda op, x: op(x),
    "normal": lambda op, x: op.normal(x),
    "solve": lambda op, x: op.solve(x, 0.7),
}
ROWS = [(name, method) for name in MADE for method in METHODS]


@pytest.mark.parametrize(("name", "method"), ROWS)
def test_tangents(name: str, method: str) -> None:
    """Those of torch.func and of dual numbers, against two backward passes."""
    make, t, x = MADE[name]
    along = random(*t.shape, seed=1, dtype=t.dtype)

    def function(t: Tensor) -> Tensor:
        return METHODS[method](make(t), x)

    wanted = torch.autograd.functional.jvp(function, t, along)[1]
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(torch.func.jvp(function, (t,), (along,))[1], wanted, rtol=1e-9, atol=1e-9)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(function(forward_ad.make_dual(t, along))).tangent
        assert found is not None
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(function(t), function(t.clone()), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "method"), [row for row in ROWS if row[1] != "forward"])
def test_batches(name: str, method: str) -> None:
    """vmap over the tensor, and over its gradients."""
    make, t, x = MADE[name]
    many = torch.stack([t, 2 * t])

    def function(t: Tensor) -> Tensor:
        return METHODS[method](make(t), x)

    def loss(t: Tensor) -> Tensor:
        return function(t).abs().square().sum()

    found, gradients = torch.vmap(function)(many), torch.vmap(torch.func.grad(loss))(many)
    for one, of_one, gradient in zip(many, found, gradients, strict=True):
        torch.testing.assert_close(of_one, function(one), rtol=1e-10, atol=1e-10)
        leaf = one.clone().requires_grad_()
        (wanted,) = torch.autograd.grad(loss(leaf), leaf)
        torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "method"), ROWS)
def test_gradients_of_each_picture(name: str, method: str) -> None:
    """vmap over the gradients of pictures, with the tensor as an argument that all have in common."""
    make, t, x = MADE[name]

    def loss(t: Tensor, x: Tensor) -> Tensor:
        return METHODS[method](make(t), x).abs().square().sum()

    found = torch.vmap(torch.func.grad(loss, 1), (None, 0))(t, x)
    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(found, torch.autograd.grad(loss(t, leaf), leaf)[0], rtol=1e-9, atol=1e-9)


def test_what_is_not_finite_is_refused_where_it_can_be_read() -> None:
    kernel = torch.full((2, 3), torch.nan)
    with pytest.raises(ValueError, match="kernel must be finite"):
        lin.Blur(kernel)
    found = torch.vmap(lambda k: lin.Blur(k)(torch.ones(4, 5)))(torch.stack([kernel, torch.ones(2, 3)]))
    assert found[0].isnan().all()
    assert found[1].isfinite().all()
