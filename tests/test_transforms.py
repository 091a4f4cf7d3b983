"""What torch does to a module or an operator: compile, export, copy, cast, save."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Iterator

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
        torch.randn(3, 4), [torch.randn(5, 4)], [torch.randn(5, 5)], [torch.rand(5)], torch.randn(3, 5), 2, True,
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


def test_weights_changed_in_place_take_effect() -> None:
    p = build(Case())
    for change in (
        lambda w: w.mul_(1.5), lambda w: w.data.add_(0.1), lambda w: w.copy_(torch.randn_like(w)),
        lambda w: setattr(w, "data", torch.randn_like(w)),
    ):  # fmt: skip
        with torch.no_grad():
            change(p.net.W2[1])
            assert torch.allclose(p.run(True), p.reference())


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
