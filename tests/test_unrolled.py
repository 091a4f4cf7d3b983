"""Every form of a layer against the reference: values, gradients, and the same bits whatever the circumstances."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error, tolerance
from fastunroll.prox import L1, NonNegativeL1, SupportSelection
from fastunroll.schemes import ADMM, AMP, FISTA
from fastunroll.steps import AffineStep, GradientStep
from forms import build
from forms.dense import COMPLEX, OF_EVERY_SIZE, ROWS, Form
from torch import Tensor


@pytest.mark.parametrize("form", OF_EVERY_SIZE + COMPLEX, ids=str)
def test_values(form: Form) -> None:
    p = build(form)
    wanted, state = p.reference()
    found = p.run(return_layers=True)
    assert relative_error(found, wanted) <= tolerance(form.dtype)
    if form.has_state:
        last, s = p.run(return_state=True)
        assert torch.equal(last, found[-1])
        assert relative_error(s, state) <= tolerance(form.dtype)


@pytest.mark.parametrize("form", OF_EVERY_SIZE + COMPLEX, ids=str)
def test_gradients_are_those_of_the_reference(form: Form) -> None:
    p = build(form, requires_grad=True)
    g = torch.Generator().manual_seed(3)
    wanted, state = p.reference()
    weights = torch.randn(wanted.shape, generator=g, dtype=torch.float64)
    of_state = torch.randn(state.shape, generator=g, dtype=torch.float64)

    def loss(x: Tensor, s: Tensor | None) -> Tensor:
        total = (weights * x.abs().square()).sum() + (weights * x.real).sum()
        return total + ((of_state * s.real).sum() if form.has_state and s is not None else 0)

    expected = torch.autograd.grad(loss(wanted, state), p.leaves, allow_unused=True, materialize_grads=True)
    out = p.run(return_layers=True, return_state=form.has_state)
    x, s = out if isinstance(out, tuple) else (out, None)
    found = torch.autograd.grad(loss(x, s), p.leaves, allow_unused=True, materialize_grads=True)
    for a, b in zip(found, expected, strict=True):
        assert relative_error(a, b) <= 1e-9


@pytest.mark.parametrize("form", ROWS, ids=str)
def test_each_gradient_alone_is_the_same(form: Form) -> None:
    whole = build(form, requires_grad=True)
    wanted = torch.autograd.grad(whole.run().sum(), whole.leaves, allow_unused=True, materialize_grads=True)
    for i in range(len(wanted)):
        alone = build(form)
        alone.leaves[i].requires_grad_()
        (found,) = torch.autograd.grad(alone.run().sum(), [alone.leaves[i]], allow_unused=True, materialize_grads=True)
        assert torch.equal(found, wanted[i])


@pytest.mark.parametrize("segment", [1, 2, 5])
@pytest.mark.parametrize("form", ROWS, ids=str)
def test_checkpoints_change_nothing(form: Form, segment: int) -> None:
    form = replace(form, layers=5, support_sizes=(*form.support_sizes, 3, 1) if form.selects else ())
    p = build(form, requires_grad=True)
    x = p.run()
    wanted = torch.autograd.grad(x.square().sum(), p.leaves, allow_unused=True, materialize_grads=True)
    again = p.run(keep_every=segment)
    assert torch.equal(x, again)
    found = torch.autograd.grad(again.square().sum(), p.leaves, allow_unused=True, materialize_grads=True)
    for a, b in zip(found, wanted, strict=True):
        assert relative_error(a, b) <= 1e-12  # a shared parameter adds segments up


def test_nan_stays_in_its_sample() -> None:
    for form in ROWS:
        p = build(form)
        whole = p.run()
        p.y[2] = torch.nan
        found = p.run()
        assert found[2].isnan().any()
        assert torch.equal(found[[0, 1, 3, 4]], whole[[0, 1, 3, 4]])


def test_ties_pass_at_the_lower_index() -> None:
    eye = torch.eye(4, dtype=torch.float64)
    y = torch.tensor([[2.0, -2.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    found = fu.unrolled(y, GradientStep(eye), SupportSelection(2), 0.5, layers=1)
    assert found.tolist() == [[2.0, -2.0, 1.5, 0.5], [1.0, 1.0, 0.5, 0.5]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 7, 16, 33, 130])
def test_selection_is_exact(n: int, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(n)
    z = torch.randn(40, n, generator=g, dtype=dtype).mul(3).round().div(3)  # with ties
    eye = torch.eye(n, dtype=dtype)
    for k in range(n + 2):
        found = fu.unrolled(z, GradientStep(eye), SupportSelection(k), 0.4, layers=1)
        wanted = fu.reference.proximal_step(z, "soft", torch.tensor(0.4, dtype=dtype), 1.0, 1, k)
        assert torch.allclose(found, wanted, rtol=1e-6, atol=0)


def test_it_is_admm() -> None:
    """The dense and the factorised form of the same ADMM agree, and solve the Lasso."""
    g = torch.Generator().manual_seed(0)
    A, y = torch.randn(20, 40, generator=g, dtype=torch.float64), torch.randn(3, 20, generator=g, dtype=torch.float64)
    rho, lam = 5.0, 2.0
    inverse = torch.linalg.inv(A.mT @ A + rho * torch.eye(40, dtype=torch.float64))
    W = torch.linalg.solve(A @ A.mT + rho * torch.eye(20, dtype=torch.float64), A)
    affine = AffineStep(inverse @ A.mT, rho * inverse)
    dense = fu.unrolled(y, affine, L1(), lam / rho, layers=400, scheme=ADMM())
    factorised = fu.unrolled(y, GradientStep(A, W), L1(), lam / rho, layers=400, scheme=ADMM())
    assert relative_error(dense, factorised) < 1e-10
    assert fu.losses.kkt_residual(dense, y, A, lam).max() < 1e-6


def test_it_is_amp() -> None:
    """At its state evolution's operating point AMP recovers a sparse signal in far fewer iterations than ISTA."""
    g = torch.Generator().manual_seed(0)
    A = torch.randn(250, 500, generator=g) / 250**0.5
    x = torch.randn(20, 500, generator=g) * (torch.rand(20, 500, generator=g) < 0.1)
    y = x @ A.mT
    amp = fu.unrolled(y, GradientStep(A), L1(), 1.1402, layers=16, scheme=AMP())
    assert fu.losses.nmse_db(amp, x, pooled=True) < -25


def test_continuing_is_one_run() -> None:
    for form in ROWS:
        if not form.has_state or form.selects:
            continue
        p = build(form)
        whole = p.run()
        x, s = p.x0, p.s0
        for layers in (slice(0, 1), slice(1, 3)):
            part = p.mapped(lambda t: t, layers)
            x, s = part.run(layers=layers.stop - layers.start, x0=x, s0=s, return_state=True)
        assert relative_error(x, whole) < 1e-12


def test_parameter_lists() -> None:
    p = build(ROWS[0])
    lists = [torch.nn.ParameterList(group) for group in (p.linear.W1, p.linear.W2, p.theta)]
    found = fu.unrolled(p.y, AffineStep(lists[0], lists[1]), L1(), lists[2], layers=p.form.layers)
    assert torch.equal(found, p.run())


def test_one_tensor_can_hold_a_value_for_each_layer() -> None:
    g = torch.Generator().manual_seed(0)
    A, y = torch.randn(5, 9, generator=g, dtype=torch.float64), torch.randn(4, 5, generator=g, dtype=torch.float64)
    beta = torch.rand(3, generator=g, dtype=torch.float64, requires_grad=True)
    gain = (1 + torch.rand(3, generator=g, dtype=torch.float64)).requires_grad_()

    def run(beta: Any, gain: Any) -> Tensor:
        return fu.unrolled(y, GradientStep(A, step=0.05), L1(), 0.1, gain=gain, layers=3, scheme=FISTA(beta))

    found, wanted = run(beta, gain), run([*beta.unbind()], [*gain.unbind()])
    assert torch.equal(found, wanted)
    gradients = [torch.autograd.grad(x.sum(), [beta, gain]) for x in (found, wanted)]
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(run(beta.tolist(), gain.tolist()), wanted)


def test_a_negative_threshold_without_sign() -> None:
    """max(z − θ, 0) keeps some z below zero."""
    A, y, theta = torch.randn(5, 9).double(), torch.randn(4, 5).double(), 0.3 * torch.randn(9).double()
    found = fu.unrolled(y, GradientStep(A, step=0.05), NonNegativeL1(), theta, layers=1)
    assert torch.allclose(found, torch.relu(0.05 * y @ A - theta))
    x0, one = y.new_zeros(4, 9), [torch.tensor(0.05).double()]
    form = {"layers": 1, "linear": "gradient", "scheme": "proximal_gradient", "prox": "nonnegative"}
    assert torch.allclose(fu.reference.network(y, [A], [], one, [theta], [], [], x0, None, **form)[0][-1], found)


def test_a_gram_step_may_differ_between_coordinates() -> None:
    y, A, W = (torch.randn(*shape, dtype=torch.float64) for shape in ((5, 7), (7, 12), (7, 12)))
    step = 0.1 * torch.rand(12, dtype=torch.float64)
    x = torch.zeros(5, 12, dtype=torch.float64)
    for _ in range(3):
        x = fu.reference.soft_threshold(x + step * ((y - x @ A.mT) @ W), torch.tensor(0.05))
    torch.testing.assert_close(fu.unrolled(y, GradientStep(A, W, step, "gram"), L1(), 0.05, layers=3), x)


def test_a_gram_matrix_follows_what_it_is_made_of() -> None:
    A, y = torch.randn(7, 12, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    kept = GradientStep(A, step=0.05, via="gram")

    def off() -> Tensor:
        by_residual = fu.unrolled(y, GradientStep(A, step=0.05), L1(), 0.1, layers=3)
        return (fu.unrolled(y, kept, L1(), 0.1, layers=3) - by_residual).norm()

    assert off() < 1e-12
    assert kept.gram_matrix is kept.gram_matrix
    A *= 2
    assert off() < 1e-12
    A.requires_grad_()
    assert off() < 1e-12
    with torch.no_grad():
        A -= 1
    assert off() < 1e-12
    with torch.inference_mode():
        assert off() < 1e-12
    A.data *= 0.5
    with torch.no_grad():
        assert off() < 1e-12
    torch.optim.Adam([A], lr=0.1, fused=True).step(lambda: A.square().sum().backward())  # type: ignore[arg-type]
    with torch.no_grad():
        assert off() < 1e-12


def test_second_derivative_where_the_state_learns_nothing() -> None:
    """The state after one layer with momentum is x0, which is a constant here."""
    y = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    eye = torch.eye(4, dtype=torch.float64)
    x, s = fu.unrolled(y, AffineStep(eye, eye), L1(), 0.1, layers=1, scheme=FISTA(0.5), return_state=True)
    (first,) = torch.autograd.grad((x.square() + s).sum() / 2, y, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), y)
    assert torch.equal(second, (x != 0).to(y.dtype))


def test_the_correction_counts_no_padding() -> None:
    """An infinite residual makes θ infinite, and 0 − 0·∞ NaN in columns that pad a tile: they are not in ‖x‖₀."""
    A, y = torch.ones(1, 1, dtype=torch.float64), torch.full((1, 1), -torch.inf, dtype=torch.float64)
    x, s = fu.unrolled(y, GradientStep(A), NonNegativeL1(), 0.3, layers=1, scheme=AMP(), return_state=True)
    assert x.item() == 0
    assert s.isnan().all()  # 0·(−∞)
