"""What the Lasso refuses, each in one sentence: the rule, what broke it, the fix."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch

A = torch.eye(3, 5)
Y = torch.ones(2, 3)
lasso, Lasso = fu.solvers.lasso, fu.solvers.Lasso
NOT_POSITIVE = "lam must be finite and > 0, got {}: check its sign and size"
LEAST_SQUARES = (
    "lam must be finite and > 0, got 0.0: with lam = 0 this is least squares, which torch.linalg.lstsq solves"
)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lasso(A, Y, 0.0), ValueError, LEAST_SQUARES),
        (
            lambda: lasso(A, Y, torch.tensor([1.0, 0.0])), ValueError,
            LEAST_SQUARES.replace(":", " for sample 1:", 1),
        ),
        (lambda: lasso(A, Y, -1.0), ValueError, NOT_POSITIVE.format(-1.0)),
        (lambda: lasso(A, Y, torch.tensor([1.0, -2.0])), ValueError, NOT_POSITIVE.format("-2.0 for sample 1")),
        (lambda: lasso(A, Y, float("nan")), ValueError, NOT_POSITIVE.format("nan")),
        (lambda: lasso(A, Y, torch.tensor([1.0, torch.nan])), ValueError, NOT_POSITIVE.format("nan for sample 1")),
        (
            lambda: lasso(A, Y, torch.tensor([1e-40, 1.0])), ValueError,
            "lam must be finite and > 0, got 9.99994610111476e-41 for sample 0: it is below the normal numbers of its "
            "dtype",
        ),
        (lambda: lasso(A, Y, float("inf")), ValueError, NOT_POSITIVE.format("inf")),
        (
            lambda: lasso(A, Y, torch.ones(3)), ValueError,
            "lam must be one number or one a sample, shape (2,), got (3,): weights for each coordinate are "
            "Lasso(A, weights=...)",
        ),
        (lambda: lasso(A, Y, "much"), TypeError, "lam must be a number or a torch.Tensor, got str"),
        (
            lambda: lasso(A, Y, [0.1]), TypeError,
            "lam must be a number or a torch.Tensor, got list: use torch.tensor(lam)",
        ),
        (
            lambda: lasso(A.half(), Y, 1.0), TypeError,
            "A must be float32 or float64, got torch.float16: convert it with .to()",
        ),
        (lambda: lasso(A, Y.int(), 1.0), TypeError, None),
        (
            lambda: lasso(A.numpy().astype(np.float16), Y.numpy(), 1.0), TypeError,
            "A must be float32 or float64, got float16: convert it with .astype()",
        ),
        (lambda: lasso(A.to(torch.complex64), Y, 1.0), TypeError, None),
        (
            lambda: lasso(A, Y.double(), 1.0), TypeError,
            "all tensors must have one dtype, but A is torch.float32 and Y is torch.float64: convert one with .to()",
        ),
        (
            lambda: lasso(A, Y[:, :2], 1.0), ValueError,
            "Y has 2 columns but A is (3, 5): expected Y of shape (..., 3)",
        ),
        (
            lambda: lasso(A, Y.to("meta"), 1.0), ValueError,
            "all tensors must be on one device, but A is on cpu and Y on meta: move one with .to()",
        ),
        (lambda: lasso(A.tolist(), Y, 1.0), TypeError, None),
        (lambda: lasso(A, Y.tolist(), 1.0), TypeError, None),
        (lambda: lasso(A[0], Y, 1.0), ValueError, None),
        (
            lambda: lasso(torch.full((3, 5), torch.nan), Y, 1.0), ValueError,
            "A must be finite, but it holds NaN or infinity: check how it was computed",
        ),
        (lambda: lasso(A, Y, 1.0, tol=0), ValueError, "tol must be a finite number > 0, got 0"),
        (lambda: lasso(A, Y, 1.0, max_iter=0), ValueError, "max_iter must be a whole number ≥ 1, got 0"),
        (lambda: lasso(A, Y, 1.0, ridge=-1), ValueError, "ridge must be a finite number ≥ 0, got -1"),
        (
            lambda: lasso(A, Y, 1.0, weights=torch.zeros(5)), ValueError,
            "weights must be finite and > 0: leave out columns of A that must not be used",
        ),
        (
            lambda: lasso(A, Y, 1.0, weights=torch.ones(4)), ValueError,
            "weights must be one a column of A, shape (5,), got (4,)",
        ),
        (
            lambda: lasso(A, Y, 1.0, x0=torch.ones(2, 4)), ValueError,
            "x0 has 4 columns but A is (3, 5): expected x0 of shape (..., 5)",
        ),
        (
            lambda: lasso(A, Y, 1.0, x0=torch.ones(3, 5)), ValueError,
            "x0 and Y must hold the same samples, but their leading shapes are (3,) and (2,)",
        ),
        (lambda: fu.solvers.lasso_path(A, Y, least=2.0), ValueError, "least must be below 1, got 2.0"),
        (
            lambda: fu.solvers.lasso_path(A, Y, lams=0.1), TypeError,
            "lams must be several λ, got 0.1: for one there is solve",
        ),
        (lambda: fu.solvers.lasso_path(A, Y, count=0), ValueError, "count must be a whole number ≥ 1, got 0"),
    ],
)  # fmt: skip
def test_refused(call: Callable[[], Any], error: type[Exception], message: str | None) -> None:
    with pytest.raises(error) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said
    if message is None:  # said by checks that have tests of their own
        assert re.match(r"(A|Y) ", said)
    else:
        assert said == message


@pytest.mark.filterwarnings("ignore:.* since they hold NaN or infinity")
def test_a_sample_that_is_not_finite_stays_alone() -> None:
    y = Y.clone()
    y[1, 2] = torch.nan
    result = lasso(A, y, 0.1)
    assert torch.equal(result.x[0], lasso(A, Y, 0.1).x[0])
    assert result.converged.tolist() == [True, False]
    assert result.x[1].isnan().all()
    assert result.gap[1].isnan()
