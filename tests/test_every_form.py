"""Every combination of the options of a layer, against the reference: the product of all, and not a list by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, product
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from forms import build
from forms.dense import OPERATORS, SCHEMES, Form, Problem
from torch import Tensor

KINDS: tuple[dict[str, Any], ...] = ({}, {"prox": "nonnegative"}, {"prox": "identity"})
GROUPS: tuple[dict[str, Any], ...] = ({}, {"group": 2}, {"group": 3})
SELECTIONS: tuple[dict[str, Any], ...] = ({}, {"support_sizes": (1, 4, 0)})
GAINS: tuple[dict[str, Any], ...] = ({}, {"gain": True})
DTYPES = (torch.float64, torch.complex128)


def refusal(form: Form) -> str | None:
    """The beginning of the sentence that refuses a combination; None for those that are defined."""
    if form.prox == "identity" and form.selects:
        return "prox must be L1"
    if form.scheme == "amp" and not form.operator.startswith("gradient"):
        return "AMP needs"
    if form.prox == "nonnegative" and form.dtype.is_complex:
        return "NonNegativeL1 is defined for real numbers|SupportSelection is defined for real numbers"
    return None


def combinations(operator: str, scheme: str) -> Iterator[Form]:
    for kind, group, selection, gain, vector, starts, dtype in product(
        KINDS, GROUPS, SELECTIONS, GAINS, (False, True), (False, True), DTYPES
    ):
        if kind and group:  # only the soft threshold has groups
            continue
        prox = kind | group | selection | gain
        size = {"m": 4, "n": 6, "batch": 3}
        yield Form(operator, scheme=scheme, vector=vector, starts=starts, dtype=dtype, **prox, **size)


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
    tried = 0
    for form in combinations(operator, scheme):
        p = build(form, requires_grad=True)
        sentence = refusal(form)
        if sentence is not None:
            with pytest.raises((TypeError, ValueError), match=sentence):
                p.run()
            continue
        rx, rs, wanted = outcome(p.reference, p.leaves)
        for prox in (p.prox, Uncompiled(p.prox)):
            x, s, grads = outcome(lambda p=p, prox=prox: with_state(p, prox=prox), p.leaves)
            assert relative_error(x, rx) < 1e-12, form
            assert not s.numel() or relative_error(s, rs) < 1e-12, form
            for found, right in zip(grads, wanted, strict=True):
                assert (found - right).abs().max() <= 1e-9 * (1 + right.abs().max()), form
            with torch.no_grad():
                assert torch.equal(p.run(prox=prox), x[-1]), form
        tried += 1
    assert tried or (scheme == "amp" and not operator.startswith("gradient"))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("operator", OPERATORS)
def test_what_is_not_finite_shows(operator: str, scheme: str) -> None:
    """In any tensor: where the reference is not finite, the kernels are not either, and the other way round.

    The tensors of all forms hold NaN and both infinities in turn.
    """
    values = cycle([math.nan, math.inf, -math.inf])
    for form in combinations(operator, scheme):
        if form.dtype.is_complex or refusal(form):
            continue
        count = len(build(form).leaves)
        for i, value in zip(range(count), values, strict=False):
            p = build(form)
            leaf = p.leaves[i]
            leaf.view(-1)[leaf.numel() // 2] = value
            if form.gain and value == -math.inf and any(leaf is g for g in p.gain):
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
    for form in combinations(operator, scheme):
        if form.dtype.is_complex or refusal(form):
            continue
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


@pytest.mark.parametrize("above", [0.0, 0.78, 1.0])
@pytest.mark.parametrize("batch", [3, 20])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("operator", OPERATORS)
def test_gradients_of_a_broken_sample(native: Any, operator: str, scheme: str, batch: int, above: float) -> None:
    """A sample that holds NaN, and that a loss leaves out: matrices have the gradient that PyTorch gives, 0·NaN.

    This is so in every kernel, and whatever an earlier call has left in the memory of this one.
    """
    native.set_dense_above(above)
    for form in combinations(operator, scheme):
        if form.dtype.is_complex or form.starts or refusal(form):
            continue
        p = build(replace(form, batch=batch, starts=True), requires_grad=True)
        matrices = [t for t in p.leaves if t.dim() == 2 and t.shape[0] != batch]
        with torch.no_grad():
            p.y[1] = torch.nan
        kept = torch.arange(batch) != 1
        found, wanted = (
            torch.autograd.grad(x[-1][kept].square().sum(), matrices, allow_unused=True, materialize_grads=True)
            for x in (p.run(return_layers=True), p.reference()[0])
        )
        for a, b in zip(found, wanted, strict=True):
            assert torch.equal(a.isnan(), b.isnan()), form
