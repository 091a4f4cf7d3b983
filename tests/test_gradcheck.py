"""Gradients of every row against differences of its values, and gradients of gradients against differences of them.

In a random direction: number for number, gradients are compared with those of plain PyTorch elsewhere.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from forms import ROWS, Row, build, covering
from torch import Tensor


def tiny(form: Row) -> tuple[Any, list[Tensor]]:
    """A function of all tensors of a call, and the tensors."""
    p = build(form.of_size(form.tiny), requires_grad=True)
    return lambda *leaves: p.with_leaves([*leaves]).native(), p.leaves


@pytest.mark.parametrize("form", ROWS, ids=str)
def test_gradcheck(form: Row) -> None:
    assert torch.autograd.gradcheck(*tiny(form), eps=1e-7, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("form", covering(ROWS, 1), ids=str)
def test_gradgradcheck(form: Row) -> None:
    """PyTorch differentiates the plain layers twice: how operators, priors and schemes go together does not matter."""
    assert torch.autograd.gradgradcheck(*tiny(form), atol=1e-4, fast_mode=True)
