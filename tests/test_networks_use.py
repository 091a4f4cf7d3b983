"""Every network as users of torch use it: shapes, copies, compile and export, NaN."""

from __future__ import annotations

import copy
import gc
import io
import math
import pickle
import sys
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from fastunroll.nn import network as base
from networks import ALL, COMPLEX, B, K, M, N, matrix, moved
from torch import Tensor, nn


@pytest.mark.parametrize("name", ALL)
def test_shapes(name: str) -> None:
    net = moved(ALL[name](matrix()))
    y = torch.randn(2, 3, M, dtype=torch.float64)
    every = net(y, return_layers=True)
    assert every.shape == (K, 2, 3, N)
    assert torch.equal(net(y), every[-1])
    assert relative_error(net(y[1, 2]), every[-1, 1, 2]) <= 1e-12
    assert net(y[:0]).shape == (0, 3, N)
    assert relative_error(net(y, depth=2), every[1]) <= 1e-12
    x0 = torch.randn(2, 3, N, dtype=torch.float64)
    assert net(y, x0).shape == (2, 3, N)
    assert not torch.equal(net(y, x0), net(y))


@pytest.mark.parametrize("name", ALL)
def test_what_torch_users_do(name: str) -> None:
    net, y = moved(ALL[name](matrix())), torch.randn(B, M, dtype=torch.float64)
    wanted = net(y)
    other = ALL[name](matrix())
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(y), wanted)
    assert torch.equal(copy.deepcopy(net)(y), wanted)
    assert torch.equal(pickle.loads(pickle.dumps(net))(y), wanted)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other = ALL[name](matrix())
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(y), wanted)
    single = copy.deepcopy(net).float()
    assert single(y.float()).dtype == torch.float32
    assert "layers=4" in repr(net)
    summary = net.layers_summary()
    assert [row["layer"] for row in summary] == list(range(1, K + 1))
    assert all(math.isfinite(v) for row in summary for v in row.values())
    assert len(str(summary).splitlines()) == K + 1
    assert len(summary.markdown().splitlines()) == K + 2


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize("name", ALL)
def test_compiles(name: str) -> None:
    net, y = moved(ALL[name](matrix())), torch.randn(B, M, dtype=torch.float64)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert relative_error(compiled(y), net(y)) <= 1e-10
    gradients = [
        torch.autograd.grad(f(y).square().sum(), [*net.parameters()], allow_unused=True) for f in (net, compiled)
    ]
    for a, b in zip(*gradients, strict=True):
        assert (a is None) == (b is None)
        assert a is None or relative_error(b, a) <= 1e-8


FIRST = {name.split("-")[0]: name for name in reversed(ALL)}.values()  # of each class; "factorised" is none of them


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize("name", ALL)
def test_exports(name: str) -> None:
    """Strictly, one network of each class: this traces the code of Python as compiling does, which all of them do."""
    net, y = moved(ALL[name](matrix())), torch.randn(B, M, dtype=torch.float64)
    with torch.no_grad():
        for strict in {False, name in FIRST}:
            exported = torch.export.export(net, (y,), strict=strict).module()
            assert relative_error(exported(y), net(y)) <= 1e-10


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("data", ["y = 0", "noise alone", "x 1e6", "x 1e-8"])
def test_no_nan(name: str, data: str) -> None:
    """At the sizes where networks are known to fail: m = 30, n = 50, 20 layers."""
    options: dict[str, Any] = {"layers": 20}
    for option in name.split("-")[1:]:
        key, _, value = option.partition("=")
        if key in ("shrinkage", "gain", "solve", "start"):
            options[key] = value if value != "bernoulli" else "bernoulli-gaussian"
    A = matrix(30, 50, torch.float32)
    net = getattr(fu.nn, name.split("-")[0])(A, **options)
    y = {
        "y = 0": torch.zeros(5, 30), "noise alone": torch.randn(5, 30), "x 1e6": 1e6 * torch.randn(5, 30),
        "x 1e-8": 1e-8 * torch.randn(5, 30),
    }[data]  # fmt: skip
    y.requires_grad_()
    out = net(y)
    assert out.isfinite().all()
    out.square().mean().backward()
    assert y.grad is not None
    assert y.grad.isfinite().all()
    for p in net.parameters():
        assert p.grad is None or p.grad.isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_layers_that_learn_nothing_cost_nothing_and_change_nothing(name: str) -> None:
    net, y = moved(ALL[name](matrix())), torch.randn(B, M, dtype=torch.float64)
    wanted = net(y, return_layers=True)
    net.requires_grad_(False)
    last = [
        p
        for module in net.modules()
        if isinstance(module, nn.ParameterList)
        for p in [*module][-1:]
        if len(module) == K
    ]
    for p in last or net.parameters():
        p.requires_grad_()
    found = net(y, return_layers=True)
    assert relative_error(found, wanted) <= 1e-12
    learned = [p for p in net.parameters() if p.requires_grad]
    some = torch.autograd.grad(found[-1].square().sum(), learned, allow_unused=True)
    net.requires_grad_()
    for a, b in zip(some, torch.autograd.grad(net(y).square().sum(), learned, allow_unused=True), strict=True):
        assert (a is None) == (b is None)
        assert a is None or relative_error(a, b) <= 1e-12


@pytest.mark.parametrize("name", ALL)
def test_nan_stays_in_its_sample(name: str) -> None:
    net, y = moved(ALL[name](matrix())), torch.randn(B, M, dtype=torch.float64)
    wanted = net(y)
    for bad in (math.nan, math.inf):
        y[2] = bad
        found = net(y)
        assert not found[2].isfinite().all()
        others = [i for i in range(B) if i != 2]
        assert torch.equal(found[others], wanted[others])


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@pytest.mark.parametrize("name", COMPLEX)
def test_complex_networks_change_precision(name: str) -> None:
    net = moved(COMPLEX[name](matrix(dtype=torch.complex64)))
    y = torch.randn(B, M, dtype=torch.complex64)
    wanted = net(y)
    assert relative_error(copy.deepcopy(net).to(torch.complex128)(y.to(torch.complex128)), wanted) <= 1e-4


def test_parameters_stay_positive() -> None:
    logs = base.logarithms([0.5, 0.0], torch.zeros(1))
    assert [t.item() for t in base.exponentials(logs)] == [0.5, 0.0]
    base.exponentials(logs)[1].backward()
    assert logs[1].grad == 0


def python_calls(run: Callable[[], object]) -> int:
    """How many Python functions a call runs, without the finalisers of garbage that happens to be collected then."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    gc.disable()
    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


SCHEMES = {s: getattr(fu.schemes, s)() for s in ("ProximalGradient", "FISTA", "ADMM", "HQS", "AMP")}
NETWORKS: dict[str, Callable[[Tensor], nn.Module]] = ALL | {
    f"Unrolled-{name}": lambda A, scheme=scheme: fu.nn.Unrolled(scheme, A, fu.prox.L1(), K)
    for name, scheme in SCHEMES.items()
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_call_is_short(name: str) -> None:
    """At most 20 Python functions run, from the call of the network to its native call."""
    net, y = moved(NETWORKS[name](matrix())), torch.randn(B, M, dtype=torch.float64)
    with torch.no_grad():
        net(y)
        found = python_calls(lambda: net(y))
        assert found == python_calls(lambda: net(y))
    assert found <= 20


# Not those whose layers follow statistics of each sample, nor LISTA, whose parameters kernels read as they are.
KEEP_ALL = "GLISTA", "HyperLISTA", "LVAMP", "LISTA", "LAMP-shrinkage=bernoulli"


@pytest.mark.parametrize(
    "name", [name for name in NETWORKS if not f"{name}-".startswith(tuple(f"{s}-" for s in KEEP_ALL))]
)
def test_layers_before_those_that_learn_are_not_kept(name: str) -> None:
    """If only the last layer learns, a call keeps that layer alone for the same gradient."""
    net, y = moved(NETWORKS[name](matrix())), torch.randn(B, M, dtype=torch.float64)
    wanted = net(y)
    wanted.square().sum().backward()
    gradients = {key: p.grad for key, p in net.named_parameters()}
    for key, p in net.named_parameters():
        p.requires_grad_(key.endswith(f".{K - 1}")).grad = None
    kept: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        kept.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        x = net(y)
    x.square().sum().backward()
    assert torch.equal(x, wanted)
    assert max(len(t) for t in kept if t.dim() == 3) == 1
    for key, p in net.named_parameters():
        assert (p.grad is None) == (not p.requires_grad), key
        if p.requires_grad:
            torch.testing.assert_close(p.grad, gradients[key], rtol=1e-12, atol=0)
