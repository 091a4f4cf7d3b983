"""Networks of a reader's own pieces: every scheme × operator × proximal operator, against the scheme written out."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from fastunroll import prox, schemes
from problems import Counted, Opaque
from torch import Tensor

M, N, LAYERS = 7, 12, 4
DOUBLE = torch.float64


def matrix(m: int = M, n: int = N, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(0), dtype=dtype) / (m + n) ** 0.5


class Blur(fu.operators.LinearOperator):
    """A circular blur of pictures, by their Fourier transform."""

    def __init__(self, shape: tuple[int, int] = (5, 6), learn: bool = False) -> None:
        super().__init__()
        kernel = torch.zeros(shape, dtype=DOUBLE)
        kernel[:2, :3] = torch.tensor([[0.4, 0.2, 0.1], [0.2, 0.1, 0.0]], dtype=DOUBLE)
        self.kernel = torch.nn.Parameter(kernel, learn)
        self.shape_in = self.shape_out = shape

    @property
    def spectrum(self) -> Tensor:
        return torch.fft.rfft2(self.kernel)

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x) * self.spectrum, s=self.shape_in)

    def adjoint(self, y: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(y) * self.spectrum.conj(), s=self.shape_in)

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        power = self.spectrum.abs().square()
        return torch.fft.irfft2(torch.fft.rfft2(b) / (power + rho), s=self.shape_in)


class Pair(Opaque):
    """An operator that is no LinearOperator, like those of other libraries."""

    def norm(self) -> float:
        return float(torch.linalg.matrix_norm(self.A, 2))


OPERATORS: dict[str, Callable[[], Any]] = {
    "matrix": matrix,
    "Dense": lambda: fu.operators.Dense(matrix()),
    "a pair of methods": lambda: Pair(matrix()),
    "a matrix for every sample": lambda: torch.stack([matrix(), 2 * matrix(), matrix().flip(0)]),
    "blur": Blur,
}
SCHEMES: dict[str, schemes.Scheme] = {
    "proximal gradient": schemes.ProximalGradient(),
    "FISTA": schemes.FISTA(),
    "ADMM": schemes.ADMM(),
    "HQS": schemes.HQS(),
    "primal dual": schemes.PrimalDual(),
}
PROXES: dict[str, Callable[[], prox.Proximal]] = {
    "L1": prox.L1,
    "group": lambda: prox.GroupL1(3),
    "firm": prox.Firm,
    "denoiser": lambda: prox.Denoiser(torch.nn.Tanh()),
}


def data(operator: str) -> Tensor:
    shape = (3, 5, 6) if operator == "blur" else (3, M)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)


def make(scheme: str, operator: str, proximal: str, **options: Any) -> fu.nn.Unrolled:
    return fu.nn.Unrolled(
        SCHEMES[scheme], OPERATORS[operator](), PROXES[proximal](), LAYERS, lam=0.05, dtype=DOUBLE, **options
    )


def by_hand(net: fu.nn.Unrolled, y: Tensor) -> Tensor:
    """Every layer of the scheme, in a few lines of PyTorch."""
    A = net.operator

    def P(z: Tensor, theta: Tensor) -> Tensor:
        return net.prox.at_layer(len(out)).prox(z, theta)

    out: list[Tensor] = []
    values = net.values()
    theta = values.get("theta", [torch.zeros(1, dtype=DOUBLE)] * LAYERS)
    x = before = dual = torch.zeros_like(A.adjoint(y))
    kind = type(net.scheme)
    for k in range(LAYERS):
        if kind in (schemes.ProximalGradient, schemes.FISTA):
            v = x + values["beta"][k] * (x - before) if kind is schemes.FISTA else x
            x, before = P(v - values["step"][k] * A.adjoint(A(v) - y), theta[k]), x
        elif kind in (schemes.ADMM, schemes.HQS):
            rho = values["rho"][k]
            z = solve(A, A.adjoint(y) + rho * (x - dual), rho)
            x = P(z + dual, theta[k])
            dual = dual + values["eta"][k] * (z - x) if kind is schemes.ADMM else dual
        else:
            tau, sigma, omega = (values[name][k] for name in ("tau", "sigma", "omega"))
            u = sigma * (A(x) - y) / (1 + sigma) if k == 0 else u  # noqa: F821
            x, before = P(x - tau * A.adjoint(u), theta[k]), x
            u = (u + sigma * (A(x + omega * (x - before)) - y)) / (1 + sigma)
        out.append(x)
    return torch.stack(out)


def solve(A: Any, b: Tensor, rho: Tensor) -> Tensor:
    """(AᴴA + ρI)⁻¹ b by the matrix of A, column by column."""
    basis = torch.eye(b[0].numel(), dtype=DOUBLE).reshape(-1, *b[0].shape)
    rows = [A.normal(e.expand_as(b).contiguous()).flatten(1) for e in basis]
    gram = torch.stack(rows, dim=1)  # one for every sample
    system = gram + rho * torch.eye(len(basis), dtype=DOUBLE)
    return torch.linalg.solve(system, b.flatten(1)[..., None])[..., 0].reshape(b.shape)


@pytest.mark.parametrize("proximal", PROXES)
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_values_and_gradients(scheme: str, operator: str, proximal: str) -> None:
    net = make(scheme, operator, proximal)
    y = data(operator).requires_grad_()
    found, wanted = net(y, return_layers=True), by_hand(net, y)
    assert relative_error(found, wanted) < 1e-9
    assert relative_error(net(y), wanted[-1]) < 1e-9
    leaves = [y, *(p for p in net.parameters() if p.requires_grad)]
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    grads, right = (
        torch.autograd.grad((weights * x).sum(), leaves, allow_unused=True, materialize_grads=True)
        for x in (found, wanted)
    )
    for a, b in zip(grads, right, strict=True):
        assert (a - b).abs().max() <= 1e-7 * (1 + b.abs().max())


@pytest.mark.parametrize("scheme", sorted(SCHEMES.keys() - {"primal dual"}))
def test_compiled_layers_are_the_same_call(scheme: str) -> None:
    """A network over a matrix makes the native call of ``fu.unrolled``, to the bit."""
    A, y = matrix(), data("matrix")
    net = fu.nn.Unrolled(SCHEMES[scheme], A, prox.L1(), LAYERS, dtype=DOUBLE)
    assert "one native call" in net.explain(y)
    values = net.values()
    linear = fu.DataStep(A, values["rho"]) if "rho" in values else fu.GradientStep(A, step=values["step"])
    numbers = {name: values[name] for name in net.scheme.numbers}
    wanted = fu.unrolled(y, linear, prox.L1(), values["theta"], layers=LAYERS, scheme=type(net.scheme)(**numbers))
    assert isinstance(wanted, Tensor)
    assert torch.equal(net(y), wanted)


def test_no_product_is_taken_twice() -> None:
    """From zero, K gradient steps take Aᴴ K times, and A once less, because A·0 is zero."""
    A, y = Counted(matrix()), data("matrix")
    net = fu.nn.Unrolled(SCHEMES["proximal gradient"], A, prox.L1(), LAYERS, dtype=DOUBLE, step=0.1)
    A.forwards = A.adjoints = 0
    net(y)
    assert (A.forwards, A.adjoints) == (LAYERS - 1, LAYERS)


def test_it_starts_as_the_solver() -> None:
    """With its first numbers a network is the classical algorithm: the iterates of the solver."""
    for name in ("matrix", "a pair of methods", "blur"):
        A, y = OPERATORS[name](), data(name)
        step = 1 / fu.operators.as_operator(A).norm() ** 2
        for solver, scheme in ((fu.solvers.ista, "proximal gradient"), (fu.solvers.fista, "FISTA")):
            net = fu.nn.Unrolled(SCHEMES[scheme], A, prox.L1(), LAYERS, lam=0.05, dtype=DOUBLE)
            found = solver(A, y, 0.05, iterations=LAYERS, step=step)
            assert relative_error(net(y), found) < 1e-10, (name, scheme)
        net = fu.nn.Unrolled(schemes.ADMM(), A, prox.L1(), LAYERS, lam=0.05, dtype=DOUBLE)
        options = {} if name == "matrix" else {"solve": lambda b, rho, A=A: fu.operators.as_operator(A).solve(b, rho)}
        found = fu.solvers.admm(A, y, 0.05, rho=1 / step, relaxation=1.0, adaptive=False, iterations=LAYERS, **options)
        assert relative_error(net(y), found) < 1e-9, name


@pytest.mark.parametrize("scheme", sorted(SCHEMES.keys() - {"HQS"}))  # whose fixed point is that of another problem
def test_it_converges_to_the_solution(scheme: str) -> None:
    A, y, lam = matrix(), data("matrix"), 0.05
    net = fu.nn.Unrolled(SCHEMES[scheme], A, prox.L1(), 3000, lam=lam, dtype=DOUBLE)
    assert fu.losses.kkt_residual(net(y), y, A, lam).max() < 1e-4


def test_another_operator_for_a_call() -> None:
    y, net = data("matrix"), make("FISTA", "a pair of methods", "L1")
    other = Pair(2 * matrix())
    wanted = copy.deepcopy(net)
    wanted.operator = fu.operators.as_operator(other)
    assert torch.equal(net(y, operator=other), wanted(y))
    assert not torch.equal(net(y), wanted(y))


def test_the_operator_learns() -> None:
    blur = Blur(learn=True)
    net = fu.nn.Unrolled(schemes.FISTA(), blur, prox.L1(), LAYERS, lam=0.01)
    assert "operator.kernel" in dict(net.named_parameters())
    y = data("blur")
    wanted = by_hand(net, y)[-1].square().sum()
    (right,) = torch.autograd.grad(wanted, blur.kernel)
    (found,) = torch.autograd.grad(net(y).square().sum(), blur.kernel)
    assert relative_error(found, right) < 1e-10


def test_what_is_learned() -> None:
    every = make("FISTA", "matrix", "L1")
    names = {name.split(".")[0] for name, p in every.named_parameters() if p.requires_grad}
    assert names == {"log_step", "log_theta", "beta"}
    some = make("FISTA", "matrix", "L1", learn="theta")
    assert {name.split(".")[0] for name, p in some.named_parameters() if p.requires_grad} == {"log_theta"}
    none = make("FISTA", "matrix", "L1", learn=())
    assert not any(p.requires_grad for p in none.parameters())
    assert not none(data("matrix")).requires_grad
    assert torch.equal(none(data("matrix")), every(data("matrix")))


def test_it_learns() -> None:
    torch.manual_seed(0)
    A = torch.randn(20, 40, dtype=DOUBLE) / 20**0.5
    x = torch.randn(64, 40, dtype=DOUBLE) * (torch.rand(64, 40) < 0.1)
    y = x @ A.mT
    for proximal in (prox.L1(), prox.Firm()):
        net = fu.nn.Unrolled(schemes.FISTA(), A, proximal, 6, lam=0.05, dtype=DOUBLE)
        before = (net(y) - x).square().sum().item()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
        for _ in range(60):
            optimizer.zero_grad()
            loss = (net(y) - x).square().sum()
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.7 * before


def test_it_is_a_module() -> None:
    for operator in OPERATORS:
        net, y = make("FISTA", operator, "L1"), data(operator)
        wanted = net(y)
        assert torch.equal(copy.deepcopy(net)(y), wanted)
        other = make("FISTA", operator, "L1")
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(1.1)
        buffer = io.BytesIO()
        torch.save(net.state_dict(), buffer)
        buffer.seek(0)
        other.load_state_dict(torch.load(buffer))
        assert torch.equal(other(y), net(y))
        assert not torch.equal(other(y), wanted)
        assert [row["layer"] for row in net.layers_summary()] == list(range(1, LAYERS + 1))
        assert "layers=4" in repr(net)


def test_checkpoints_change_nothing() -> None:
    net, y = make("FISTA", "blur", "L1"), data("blur").requires_grad_()
    leaves = [y, *(p for p in net.parameters() if p.requires_grad)]
    wanted = torch.autograd.grad(net(y).square().sum(), leaves, allow_unused=True)
    found = torch.autograd.grad(net(y, keep_every=1).square().sum(), leaves, allow_unused=True)
    for a, b in zip(found, wanted, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, rtol=1e-12)


def test_checkpoints_under_transforms() -> None:
    """torch.func knows no checkpoints, so all layers are kept there."""
    net, y = make("FISTA", "blur", "L1"), data("blur")
    found = torch.func.grad(lambda y: net(y, keep_every=1).square().sum())(y)
    assert relative_error(found, torch.func.grad(lambda y: net(y).square().sum())(y)) < 1e-12


def test_any_leading_shape() -> None:
    net, y = make("FISTA", "blur", "L1"), data("blur")
    assert torch.allclose(net(y[0]), net(y)[0])
    assert torch.allclose(net(torch.stack([y, y]))[1], net(y))
    for operator in ("matrix", "a pair of methods"):
        assert make("FISTA", operator, "L1")(data(operator)[:0]).shape == (0, N)


def test_half_precision_and_single() -> None:
    y = data("matrix")
    net = fu.nn.Unrolled(schemes.FISTA(), matrix().float(), prox.L1(), LAYERS)
    assert net(y.float()).dtype == torch.float32
    assert net.double()(y).dtype == DOUBLE


def test_numbers_have_the_precision_of_the_data() -> None:
    """Numbers are single where an operator states no precision, and data may be double."""
    y = data("a pair of methods")
    for scheme in SCHEMES.values():
        net = fu.nn.Unrolled(scheme, Pair(matrix()), prox.Firm(), LAYERS, lam=0.05)
        assert net.log_theta[0].dtype == torch.float32
        assert net(y).dtype == DOUBLE
        single = fu.nn.Unrolled(scheme, Pair(matrix().float()), prox.Firm(), LAYERS, lam=0.05, dtype=DOUBLE)
        assert single(y.float()).dtype == torch.float32


def test_why_layers_run_one_by_one() -> None:
    y = data("matrix")
    sentences = {
        ("FISTA", "matrix", "L1"): "All 4 layers run in one native call.",
        ("FISTA", "matrix", "firm"): "because the proximal operator Firm is not compiled",
        ("primal dual", "matrix", "L1"): "because the scheme PrimalDual is not compiled",
        ("ADMM", "matrix", "L1"): "All 4 layers run in one native call.",
    }
    for pieces, sentence in sentences.items():
        assert sentence in make(*pieces).explain(y)
    assert "because Blur is an operator without a matrix" in make("FISTA", "blur", "L1").explain(data("blur"))
    assert "no kernels for torch.bfloat16" in make("FISTA", "matrix", "L1").bfloat16().explain(y.bfloat16())


@pytest.mark.parametrize("proximal", PROXES)
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_bf16_weights(scheme: str, operator: str, proximal: str) -> None:
    """Layers of one native call over a matrix round it, and all other networks refuse to."""
    net, y = make(scheme, operator, proximal).float(), data(operator).float()
    net.weights = "bf16"
    if "native call" not in net.explain(y) or operator == "a matrix for every sample":
        with pytest.raises(ValueError, match='weights="bf16" needs a float32 matrix, and a scheme and a proximal'):
            net(y)
        return
    with torch.no_grad():
        short, long = net(y), net(y, depth=LAYERS)
        net.weights = "full"
        full = net(y)
        wanted = net(y, operator=matrix().bfloat16().float())
    assert torch.equal(short, long)
    assert not torch.equal(short, full)
    assert torch.equal(short, wanted) if "rho" not in net.numbers else relative_error(short, full) < 0.03
    net.weights = "bf16"
    assert torch.equal(net(y).detach(), full)  # where a gradient is recorded nothing is rounded
    with pytest.raises(ValueError, match=r"its matrix is torch.float64: set weights to \"full\""):
        net.double()(y.double())


def test_compiled_layers_follow_every_change() -> None:
    """Packed weights are kept between calls, but not beyond a change of what they were made of."""
    y, net = data("matrix"), fu.nn.Unrolled(schemes.FISTA(), matrix(), prox.L1(), LAYERS, dtype=DOUBLE)

    def is_right() -> bool:
        with torch.no_grad():
            return relative_error(net(y), by_hand(net, y)[-1]) < 1e-12

    def replace_entry() -> None:
        net.log_step[1] = torch.nn.Parameter(net.log_step[1].detach() - 1)

    changes: list[Callable[[], object]] = [
        lambda: net.log_step[0].data.sub_(0.5),
        lambda: net.operator.A.mul_(0.5),
        lambda: setattr(net, "prox", prox.NonNegativeL1()),
        lambda: setattr(net, "prox", prox.GroupL1(3)),
        lambda: setattr(net, "prox", prox.SupportSelection(2)),
        lambda: setattr(net, "prox", prox.SupportSelection((1, 2, 3, 4))),
        lambda: setattr(net, "prox", prox.ElasticNet(0.5)),
        lambda: setattr(net.prox, "gamma", 3.0),
        lambda: setattr(net, "prox", prox.Firm()),
        lambda: setattr(net, "prox", prox.L1()),
        lambda: setattr(net, "operator", fu.operators.Dense(matrix().flip(0))),
        lambda: setattr(net, "operator", Blur()) or setattr(net, "operator", fu.operators.Dense(2 * matrix())),
        replace_entry,
        lambda: net.load_state_dict({k: v / 2 for k, v in net.state_dict().items()}),
    ]
    assert is_right()
    for k, change in enumerate(changes):
        with torch.no_grad():
            change()
        assert is_right(), k
        assert is_right(), k


class Sevens(prox.L1):
    """A proximal operator that overrides what its base has a kernel for."""

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        return torch.full_like(z, 7.0)


@pytest.mark.parametrize("A", [matrix(), torch.stack([matrix()] * 3)])
def test_an_overridden_prox_is_called(A: Tensor) -> None:
    y = torch.randn(3, M, dtype=DOUBLE)
    net = fu.nn.Unrolled(schemes.FISTA(), A, Sevens(), 2, dtype=DOUBLE)
    assert torch.equal(net(y), torch.full((3, N), 7.0, dtype=DOUBLE))
    assert "Sevens is not compiled" in net.explain(y)


def test_a_network_changes_no_matrix_of_the_user() -> None:
    A = matrix()
    net = fu.nn.Unrolled(schemes.FISTA(), A, prox.L1(), 2)
    net.load_state_dict(fu.nn.Unrolled(schemes.FISTA(), torch.ones_like(A), prox.L1(), 2).state_dict())
    assert torch.equal(A, matrix())
    learned = fu.nn.Unrolled(schemes.FISTA(), torch.nn.Parameter(matrix()), prox.L1(), 2)
    assert "operator.A" in dict(learned.named_parameters())
