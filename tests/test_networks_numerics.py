"""Every network, from one table: layouts, half precision, values that are not finite, and scales."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from networks import ALL, B, K, M, N, Network, matrix, moved
from torch import Tensor

# --- layouts ----------------------------------------------------------------------------------------------------------

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda t: t.T.contiguous().T,
    "every second column": lambda t: torch.stack([t, t + 1], dim=-1).flatten(-2)[:, ::2],
    "every second row": lambda t: torch.stack([t, t + 1], dim=1).flatten(0, 1)[::2],
    "columns of a wider matrix": lambda t: torch.cat([t, t, t], dim=1)[:, t.shape[1] : 2 * t.shape[1]],
    "offset": lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bits_do_not_depend_on_the_layout(name: str, layout: str) -> None:
    net, change = moved(ALL[name](matrix(50, 90, torch.float32))), LAYOUTS[layout]
    y, x0 = torch.randn(37, 50), torch.randn(37, 90)
    with torch.no_grad():
        assert torch.equal(net(change(y)), net(y))
        assert torch.equal(net(change(y), change(x0)), net(y, x0))


@pytest.mark.parametrize("name", ALL)
def test_bits_of_expanded_samples(name: str) -> None:
    net = moved(ALL[name](matrix(50, 90, torch.float32)))
    y, x0 = torch.randn(50).expand(3, 5, 50), torch.randn(90).expand(3, 5, 90)
    with torch.no_grad():
        assert torch.equal(net(y, x0), net(y.clone(), x0.clone()))


@pytest.mark.parametrize("name", ALL)
def test_bits_of_a_matrix_with_a_lazy_sign(name: str) -> None:
    A, y = matrix(dtype=torch.float32), torch.randn(B, M)
    assert torch.equal(ALL[name](torch._neg_view(-A))(y), ALL[name](A)(y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ALL)
def test_bits_do_not_depend_on_the_place_in_the_batch(name: str, dtype: torch.dtype) -> None:
    net, y = moved(ALL[name](matrix(30, 61, dtype))), torch.randn(40, 30, dtype=dtype)

    def run(rows: list[int]) -> tuple[Tensor, Tensor]:
        some = y[rows].requires_grad_()
        x = net(some)
        return x.detach(), torch.autograd.grad(x.square().sum(), some)[0]

    whole = run([*range(40)])
    for rows in ([0], [39], [3, 17], [*range(7, 30)], [*range(39, -1, -1)]):
        for part, of in zip(run(rows), whole, strict=True):
            assert torch.equal(part, of[rows])


# --- half precision ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ALL)
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    """Values and gradients against the same rounded weights in double precision."""
    torch.manual_seed(1)
    half = moved(ALL[name](matrix(dtype=torch.float32))).to(dtype)
    exact = copy.deepcopy(half).double()
    y = (torch.randn(B, M) / 2).to(dtype)
    leaves = [y.clone().requires_grad_(), *half.parameters()]
    exact_leaves = [y.double().requires_grad_(), *exact.parameters()]
    found, wanted = half(leaves[0], return_layers=True), exact(exact_leaves[0], return_layers=True)
    assert found.dtype == dtype
    eps = torch.finfo(dtype).eps
    assert relative_error(found.double(), wanted) <= 4 * eps
    options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
    a = torch.autograd.grad(found.float().square().sum(), leaves, **options)
    b = torch.autograd.grad(wanted.square().sum(), exact_leaves, **options)
    assert all(g.isfinite().all() for g in a)
    together = (torch.cat([g.double().flatten() for g in gradients]) for gradients in (a, b))
    assert relative_error(*together) <= 16 * eps


# --- values that are not finite ---------------------------------------------------------------------------------------


def forward_mode(net: Network, *inputs: Tensor) -> Tensor:
    out: Tensor = torch.func.jvp(net, inputs, tuple(torch.ones_like(t) for t in inputs))[0]
    return out


WAYS: dict[str, Callable[..., Tensor]] = {
    "native": lambda net, *inputs: net(*inputs),
    "all layers": lambda net, *inputs: net(*inputs, return_layers=True)[-1],
    "without gradients": torch.no_grad()(lambda net, *inputs: net(*inputs)),
    "bfloat16": lambda net, *inputs: copy.deepcopy(net).bfloat16()(*(t.bfloat16() for t in inputs)),
    "float16": lambda net, *inputs: copy.deepcopy(net).half()(*(t.half() for t in inputs)),
    "vmap": lambda net, *inputs: torch.func.vmap(net)(*inputs),
    "jvp": forward_mode,
}
BAD = (math.nan, math.inf, -math.inf)


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ALL)
def test_what_is_not_finite_shows_in_its_sample_alone(name: str, way: str) -> None:
    net, run = moved(ALL[name](matrix(dtype=torch.float32))), WAYS[way]
    y, x0 = torch.randn(B, M), torch.randn(B, N)
    wanted = run(net, y, x0).detach()
    assert wanted.isfinite().all()
    others = [i for i in range(B) if i != 2]
    for bad in BAD:
        for broken in ("y", "x0"):
            inputs = {"y": y.clone(), "x0": x0.clone()}
            inputs[broken][2, 5] = bad
            found = run(net, *inputs.values()).detach()
            assert not found[2].isfinite().all(), f"{bad} in {broken} is hidden"
            assert torch.equal(found[others], wanted[others]), f"{bad} in {broken} reaches other samples"


WITHOUT_EFFECT = ("beta.0", f"log_eta.{K - 1}")  # momentum before the first layer, the dual step behind the last


@pytest.mark.parametrize("way", ["native", "without gradients", "bfloat16", "vmap"])
@pytest.mark.parametrize("name", ALL)
def test_nan_in_a_parameter_shows(name: str, way: str) -> None:
    y, x0 = torch.randn(B, M), torch.randn(B, N)
    start = moved(ALL[name](matrix(dtype=torch.float32)))
    for parameter, _ in start.named_parameters():
        if parameter in WITHOUT_EFFECT:
            continue
        net = copy.deepcopy(start)
        with torch.no_grad():
            net.get_parameter(parameter).view(-1)[-1] = math.nan
        assert not WAYS[way](net, y, x0).isfinite().all(), f"NaN in {parameter} is hidden"


# --- scales -----------------------------------------------------------------------------------------------------------

SCALES = (1e-30, 1e-24, 1e-12, 1e12, 1e18, 1e20, 1e30)
# Thresholds of these follow from the sample; Bernoulli-Gaussian shrinkage has a power, and so a scale.
SCALE_FREE = [name for name in ALL if name.startswith(("LAMP", "HyperLISTA")) and "bernoulli" not in name]


@pytest.mark.parametrize("name", SCALE_FREE)
def test_scale_free(name: str) -> None:
    """s·net(y) for s·y."""
    A = matrix(30, 60, torch.float32)
    net = ALL[name](A)
    y = (torch.randn(8, 60) * (torch.rand(8, 60) < 0.1)) @ A.mT
    wanted = net(y)
    assert 0 < (wanted != 0).sum() < wanted.numel()
    for s in SCALES:
        found = net(y * s)
        assert torch.equal(found != 0, wanted != 0), s
        assert relative_error(found.double() / s, wanted.double()) <= 1e-4


@pytest.mark.parametrize("exponent", [-100, 100, 123])
@pytest.mark.parametrize("name", SCALE_FREE)
def test_powers_of_two_change_no_bit(name: str, exponent: int) -> None:
    """Up to 1e37, where a sum over 500 numbers, and all the more one of squares, is beyond single precision."""
    A, s = matrix(250, 500, torch.float32), 2.0**exponent
    net, y = ALL[name](A), ((torch.randn(3, 500) * (torch.rand(3, 500) < 0.1)) @ A.mT).requires_grad_()
    big = (y.detach() * s).requires_grad_()
    wanted, found = net(y), net(big)
    assert torch.equal(found / s, wanted)
    grads = [torch.autograd.grad(out.sum(), t)[0] for out, t in ((wanted, y), (found, big))]
    assert torch.equal(*grads)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scale", [0.0, *SCALES])
def test_finite_at_every_scale(name: str, scale: float) -> None:
    net = ALL[name](matrix(30, 50, torch.float32))
    y = (scale * torch.randn(5, 30)).requires_grad_()
    out = net(y)
    assert out.isfinite().all()
    (out * (1 / scale if scale else 1.0)).sum().backward()
    for t in (y, *net.parameters()):
        assert t.grad is None or not t.grad.isnan().any()


def test_noise_below_the_least_still_learns() -> None:
    net, y = fu.nn.LVAMP(matrix(), layers=K, noise=1e-3), torch.randn(B, M, dtype=torch.float64)
    with torch.no_grad():
        net.log_noise[1].fill_(math.log(1e-12))
    least = copy.deepcopy(net)
    with torch.no_grad():
        least.log_noise[1].fill_(math.log(1e-8))
    assert relative_error(net(y), least(y)) <= 1e-12
    for each in (net, least):
        each(y).square().sum().backward()
    assert net.log_noise[1].grad != 0
    assert relative_error(net.log_noise[1].grad, least.log_noise[1].grad) <= 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128, torch.complex64], ids=str)
@pytest.mark.parametrize(("m", "n"), [(3, 5), (5, 3), (20, 40)])
def test_an_infinite_penalty(m: int, n: int, dtype: torch.dtype) -> None:
    """ADMM-Net then leaves v where it is, however it solves."""
    A, y = torch.randn(m, n, dtype=dtype), torch.randn(4, m, dtype=dtype)
    found = []
    for solve in ("exact", "factorised"):
        net = fu.nn.ADMMNet(A, layers=3, solve=solve)
        with torch.no_grad():
            net.log_rho[1].fill_(math.inf)
            found.append(net(y))
    assert found[0].isfinite().all()
    assert relative_error(found[1], found[0]) < (1e-10 if dtype.to_real() == torch.float64 else 1e-4)
