"""Layers over pictures, or over a matrix for every sample, are kept between calls until something changes."""

from __future__ import annotations

import copy
import gc
import io
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from torch import Tensor, nn

SIDE, K = 12, 3
OPERATORS: dict[str, Callable[[], Any]] = {
    "blur": lambda: fu.operators.Blur(torch.rand(3, 3) / 9),
    "blur, reflected": lambda: fu.operators.Blur(torch.rand(3, 3) / 9, boundary="reflect"),
    "blur of each sample": lambda: fu.operators.Blur(torch.rand(2, 3, 3) / 9),
    "scan": lambda: fu.operators.Fourier((torch.rand(SIDE, SIDE) > 0.5).float()),
    "scan of columns": lambda: fu.operators.Fourier((torch.rand(SIDE) > 0.5).float()),
    "coils": lambda: fu.operators.MultiCoilFourier(torch.ones(SIDE), torch.randn(2, SIDE, SIDE, dtype=torch.complex64)),
    "mask": lambda: fu.operators.Mask((torch.rand(SIDE, SIDE) > 0.5).float()),
    "downsample": lambda: fu.operators.Downsample(2, torch.rand(3, 3) / 9),
    "matrices": lambda: fu.operators.Dense(torch.randn(2, 5, 8) / 4),
}
PRIORS: dict[str, Callable[[], Any]] = {
    "identity": fu.prox.Identity,
    "l1": fu.prox.L1,
    "nonnegative": fu.prox.NonNegativeL1,
    "box": lambda: fu.prox.Box(0, 0.5),
    "total variation": lambda: fu.prox.TotalVariation(3),
    "wavelet": lambda: fu.prox.WaveletL1("haar", 2),
}
SCHEMES: dict[str, Callable[[], Any]] = {
    "proximal gradient": fu.schemes.ProximalGradient,
    "FISTA": fu.schemes.FISTA,
    "HQS": fu.schemes.HQS,
    "ADMM": fu.schemes.ADMM,
    "primal-dual": fu.schemes.PrimalDual,
}


def measured(A: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    """Measurements of two samples."""
    if A.shape_in is not None and len(A.shape_in) == 1:
        return A(torch.rand(2, A.shape_in[0]).to(A.A.dtype))
    is_complex = isinstance(A, (fu.operators.Fourier, fu.operators.MultiCoilFourier))
    return A(torch.rand(2, SIDE, SIDE).to(dtype.to_complex() if is_complex else dtype))


def network(A: Any, prior: Any, scheme: Any) -> Any:
    return fu.nn.Unrolled(scheme, A, prior, K, lam=0.02, step=0.7)


def runs(operator: str, prior: str, scheme: str) -> bool:
    """Whether there are such compiled layers of these operators and priors."""
    if operator == "matrices":
        return prior in ("l1", "nonnegative") and scheme in ("proximal gradient", "FISTA")
    is_complex = operator in ("scan", "scan of columns", "coils")
    return not (is_complex and prior in ("nonnegative", "box")) and not (operator == "coils" and scheme == "PrimalDual")


CASES = [
    (operator, prior, scheme)
    for i, operator in enumerate(OPERATORS)
    for j, prior in enumerate(PRIORS)
    for k, scheme in enumerate(SCHEMES)
    if runs(operator, prior, scheme) and (prior in ("l1", "nonnegative") or (i + j + k) % 3 == 0)
]


def described(net: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that gets an entry for each time that a network describes its layers."""
    times: list[int] = []
    inner = type(net)._described

    def counted(self: Any, *given: Any) -> Any:
        times.append(1)
        return inner(self, *given)

    monkeypatch.setattr(type(net), "_described", counted)
    return times


def wanted(net: Any, y: Tensor, x0: Tensor | None = None) -> Tensor:
    """What layers compute that are described anew."""
    found: Tensor = fu.unrolled(y, **net.pieces(), layers=K, x0=x0)
    return found


@torch.no_grad()
@pytest.mark.parametrize(("operator", "prior", "scheme"), CASES)
def test_second_call_describes_nothing(operator: str, prior: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    A = OPERATORS[operator]()
    net, y = network(A, PRIORS[prior](), SCHEMES[scheme]()), measured(A)
    times = described(net, monkeypatch)
    first = net(y)
    assert times
    times.clear()
    assert torch.equal(net(y), first)
    assert not times
    assert torch.equal(first, wanted(net, y))
    every = net(2 * y, return_layers=True)
    assert every.shape == (K, *first.shape)
    assert torch.equal(every[-1], wanted(net, 2 * y))
    start = torch.rand_like(first)
    assert torch.equal(net(y, start), wanted(net, y, start))
    assert not times


def _numbers(net: Any) -> list[nn.Parameter]:
    return [t for name in net.numbers for t in getattr(net, f"log_{name}", getattr(net, name, []))]


def add_to_all(net: Any) -> None:
    for t in _numbers(net):
        t.add_(0.1)


def edit_data(net: Any) -> None:
    for t in _numbers(net):
        t.data.mul_(1.2)


def replace_entry(net: Any) -> None:
    for name, module in net.named_children():
        if isinstance(module, nn.ParameterList):
            module[1] = nn.Parameter(module[1] + 0.2)
            assert name


def load(net: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "load_state_dict replaces")
        net.load_state_dict({name: value * 1.1 for name, value in net.state_dict().items()})


def scale_operator(net: Any) -> None:
    for t in (*net.operator.parameters(), *net.operator.buffers()):
        t.mul_(0.9)


def edit_operator_data(net: Any) -> None:
    for t in (*net.operator.parameters(), *net.operator.buffers()):
        t.data.mul_(0.9)


def swap_operator(net: Any) -> None:
    net.operator = copy.deepcopy(net.operator)
    scale_operator(net)


def swap_prior(net: Any) -> None:
    is_complex = isinstance(net.operator, (fu.operators.Fourier, fu.operators.MultiCoilFourier))
    if type(net.prox) is fu.prox.L1 and not is_complex:
        net.prox = fu.prox.NonNegativeL1()


def grow_kernel(net: Any) -> None:
    if isinstance(net.operator, fu.operators.Blur):
        net.operator.kernel = torch.rand(*net.operator.kernel.shape[:-2], 5, 5) / 25


def swap_scheme(net: Any) -> None:
    if type(net.scheme) is fu.schemes.FISTA:
        net.scheme = copy.copy(net.scheme)
        add_to_all(net)


def change_settings(net: Any) -> None:
    prox = net.prox
    if isinstance(prox, fu.prox.Box):
        prox.high = 0.3
    if isinstance(prox, fu.prox.TotalVariation):
        prox.inner_iterations = 7
    if isinstance(prox, fu.prox.WaveletL1):
        prox.moves[0] = (1, 2)


def stop_moving(net: Any) -> None:
    if isinstance(net.prox, fu.prox.WaveletL1):
        net.prox.shift = False


CHANGES = [
    add_to_all, edit_data, replace_entry, load, scale_operator, edit_operator_data, swap_operator, grow_kernel,
    swap_prior, swap_scheme, change_settings, stop_moving,
]  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize(("operator", "prior", "scheme"), CASES[::3])
def test_changes_are_noticed(operator: str, prior: str, scheme: str) -> None:
    A = OPERATORS[operator]()
    net, y = network(A, PRIORS[prior](), SCHEMES[scheme]()), measured(A)
    for change in CHANGES:
        net(y)
        change(net)
        assert torch.equal(net(y), wanted(net, y)), change.__name__


def agree(one: Callable[[], Tensor], other: Callable[[], Tensor]) -> None:
    """Both calls return the same, or raise the same."""
    results: list[Any] = []
    for call in (one, other):
        try:
            results.append(call())
        except (TypeError, ValueError) as error:
            results.append(str(error))
    if isinstance(results[1], str):
        assert results[0] == results[1]
    else:
        torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("operator", OPERATORS)
def test_other_batches(operator: str) -> None:
    A = OPERATORS[operator]()
    net, y = network(A, fu.prox.L1(), fu.schemes.FISTA()), measured(A)
    x = net(y)
    swapped = y.mT.contiguous().mT
    for other in (y[:1], y[:0], swapped, y.repeat(2, *[1] * (y.dim() - 1)), y.unsqueeze(1)):
        agree(lambda given=other: net(given), lambda given=other: wanted(net, given))  # type: ignore[misc]
    agree(lambda: net(y, x[..., :-1]), lambda: wanted(net, y, x[..., :-1]))
    agree(lambda: net(y, x[:1]), lambda: wanted(net, y, x[:1]))
    torch.testing.assert_close(net(y), x, rtol=0, atol=0)
    wide = net.double()
    torch.testing.assert_close(wide(y.to(torch.promote_types(y.dtype, torch.float64))).to(x.dtype), x)


@pytest.mark.parametrize("operator", OPERATORS)
def test_gradients_of_what_was_kept(operator: str) -> None:
    A = OPERATORS[operator]()
    net, y = network(A, fu.prox.L1(), fu.schemes.FISTA()), measured(A)
    with torch.no_grad():
        x = net(y)
    net(y).abs().sum().backward()
    assert all(t.grad is not None for t in net.parameters())
    for t in net.parameters():
        t.requires_grad_(False)
    assert torch.equal(net(y), x)
    y.requires_grad_()
    net(y).abs().sum().backward()
    assert y.grad is not None
    with torch.inference_mode():
        assert torch.equal(net(y), x)
    assert torch.equal(net(y.detach()), x)


@torch.no_grad()
@pytest.mark.parametrize("operator", OPERATORS)
def test_copies_and_modes(operator: str) -> None:
    A = OPERATORS[operator]()
    net, y = network(A, fu.prox.L1(), fu.schemes.FISTA()), measured(A)
    x = net(y)
    twin = copy.deepcopy(net)
    scale_operator(twin)
    add_to_all(twin)
    assert torch.equal(twin(y), wanted(twin, y))
    assert torch.equal(net(y), x)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(y), x)
    with fu.ops.plain():
        torch.testing.assert_close(net(y), x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(net(y), x)
    lazy = y.conj().resolve_conj().conj() if y.is_complex() else torch.complex(torch.zeros_like(y), -y).conj().imag
    assert lazy.is_conj() or lazy.is_neg()
    torch.testing.assert_close(net(lazy), x)


@torch.no_grad()
def test_two_networks_share_an_operator() -> None:
    A = OPERATORS["blur"]()
    y = measured(A)
    nets = [network(A, fu.prox.L1(), fu.schemes.FISTA()) for _ in range(2)]
    add_to_all(nets[1])
    for _ in range(3):
        for net in nets:
            assert torch.equal(net(y), wanted(net, y))


@torch.no_grad()
@pytest.mark.parametrize("operator", OPERATORS)
def test_batches_of_any_size_describe_nothing(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    A = OPERATORS[operator]()
    net, y = network(A, fu.prox.L1(), fu.schemes.FISTA()), measured(A)
    net(y)
    times = described(net, monkeypatch)
    sizes = [y] if A.own_batch else [y[:1], y, y.repeat(3, *([1] * (y.dim() - 1)))]
    for some in sizes * 2:
        assert torch.equal(net(some)[:1], net(y)[:1])
    assert not times


@torch.no_grad()
@pytest.mark.parametrize("operator", ["blur", "matrices"])
def test_number_of_layers(operator: str) -> None:
    A = OPERATORS[operator]()
    net, y = network(A, fu.prox.L1(), fu.schemes.FISTA()), measured(A)
    two = net(y, return_layers=True)[1]
    net.layers = 2
    assert torch.equal(net(y), two)
    net.layers = 5
    with pytest.raises(ValueError, match="5"):
        net(y)


@torch.no_grad()
def test_products_of_another_type() -> None:
    A = OPERATORS["coils"]()
    net, y = network(A, fu.prox.L1(), fu.schemes.FISTA()), measured(A)
    net(y)
    maps = A.maps
    for other in (maps.abs(), maps.to(torch.complex128), maps.abs().double()):
        net.operator.maps = other
        agree(lambda: net(y), lambda: wanted(net, y))
    net = network(OPERATORS["blur"](), fu.prox.L1(), fu.schemes.FISTA())
    y = measured(net.operator)
    net(y)
    adjoint = net.operator.adjoint
    net.operator.adjoint = lambda v: adjoint(v).double()
    with pytest.raises(TypeError, match=r"torch\.float32"):
        net(y)


class Scaled(fu.nn.Unrolled):
    """A network whose steps have a factor."""

    factor: Any = 1.0

    def values(self) -> dict[str, list[Tensor]]:
        return {name: [t * self.factor for t in of] for name, of in super().values().items()}


@pytest.mark.parametrize("operator", ["blur", "matrices", "matrix"])
def test_numbers_of_a_subclass(operator: str) -> None:
    A = torch.randn(5, 8) / 4 if operator == "matrix" else OPERATORS[operator]()
    net = Scaled(fu.schemes.FISTA(), A, fu.prox.L1(), K, lam=0.02, step=0.7, learn=())
    y = torch.rand(2, 5) if operator == "matrix" else measured(A)
    before = net(y)
    net.factor = 0.5
    assert torch.equal(net(y), wanted(net, y))
    assert not torch.equal(net(y), before)
    net.factor = torch.tensor(0.5, requires_grad=True)
    assert net(y).requires_grad


def test_gradients_that_products_record() -> None:
    net = fu.nn.Unrolled(fu.schemes.FISTA(), OPERATORS["blur"](), fu.prox.L1(), K, step=0.7, learn=())
    y = measured(net.operator)
    net(y)
    weight, adjoint = torch.ones((), requires_grad=True), net.operator.adjoint
    net.operator.adjoint = lambda v: weight * adjoint(v)
    assert net(y).requires_grad


@torch.no_grad()
@pytest.mark.parametrize("operator", ["blur", "matrices"])
def test_old_pieces_are_freed(operator: str) -> None:
    net = network(OPERATORS[operator](), fu.prox.L1(), fu.schemes.FISTA())
    net(measured(net.operator))
    old = weakref.ref(net.operator), weakref.ref(net.prox)
    net.operator, net.prox = OPERATORS[operator](), fu.prox.L1()
    gc.collect()
    assert [ref() for ref in old] == [None, None]


@torch.no_grad()
@pytest.mark.parametrize("operator", ["blur", "matrices"])
def test_pieces_that_change_meanwhile(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, y = network(OPERATORS[operator](), fu.prox.L1(), fu.schemes.FISTA()), measured(OPERATORS[operator]())
    inner, prox = type(net)._described, net.prox

    def swapping(self: Any, *given: Any) -> Any:
        self.prox = fu.prox.NonNegativeL1()
        return inner(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(type(net), "_described", swapping)
        net(y)
    net.prox = prox
    assert torch.equal(net(y), wanted(net, y))
    times = described(net, monkeypatch)
    net(y)
    assert not times
