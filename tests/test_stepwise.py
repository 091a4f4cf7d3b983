"""The networks that run layer by layer, under every transform of torch.func and with weights that differ by sample."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from closeness import relative_error
from fastunroll import ops
from networks import REAL, B, M, N, Network, matrix, moved
from torch import Tensor
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, stack_module_state, vjp, vmap

STEPWISE = [name for name in REAL if not name.startswith("LISTA")]
pytestmark = [pytest.mark.usefixtures("_quiet_torch"), pytest.mark.parametrize("name", STEPWISE)]


def network(name: str) -> tuple[Network, Tensor, Tensor]:
    return moved(REAL[name](matrix())), torch.randn(B, M, dtype=torch.float64), torch.randn(B, N, dtype=torch.float64)


def test_vmap(name: str) -> None:
    net, y, x0 = network(name)
    assert relative_error(vmap(net)(y), net(y)) <= 1e-12
    assert relative_error(vmap(net)(y, x0), net(y, x0)) <= 1e-12
    assert relative_error(vmap(net, in_dims=1)(y.T), net(y)) <= 1e-12
    assert relative_error(vmap(vmap(net))(y.reshape(2, 3, M)), net(y.reshape(2, 3, M))) <= 1e-12
    assert relative_error(vmap(net)(y.reshape(2, 3, M)), net(y.reshape(2, 3, M))) <= 1e-12
    every = vmap(lambda sample: net(sample, return_layers=True), out_dims=1)(y)
    assert relative_error(every, net(y, return_layers=True)) <= 1e-12


def test_an_ensemble_of_weights(name: str) -> None:
    nets, y = [moved(REAL[name](matrix())) for _ in range(3)], torch.randn(B, M, dtype=torch.float64)
    parameters, buffers = stack_module_state(nets)  # type: ignore[arg-type]
    found = vmap(lambda p, b: functional_call(nets[0], (p, b), (y,)))(parameters, buffers)
    assert relative_error(found, torch.stack([net(y) for net in nets])) <= 1e-12


def test_gradients(name: str) -> None:
    net, y, _ = network(name)

    def loss(parameters: dict[str, Tensor], y: Tensor) -> Tensor:
        out: Tensor = functional_call(net, parameters, (y,))
        return out.square().sum()

    parameters = dict(net.named_parameters())
    given = y.clone().requires_grad_()
    options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
    wanted = torch.autograd.grad(net(given).square().sum(), [*parameters.values(), given], **options)
    found, of_y = grad(loss, argnums=(0, 1))({n: p.detach() for n, p in parameters.items()}, y)
    for f, w in zip([*found.values(), of_y], wanted, strict=True):
        assert relative_error(f, w) <= 1e-9
    of_samples = vmap(grad(lambda sample: loss(parameters, sample)))(y)
    assert relative_error(of_samples, of_y) <= 1e-9


def test_derivatives_along_a_direction(name: str) -> None:
    net, y, _ = network(name)
    v = torch.randn_like(y)
    out, along = jvp(net, (y,), (v,))
    assert relative_error(out, net(y)) <= 1e-12
    back = vjp(net, y)[1]
    w = torch.randn_like(out)
    assert (w * along).sum().item() == pytest.approx((back(w)[0] * v).sum().item(), rel=1e-8)
    jacobian = jacrev(net)(y[0])
    assert jacobian.shape == (N, M)
    assert relative_error(jacfwd(net)(y[0]), jacobian) <= 1e-9
    assert relative_error(jacobian @ v[0], along[0]) <= 1e-9


def test_nothing_is_asked_of_values(name: str) -> None:
    """A program traced for some samples is right for others."""
    net, y, _ = network(name)
    with ops.plain(), torch.no_grad():
        program = torch.fx.experimental.proxy_tensor.make_fx(lambda t: net(t, return_layers=True), tracing_mode="real")(
            1e-3 * y
        )
        for other in (y, 1e3 * y.flip(0), torch.zeros_like(y)):
            assert relative_error(program(other), net(other, return_layers=True)) <= 1e-12


def test_compiled_for_any_batch(name: str) -> None:
    net, y, _ = network(name)
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend="eager")
    for batch in (y, y[:2]):
        assert relative_error(compiled(batch), net(batch)) <= 1e-10
