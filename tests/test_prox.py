"""The soft threshold, real and complex, against the reference."""

from __future__ import annotations

import fastunroll as fu
import pytest
import torch
from closeness import relative_error, tolerance
from hypothesis import given
from hypothesis import strategies as st

DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]
# x and theta, for every way in which one threshold can serve several elements
SHAPES = [
    ((), ()), ((7,), ()), ((7,), (7,)), ((5, 17), (17,)), ((5, 17), (5, 1)), ((2, 3, 8, 9), (3, 1, 1)),
    ((2, 3, 8, 9), (8, 1)), ((2, 3, 8, 9), (2, 1, 8, 1)), ((2, 1, 9), (3, 1)), ((0, 4), (4,)), ((1, 5000), (1,)),
    ((3, 9001), (9001,)), ((3, 9001), ()), ((2, 3, 0), (3, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("x_shape", "theta_shape"), SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_gradients(dtype: torch.dtype, x_shape: tuple[int, ...], theta_shape: tuple[int, ...]) -> None:
    real = torch.empty((), dtype=dtype).real.dtype if dtype.is_complex else dtype
    x = torch.randn(x_shape, dtype=dtype, requires_grad=True)
    theta = torch.rand(theta_shape, dtype=real, requires_grad=True)
    out, wanted = fu.soft_threshold(x, theta), fu.reference.soft_threshold(x, theta)
    assert out.dtype == dtype
    assert relative_error(out.abs(), wanted.abs()) <= tolerance(dtype)
    assert relative_error(out, wanted) <= tolerance(dtype)
    weight = torch.randn_like(out)
    found = torch.autograd.grad(out, (x, theta), weight)
    exact = torch.autograd.grad(wanted, (x, theta), weight)
    for f, e in zip(found, exact, strict=True):
        assert f.dtype == e.dtype
        assert relative_error(f, e) <= 10 * tolerance(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_gradcheck(dtype: torch.dtype) -> None:
    x = torch.randn(4, 6, dtype=dtype, requires_grad=True)
    for shape in ((), (6,), (4, 1), (4, 6)):
        theta = (0.2 + 0.3 * torch.rand(shape, dtype=torch.float64)).requires_grad_()
        assert torch.autograd.gradcheck(fu.soft_threshold, (x, theta))


@pytest.mark.parametrize("theta_shape", [(), (5,), (5, 3), (4, 5, 3), (2, 1, 1, 1), (2, 4, 5, 3)], ids=str)
@pytest.mark.parametrize("x_shape", [(4, 5, 3), (2, 4, 5, 3), (1, 2, 4, 5, 3)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_maps_with_channels_last_stay_so(
    dtype: torch.dtype, x_shape: tuple[int, ...], theta_shape: tuple[int, ...]
) -> None:
    """Convolutions take and return them: the next one copies nothing. The bits are those of other maps."""
    theta_shape = tuple(n if n in (1, m) else 1 for n, m in zip(theta_shape[::-1], x_shape[::-1], strict=False))[::-1]
    x, weight = torch.randn(2, *x_shape, dtype=dtype).unbind()
    theta = torch.rand(theta_shape, dtype=dtype.to_real(), requires_grad=True)
    found = []
    for maps in (x, x.movedim(1, -1).contiguous().movedim(-1, 1)):
        maps.requires_grad_()
        out = fu.soft_threshold(maps, theta)
        assert out.stride() == maps.stride()
        found.append((out, *torch.autograd.grad(out, (maps, theta), weight)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    torch.testing.assert_close(found[0][2], found[1][2])


@given(shape=st.lists(st.integers(0, 6), max_size=4), data=st.data(), seed=st.integers(0, 2**31))
def test_any_broadcast(shape: list[int], data: st.DataObject, seed: int) -> None:
    torch.manual_seed(seed)
    kept = data.draw(st.integers(0, len(shape)))
    theta_shape = [s if data.draw(st.booleans()) else 1 for s in shape[kept:]]
    x, theta = torch.randn(shape), torch.rand(theta_shape, requires_grad=True)
    if x.dim() > 1 and data.draw(st.booleans()):
        x = x.transpose(0, -1).contiguous().transpose(0, -1)
    out, wanted = fu.soft_threshold(x, theta), fu.reference.soft_threshold(x, theta)
    assert torch.equal(out, wanted)
    (found,) = torch.autograd.grad(out.sum(), theta)
    (exact,) = torch.autograd.grad(wanted.sum(), theta)
    assert torch.allclose(found, exact)


def test_special_values() -> None:
    inf, nan = float("inf"), float("nan")
    x = torch.tensor([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, inf, -inf, nan, 1e-45])
    wanted = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.5, -0.5, inf, -inf, nan, 0.0])
    assert torch.equal(fu.soft_threshold(x, 0.5).nan_to_num(7.0), wanted.nan_to_num(7.0))
    assert torch.equal(fu.soft_threshold(x[:6], 0.0), x[:6])
    assert fu.soft_threshold(x, torch.tensor(nan)).isnan().all()
    assert fu.soft_threshold(x.to(torch.complex64), torch.tensor(nan)).isnan().all()
    z = torch.tensor([0j, 3 + 4j, 3e30 + 4e30j, complex(nan, 0)], dtype=torch.complex64)
    out = fu.soft_threshold(z, 1.0)
    assert torch.allclose(out[:3], torch.tensor([0j, 2.4 + 3.2j, 3e30 + 4e30j], dtype=torch.complex64))
    assert out[3].isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype: torch.dtype) -> None:
    x = torch.randn(5, 7).to(dtype)
    out = fu.soft_threshold(x, 0.25)
    assert out.dtype == dtype
    assert torch.equal(out, fu.reference.soft_threshold(x.float(), torch.tensor(0.25)).to(dtype))


def test_threads_do_not_change_gradients(native: object) -> None:
    x, theta = torch.randn(100_003), torch.tensor(0.3, requires_grad=True)
    grads = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        grads += torch.autograd.grad(fu.soft_threshold(x, theta).square().sum(), theta)
    assert torch.equal(grads[0], grads[1])
    assert torch.equal(grads[0], grads[2])


def test_module() -> None:
    layer = fu.nn.SoftThreshold(0.2, shape=(7,), dtype=torch.float64)
    x = torch.randn(3, 7, dtype=torch.float64)
    assert torch.equal(layer(x), fu.soft_threshold(x, 0.2))
    layer(x).sum().backward()
    assert layer.theta.grad.shape == (7,)
    assert fu.nn.SoftThreshold(0.2, shape=7).theta.shape == (7,)
    assert repr(layer) == "SoftThreshold(shape=(7,))"


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bfloat16], ids=str)
@pytest.mark.parametrize("theta", [-torch.inf, -1.0, 0.0, 1.0, torch.inf])
def test_zero_stays_zero(theta: float, dtype: torch.dtype) -> None:
    """The rule of the specification, size − max(θ, 0) ≤ 0, also where sign(x)·max(|x| − θ, 0) would be 0·∞."""
    x = torch.zeros(5, dtype=dtype, requires_grad=True)
    t = torch.tensor(theta, dtype=dtype.to_real() if dtype.is_complex else dtype, requires_grad=True)
    for shrink in (fu.soft_threshold, fu.reference.soft_threshold):
        out = shrink(x, t)
        assert torch.equal(out, torch.zeros_like(x))
        assert all(not g.any() for g in torch.autograd.grad(out.abs().square().sum(), (x, t)))
