"""Deep equilibrium networks: the fixed point and its gradient, against many layers unrolled, over one table."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import product
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from fastunroll import prox, schemes
from forms import covering
from refusals import Refused, check_refused
from torch import Tensor

DOUBLE, SIZE = torch.float64, (6, 7)
TIGHT: dict[str, Any] = {"tol": 1e-11, "max_iter": 500, "lam": 0.05, "dtype": DOUBLE}


def random(*shape: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def matrix() -> Tensor:
    return random(12, 9) / 8 + torch.eye(12, 9, dtype=DOUBLE)


class Contraction(torch.nn.Module):
    """A denoiser with weights that contracts: a mean of neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.6, dtype=DOUBLE))

    def forward(self, z: Tensor) -> Tensor:
        return (1 - self.weight / 2) * z + self.weight / 4 * (z.roll(1, -1) + z.roll(-1, -1))


OPERATORS: dict[str, Callable[[], Any]] = {
    "matrix": matrix,
    "complex matrix": lambda: matrix().to(torch.complex128) * (1 + 0.2j),
    "a matrix for every sample": lambda: torch.stack([matrix(), 1.1 * matrix(), -matrix()]),
    "blur": lambda: fu.operators.Blur(torch.tensor([[0.1, 0.6, 0.1]], dtype=DOUBLE)),
    "scan": lambda: fu.operators.Fourier(0.5 + random(SIZE[1]).abs()),
}
SCHEMES: dict[str, schemes.Scheme] = {
    "proximal gradient": schemes.ProximalGradient(), "FISTA": schemes.FISTA(0.2), "ADMM": schemes.ADMM(),
    "HQS": schemes.HQS(), "primal dual": schemes.PrimalDual(),
}  # fmt: skip
PROXES: dict[str, Callable[[], prox.Proximal]] = {"L1": prox.L1, "denoiser": lambda: prox.Denoiser(Contraction())}
PIECES = covering(
    [row for row in product(SCHEMES, OPERATORS, PROXES) if row[:2] != ("primal dual", "a matrix for every sample")], 2
)


def data(operator: str) -> Tensor:
    shape = SIZE if operator in ("blur", "scan") else (12,)
    return random(3, *shape, seed=1, dtype=torch.complex128 if operator in ("complex matrix", "scan") else DOUBLE)


def network(scheme: str, operator: str, proximal: str, layers: int | None, **options: Any) -> Any:
    return fu.nn.Unrolled(
        SCHEMES[scheme],
        OPERATORS[operator](),
        PROXES[proximal](),
        layers,
        **(TIGHT | options),  # type: ignore[arg-type]
    )


def gradients(net: Any, y: Tensor, x: Tensor) -> list[Tensor]:
    """∂/∂ of y, of each number of a layer, summed over layers, and of the weights of the prior."""
    weights = random(*x.shape, seed=2, dtype=x.dtype)
    names = [name for name, p in net.named_parameters() if p.requires_grad]
    leaves = [y, *(p for p in net.parameters() if p.requires_grad)]
    loss = (weights.conj() * x).sum().real if x.is_complex() else (weights * x).sum()
    of_y, *found = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    by_name: dict[str, Tensor] = {}
    for name, g in zip(names, found, strict=True):
        key = name.rstrip("0123456789")
        by_name[key] = by_name.get(key, 0) + g  # type: ignore[operator]
    return [of_y, *(by_name[name] for name in sorted(by_name))]


@pytest.mark.parametrize(("scheme", "operator", "proximal"), PIECES)
def test_the_fixed_point_and_its_gradient(scheme: str, operator: str, proximal: str) -> None:
    net, y = network(scheme, operator, proximal, None), data(operator).requires_grad_()
    many = network(scheme, operator, proximal, 250)
    if scheme == "FISTA":
        with torch.no_grad():
            for p in many.beta:
                p.fill_(0.2)
    x, wanted = net(y), many(y)
    assert relative_error(x, wanted) < 1e-7
    for a, b in zip(gradients(net, y, x), gradients(many, y, wanted), strict=True):
        assert (a - b).abs().max() <= 1e-5 * (1 + b.abs().max())


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_sample_stands_alone(operator: str) -> None:
    """NaN stays in its sample, batches may be empty, and single precision stays single."""
    net, y = network("proximal gradient", operator, "L1", None), data(operator)
    x = net(y)
    broken = y.clone()
    broken.view(3, -1)[1, 2] = math.nan
    found = net(broken)
    assert found[1].isnan().any()
    assert relative_error(found[[0, 2]], x[[0, 2]]) < 1e-9
    assert relative_error(copy.deepcopy(net)(y), x) == 0
    if operator != "a matrix for every sample":
        assert net(y[:0]).shape == x[:0].shape
        assert relative_error(net(torch.stack([y, 2 * y]))[0], x) < 1e-9
        assert relative_error(net(y, x0=x), x) < 1e-9


def test_the_fixed_point_is_the_solution_of_the_lasso() -> None:
    net, A, y = network("proximal gradient", "matrix", "L1", None), matrix(), data("matrix")
    assert fu.losses.kkt_residual(net(y), y, A, 0.05).max() < 1e-9


def kept_bytes(net: Any, y: Tensor) -> int:
    """The bytes of all tensors that are kept for the backward pass."""
    seen: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        x = net(y)
    del x
    return sum(seen.values())


def test_memory_does_not_grow_with_iterations() -> None:
    y = data("blur")
    few, many = (network("proximal gradient", "blur", "denoiser", None, max_iter=n, tol=1e-30) for n in (3, 60))
    with pytest.warns(fu.solvers.ConvergenceWarning):
        assert kept_bytes(many, y) == kept_bytes(few, y)


def test_it_learns() -> None:
    torch.manual_seed(0)
    A = torch.randn(30, 40, dtype=DOUBLE) / 30**0.5
    x = torch.randn(64, 40, dtype=DOUBLE) * (torch.rand(64, 40) < 0.1)
    y = x @ A.mT + 0.05 * torch.randn(64, 30, dtype=DOUBLE)
    net = fu.nn.Unrolled(schemes.ProximalGradient(), A, prox.L1(), None, lam=0.3, dtype=DOUBLE)
    before = (net(y) - x).square().sum().item()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(15):
        optimizer.zero_grad()
        loss = (net(y) - x).square().sum()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.8 * before
    assert len(net.layers_summary()) == 1
    assert "layers=None" in repr(net)
    assert "fixed point" in net.explain(y)
    assert "log_step.0" in net.state_dict()


def test_samples_that_do_not_converge_cause_a_warning() -> None:
    net = network("proximal gradient", "blur", "L1", None, max_iter=2)
    with pytest.warns(fu.solvers.ConvergenceWarning, match="3 of 3 samples did not reach the tolerance 1e-11"):
        net(data("blur"))


REFUSED: dict[str, Refused] = {
    "layers": (
        lambda: network("FISTA", "blur", "L1", None)(data("blur"), return_layers=True), ValueError,
        "an equilibrium network keeps no layers: leave out return_layers and keep_every",
    ),
    "keep_every": (
        lambda: network("FISTA", "blur", "L1", None)(data("blur"), keep_every=1), ValueError, "keeps no layers",
    ),
    "tolerance": (lambda: network("FISTA", "blur", "L1", None, tol=0.0), ValueError, "tol must be a finite number > 0"),
    "iterations": (
        lambda: network("FISTA", "blur", "L1", None, max_iter=0), ValueError,
        "max_iter must be a whole number ≥ 1",
    ),
    "no layer": (lambda: network("FISTA", "blur", "L1", 0), ValueError, "layers must be a whole number ≥ 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    check_refused(REFUSED[name])
