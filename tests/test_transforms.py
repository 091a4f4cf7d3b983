"""What torch does to a module or an operator: compile, export, copy, cast, save."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import fastunroll as fu
import pytest
import torch
from cases import SMALL, Case, build
from torch import Tensor


@pytest.fixture
def _compiler() -> Iterator[None]:
    torch._dynamo.reset()
    with warnings.catch_warnings():
        # torch's own tracing of autograd functions, and its use of deprecated modules of Python and torch
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield
    torch._dynamo.reset()


def gradients(run: object, leaves: list[Tensor]) -> list[Tensor]:
    out = run()  # type: ignore[operator]
    return [out.detach(), *torch.autograd.grad(out.square().sum(), leaves)]


def assert_same(a: list[Tensor], b: list[Tensor]) -> None:
    for s, t in zip(a, b, strict=True):
        assert torch.equal(s, t)


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("case", SMALL[:2] + SMALL[-1:], ids=str)
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile(backend: str, case: Case) -> None:
    p = build(case, requires_grad=True)
    wanted = gradients(p.run, p.leaves)
    compiled = torch.compile(p.net, fullgraph=True, backend=backend)
    assert_same(gradients(lambda: compiled(p.y, p.x0), p.leaves), wanted)
    with torch.no_grad():
        assert torch.equal(compiled(p.y, p.x0), wanted[0])


@pytest.mark.usefixtures("_compiler")
def test_compile_steps_and_losses() -> None:
    A, y = torch.randn(5, 7, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    x = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    op = fu.operators.Dense(A)

    def run(x: Tensor) -> Tensor:
        z = fu.ista_step(fu.gradient_step(x, y, A, 0.1), y, A, 0.2, 0.1)
        z = fu.soft_threshold(z + op.gradient(z, y), torch.full((7,), 0.05, dtype=torch.float64))
        return fu.losses.kkt_residual(z, y, A, 0.1).sum()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    assert_same(gradients(lambda: compiled(x), [x]), gradients(lambda: run(x), [x]))


@pytest.mark.usefixtures("_compiler")
def test_export_with_any_batch() -> None:
    p = build(Case())
    program = torch.export.export(p.net, (p.y,), dynamic_shapes={"y": {0: torch.export.Dim("batch")}})
    y = torch.randn(23, 11, dtype=torch.float64)
    assert torch.equal(program.module()(y), p.net(y))


OPERATORS = {
    "soft_threshold": lambda: (torch.randn(3, 5), torch.rand(5), 3, 5, 1),
    "soft_threshold_backward": lambda: (torch.randn(3, 5), torch.randn(3, 5), torch.rand(5), 3, 5, 1),
    "product": lambda: (torch.randn(3, 5), torch.randn(4, 5), False, torch.randn(3, 4)),
    "outer": lambda: (torch.randn(3, 5), torch.randn(3, 4)),
    "ista": lambda: (torch.randn(3, 4), torch.randn(4, 5), None, torch.tensor(0.1), torch.rand(5), [0.0, 0.1], 2, True),
    "lista": lambda: (
        torch.randn(3, 4), [torch.randn(5, 4)], [torch.randn(5, 5)], [torch.rand(5)], torch.randn(3, 5), 2, True, True,
    ),
    "lista_backward": lambda: (
        torch.randn(3, 5), torch.randn(3, 4), [torch.randn(5, 4)], [torch.randn(5, 5)], [torch.rand(5)], None,
        torch.randn(2, 3, 5), [True, False, True, True, True],
    ),
}  # fmt: skip


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("name", OPERATORS)
def test_opcheck(name: str) -> None:
    operator = getattr(torch.ops.fastunroll, name).default
    torch.library.opcheck(operator, OPERATORS[name]())


def test_every_operator_is_checked() -> None:
    assert set(OPERATORS) == {n.split("::")[1] for n in torch._C._dispatch_get_all_op_names() if "fastunroll::" in n}


def modules() -> list[tuple[torch.nn.Module, tuple[Tensor, ...]]]:
    A = torch.randn(5, 7)
    x, y = torch.randn(3, 7), torch.randn(3, 5)
    return [
        (fu.nn.LISTA(A, layers=3, tied=True), (y,)), (fu.nn.LISTA(m=5, n=7, layers=2, threshold="vector"), (y, x)),
        (fu.nn.ISTALayer(A), (x, y)), (fu.nn.SoftThreshold(0.3), (x,)), (fu.operators.Dense(A), (x,)),
    ]  # fmt: skip


@pytest.mark.parametrize("i", range(len(modules())), ids=[type(m).__name__ for m, _ in modules()])
def test_module_habits(i: int) -> None:
    net, inputs = modules()[i]
    wanted = net(*inputs)
    assert torch.equal(copy.deepcopy(net)(*inputs), wanted)
    assert torch.equal(pickle.loads(pickle.dumps(net))(*inputs), wanted)
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    buffer.seek(0)
    other = copy.deepcopy(net)
    with torch.no_grad():
        for p in [*other.parameters(), *other.buffers()]:
            p.zero_()
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other(*inputs), wanted)
    assert net.double()(*(t.double() for t in inputs)).dtype == torch.float64


def test_parameter_names() -> None:
    untied, tied = fu.nn.LISTA(m=5, n=7, layers=2), fu.nn.LISTA(m=5, n=7, layers=2, tied=True)
    assert list(untied.state_dict()) == ["W1.0", "W1.1", "W2.0", "W2.1", "theta.0", "theta.1"]
    assert list(tied.state_dict()) == ["W1.0", "W2.0", "theta.0", "theta.1"]
    assert repr(tied).startswith("LISTA(\n  m=5, n=7, layers=2, tied=True, threshold='scalar'\n")


CHANGES = {
    "in place": lambda net: net.W2[1].mul_(1.5),
    "one element": lambda net: net.W1[2].view(-1)[5:6].add_(1.0),
    "through data": lambda net: net.W2[1].data.add_(0.1),
    "through numpy": lambda net: net.W1[0].numpy().__imul__(2.0),
    "new data": lambda net: setattr(net.W2[1], "data", torch.randn_like(net.W2[1])),
    "new parameter": lambda net: net.W2.__setitem__(1, torch.nn.Parameter(torch.randn_like(net.W2[1]))),
    "state dict": lambda net: net.load_state_dict({k: v * 1.1 for k, v in net.state_dict().items()}),
    "optimizer": lambda net: optimizer_step(net),
    "there and back": lambda net: net.float().double(),
}


def optimizer_step(net: torch.nn.Module) -> None:
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    torch.optim.Adam(net.parameters(), lr=0.1, fused=True).step()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("tied", [False, True])
def test_packed_weights_are_never_stale(change: str, tied: bool) -> None:
    p = build(Case(layers=3))
    if tied:
        p.net.W2[2] = p.net.W2[1] = p.net.W2[0]
    for _ in range(2):
        with torch.no_grad():
            assert torch.allclose(p.run(True), p.reference())
            CHANGES[change](p.net)
            assert torch.allclose(p.run(True), p.reference())
        assert torch.allclose(p.run(True), p.reference())


def test_packed_weights_go_with_the_network() -> None:
    gc.collect()
    before = len(fu.ops.packed._networks)
    nets = [fu.nn.LISTA(m=5, n=7, layers=2) for _ in range(10)]
    with torch.no_grad():
        for net in nets:
            net(torch.randn(3, 5))
        assert len(fu.ops.packed._networks) == before + 10
    del nets, net
    gc.collect()
    assert len(fu.ops.packed._networks) == before


def test_threads_share_packed_weights() -> None:
    """Calls from several Python threads at once, while one of them alters the weights in turn."""
    p = build(Case(33, 129, 4, (16,)))
    with torch.no_grad():
        wanted = p.run()
        with ThreadPoolExecutor(4) as pool:
            for _ in range(5):
                p.net.W2[0].mul_(1.0)
                assert all(torch.equal(out, wanted) for out in pool.map(lambda _: p.net(p.y), range(16)))


def test_autocast_computes_in_the_dtype_of_the_weights() -> None:
    net = fu.nn.LISTA(m=5, n=7, layers=2)
    before = torch.nn.Linear(4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = before(torch.randn(3, 4))
        assert y.dtype == torch.bfloat16
        out = net(y)
        assert out.dtype == torch.float32
        assert torch.equal(out, net(y.float()))
        assert fu.gradient_step(out, y, torch.randn(5, 7), 0.1).dtype == torch.float32
    out.sum().backward()
    assert before.weight.grad.isfinite().all()


def test_half_precision_module() -> None:
    net = fu.nn.LISTA(m=5, n=7, layers=2)
    y = torch.randn(3, 5)
    assert torch.allclose(copy.deepcopy(net).bfloat16()(y.bfloat16()).float(), net(y), atol=0.1)


def test_second_derivative_is_refused_clearly() -> None:
    p = build(Case(), requires_grad=True)
    (g,) = torch.autograd.grad(p.run().square().sum(), p.y, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        g.sum().backward()


def test_inference_mode() -> None:
    p = build(Case())
    with torch.inference_mode():
        assert torch.equal(p.run(), p.net(p.y))
