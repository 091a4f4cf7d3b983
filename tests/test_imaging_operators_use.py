"""Operators of imaging in solvers and networks: the same results by AᴴA x − Aᴴy, with fewer products."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import fastunroll as fu
import pytest
import torch
from torch import Tensor, nn
from user_operators import Haar

lin, S = fu.operators, fu.solvers


class Counted(lin.LinearOperator, differentiable=True):
    """Another operator, whose products are counted; with or without its own AᴴA."""

    def __init__(self, op: Any, collapsed: bool) -> None:
        super().__init__()
        self.operator, self.collapsed, self.counts = op, collapsed, Counter()
        self.shape_in, self.shape_out = op.shape_in, op.shape_out

    def forward(self, x: Tensor) -> Tensor:
        self.counts["A"] += 1
        return self.operator(x)

    def adjoint(self, y: Tensor) -> Tensor:
        self.counts["Aᴴ"] += 1
        return self.operator.adjoint(y)

    def normal(self, x: Tensor) -> Tensor:
        self.counts["AᴴA"] += 1
        return self.operator.normal(x)

    def norm(self) -> float:
        return float(self.operator.norm())


def operators() -> dict[str, Any]:
    mask = (torch.rand(16, 12) < 0.6).double()
    return {
        "blur": lin.Blur(torch.rand(3, 4, dtype=torch.float64) / 6, shape=(16, 12)),
        "Fourier": lin.Fourier(mask),
        "Fourier of real pictures": lin.Fourier(mask, real=True),
        "coils": lin.MultiCoilFourier(mask, torch.randn(3, 16, 12, dtype=torch.complex128) / 2),
        "inpainting": lin.Mask(mask),
        "wavelet synthesis": lin.Blur(torch.rand(3, 3, dtype=torch.float64) / 5)
        @ lin.Wavelet("db2", 2, shape=(16, 12)).H,
    }


def data(op: Any) -> Tensor:
    complex_x = isinstance(op, lin.MultiCoilFourier) or (isinstance(op, lin.Fourier) and not op.real)
    x = torch.randn(3, 16, 12, dtype=torch.complex128 if complex_x else torch.float64)
    return op(x) + 0.1 * torch.randn_like(op(x))


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "from x0": {"x0": True},
    "restart": {"restart": True},
    "tolerance": {"tol": 1e-6, "iterations": 400, "restart": True},
    "monotone": {"monotone": True},
    "total variation": {"prox": fu.prox.TotalVariation()},
    "a λ for each sample": {"lam": torch.tensor([0.01, 0.1, 0.3], dtype=torch.float64)[:, None, None]},
    "units": {"scale": 1e-200},
}


@pytest.mark.parametrize("name", operators())
@pytest.mark.parametrize("options", OPTIONS)
def test_fista_is_the_same_by_the_normal_operator(name: str, options: str) -> None:
    op = operators()[name]
    arguments = {"iterations": 30, "lam": 0.05, **OPTIONS[options]}
    y = data(op) * (scale := arguments.pop("scale", 1.0))
    if scale != 1.0:
        arguments["lam"] *= scale
    if arguments.pop("x0", False):
        arguments["x0"] = op.adjoint(y) / 2
    history = S.History(), S.History()
    found, wanted = (
        S.fista(Counted(op, collapsed), y, history=seen, **arguments)
        for collapsed, seen in zip((True, False), history, strict=True)
    )
    assert torch.allclose(found / scale, wanted / scale, atol=1e-9)
    if scale == 1.0:
        assert history[0].objective == pytest.approx(history[1].objective, rel=1e-8)
        assert history[0].kkt == pytest.approx(history[1].kkt, abs=1e-8)


@pytest.mark.filterwarnings("ignore::fastunroll.warn.ConvergenceWarning")
@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
@pytest.mark.parametrize("options", [{}, {"restart": True}, {"tol": 1e-3, "iterations": 60}], ids=str)
@pytest.mark.parametrize("name", operators())
def test_a_measurement_that_is_not_finite_spoils_its_sample_alone(
    name: str, options: dict[str, Any], bad: float
) -> None:
    op = operators()[name]
    y = data(op)
    broken = y.clone()
    broken[1].view(-1)[5] = bad
    found, wanted = (S.fista(op, values, 0.05, step=0.1, **options) for values in (broken, y))
    assert torch.allclose(found[::2], wanted[::2], atol=1e-12)
    assert not bool(found[1].abs().isfinite().all())


@pytest.mark.parametrize("solver", ["ista", "fista"])
def test_an_iteration_is_one_product_with_the_normal_operator(solver: str) -> None:
    op = Counted(operators()["blur"], True)
    y = data(op.operator)
    counts = []
    for iterations in (5, 25):
        op.counts.clear()
        getattr(S, solver)(op, y, 0.05, iterations=iterations)
        counts.append(Counter(op.counts))
    assert counts[1] - counts[0] == {"AᴴA": 20}
    assert counts[0]["AᴴA"] == 4  # the first iteration starts from Aᴴy
    assert counts[0]["A"] <= 2  # the dot test, and the objective at the end
    assert counts[0]["Aᴴ"] <= 2


@pytest.mark.parametrize("scheme", ["ProximalGradient", "FISTA", "ADMM", "HQS", "PrimalDual"])
@pytest.mark.parametrize("name", operators())
def test_networks_are_the_same_by_the_normal_operator(name: str, scheme: str) -> None:
    op = operators()[name]
    y = data(op)
    found, gradients = [], []
    for collapsed in (True, False):
        counted = Counted(op, collapsed)
        net = fu.nn.Unrolled(getattr(fu.schemes, scheme)(), counted, fu.prox.L1(), layers=4, lam=0.05, step=0.5)
        net = net.double()
        counted.counts.clear()
        x = net(y)
        found.append(x.detach())
        if collapsed and scheme in ("ProximalGradient", "FISTA"):
            assert counted.counts["AᴴA"] == 4
            assert counted.counts["A"] == 0
        parameters = [p for p in net.parameters() if p.requires_grad]
        gradients.append(torch.autograd.grad(x.abs().square().sum(), parameters, allow_unused=True))
    assert torch.allclose(found[0], found[1], atol=1e-10)
    for a, b in zip(*gradients, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-8)


def test_one_picture_and_any_leading_shape() -> None:
    """Without a stated shape too."""
    blur = lin.Blur(torch.full((3, 3), 1 / 9))
    pictures = torch.rand(2, 3, 16, 12)
    y = blur(pictures)
    x = S.fista(blur, y, 0.001, prox=fu.prox.TotalVariation(), iterations=20)
    assert x.shape == pictures.shape
    assert torch.allclose(
        S.fista(blur, y[1, 2], 0.001, prox=fu.prox.TotalVariation(), iterations=20), x[1, 2], atol=1e-5
    )
    net = fu.nn.Unrolled(fu.schemes.FISTA(), blur, fu.prox.L1(), layers=3)
    assert torch.allclose(net(y)[0, 1], net(y[0, 1]), atol=1e-5)


def test_a_mask_for_each_sample_and_another_in_each_call() -> None:
    masks = (torch.rand(4, 1, 12) < 0.6).float()
    x = torch.randn(4, 16, 12, dtype=torch.complex64)
    y = lin.Fourier(masks)(x)
    found = S.fista(lin.Fourier(masks), y, 0.01, iterations=20)
    one = S.fista(lin.Fourier(masks[2]), y[2], 0.01, iterations=20)
    assert torch.allclose(found[2], one, atol=1e-5)
    net = fu.nn.Unrolled(fu.schemes.FISTA(), lin.Fourier(torch.ones(16, 12)), fu.prox.L1(), layers=3)
    assert torch.allclose(net(y, operator=lin.Fourier(masks))[2], net(y[2], operator=lin.Fourier(masks[2])), atol=1e-5)


def test_admm_solves_in_closed_form() -> None:
    op = operators()["blur"]
    y = data(op)
    wanted = S.fista(op, y, 0.05, tol=1e-9, iterations=5000, restart=True)
    assert torch.allclose(S.admm(op, y, 0.05, tol=1e-9, iterations=5000), wanted, atol=1e-4)


def test_deblurring_beats_the_blurred_picture() -> None:
    r = torch.arange(64) - 31.5
    picture = 0.2 + 0.6 * (abs(r[:, None] + 4) < 16) * (abs(r + 4) < 12)
    r = torch.arange(9) - 4.0
    kernel = torch.exp(-(r[:, None] ** 2 + r**2) / 4)
    for boundary in ("circular", "reflect", "constant"):
        blur = lin.Blur(kernel / kernel.sum(), boundary)
        y = blur(picture) + 0.01 * torch.randn(64, 64)
        x = S.fista(blur, y, 0.002, prox=fu.prox.TotalVariation(), iterations=60)
        assert (x - picture).norm() < 0.5 * (y - picture).norm()


def test_a_blur_is_learned() -> None:
    """Blind deblurring: the kernel is found from pairs of pictures."""
    true = torch.tensor([[0.0, 0.1, 0.0], [0.2, 0.4, 0.1], [0.0, 0.2, 0.0]])
    x = torch.randn(8, 16, 16)
    y = lin.Blur(true)(x)
    op = lin.Blur(torch.full((3, 3), 1 / 9), learn=True)
    optimizer = torch.optim.Adam(op.parameters(), 0.05)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.mse_loss(op(x), y).backward()
        optimizer.step()
    assert torch.allclose(op.kernel, true, atol=0.01)


def test_the_objective_keeps_its_digits() -> None:
    """Near the solution of an exact problem ½⟨x, AᴴA x − 2Aᴴy⟩ + ½‖y‖² would lose all digits in single precision."""
    op = lin.Blur(torch.tensor([[0.1, 0.8, 0.1]]), shape=(16, 16))
    x = torch.zeros(1, 16, 16)
    x[0, 4, 5] = 100.0
    history = S.History()
    S.fista(op, op(x), 1e-6, iterations=500, history=history)
    assert history.objective[-1] == pytest.approx(1e-4, rel=0.01)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_not_solved(value: float) -> None:
    """All of such a sample is NaN, alone and beside others, as where Fourier transforms solve."""
    op = fu.operators.Blur(torch.rand(3, 3, dtype=torch.float64), "reflect")
    b = torch.randn(2, 9, 8, dtype=torch.float64)
    sound = op.solve(b, 0.3)
    b[0, 2, 3] = value
    found = op.solve(b, 0.3)
    assert torch.equal(found[1], sound[1])
    assert found[0].isnan().all()
    assert op.solve(b[:1], 0.3).isnan().all()


@pytest.mark.parametrize("boundary", ["reflect", "valid"])
def test_conjugate_gradients_keep_samples_apart(boundary: str) -> None:
    """A sample has the bits that it has alone, beside one that is solved at once, and one that is NaN."""
    random = torch.Generator().manual_seed(0)
    op = fu.operators.Blur(torch.rand(3, 3, generator=random) / 9, boundary)
    b = torch.randn(4, 12, 13, generator=random)
    b[0] = op.normal(b[0])
    b[3, 0, 0] = torch.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together, alone = op.solve(b, 0.05), op.solve(b[1:2], 0.05)
    assert torch.equal(together[1:2], alone)
    assert together[:3].isfinite().all()
    assert together[3].isnan().any()


@pytest.mark.parametrize(
    "op",
    [
        lin.Fourier(torch.eye(8)), lin.Downsample(2), lin.Gradient(), lin.DCT(), lin.Mask(torch.eye(8)),
        lin.Blur(torch.ones(3, 3) / 9),
    ],
)  # fmt: skip
def test_solve_keeps_rho_beside_half_precision(op: fu.operators.LinearOperator) -> None:
    b = torch.randn(8, 8, generator=torch.Generator().manual_seed(0)).half()
    assert torch.equal(op.solve(b, 1e-8), op.solve(b.float(), 1e-8))
    assert torch.equal(op.solve(b.bfloat16(), 0.1), op.solve(b.bfloat16().float(), 0.1))


@pytest.mark.parametrize("first", ["functions", "your own", "a kernel for each sample"])
@pytest.mark.parametrize("second", ["functions", "your own", "a picture operator"])
def test_stacks_need_no_shapes(first: str, second: str) -> None:
    """Of results of unknown shapes the first dimension is the batch."""
    kinds: dict[str, Any] = {
        "functions": lambda: lin.as_operator((lambda x: 2 * x, lambda y: 2 * y)),
        "your own": Haar,
        "a kernel for each sample": lambda: lin.Blur(torch.rand(3, 3, 3, dtype=torch.float64)),
        "a picture operator": lin.DCT,
    }
    parts = kinds[first](), kinds[second]()
    A = lin.Stack(*parts)
    x, y = torch.randn(3, 6, 8, dtype=torch.float64), torch.randn(3, 2, 6, 8, dtype=torch.float64)
    assert torch.equal(A(x), torch.stack([op(x) for op in parts], 1))
    assert torch.allclose(A.adjoint(y), parts[0].adjoint(y[:, 0]) + parts[1].adjoint(y[:, 1]))
    assert torch.allclose((A(x) * y).sum(), (x * A.adjoint(y)).sum())
    solved = A.solve(x, 0.5)
    assert torch.allclose(A.normal(solved) + 0.5 * solved, x)
    x = fu.solvers.ista(A, y, 0.1, iterations=1, step=0.01)
    assert torch.allclose(x, fu.soft_threshold(0.01 * A.adjoint(y), 0.001))
    with pytest.raises(ValueError, match="y must hold 2 stacked results, in the"):
        A.adjoint(y[:, :1])


@pytest.mark.parametrize("boundary", ["reflect", "constant", "valid"])
def test_a_product_asks_for_its_grid_once(boundary: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of = fu.operators.boundary
    asked: list[int] = []
    for name in ("fast_length", "is_fft_length"):
        length = getattr(of, name)
        monkeypatch.setattr(of, name, lambda n, length=length: asked.append(n) or length(n))
    A, x = fu.operators.Blur(torch.ones(3, 5) / 15, boundary), torch.rand(16, 12)
    y = A(x)
    for call, given in ((A, x), (A.adjoint, y)):
        asked.clear()
        call(given)
        assert len(asked) == 2, "one question for each side"
