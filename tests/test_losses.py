"""Losses: their formulas, their zeros, and that a network learns from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch

lin = fu.operators
A = torch.randn(10, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
A = A / torch.linalg.matrix_norm(A, 2)


def test_kkt_residual_formula() -> None:
    x, y = torch.randn(3, 4, 30, dtype=torch.float64), torch.randn(3, 4, 10, dtype=torch.float64)
    for lam in (0.1, torch.rand(30, dtype=torch.float64), torch.rand(3, 4, 1, dtype=torch.float64)):
        z = x - (x @ A.T - y) @ A
        wanted = (x - z.sign() * (z.abs() - lam).relu()).norm(dim=-1) / (y @ A).norm(dim=-1)
        assert torch.allclose(fu.losses.kkt_residual(x, y, A, lam), wanted)


def test_kkt_residual_is_zero_exactly_at_a_solution() -> None:
    y = torch.randn(5, 10, dtype=torch.float64)
    x = fu.solvers.fista(A, y, 0.05, iterations=50000)
    assert fu.losses.kkt_residual(x, y, A, 0.05).max() < 1e-10
    assert fu.losses.kkt_residual(x + 1e-3, y, A, 0.05).min() > 1e-5
    large = (y @ A).abs().max().item()  # from this threshold on, the solution is zero
    assert fu.losses.kkt_residual(torch.zeros_like(x), y, A, large).max() == 0


def test_kkt_residual_without_signal() -> None:
    """y = 0: the solution is 0, and neither the residual nor its gradient is NaN there or elsewhere."""
    x = torch.randn(2, 30, dtype=torch.float64)
    x[0] = 0
    x.requires_grad_()
    r = fu.losses.kkt_residual(x, torch.zeros(2, 10, dtype=torch.float64), A, 0.1)
    assert r[0] == 0
    assert r[1] > 0
    r.sum().backward()
    assert x.grad.isfinite().all()


def test_kkt_residual_gradcheck() -> None:
    x = torch.randn(3, 30, dtype=torch.float64, requires_grad=True)
    y = torch.randn(3, 10, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y: fu.losses.kkt_residual(x, y, A, 0.1), (x, y))


def test_lasso_objective() -> None:
    x = torch.randn(3, 4, 30, dtype=torch.float64, requires_grad=True)
    y = torch.randn(3, 4, 10, dtype=torch.float64)
    wanted = (x @ A.T - y).square().sum(-1) / 2 + 0.1 * x.abs().sum(-1)
    assert torch.allclose(fu.losses.lasso_objective(x, y, A, 0.1), wanted)
    B = A.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, B: fu.losses.lasso_objective(x, y, B, 0.1), (x, B))
    compiled = torch.compile(fu.losses.lasso_objective, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x.detach(), y, A, 0.1), fu.losses.lasso_objective(x.detach(), y, A, 0.1))


def test_nmse() -> None:
    x_true = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    x = torch.tensor([[3.0, 4.5], [0.0, 0.0]])
    assert fu.losses.nmse_db(x, x_true).item() == pytest.approx(10 * torch.log10(torch.tensor(1.25 / 26)).item())
    assert fu.losses.nmse_db(x, x_true, pooled=False).item() == pytest.approx(-10.0, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scale_free(dtype: torch.dtype) -> None:
    """Errors relative to y do not change with its scale, where squares overflow or vanish."""
    torch.manual_seed(0)
    B, y = A.to(dtype), torch.randn(5, 10, dtype=dtype)
    x, x_true = torch.randn(5, 30, dtype=dtype), torch.randn(5, 30, dtype=dtype)
    least, most = (-100, 100) if dtype == torch.float32 else (-900, 900)
    for exponent in (least, least // 2, most // 2, most):
        s = 2.0**exponent
        given = (s * x).requires_grad_()
        residual = fu.losses.kkt_residual(given, s * y, B, s * 0.1)
        assert torch.equal(residual, fu.losses.kkt_residual(x, y, B, 0.1))
        residual.sum().backward()
        assert given.grad is not None
        assert given.grad.isfinite().all()
        for pooled in (True, False):
            found, wanted = (fu.losses.nmse_db(*pair, pooled) for pair in ((s * x, s * x_true), (x, x_true)))
            assert found.item() == pytest.approx(wanted.item(), abs=1e-3 if dtype == torch.float32 else 1e-9)


def test_nmse_of_samples_of_different_scales() -> None:
    x_true = torch.tensor([1e-30, 1.0, 1e30])[:, None] * torch.ones(3, 4)
    assert fu.losses.nmse_db(1.1 * x_true, x_true, pooled=False).item() == pytest.approx(-20, abs=1e-3)
    assert fu.losses.nmse_db(1.1 * x_true, x_true).item() == pytest.approx(-20, abs=1e-3)


def test_nmse_where_something_is_zero() -> None:
    x = torch.randn(3, 4)
    assert fu.losses.nmse_db(x, x).item() == -math.inf
    assert fu.losses.nmse_db(x, 0 * x).item() == math.inf
    assert math.isnan(fu.losses.nmse_db(0 * x, 0 * x).item())
    assert math.isnan(fu.losses.nmse_db(x / 0, x).item()) or fu.losses.nmse_db(x / 0, x).item() == math.inf


def test_a_network_learns_without_truth() -> None:
    """Trained on its KKT residual alone, LISTA gets closer to the solution than the ISTA it starts as."""
    net = fu.nn.LISTA(A, layers=6, lam=0.02)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    held_out = torch.randn(200, 10, dtype=torch.float64)
    before = fu.losses.kkt_residual(net(held_out), held_out, A, 0.02).mean().item()
    for _ in range(150):
        y = torch.randn(128, 10, dtype=torch.float64)
        optimizer.zero_grad()
        fu.losses.kkt_residual(net(y), y, A, 0.02).mean().backward()
        optimizer.step()
    after = fu.losses.kkt_residual(net(held_out), held_out, A, 0.02).mean().item()
    assert after < 0.5 * before


TRUTH = 0.5 + torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
SQUARES: dict[str, Callable[[Any], Any]] = {  # of an error that is zero at x = TRUTH
    "mean_square": lambda x: fu.training.mean_square(x, x, TRUTH.to(x)),
    "supervised": lambda x: fu.training.supervised(x, x, TRUTH.to(x)),
    "measurement_error": lambda x: fu.training.measurement_error(lin.Identity())(x, TRUTH.to(x), None),
    "splitting": lambda x: fu.training.splitting(lambda y, operator: x, lin.Identity(), seed=0)(x, TRUTH.to(x), None),
    "equivariance": lambda x: fu.training.equivariance(lambda y: TRUTH.to(x), lin.Identity(), lambda x, g: x)(x, x, x),
    "lasso_objective": lambda x: fu.losses.lasso_objective(x, TRUTH.to(x), lin.Identity(), 0.0).sum(),
    "ElasticNet": lambda x: fu.prox.ElasticNet(0.3).value(x - TRUTH.to(x)).sum(),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("name", SQUARES)
def test_second_derivatives_where_an_error_is_zero(name: str, dtype: torch.dtype) -> None:
    """|e|² has them: PyTorch takes those of e.abs().square() for zero there."""
    x = TRUTH.to(dtype, copy=True)
    x[0, 1:] += 0.1  # the other errors are zero
    x.requires_grad_()
    (first,) = torch.autograd.grad(SQUARES[name](x), x, create_graph=True)
    along = torch.randn(x.shape, dtype=dtype, generator=torch.Generator().manual_seed(3))
    (found,) = torch.autograd.grad((first * along.conj()).real.sum(), x)
    step = 1e-6
    ends = [
        torch.autograd.grad(SQUARES[name](t), t)[0]
        for t in ((x.detach() + s * step * along).requires_grad_() for s in (1, -1))
    ]
    expected = (ends[0] - ends[1]) / (2 * step)
    at = slice(None) if name != "ElasticNet" else (0, slice(1, None))  # whose |e| has none at zero
    torch.testing.assert_close(found[at], expected[at], rtol=1e-5, atol=1e-7)
    assert expected.abs().max() > 1e-3
