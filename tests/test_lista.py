"""LISTA, native against reference: values, gradients, and the classical algorithm it starts as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import fastunroll as fu
import pytest
import torch
from closeness import relative_error, tolerance
from forms.dense import Form
from forms.lista import LISTA, OF_EVERY_SIZE, SINGLE, Problem, module
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor


def tied_if(tied: bool) -> str:
    return "affine-tied" if tied else "affine"


@pytest.mark.parametrize("form", OF_EVERY_SIZE + SINGLE, ids=str)
def test_values(form: Form) -> None:
    p = module(form)
    wanted = p.reference()
    layers = p.run(return_layers=True)
    assert layers.shape == (form.layers, *form.shape, form.n)
    assert relative_error(layers, wanted) <= tolerance(form.dtype)
    with torch.no_grad():
        assert torch.equal(p.run(), layers[-1])
        assert torch.equal(p.run(return_layers=True), layers)


def reference_on_piece(p: Problem, signs: Tensor) -> Tensor:
    """Every layer of the linear piece whose signs, 0 off the support, are given: x = |s|·(W₁ y + W₂ x) − s·θ.

    It is the reference wherever the signs are its own. In single precision an element may round to the other side of
    its threshold, and its gradient with it; on the piece that was taken, gradients can be compared.
    """
    w1, w2, theta = p.weights
    x = torch.zeros(*p.y.shape[:-1], p.net.n, dtype=p.y.dtype) if p.x0 is None else p.x0
    layers = []
    for k, s in enumerate(signs):
        z = p.y @ w1[min(k, len(w1) - 1)].mT + x @ w2[min(k, len(w2) - 1)].mT
        x = s.abs() * z - s * theta[k]
        layers.append(x)
    return torch.stack(layers)


@pytest.mark.parametrize("form", OF_EVERY_SIZE + SINGLE, ids=str)
def test_gradients(form: Form) -> None:
    """Of the last layer, and of every layer."""
    p = module(form, requires_grad=True)
    layers = p.run(return_layers=True)
    weight = torch.randn_like(layers)
    exact = module(replace(form, dtype=torch.float64), requires_grad=True)
    with torch.no_grad():  # the same numbers, in double precision
        for a, b in zip(exact.leaves, p.leaves, strict=True):
            a.copy_(b)
    exactly = reference_on_piece(exact, layers.detach().sign().double())
    if form.dtype == torch.float64:
        assert relative_error(exactly, exact.reference()) <= 1e-12
    for x, wanted_x, w in ((p.run(), exactly[-1], weight[-1]), (layers, exactly, weight)):
        found = torch.autograd.grad((x * w).sum(), p.leaves)
        wanted = torch.autograd.grad(
            (wanted_x * w.double()).sum(), exact.leaves, allow_unused=True, materialize_grads=True, retain_graph=True
        )
        for a, b in zip(found, wanted, strict=True):
            assert relative_error(a.double(), b) <= tolerance(form.dtype)


@pytest.mark.parametrize("frozen", ["W1", "W2", "theta", "y", "x0"])
def test_gradient_of_some(frozen: str) -> None:
    """What needs no gradient gets none, and leaves the others as they were."""
    p = module(replace(LISTA, starts=True), requires_grad=True)
    p.run().square().sum().backward()
    wanted = [t.grad for t in p.leaves]
    q = module(replace(LISTA, starts=True), requires_grad=True)
    still = {"y": [q.y], "x0": [q.x0]}.get(frozen) or list(getattr(q.net, frozen))
    for t in still:
        t.requires_grad_(False)
    q.run().square().sum().backward()
    for t, w in zip(q.leaves, wanted, strict=True):
        if any(t is s for s in still):
            assert t.grad is None
        else:
            assert torch.equal(t.grad, w)


@given(
    m=st.integers(1, 40), n=st.integers(1, 150), layers=st.integers(1, 4), batch=st.integers(0, 70),
    tied=st.booleans(), vector=st.booleans(), starts=st.booleans(),
    layout=st.sampled_from(["contiguous", "transposed", "strided", "expanded"]), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_any_shape_and_layout(
    m: int, n: int, layers: int, batch: int, tied: bool, vector: bool, starts: bool, layout: str, seed: int
) -> None:
    form = Form(tied_if(tied), m=m, n=n, layers=layers, batch=batch, vector=vector, starts=starts)
    p = module(form, seed=seed)
    if layout == "transposed":
        p.y = p.y.T.contiguous().T
    elif layout == "strided":
        p.y = torch.cat([p.y, p.y], dim=-1)[:, ::2]
    elif layout == "expanded":
        p.y = p.y[:1].expand(batch if batch else 0, m)
    p.y.requires_grad_()
    out, wanted = p.run(), p.reference()[-1]
    assert relative_error(out, wanted) <= 1e-12
    weight = torch.randn_like(out)
    found = torch.autograd.grad((out * weight).sum(), [p.y, *p.net.parameters()])
    exact = torch.autograd.grad((wanted * weight).sum(), [p.y, *p.net.parameters()], allow_unused=True)
    for f, e in zip(found, exact, strict=True):
        assert relative_error(f, torch.zeros_like(f) if e is None else e) <= 1e-11


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("threshold", ["scalar", "vector"])
def test_starts_as_ista(tied: bool, threshold: str) -> None:
    A, y = torch.randn(20, 50, dtype=torch.float64), torch.randn(6, 20, dtype=torch.float64)
    net = fu.nn.LISTA(A, layers=16, lam=0.3, tied=tied, threshold=threshold)
    wanted = fu.solvers.ista(A, y, 0.3, iterations=16, return_iterates=True)
    assert relative_error(net(y, return_layers=True), wanted) <= 1e-12
    x0 = torch.randn(6, 50, dtype=torch.float64)
    assert relative_error(net(y, x0), fu.solvers.ista(A, y, 0.3, iterations=16, x0=x0)) <= 1e-12


@pytest.mark.parametrize("tied", [False, True])
def test_nan_stays_in_its_sample(tied: bool) -> None:
    p = module(Form(tied_if(tied), m=33, n=129, batch=9))
    clean = p.run()
    p.y[4, 7] = float("nan")
    out = p.run()
    others = [0, 1, 2, 3, 5, 6, 7, 8]
    assert torch.equal(out[others], clean[others])
    assert out[4].isnan().all()


@pytest.mark.parametrize("where", ["W1", "W2"])
def test_nan_in_weights_shows(where: str) -> None:
    """A product that skips zeros must not hide a weight that is not finite."""
    p = module(replace(LISTA, layers=1))
    with torch.no_grad():
        getattr(p.net, where)[0][3, 4] = float("nan")
    out = p.run()
    assert out[:, 3].isnan().all()
    assert torch.equal(out.isnan(), p.reference()[-1].isnan())


def test_negative_threshold_follows_the_formula() -> None:
    p = module(LISTA, requires_grad=True)
    with torch.no_grad():
        for t in p.net.theta:
            t.neg_()
    assert relative_error(p.run(True), p.reference()) <= 1e-12
    found = torch.autograd.grad(p.run().square().sum(), p.leaves)
    wanted = torch.autograd.grad(p.reference()[-1].square().sum(), p.leaves, allow_unused=True)
    for f, w in zip(found, wanted, strict=True):
        assert relative_error(f, torch.zeros_like(f) if w is None else w) <= 1e-12


def test_output_does_not_keep_every_layer() -> None:
    out = module(LISTA, requires_grad=True).run()
    assert out.untyped_storage().nbytes() == out.numel() * out.element_size()


def _gradients(p: Problem, change: Callable[[Tensor], object] = lambda x: None) -> list[Tensor]:
    x = p.run()
    change(x)
    return list(torch.autograd.grad(x, p.leaves, torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)))


@pytest.mark.parametrize("tied", [True, False])
def test_what_may_happen_between_forward_and_backward(tied: bool) -> None:
    form = replace(LISTA, operator=tied_if(tied))
    wanted = _gradients(module(form, requires_grad=True))

    def move_weights(_: Tensor) -> None:
        for t in p.net.parameters():
            t.data = t.data.clone()

    def overwrite_output(x: Tensor) -> None:
        x.detach().zero_()

    for change in (move_weights, overwrite_output):
        p = module(form, requires_grad=True)
        assert all(map(torch.equal, _gradients(p, change), wanted))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t.clone()):
        assert all(map(torch.equal, _gradients(module(form, requires_grad=True)), wanted))
    p = module(form, requires_grad=True)
    x = p.run()
    with torch.no_grad():
        p.net.W2[0].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        x.sum().backward()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("batch", [(), (1,), (2, 35), (200,)], ids=str)
def test_bf16_weights_are_rounded_ones(tied: bool, batch: tuple[int, ...]) -> None:
    """To the last bit, however the call is made; and only where no gradient is recorded."""
    torch.manual_seed(3)
    net = fu.nn.LISTA(m=70, n=133, layers=3, tied=tied, lam=0.2, weights="bf16")
    y, x0 = torch.randn(*batch, 70), torch.randn(*batch, 133)
    full = fu.nn.LISTA(m=70, n=133, layers=3, tied=tied)
    full.load_state_dict(net.state_dict())
    rounded = fu.nn.LISTA(m=70, n=133, layers=3, tied=tied)
    rounded.load_state_dict({k: v.bfloat16().float() if "W" in k else v for k, v in net.state_dict().items()})
    strided = torch.stack([y, y], -1)[..., 0]
    with torch.no_grad():
        for keep in (False, True):
            wanted = rounded(y, None, keep)
            assert torch.equal(net(y, None, keep), wanted)
            assert torch.equal(net(strided, None, keep), wanted)
            assert torch.equal(net(y, x0, keep), rounded(y, x0, keep))
        assert 1e-4 < relative_error(net(y), full(y)) < 1e-1
        net.W2[0].mul_(0.5)
        rounded.W2[0].mul_(0.5)
        full.W2[0].mul_(0.5)
        assert torch.equal(net(y), rounded(y))
        net.weights = "full"
        assert torch.equal(net(y), full(y))
        net.weights = "bf16"
        assert torch.equal(net(y), rounded(y))
    assert torch.equal(net(y), full(y))
    assert torch.equal(net.requires_grad_(False)(strided), rounded(y))


def test_bf16_weights_keep_what_is_not_finite() -> None:
    net = fu.nn.LISTA(m=5, n=9, layers=2, weights="bf16")
    with torch.no_grad():
        net.W2[1][3, 4] = float("nan")
        assert net(torch.ones(4, 5)).isnan().any()
        net.W2[1][3, 4] = 3.4e38  # rounds to infinity, and zero times that is no number
        net.W1[0].zero_()
        assert net(torch.ones(4, 5)).isnan().any()


def test_bf16_weights_refused() -> None:
    with pytest.raises(ValueError, match='weights must be "full" or "bf16", got \'fp8\''):
        fu.nn.LISTA(m=5, n=9, weights="fp8")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"needs a float32 network, but its weights are torch\.float64"):
        fu.nn.LISTA(m=5, n=9, weights="bf16").double()(torch.ones(5, dtype=torch.float64))
