"""Rows within functions that torch compiles or runs in batches: the same values and gradients.

Each proximal operator and scheme of the table is in a row, and each operator that torch sees differently: tracing takes
long, and how they go together does not matter to it.
"""

from __future__ import annotations

import pytest
import torch
from forms import ROWS, Row, build, covering, gradients, pictures
from torch import Tensor

# Operators over pictures differ for torch in whether there are maps of coils, a factor, and columns of half a spectrum.
OVER_PICTURES = "blur", "weights", "downsample", "coils"
FORMS = covering([f for f in ROWS if not isinstance(f, pictures.Form) or f.operator in OVER_PICTURES], 1)


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_compiled(form: Row) -> None:
    p = build(form, requires_grad=True)

    def run(*leaves: Tensor) -> tuple[Tensor, ...]:
        return p.with_leaves([*leaves]).native()

    found, wanted = torch.compile(run, fullgraph=True, backend="aot_eager")(*p.leaves), p.plain()
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
    for a, b in zip(gradients(found, p.leaves), gradients(wanted, p.leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_of_many_inputs(form: Row) -> None:
    """By ``vmap``."""
    p = build(form)
    first, *others = p.leaves
    many = torch.vmap(lambda t: p.with_leaves([t, *others]).native())(torch.stack([first, 2 * first]))
    for a, b in zip(many, p.with_leaves([2 * first, *others]).plain(), strict=True):
        torch.testing.assert_close(a[1], b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_many_gradients(form: Row) -> None:
    """As ``torch.autograd.grad(..., is_grads_batched=True)``, and ``jacrev``, ask for them."""
    p = build(form, requires_grad=True)
    x = p.native()[0]
    rows = torch.randn(2, *x.shape, dtype=x.dtype)
    ask = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    many = torch.autograd.grad(x, p.leaves, rows, is_grads_batched=True, **ask)
    for i, row in enumerate(rows):
        for a, b in zip(many, torch.autograd.grad(x, p.leaves, row, **ask), strict=True):
            torch.testing.assert_close(a[i], b, rtol=1e-9, atol=1e-9)
