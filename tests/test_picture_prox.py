"""Priors of pictures by themselves: one native call, equal to PyTorch for each prior, threshold and type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error, tolerance
from fastunroll import ops
from fastunroll.ops.tensors import plain
from torch import Tensor

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]
PRIORS: dict[str, Callable[[torch.dtype], Any]] = {
    "total variation": lambda dtype: fu.prox.TotalVariation(7),
    "one iteration": lambda dtype: fu.prox.TotalVariation(1),
    "bank of filters": lambda dtype: fu.prox.FilterBank(5, 3, dtype=dtype),
    "wavelet": lambda dtype: fu.prox.WaveletL1("db2", 2),
    "moved wavelet": lambda dtype: fu.prox.WaveletL1("haar", 1, seed=3).at_iteration(1),
    "a wavelet's levels": lambda dtype: fu.prox.WaveletL1("db2", 2, per="level"),
}
BATCHES: list[tuple[int, ...]] = [(), (3,), (2, 3)]
THETAS: dict[str, Callable[[tuple[int, ...], int], Tensor]] = {
    "a number": lambda batch, count: torch.tensor(0.3),
    "zero": lambda batch, count: torch.zeros(1),
    "of each picture": lambda batch, count: 0.1 + torch.rand(*batch, 1, 1),
    "of some": lambda batch, count: 0.1 + torch.rand(*batch[-1:], 1, 1),
    "of each part": lambda batch, count: 0.1 + torch.rand(count),
}


def parts(prior: Any) -> int:
    """How many thresholds a layer of a network has."""
    return int(torch.as_tensor(prior.initial_threshold(1.0)).numel())


def case(name: str, dtype: torch.dtype, batch: tuple[int, ...], of: str = "a number") -> tuple[Any, Tensor, Tensor]:
    prior = PRIORS[name](dtype.to_real())
    z = torch.randn(*batch, *((12, 8) if "wavelet" in name else (9, 7)), dtype=dtype)
    return prior, z, THETAS[of](batch, parts(prior)).to(dtype.to_real())


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each call was a native one."""
    calls: list[bool] = []

    def counted(*arguments: Any, **options: Any) -> Tensor | None:
        found = picture_prox(*arguments, **options)
        calls.append(found is not None)
        return found

    picture_prox = ops.picture_prox
    monkeypatch.setattr(ops, "picture_prox", counted)
    return calls


@pytest.mark.parametrize("of", THETAS)
@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_gradients(
    dtype: torch.dtype, name: str, batch: tuple[int, ...], of: str, native: list[bool]
) -> None:
    prior, z, theta = case(name, dtype, batch, of)
    leaves = [z.requires_grad_(), theta.requires_grad_(), *prior.parameters()]
    out = prior.prox(z, theta)
    assert native == [True]
    weight = torch.randn_like(out)
    found = torch.autograd.grad(out, leaves, weight)
    with plain():
        wanted = prior.prox(z, theta)
        exact = torch.autograd.grad(wanted, leaves, weight)
    assert out.dtype == dtype
    assert out.shape == z.shape
    assert relative_error(out, wanted) <= 10 * tolerance(dtype)
    for f, e in zip(found, exact, strict=True):
        assert f.shape == e.shape
        assert relative_error(f, e) <= 300 * tolerance(dtype)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_pixels_that_are_not_finite(dtype: torch.dtype, name: str, value: float, native: list[bool]) -> None:
    """They show as in PyTorch, and in their picture alone."""
    prior, z, theta = case(name, dtype, (3,))
    clean = prior.prox(z, theta)
    z[1, 4, 5] = value if value != 1e300 else torch.finfo(dtype).max / 16
    out = prior.prox(z, theta)
    assert native == [True, True]
    with plain():
        wanted = prior.prox(z, theta)
    assert torch.equal(out[::2], clean[::2])
    if dtype.is_complex:  # PyTorch multiplies them by 0 + 0i: an infinite part makes both of them NaN
        assert not (wanted.isfinite() & ~out.isfinite()).any()
        assert value == 1e300 or not out[1].isfinite().all()
    else:
        assert torch.equal(out.isfinite(), wanted.isfinite())
        assert torch.equal(out.isnan(), wanted.isnan())


@pytest.mark.parametrize("theta", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_thresholds_that_are_negative_or_not_finite(
    dtype: torch.dtype, name: str, theta: float, native: list[bool]
) -> None:
    prior, z, _ = case(name, dtype, (2,))
    out = prior.prox(z, torch.tensor(theta, dtype=torch.float64))
    assert native == [True]
    with plain():
        wanted = prior.prox(z, torch.tensor(theta, dtype=torch.float64))
    torch.testing.assert_close(out, wanted, equal_nan=True)


@pytest.mark.parametrize("name", PRIORS)
def test_a_threshold_of_another_shape_is_refused(name: str) -> None:
    prior, z, _ = case(name, torch.float64, (2,))
    with pytest.raises(ValueError, match=r"theta must (be one number|broadcast with x)"):
        prior.prox(z, torch.rand(4, dtype=torch.float64))


@pytest.mark.parametrize("name", PRIORS)
def test_gradcheck(name: str) -> None:
    for dtype in (torch.float64, torch.complex128):
        prior, z, theta = case(name, dtype, (2,), "of each picture")
        leaves = z[:, :4, :4].clone().requires_grad_(), theta.requires_grad_()
        assert torch.autograd.gradcheck(prior.prox, leaves)
        assert dtype.is_complex or torch.autograd.gradgradcheck(prior.prox, leaves, atol=1e-4)


@pytest.mark.parametrize("name", PRIORS)
def test_a_picture_has_the_same_bits_in_every_batch(name: str) -> None:
    prior, z, theta = case(name, torch.float32, (5,))
    together = prior.prox(z, theta)
    for k in range(5):
        assert torch.equal(prior.prox(z[k], theta), together[k])
        assert torch.equal(prior.prox(z[k:], theta), together[k:])
    assert torch.equal(prior.prox(z.mT.contiguous().mT, theta), together)


@pytest.mark.parametrize("name", PRIORS)
def test_transforms(name: str) -> None:
    """What has no kernel goes through PyTorch: samples of vmap, tangents, no pictures, half precision."""
    prior, z, theta = case(name, torch.float64, (4,))
    wanted = prior.prox(z, theta)
    torch.testing.assert_close(torch.func.vmap(lambda z: prior.prox(z, theta))(z), wanted)
    t = torch.randn_like(z)
    _, found = torch.func.jvp(lambda z: prior.prox(z, theta), (z,), (t,))
    weight = torch.randn_like(z)
    (back,) = torch.autograd.grad(prior.prox(z.requires_grad_(), theta), z, weight)
    torch.testing.assert_close((found * weight).sum(), (back * t).sum())
    assert prior.prox(z[:0], theta).shape == z[:0].shape
    compiled = torch.compile(prior.prox, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(z.detach(), theta), wanted)
