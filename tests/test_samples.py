"""Layers over a matrix for each sample in one native call, against the same layers in PyTorch."""

from __future__ import annotations

from itertools import product
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll import ops
from torch import Tensor

NAMES = "A", "y", "x0", "step", "theta", "beta"


def arguments(
    batch: int, m: int, n: int, layers: int, *, start: bool, momentum: bool, by_coordinate: bool,
    dtype: torch.dtype = torch.float64, seed: int = 0,
) -> list[Any]:  # fmt: skip
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=random).to(dtype)

    A = draw(batch, m, n) / m**0.5
    x0 = draw(batch, n) if start else None
    step, beta = 0.2 + 0.1 * draw(layers).abs(), draw(layers) / 4 if momentum else None
    theta = 0.05 * draw(layers, n if by_coordinate else 1).abs()
    return [A, draw(batch, m), x0, step, theta, beta]


def learning(values: list[Any]) -> list[Any]:
    return [None if t is None else t.clone().requires_grad_() for t in values]


FORMS = [
    {"start": start, "momentum": momentum, "by_coordinate": by_coordinate}
    for start, momentum, by_coordinate in product((False, True), repeat=3)
]
SIZES = [(1, 1, 1, 1), (2, 3, 5, 2), (5, 17, 33, 4), (3, 16, 32, 3), (4, 33, 17, 3), (2, 40, 150, 2)]


@pytest.mark.parametrize("prox", ["soft", "nonnegative"])
@pytest.mark.parametrize("form", FORMS)
def test_values_and_gradients(native: Any, instruction_sets: list[str], form: dict[str, bool], prox: str) -> None:
    for sizes in SIZES:
        values = arguments(*sizes, **form)
        names = [name for name, t in zip(NAMES, values, strict=True) if t is not None]

        def results(layers: Any, values: list[Any] = values) -> tuple[Tensor, tuple[Tensor, ...]]:
            leaves = learning(values)
            x = layers(*leaves, prox)
            weights = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
            return x, torch.autograd.grad((x * weights).sum(), [t for t in leaves if t is not None])

        expected, wanted = results(ops.plain_layers)
        for instruction_set in instruction_sets:
            native.use_instruction_set(instruction_set)
            x, found = results(ops.sample_layers)
            torch.testing.assert_close(x, expected, rtol=1e-11, atol=1e-12)
            for name, a, b in zip(names, found, wanted, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("form", FORMS)
def test_calls_without_gradients_return_the_last_two_layers(form: dict[str, bool]) -> None:
    for layers in (1, 2, 5):
        values = arguments(3, 7, 11, layers, **form)
        found = ops.sample_layers(*values, "soft")
        torch.testing.assert_close(found, ops.plain_layers(*values, "soft")[-2:], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["A", "y", "x0", "step", "theta", "beta"])
@pytest.mark.parametrize("prox", ["soft", "nonnegative"])
def test_what_is_not_finite_shows(where: str, value: float, prox: str) -> None:
    values = arguments(3, 5, 21, 3, start=True, momentum=True, by_coordinate=True)
    place = NAMES.index(where)
    values[place].view(-1)[1] = value
    found, expected = ops.sample_layers(*learning(values), prox), ops.plain_layers(*values, prox)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12, equal_nan=True)
    if place < 3:
        finite = [t if i != place else torch.nan_to_num(t, 0, 0, 0) for i, t in enumerate(values)]
        assert torch.equal(found[:, 1:], ops.sample_layers(*learning(finite), prox)[:, 1:])


def test_strides_and_postponed_signs() -> None:
    values = arguments(4, 9, 13, 3, start=True, momentum=True, by_coordinate=False)
    expected = ops.plain_layers(*values, "soft")
    A, y, x0, *numbers = values
    strided = A.mT.contiguous().mT, y.T.contiguous().T, torch._neg_view(-x0)
    torch.testing.assert_close(ops.sample_layers(*strided, *numbers, "soft"), expected[-2:], rtol=1e-11, atol=1e-12)


def test_an_empty_batch() -> None:
    values = learning(arguments(0, 3, 4, 2, start=True, momentum=True, by_coordinate=False))
    x = ops.sample_layers(*values, "soft")
    assert x.shape == (2, 0, 4)
    gradients = torch.autograd.grad(x.sum(), values)
    assert all(torch.equal(g, torch.zeros_like(t)) for g, t in zip(gradients, values, strict=True))


@pytest.mark.parametrize("scheme", [fu.schemes.ProximalGradient(), fu.schemes.FISTA()])
@pytest.mark.parametrize("prior", [fu.prox.L1(), fu.prox.NonNegativeL1()])
@pytest.mark.parametrize("keeps", [False, True])
def test_unrolled_networks_take_the_native_call(scheme: fu.schemes.Scheme, prior: Any, keeps: bool) -> None:
    """Values and gradients of all numbers and of A are those of the layers one by one, which checkpoints ask for."""
    A, y, *_ = arguments(3, 5, 9, 1, start=False, momentum=False, by_coordinate=False)
    net = fu.nn.Unrolled(scheme, fu.operators.Dense(A, learn=True), prior, 4, lam=0.02, dtype=torch.float64)
    assert net.explain(y) == "All 4 layers run in one native call."
    found = net(y, return_layers=keeps)
    one_by_one = net(y.unsqueeze(0), return_layers=keeps).squeeze(-3)
    torch.testing.assert_close(found, one_by_one, rtol=1e-11, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(net(y, return_layers=keeps), found, rtol=0, atol=0)
    parameters = [*net.parameters()]
    for a, b in zip(
        torch.autograd.grad(found.square().sum(), parameters, allow_unused=True),
        torch.autograd.grad(one_by_one.square().sum(), parameters, allow_unused=True), strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, rtol=1e-10, atol=1e-11)


def test_a_state_goes_on() -> None:
    """A call with s0 continues another one."""
    A, y, *_ = arguments(3, 5, 9, 1, start=False, momentum=False, by_coordinate=False)
    pieces: dict[str, Any] = {"linear": fu.steps.GradientStep(fu.operators.Dense(A), step=0.3), "prox": fu.prox.L1()}
    first = fu.unrolled(y, scheme=fu.schemes.FISTA([0.1, 0.2, 0.3]), theta=0.01, layers=3, return_state=True, **pieces)
    x = fu.unrolled(y, scheme=fu.schemes.FISTA(0.4), theta=0.01, layers=1, x0=first[0], s0=first[1], **pieces)
    whole = fu.unrolled(y, scheme=fu.schemes.FISTA([0.1, 0.2, 0.3, 0.4]), theta=0.01, layers=4, **pieces)
    torch.testing.assert_close(x, whole, rtol=1e-11, atol=1e-12)


def test_why_layers_run_one_by_one() -> None:
    A, y, *_ = arguments(3, 5, 9, 1, start=False, momentum=False, by_coordinate=False)
    net = fu.nn.Unrolled(fu.schemes.ADMM(), fu.operators.Dense(A), fu.prox.L1(), 2, dtype=torch.float64)
    assert "only GradientStep(A) is compiled" in net.explain(y)
    net = fu.nn.Unrolled(fu.schemes.FISTA(), fu.operators.Dense(A), fu.prox.Box(0, 1), 2, dtype=torch.float64)
    assert "the proximal operator Box is not compiled with a matrix for every sample" in net.explain(y)


def test_a_threshold_for_each_sample_is_none_for_each_element() -> None:
    """θ of shape (B, 1) broadcasts with the batch, also where B = n."""
    random = torch.Generator().manual_seed(3)
    A, y = torch.randn(4, 3, 4, generator=random), torch.randn(4, 3, generator=random)
    theta = torch.tensor([[0.0], [0.1], [0.2], [0.3]])

    def layers(rows: slice) -> Tensor:
        step = fu.GradientStep(fu.operators.Dense(A[rows]), step=0.05)
        return fu.unrolled(y[rows], step, fu.prox.L1(), theta[rows], layers=3)

    torch.testing.assert_close(layers(slice(0, 4)), torch.cat([layers(slice(i, i + 1)) for i in range(4)]))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"x0": torch.zeros(3, 9)}, "dtype"),
        ({"s0": torch.zeros(3, 8, dtype=torch.float64)}, "s0"),
        ({"s0": torch.zeros(9, dtype=torch.float64)}, "s0"),
        ({"s0": "a"}, "s0 must be a torch.Tensor"),
    ],
)
def test_refused_in_a_sentence(names: dict[str, Any], message: str) -> None:
    A, y, *_ = arguments(3, 5, 9, 1, start=False, momentum=False, by_coordinate=False)
    step = fu.GradientStep(fu.operators.Dense(A), step=0.1)
    with pytest.raises((TypeError, ValueError), match=message):
        fu.unrolled(y, step, fu.prox.L1(), 0.1, layers=2, scheme=fu.schemes.FISTA(0.3), **names)


def test_autocast_keeps_the_precision_of_the_matrices() -> None:
    A, y, *_ = arguments(3, 5, 9, 1, start=False, momentum=False, by_coordinate=False, dtype=torch.float32)
    net = fu.nn.Unrolled(fu.schemes.FISTA(), fu.operators.Dense(A), fu.prox.L1(), 3)

    expected = net(y.bfloat16().float())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(net(y.bfloat16()), expected)


def test_explain_knows_the_batch() -> None:
    A, y, *_ = arguments(3, 5, 9, 1, start=False, momentum=False, by_coordinate=False)
    net = fu.nn.Unrolled(fu.schemes.FISTA(), fu.operators.Dense(A), fu.prox.L1(), 3)
    assert "only real batches (B, m)" in net.explain(y.expand(2, 3, 5))
