"""What torch does to a module or an operator: compile, export, copy, cast, save."""

from __future__ import annotations

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import fastunroll as fu
import pytest
import torch
from forms import lista
from forms.lista import LISTA, Form
from torch import Tensor


def gradients(run: object, leaves: list[Tensor]) -> list[Tensor]:
    out = run()  # type: ignore[operator]
    return [out.detach(), *torch.autograd.grad(out.square().sum(), leaves)]


def assert_same(a: list[Tensor], b: list[Tensor]) -> None:
    for s, t in zip(a, b, strict=True):
        assert torch.equal(s, t)


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize("form", [*lista.ROWS[:2], lista.ROWS[-1]], ids=str)
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile(backend: str, form: Form) -> None:
    p = lista.module(form, requires_grad=True)
    wanted = gradients(p.run, p.leaves)
    compiled = torch.compile(p.net, fullgraph=True, backend=backend)
    assert_same(gradients(lambda: compiled(p.y, p.x0), p.leaves), wanted)
    with torch.no_grad():
        assert torch.equal(compiled(p.y, p.x0), wanted[0])


@pytest.mark.usefixtures("_quiet_torch")
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


@pytest.mark.usefixtures("_quiet_torch")
def test_export_with_any_batch() -> None:
    p, strict = lista.module(LISTA), not torch.__version__.startswith("2.6.")  # which cannot, as docs/networks.md says
    any_batch = {"y": {0: torch.export.Dim("batch")}}
    program = torch.export.export(p.net, (p.y,), dynamic_shapes=any_batch, strict=strict)
    y = torch.randn(23, 11, dtype=torch.float64)
    assert torch.equal(program.module()(y), p.net(y))


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
    p = lista.module(LISTA)
    if tied:
        p.net.W2[2] = p.net.W2[1] = p.net.W2[0]
    for _ in range(2):
        with torch.no_grad():
            assert torch.allclose(p.run(True), p.reference())
            CHANGES[change](p.net)
            assert torch.allclose(p.run(True), p.reference())
        assert torch.allclose(p.run(True), p.reference())


def test_packed_weights_know_a_tensor_from_its_address() -> None:
    """A new matrix where a freed one was, of the same version and nearly the same values, is another matrix."""
    y, base, W2 = torch.randn(3, 30), torch.randn(40, 30), torch.randn(40, 40) / 40
    with torch.no_grad():
        for i in range(20):
            w1 = base.clone()
            w1[i, 7] += 100
            out = fu.unrolled(y, fu.AffineStep(w1, W2), fu.prox.L1(), 0.1, layers=2)
            wanted = fu.reference.lista(y, [w1], [W2], [torch.tensor(0.1)], torch.zeros(3, 40), 2)[-1]
            assert torch.allclose(out, wanted, atol=1e-4)
            del w1


def test_python_threads() -> None:
    """Networks that share a matrix, in several Python threads, one of them training."""
    W2 = torch.randn(129, 129) / 129
    problems = []
    for seed in range(4):
        p = lista.module(Form("affine-tied", m=33, n=129, batch=16, dtype=torch.float32), seed=seed)
        p.net.W2[0] = torch.nn.Parameter(W2) if seed == 0 else problems[0].net.W2[0]
        problems.append(p)
    wanted = [p.run().detach() for p in problems]

    def work(i: int) -> bool:
        p = problems[i % 4]
        if i % 4 == 3:
            out = p.run()
            torch.autograd.grad(out.sum(), list(p.net.W1))
            return torch.equal(out, wanted[3])
        with torch.no_grad():
            return torch.equal(p.run(), wanted[i % 4])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(200)))


@pytest.mark.usefixtures("_quiet_torch")
def test_forward_mode_and_functional_transforms() -> None:
    """What the native kernels do not serve goes through the plain operations, and is right."""
    A, y = torch.randn(5, 7, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    x, v = torch.randn(3, 7, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float64)
    theta = torch.tensor(0.3, dtype=torch.float64)
    net = fu.nn.LISTA(A, layers=2)
    pairs = [
        (lambda x: fu.soft_threshold(x, theta), lambda x: fu.reference.soft_threshold(x, theta), x, v),
        (lambda x: fu.gradient_step(x, y, A, 0.1), lambda x: fu.reference.gradient_step(x, y, A, 0.1), x, v),
        (fu.operators.Dense(A), lambda x: x @ A.T, x, v),
        (
            lambda y: fu.solvers.fista(A, y, 0.1, iterations=3, step=0.1),
            lambda y: fu.reference.ista(
                y, A, torch.zeros_like(x), torch.tensor(0.1), torch.tensor(0.01), [0.0, 0.0, 0.28175352512532087]
            )[-1],
            y,
            y.flip(0),
        ),
        (net, lambda y: fu.reference.lista(y, *map(list, (net.W1, net.W2, net.theta)), 0 * x, 2)[-1], y, y.flip(0)),
    ]  # fmt: skip
    for native, plain, at, along in pairs:
        for found, wanted in zip(torch.func.jvp(native, (at,), (along,)), torch.func.jvp(plain, (at,), (along,)),
                                 strict=True):  # fmt: skip
            assert torch.allclose(found, wanted)
        assert torch.allclose(torch.func.jacfwd(native)(at), torch.func.jacrev(native)(at))
        if native is not pairs[1][0]:  # which holds a whole batch of y
            assert torch.allclose(torch.func.vmap(native)(at), native(at))
        with torch.autograd.forward_ad.dual_level():
            dual = native(torch.autograd.forward_ad.make_dual(at, along))
            assert torch.autograd.forward_ad.unpack_dual(dual).tangent is not None


def test_meta_device() -> None:
    net = fu.nn.LISTA(m=5, n=7, layers=2, device="meta")
    assert net(torch.empty(3, 5, device="meta")).shape == (3, 7)
    with torch.device("meta"):
        assert fu.nn.LISTA(m=5, n=7).W1[0].is_meta
    assert fu.nn.ISTALayer(torch.randn(5, 7), device="meta").step.is_meta
    net.to_empty(device="cpu").load_state_dict(fu.nn.LISTA(m=5, n=7, layers=2).state_dict())
    assert net(torch.randn(3, 5)).isfinite().all()


def test_modules_keep_their_own_copy_of_a_matrix() -> None:
    A = torch.randn(5, 7)
    before = A.clone()
    for module in (fu.nn.ISTALayer(A), fu.operators.Dense(A)):
        with torch.no_grad():
            module.A.zero_()
        assert torch.equal(A, before)


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


def test_autocast_with_weights_of_several_dtypes() -> None:
    net = fu.nn.LISTA(m=5, n=7, layers=3)
    y = torch.randn(3, 5)
    wanted = net(y)
    net.W2.bfloat16()
    net.theta.double()
    with pytest.raises(TypeError, match=r"one dtype, but y is .* and W2.0 is .*: use net.to\(torch.float32\)"):
        net(y)
    with torch.autocast("cpu"):
        assert torch.allclose(net(y), wanted, atol=0.05)
        x = torch.randn(3, 7)
        A = torch.randn(5, 7)
        exact = fu.losses.kkt_residual(x.double(), y.double(), A.double(), 0.1)
        assert torch.allclose(fu.losses.kkt_residual(x, y, A, 0.1).double(), exact, rtol=1e-5)


def test_half_precision_module() -> None:
    net = fu.nn.LISTA(m=5, n=7, layers=2)
    y = torch.randn(3, 5)
    assert torch.allclose(copy.deepcopy(net).bfloat16()(y.bfloat16()).float(), net(y), atol=0.1)


def test_inference_mode() -> None:
    p = lista.module(LISTA)
    with torch.inference_mode():
        assert torch.equal(p.run(), p.net(p.y))


def test_autocast_with_a_parametrization() -> None:
    """Which computes its matrix in half precision there; the layers stay in that of the network."""
    net = fu.nn.LISTACP(torch.randn(5, 7), layers=2)
    torch.nn.utils.parametrizations.orthogonal(net.W, "0")
    y = torch.randn(3, 5)
    wanted = net(y)
    with torch.autocast("cpu"):
        found = net(y)
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted, atol=0.1)
