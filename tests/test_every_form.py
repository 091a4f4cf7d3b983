"""Every operator and scheme with any three of the other options together; with any two, what is not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, product
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from forms import build, covering
from forms.dense import OPERATORS, SCHEMES, Form, Problem
from torch import Tensor

# Proximal operators and their groups, selections, gains, thresholds for each element, and starts.
OPTIONS = [*product(
    (("soft", 1), ("soft", 2), ("soft", 3), ("nonnegative", 1), ("identity", 1)), ((), (1, 4, 0)), (False, True),
    (False, True), (False, True),
)]  # fmt: skip
REAL, DTYPES = (torch.float64,), (torch.float64, torch.complex128)


def refusal(form: Form) -> str | None:
    """The beginning of the sentence that refuses a combination; None for those that are defined."""
    if form.prox == "identity" and form.selects:
        return "prox must be L1"
    if form.scheme == "amp" and not form.operator.startswith("gradient"):
        return "AMP needs"
    if form.prox == "nonnegative" and form.dtype.is_complex:
        return "NonNegativeL1 is defined for real numbers|SupportSelection is defined for real numbers"
    return None


def combinations(
    operator: str, scheme: str, dtypes: Sequence[torch.dtype], *, strength: int = 3, refused: bool = False
) -> list[Form]:
    """Those that are defined, or those that are refused, of which any ``strength`` options are in one together."""

    def form(row: tuple[Any, ...]) -> Form:
        (prox, group), sizes, gain, vector, starts, dtype = row
        return Form(
            operator, prox, scheme, group=group, support_sizes=sizes, gain=gain, vector=vector, starts=starts,
            dtype=dtype, m=4, n=6, batch=3,
        )  # fmt: skip

    rows = [(*options, dtype) for options in OPTIONS for dtype in dtypes]
    return [form(row) for row in covering([row for row in rows if bool(refusal(form(row))) == refused], strength)]


def outcome(run: Any, leaves: list[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Every layer, the second state, and the gradients of one number made of both."""
    x, s = run()
    g = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=g, dtype=torch.float64) for t in (x, s)]
    loss = sum((w * t.abs().square()).sum() + (w * t.real).sum() for w, t in zip(weights, (x, s), strict=True))
    return x, s, list(torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True))


def with_state(p: Problem, **options: Any) -> tuple[Tensor, Tensor]:
    if p.form.has_state:
        return p.run(return_layers=True, return_state=True, **options)
    x = p.run(return_layers=True, **options)
    return x, x.new_zeros(0)


class Uncompiled(fu.prox.Proximal):
    """Another proximal operator without its compiled step, with which layers run one by one."""

    def __init__(self, prox: fu.prox.Proximal) -> None:
        super().__init__()
        self.inner, self.has_threshold = prox, prox.has_threshold

    def at_layer(self, k: int) -> fu.prox.Proximal:
        return self.inner.at_layer(k)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("operator", OPERATORS)
def test_values_and_gradients(operator: str, scheme: str) -> None:
    """In one native call, and layer by layer, the second state and gradients among them."""
    forms = combinations(operator, scheme, DTYPES)
    assert forms or (scheme == "amp" and not operator.startswith("gradient"))
    for form in forms:
        p = build(form, requires_grad=True)
        rx, rs, wanted = outcome(p.reference, p.leaves)
        for prox in (p.prox, Uncompiled(p.prox)):
            x, s, grads = outcome(lambda p=p, prox=prox: with_state(p, prox=prox), p.leaves)
            assert relative_error(x, rx) < 1e-12, form
            assert not s.numel() or relative_error(s, rs) < 1e-12, form
            for found, right in zip(grads, wanted, strict=True):
                assert (found - right).abs().max() <= 1e-9 * (1 + right.abs().max()), form
            with torch.no_grad():
                assert torch.equal(p.run(prox=prox), x[-1]), form


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("operator", OPERATORS)
def test_what_is_not_defined_is_refused(operator: str, scheme: str) -> None:
    for form in combinations(operator, scheme, DTYPES, strength=2, refused=True):
        sentence = refusal(form)
        assert sentence is not None
        with pytest.raises((TypeError, ValueError), match=sentence):
            build(form).run()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("operator", OPERATORS)
def test_what_is_not_finite_shows(operator: str, scheme: str) -> None:
    """In any tensor: where the reference is not finite, the kernels are not either, and the other way round.

    The tensors of all forms hold NaN and both infinities in turn.
    """
    values = cycle([math.nan, math.inf, -math.inf])
    for form in combinations(operator, scheme, REAL, strength=2):
        sound = build(form)
        for i, value in zip(range(len(sound.leaves)), values, strict=False):
            broken = [t.clone() if k == i else t for k, t in enumerate(sound.leaves)]
            broken[i].view(-1)[broken[i].numel() // 2] = value
            p = sound.with_leaves(broken)
            if form.gain and value == -math.inf and any(broken[i] is g for g in p.gain):
                with pytest.raises(ValueError, match="gain must be positive"):
                    p.run()
                continue
            x, (right, _) = p.run(return_layers=True), p.reference()
            assert torch.equal(x.isfinite(), right.isfinite()), (form, i, x, right)
            assert (
                torch.equal(x.nan_to_num(0, 0, 0), right.nan_to_num(0, 0, 0))
                or relative_error(x.nan_to_num(0, 0, 0), right.nan_to_num(0, 0, 0)) < 1e-9
            ), (form, i)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("operator", OPERATORS)
def test_single_precision(operator: str, scheme: str) -> None:
    for form in combinations(operator, scheme, REAL, strength=2):
        exact = build(form)
        p = exact.with_leaves([t.float() for t in exact.leaves])
        with torch.no_grad():
            x, right = p.run(), exact.run()
        if torch.equal(x != 0, right != 0):  # else an element was rounded to the other side of its threshold
            assert relative_error(x, right) < 1e-4, form


def test_gains_that_are_not_positive() -> None:
    y, eye = torch.ones(1, 3), torch.eye(3)
    for dtype in (torch.float32, torch.float64, torch.complex64, torch.bfloat16):
        real = dtype.to_real() if dtype.is_complex else dtype
        for gain in (-1.0, 0.0, torch.tensor([1.0, -2.0], dtype=real), [0.5, -0.5]):
            linear = fu.AffineStep(eye.to(dtype), eye.to(dtype))
            with pytest.raises(ValueError, match="gain must be positive"):
                fu.unrolled(y.to(dtype), linear, fu.prox.L1(), 0.1, gain=gain, layers=2)


@pytest.mark.parametrize("batch", [3, 20])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("operator", OPERATORS)
def test_gradients_of_a_broken_sample(native: Any, operator: str, scheme: str, batch: int) -> None:
    """A sample that holds NaN, and that a loss leaves out: matrices have the gradient that PyTorch gives, 0·NaN.

    This is so in every kernel, and whatever an earlier call has left in the memory of this one.
    """
    for form in dict.fromkeys(
        replace(f, batch=batch, starts=True) for f in combinations(operator, scheme, REAL, strength=2)
    ):
        p = build(form, requires_grad=True)
        matrices = [t for t in p.leaves if t.dim() == 2 and t.shape[0] != batch]
        with torch.no_grad():
            p.y[1] = torch.nan
        kept = torch.arange(batch) != 1

        def slopes(x: Tensor, kept: Tensor = kept, matrices: list[Tensor] = matrices) -> tuple[Tensor, ...]:
            return torch.autograd.grad(x[-1][kept].square().sum(), matrices, allow_unused=True, materialize_grads=True)

        wanted = slopes(p.reference()[0])
        for above in (0.0, 0.78, 1.0):
            native.set_dense_above(above)
            for a, b in zip(slopes(p.run(return_layers=True)), wanted, strict=True):
                assert torch.equal(a.isnan(), b.isnan()), (form, above)
