"""Products of operators that do not fit are refused, where PyTorch would broadcast or promote them in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
import user_operators
from imaging_operators import FIRST, OPERATORS, Size, samples
from refusals import check_refused
from torch import Tensor

lin = fu.operators
DOUBLE = torch.float64


class Wrong(lin.LinearOperator, differentiable=True):
    """The identity, one method of which returns what does not fit."""

    def __init__(self, method: str, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.method, self.change = method, change
        self.collapsed = method in ("normal", "collapsed_gradient")

    def _of(self, method: str, value: Tensor) -> Tensor:
        return self.change(value) if method == self.method else value

    def forward(self, x: Tensor) -> Tensor:
        return self._of("forward", x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._of("adjoint", y)

    def normal(self, x: Tensor) -> Tensor:
        return self._of("normal", x)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return self._of("gradient", x - y)

    def collapsed_gradient(self, x: Tensor, At_y: Tensor) -> Tensor:
        return self._of("collapsed_gradient", x - At_y)

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        return self._of("solve", b / (1 + rho))


CHANGES: dict[str, tuple[Callable[[Tensor], Tensor], type[Exception]]] = {
    "one value": (lambda t: t[..., :1], ValueError),
    "one more dimension": (lambda t: t[None], ValueError),
    "another type": (lambda t: t.float(), TypeError),
}
# What each linear step asks of its operator.
ASKED: dict[str, tuple[Callable[[Any], Any], fu.schemes.Scheme, tuple[str, ...]]] = {
    "gradient": (
        lambda A: fu.GradientStep(A, step=0.5), fu.schemes.ProximalGradient(),
        ("adjoint", "gradient", "collapsed_gradient"),
    ),
    "gradient, FISTA": (
        lambda A: fu.GradientStep(A, step=0.5), fu.schemes.FISTA(), ("adjoint", "gradient", "collapsed_gradient"),
    ),
    "gradient, primal dual": (
        lambda A: fu.GradientStep(A, step=0.5), fu.schemes.PrimalDual(), ("forward", "adjoint"),
    ),
    "Gram": (
        lambda A: fu.GradientStep(A, step=0.5, via="gram"), fu.schemes.ProximalGradient(), ("adjoint", "normal"),
    ),
    "data, HQS": (lambda A: fu.DataStep(A, 0.5), fu.schemes.HQS(), ("adjoint", "solve")),
    "data, ADMM": (lambda A: fu.DataStep(A, 0.5), fu.schemes.ADMM(), ("adjoint", "solve")),
}  # fmt: skip


@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("step", "method"), [(step, method) for step, row in ASKED.items() for method in row[2]])
def test_layers_refuse_a_wrong_product(step: str, method: str, change: str, starts: bool) -> None:
    make, scheme, _ = ASKED[step]
    if method == "adjoint" and starts and step in ("gradient", "gradient, FISTA"):
        return  # Aᴴy is not asked for
    if method == "adjoint" and not starts and change == "one value" and not step.startswith("gradient"):
        return  # x has one value, then
    function, kind = CHANGES[change]
    y = torch.randn(3, 5, dtype=DOUBLE)
    x0 = torch.randn(3, 5, dtype=DOUBLE) if starts else None

    def call() -> object:
        linear = make(Wrong(method, function))
        return fu.unrolled(y, linear, fu.prox.L1(), 0.1, layers=2, scheme=scheme, x0=x0)

    named = {"forward": "A(x)", "adjoint": "A"}.get(method, f"A.{method}")  # a wrong Aᴴy is seen where it meets another
    check_refused((call, kind, named))


STARTS: dict[str, tuple[Callable[[Tensor], Tensor], type[Exception]]] = {
    "one value": (lambda x: x[:, :1], ValueError),
    "one sample": (lambda x: x[:1], ValueError),
    "another type": (lambda x: x.float(), TypeError),
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("argument", ["x0", "s0"])
@pytest.mark.parametrize("step", ASKED)
def test_layers_refuse_a_wrong_start(step: str, argument: str, start: str) -> None:
    make, scheme, _ = ASKED[step]
    if argument == "s0" and not scheme.has_state:
        return
    function, kind = STARTS[start]
    y = torch.randn(3, 5, dtype=DOUBLE)
    options: dict[str, Any] = {argument: function(torch.randn(3, 5, dtype=DOUBLE))}
    linear = make(lin.Identity())
    call = lambda: fu.unrolled(y, linear, fu.prox.L1(), 0.1, layers=2, scheme=scheme, **options)  # noqa: E731
    check_refused((call, kind, "s0" if argument == "s0" else "got " if kind is ValueError else "x0"))


def test_the_dual_variable_of_a_matrix_has_the_shape_of_y() -> None:
    A, y = torch.randn(4, 7, dtype=DOUBLE), torch.randn(3, 4, dtype=DOUBLE)
    given = {"linear": fu.GradientStep(A, step=0.1), "prox": fu.prox.L1(), "theta": 0.1}
    scheme = fu.schemes.PrimalDual()
    x, s = fu.unrolled(y, **given, layers=2, scheme=scheme, return_state=True)
    found = fu.unrolled(y, **given, layers=1, scheme=scheme, x0=x, s0=s)
    assert torch.equal(found, fu.unrolled(y, **given, layers=3, scheme=scheme))
    wrong = lambda: fu.unrolled(y, **given, layers=1, scheme=scheme, s0=x)  # noqa: E731
    check_refused((wrong, ValueError, "s0 has 7 columns but A is (4, 7): expected s0 of shape (..., 4)"))


@pytest.mark.parametrize("function", [fu.losses.lasso_objective, fu.losses.kkt_residual])
@pytest.mark.parametrize("method", ["forward", "adjoint"])
@pytest.mark.parametrize("change", CHANGES)
def test_losses_refuse_a_wrong_product(function: Callable[..., Any], method: str, change: str) -> None:
    if method == "adjoint" and function is fu.losses.lasso_objective:
        return
    changed, kind = CHANGES[change]
    x = torch.randn(3, 5, dtype=DOUBLE)
    A = Wrong("gradient" if (method, function) == ("forward", fu.losses.kkt_residual) else method, changed)
    check_refused((lambda: function(x, x, A, 0.1), kind, "A"))


@pytest.mark.parametrize("method", ["gradient", "collapsed_gradient"])
@pytest.mark.parametrize(("name", "dtype", "size"), FIRST)
def test_gradients_refuse_other_samples(name: str, dtype: torch.dtype, size: Size, method: str) -> None:
    """One y beside several x would broadcast."""
    case = OPERATORS[name]
    op = case.make(dtype, size).requires_grad_(False)
    x = samples(case, dtype, size, (3, 2))
    other = op(x[:1]) if method == "gradient" else x[:1]
    check_refused((lambda: getattr(op, method)(x, other), ValueError, ""))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
@pytest.mark.parametrize("method", ["gradient", "collapsed_gradient"])
@pytest.mark.parametrize("name", user_operators.OPERATORS)
def test_gradients_of_users_operators_refuse_other_samples(name: str, method: str) -> None:
    make, takes = user_operators.OPERATORS[name]
    dtype = torch.complex128 if takes == "complex" else DOUBLE
    op = make(dtype).requires_grad_(False)
    x = torch.randn(2, 3, *user_operators.shape_of(name), dtype=dtype)
    other = op(x[:1]) if method == "gradient" else x[:1]
    check_refused((lambda: getattr(op, method)(x, other), ValueError, ""))


KERNEL = torch.rand(3, 2, dtype=DOUBLE)
STATED: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    **{
        f"Blur, {boundary}": (lambda shape, b=boundary: lin.Blur(KERNEL, b, shape=shape), (8, 12))
        for boundary in ("circular", "reflect", "constant", "valid")
    },
    **{
        f"Blur of volumes, {boundary}": (lambda shape, b=boundary: lin.Blur(KERNEL[None], b, dims=3, shape=shape), size)
        for boundary, size in (("circular", (2, 8, 12)), ("reflect", (1, 8, 12)), ("valid", (3, 8, 12)))
    },
    "Blur of channels of volumes": (
        lambda shape: lin.Blur(KERNEL.expand(3, 2, 3, 2), "valid", dims=3, shape=shape), (3, 4, 8, 12),
    ),
    "Blur of channels": (lambda shape: lin.Blur(KERNEL.expand(3, 3, 2), shape=shape), (3, 8, 12)),
    "Downsample": (lambda shape: lin.Downsample(2, KERNEL, shape=shape), (8, 12)),
    "Wavelet": (lambda shape: lin.Wavelet("db2", 2, shape=shape), (8, 12)),
    "Wavelet of volumes": (lambda shape: lin.Wavelet("db2", 1, 3, shape=shape), (4, 8, 12)),
    "DCT": (lambda shape: lin.DCT(shape=shape), (8, 12)),
    "DCT of volumes": (lambda shape: lin.DCT(3, shape=shape), (4, 8, 12)),
    "Blocks": (lambda shape: lin.Blocks(4, shape=shape), (8, 12)),
    "BlockDCT": (lambda shape: lin.BlockDCT(4, shape=shape), (8, 12)),
    "Gradient": (lambda shape: lin.Gradient(shape=shape), (8, 12)),
    "Gradient of volumes": (lambda shape: lin.Gradient(3, shape=shape), (4, 8, 12)),
    "Convolution": (lambda shape: lin.Convolution(KERNEL[None], 2, shape=shape), (1, 8, 12)),
    "Identity": (lambda shape: lin.Identity(shape=shape), (8, 12)),
}  # fmt: skip


@pytest.mark.parametrize("name", STATED)
def test_a_stated_shape_is_that_of_every_sample(name: str) -> None:
    """The norm is that of the stated shape: for others it would be no bound."""
    make, shape = STATED[name]
    op = make(shape)
    x = torch.randn(2, *shape, dtype=DOUBLE)
    y = op(x)
    other, larger = (torch.cat([t, t], -1) for t in (x, y))
    assert op.adjoint(y).shape == op.normal(x).shape == op.solve(x, 0.5).shape == x.shape
    for call in (
        lambda: op(other), lambda: op.adjoint(larger), lambda: op.normal(other), lambda: op.solve(other, 0.5),
        lambda: op.gradient(other, larger), lambda: op.collapsed_gradient(other, other),
    ):  # fmt: skip
        check_refused((call, ValueError, " states, got "))


@pytest.mark.parametrize("name", [name for name in STATED if name != "Identity"])
def test_a_stated_shape_is_that_of_pictures(name: str) -> None:
    make, shape = STATED[name]
    for wrong in ((shape[-1],), (), (*shape[:-1], 0)):
        check_refused((lambda wrong=wrong: make(wrong), ValueError, "shape must be the shape of one sample of x, ("))


@pytest.mark.parametrize(("name", "dtype", "size"), FIRST)
def test_normal_looks_at_x(name: str, dtype: torch.dtype, size: Size) -> None:
    """Also where AᴴA is the identity."""
    op = OPERATORS[name].make(dtype, size)
    check_refused((lambda: op.normal([1.0]), TypeError, "must be a torch.Tensor, got list"))
    check_refused((lambda: op.normal(torch.ones((), dtype=dtype)), ValueError, "got "))
