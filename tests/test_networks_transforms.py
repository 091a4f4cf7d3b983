"""Every network under every transform that torch has: the result is that of the network itself.

Compiled and exported networks are in test_networks_use.py.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import fastunroll as fu
import pytest
import torch
from networks import ALL, B, M, Network, matrix, moved
from torch import Tensor
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils.checkpoint import checkpoint

Pair = tuple[Network, Tensor]
NAMES = list(ALL)


@pytest.fixture(params=NAMES)
def pair(request: pytest.FixtureRequest) -> Pair:
    net = moved(ALL[request.param](matrix(5, 7)))
    return net, torch.randn(3, 5, dtype=torch.float64)


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-9, atol=1e-10)


def gradients(loss: Tensor, net: Network) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [*net.parameters()], allow_unused=True, materialize_grads=True))


def plain(net: Network, y: Tensor, create_graph: bool = False) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The output, its gradient in y and the second derivatives of a number made of that, by plain PyTorch alone."""
    with fu.ops.plain():
        return twice(net, y)


def twice(net: Network, y: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    v = y.clone().requires_grad_()
    x = net(v)
    (g,) = torch.autograd.grad(x.square().sum(), v, create_graph=True)
    leaves = [v, *net.parameters()]
    second = torch.autograd.grad(g.square().sum(), leaves, allow_unused=True, materialize_grads=True)
    return x.detach(), g.detach(), list(second)


def test_second_derivatives(pair: Pair) -> None:
    net, y = pair
    for found, wanted in zip(twice(net, y), plain(net, y), strict=True):
        for a, b in zip(*((t,) if isinstance(t, Tensor) else t for t in (found, wanted)), strict=True):
            assert close(a, b)


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # sizes that are compared
def test_traced(pair: Pair) -> None:
    """With parameters that learn; saved, loaded, and run with gradients and without."""
    net, y = pair
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(net, (y,)), buffer)
    buffer.seek(0)
    traced = torch.jit.load(buffer)
    assert close(traced(y), net(y))
    with torch.no_grad():
        assert close(traced(y), net(y))
    found = torch.autograd.grad(traced(y).square().sum(), [*traced.parameters()], allow_unused=True)
    for a, b in zip(found, gradients(net(y).square().sum(), net), strict=True):
        assert close(torch.zeros_like(b) if a is None else a, b)


def test_vmap_over_samples_and_parameters(pair: Pair) -> None:
    net, y = pair
    assert close(vmap(net)(y), net(y))
    assert close(vmap(net, in_dims=1, out_dims=1)(y.mT.reshape(5, 3).mT.reshape(3, 1, 5)).reshape(3, 7), net(y))
    stacked = {name: torch.stack([p.detach(), 1.1 * p.detach()]) for name, p in net.named_parameters()}
    found = vmap(lambda p: functional_call(net, p, (y,)))(stacked)
    for i in range(2):
        assert close(found[i], functional_call(net, {name: p[i] for name, p in stacked.items()}, (y,)))


@pytest.mark.usefixtures("_quiet_torch")
def test_derivatives_by_functions(pair: Pair) -> None:
    net, y = pair
    y, tangent = y[0], torch.randn(5, dtype=torch.float64)

    def number(y: Tensor) -> Tensor:
        return net(y).square().sum()

    v = y.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(number(v), v)
    assert close(grad(number)(y), wanted)
    assert close(vjp(number, y)[1](torch.ones((), dtype=torch.float64))[0], wanted)
    assert close(jvp(number, (y,), (tangent,))[1], wanted @ tangent)
    J = jacrev(net)(y)
    assert close(J, jacfwd(net)(y))
    assert close(J, torch.autograd.functional.jacobian(net, y))
    assert close(J, torch.autograd.functional.jacobian(net, y, vectorize=True))  # vmap of a backward
    H = hessian(number)(y)
    assert close(H, torch.autograd.functional.hessian(number, y))
    assert close(H, torch.autograd.functional.hessian(number, y, vectorize=True))


def test_batched_gradients(pair: Pair) -> None:
    net, y = pair
    x = net(y)
    directions = torch.randn(4, *x.shape, dtype=torch.float64)
    leaves = [*net.parameters()]
    found = torch.autograd.grad(x, leaves, directions, is_grads_batched=True, retain_graph=True, allow_unused=True)
    for i, direction in enumerate(directions):
        wanted = torch.autograd.grad(x, leaves, direction, retain_graph=True, allow_unused=True)
        for a, b in zip(found, wanted, strict=True):
            assert (a is None) == (b is None)
            assert a is None or close(a[i], b)


def test_checkpoints_and_saved_tensors(pair: Pair) -> None:
    net, y = pair
    wanted = gradients(net(y).square().sum(), net)
    ways: list[Callable[[], Tensor]] = [lambda: checkpoint(net, y, use_reentrant=False)]
    for run in ways:
        assert all(map(close, gradients(run().square().sum(), net), wanted))
    with torch.autograd.graph.save_on_cpu():
        assert all(map(close, gradients(net(y).square().sum(), net), wanted))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t.clone()):
        assert all(map(close, gradients(net(y).square().sum(), net), wanted))


def functions() -> dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]]:
    A, x, y = matrix(4, 6), torch.randn(3, 6, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    t, z = torch.rand(6, dtype=torch.float64), torch.randn(3, 6, dtype=torch.complex128)
    return {
        "soft_threshold": (fu.soft_threshold, (x, t)),
        "soft_threshold of complex numbers": (lambda re, t: fu.soft_threshold(torch.complex(re, 2 * re), t), (x, t)),
        "soft_threshold with one value": (fu.soft_threshold, (x, t[:1])),
        "soft_threshold by rows": (fu.soft_threshold, (z.real.contiguous(), t[:3, None])),
        "gradient_step": (lambda x, y, A, s: fu.gradient_step(x, y, A, s), (x, y, A, t[0])),
        "ista_step": (lambda x, y, A, s: fu.ista_step(x, y, A, s, 0.1), (x, y, A, t[0])),
        "kkt_residual": (lambda x, y, A: fu.losses.kkt_residual(x, y, A, 0.1), (x, y, A)),
        "lasso_objective": (lambda x, y, A: fu.losses.lasso_objective(x, y, A, 0.1), (x, y, A)),
        "Dense": (lambda x, A: fu.operators.Dense(A)(x) if not A.requires_grad else fu.products.product(x, A), (x, A)),
    }


@pytest.mark.parametrize("name", functions())
def test_second_derivatives_of_functions(name: str) -> None:
    run, args = functions()[name]
    leaves = [t.clone().requires_grad_() for t in args]

    def derivatives() -> list[Tensor]:
        first = torch.autograd.grad(run(*leaves).abs().square().sum(), leaves, create_graph=True)
        number = sum((g.square().sum() for g in first), torch.zeros(()))
        return [*first, *torch.autograd.grad(number, leaves)]

    found = derivatives()
    with fu.ops.plain():
        wanted = derivatives()
    assert all(map(close, found, wanted))


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_traced_with_thresholds_that_select() -> None:
    net = fu.nn.GLISTA(torch.randn(5, 9), layers=3, threshold="vector", selection=(20.0, 60.0))
    y = torch.randn(4, 5)
    traced = torch.jit.trace(net, y, check_trace=False)
    assert torch.equal(traced(y), net(y))


@pytest.mark.parametrize("name", ALL)
def test_tangents_of_a_network_that_learns_nothing(name: str) -> None:
    """The short way of calls without gradients would lose them."""
    net = moved(ALL[name](matrix())).requires_grad_(False)
    y, along = torch.randn(B, M, dtype=torch.float64), torch.randn(B, M, dtype=torch.float64)
    net(y)
    with torch.no_grad(), torch.autograd.forward_ad.dual_level():
        out = net(torch.autograd.forward_ad.make_dual(y, along))
        tangent = torch.autograd.forward_ad.unpack_dual(out).tangent
    assert tangent is not None
    step = 1e-7
    difference = (net(y + step * along) - net(y - step * along)) / (2 * step)
    assert (tangent - difference).norm() < 1e-5 * difference.norm()


def test_gradients_that_have_a_graph_keep_their_precision_under_autocast(pair: Pair) -> None:
    """Layers are computed again for them, by plain PyTorch."""
    net, y = pair[0].float(), pair[1].float()

    def slope() -> Tensor:
        v = y.clone().requires_grad_()
        (found,) = torch.autograd.grad(net(v).square().sum(), v, create_graph=True)
        return found.detach()

    wanted = slope()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(slope(), wanted)
