"""The direct way of products with pictures: to the bit what the methods compute that ask in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from fastunroll import ops
from fastunroll.operators import direct
from fastunroll.ops.cpu import steps
from imaging_operators import HALF, OPERATORS, Size, samples
from torch import Tensor

lin = fu.operators
Product = Callable[[Any, Tensor, Tensor, Tensor], Tensor]
PRODUCTS: dict[str, Product] = {
    "forward": lambda A, x, y, z: A(x),
    "adjoint": lambda A, x, y, z: A.adjoint(y),
    "normal": lambda A, x, y, z: A.normal(x),
    "collapsed_gradient": lambda A, x, y, z: A.collapsed_gradient(x, z),
    "solve": lambda A, x, y, z: A.solve(x, 0.5),
    "data_step": lambda A, x, y, z: A.data_step(x, z, 0.5),
}
SIZES = (16, 16), (37, 41), (256, 256)  # whose results are small, of a larger grid, and large


@contextmanager
def asking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No call is direct."""
    with monkeypatch.context() as patch:
        for module, name in ((ops, "is_direct"), (ops, "is_native"), (steps, "is_native")):
            patch.setattr(module, name, lambda: False)
        yield


@pytest.mark.parametrize(("operator", "dtype", "size"), HALF, ids=str)
def test_every_operator(operator: str, dtype: torch.dtype, size: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    case = OPERATORS[operator]
    A = case.make(dtype, size)
    for batch in case.batches:
        x = samples(case, dtype, size, batch)
        with torch.no_grad():
            y = A(x)
            z = A.adjoint(y)
            for name, product in PRODUCTS.items():
                if name in ("solve", "data_step") and not A.solves:
                    continue
                found = product(A, x, y, z)
                with asking(monkeypatch):
                    assert torch.equal(found, product(A, x, y, z)), (name, batch)
                assert torch.equal(found, product(A, x, y, z)), (name, batch)


def made(kind: str, size: Size) -> Any:
    mask, maps = (torch.rand(size) < 0.5).float(), torch.randn(3, *size, dtype=torch.complex64)
    return {
        "Mask": lambda: lin.Mask(mask),
        "Blur": lambda: lin.Blur(torch.rand(3, 3), shape=size),
        "Fourier": lambda: lin.Fourier(mask),
        "columns": lambda: lin.Fourier(mask[:1]),
        "coils": lambda: lin.MultiCoilFourier(mask, maps),
    }[kind]()


DIRECT = {
    "Mask": [*PRODUCTS, "gradient"], "Blur": [*PRODUCTS],
    "Fourier": ["normal", "collapsed_gradient", "solve", "data_step"],
    "columns": ["normal", "collapsed_gradient", "solve", "data_step"], "coils": ["normal", "collapsed_gradient"],
}  # fmt: skip


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in DIRECT.items() for name in names])
def test_usual_tensors_go_the_direct_way(kind: str, name: str, size: Size, grad: bool) -> None:
    if kind == "coils" and size == (37, 41):
        return
    A = made(kind, size)
    x = torch.randn(2, *size, dtype=torch.float32 if kind in ("Mask", "Blur") else torch.complex64)
    more = (*[x] * ("gradient" in name or name == "data_step"), *[0.5] * (name in ("solve", "data_step")))
    way = getattr(type(A), name).way
    with torch.set_grad_enabled(grad):
        assert way(A, x, *more) is not None
        needs = x.clone().requires_grad_()
        assert (way(A, needs, *more) is None) == grad
        assert getattr(A, name)(needs, *more).requires_grad == grad
    refused = [x.unsqueeze(0)[..., 1:, :], x.to(torch.complex128 if x.is_complex() else torch.float64)]
    for wrong in refused:
        if kind == "columns" and wrong.dtype == x.dtype:
            continue  # any number of rows is right
        with pytest.raises((TypeError, ValueError)):
            getattr(A, name)(wrong, *(wrong if value is x else value for value in more))
    with ops.plain(), torch.set_grad_enabled(grad):
        assert way(A, x, *more) is None


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize("kind", ["Mask", "Blur", "Fourier"])
def test_what_is_kept_follows_the_operator(kind: str) -> None:
    """Its tensor, also one that it shares; ρ; the size; and whether the call learns."""
    A = made(kind, (16, 16))
    name = "kernel" if kind == "Blur" else "mask"
    x = torch.randn(2, 16, 16, dtype=torch.float32 if kind in ("Mask", "Blur") else torch.complex64)
    for change in (lambda t: t, lambda t: t.mul_(2), lambda t: t.data.add_(1), lambda t: t.view(-1)[0].fill_(3.0)):
        with torch.no_grad():
            change(getattr(A, name))
        for rho in (0.5, 2.0, torch.tensor(0.5), 1):
            with ops.plain():
                wanted = A.normal(x), A.solve(x, rho)
            torch.testing.assert_close((A.normal(x), A.solve(x, rho)), wanted, rtol=1e-4, atol=1e-4)
    for wrong in (0.0, -1.0, torch.inf, torch.nan):
        with pytest.raises(ValueError, match="rho must be a finite number > 0"):
            A.solve(x, wrong)
    if kind == "Fourier":
        real = lin.Fourier(A.mask, A.centered, real=True)
        real.mask = A.mask
        assert A.normal(x.real).is_complex()
        assert not real.normal(x.real).is_complex()
    for method in (A.collapsed_gradient, A.gradient):
        with pytest.raises(TypeError):
            method(x, None)
    array = A.normal(x.numpy())
    assert isinstance(array, np.ndarray)
    getattr(A, name).requires_grad_()
    assert A.normal(x).requires_grad
    with torch.no_grad():
        assert not A.normal(x).requires_grad
    with torch.inference_mode():
        inferred = A.normal(x)
    torch.testing.assert_close(inferred, A.normal(x).detach(), rtol=1e-5, atol=1e-5)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        moved = torch.autograd.forward_ad.unpack_dual(A.normal(dual)).tangent
    torch.testing.assert_close(moved, A.normal(torch.ones_like(x)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PRODUCTS)
def test_complex_masks_take_complex_pictures(name: str) -> None:
    A, x = lin.Mask(torch.randn(8, 8, dtype=torch.complex64)), torch.randn(8, 8)
    for _ in range(2):
        with pytest.raises(TypeError, match="a complex mask takes complex pictures"):
            PRODUCTS[name](A, x, x, x)


@pytest.mark.parametrize("kind", ["Mask", "Blur", "Fourier"])
@pytest.mark.parametrize("rho", [torch.tensor(1 + 1j), torch.tensor(1), torch.tensor(True)])
def test_a_rho_that_is_no_real_number(kind: str, rho: Tensor) -> None:
    """It is refused by the same sentence after a solution with a number that equals it."""
    A, b = made(kind, (8, 8)), torch.randn(8, 8)
    b = b + 0j if kind == "Fourier" else b
    said = []
    for _ in range(2):
        with pytest.raises(TypeError, match="rho must be") as refused:
            A.solve(b, rho)
        said.append(str(refused.value))
        A.solve(b, 1.0)
    assert said[0] == said[1]


@pytest.mark.parametrize("change", [lambda x: x.bfloat16(), lambda x: x[:0]], ids=["half precision", "empty"])
def test_unusual_pictures_leave_the_direct_way_open(change: Callable[[Tensor], Tensor]) -> None:
    blur, x = made("Blur", (16, 16)), torch.rand(2, 16, 16)
    blur(change(x))
    assert type(blur).forward.way(blur, x) is not None


def test_a_spectrum_of_your_own_is_asked_in_each_call() -> None:
    class Sharper(lin.Fourier):
        alpha = 1.0

        def power(self, x: Tensor) -> Tensor:
            return self.alpha * super().power(x)

    A, x = Sharper(torch.rand(8, 8)), torch.randn(8, 8, dtype=torch.complex64)
    once = A.normal(x)
    A.alpha = 2.0
    torch.testing.assert_close(A.normal(x), 2 * once)


@pytest.mark.parametrize("lead", [(5,), (2, 3), (1,), ()], ids=str)
@pytest.mark.parametrize("kind", ["Fourier", "columns", "coils", "real"])
def test_many_pictures_go_some_after_others(kind: str, lead: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the results of all would leave the cache: the same values, gradients and sentences."""
    A = lin.Fourier(torch.rand(6, 7), real=True) if kind == "real" else made(kind, (6, 7))
    x = torch.randn(*lead, 6, 7, dtype=torch.float32 if kind == "real" else torch.complex64)
    y = A(x)
    wanted = y, A.adjoint(y), A.norm()
    sizes: list[int] = []
    fourier = torch.fft.fftn
    monkeypatch.setattr(
        torch.fft, "fftn", lambda t, *more, **options: (sizes.append(t.numel()), fourier(t, *more, **options))[1]
    )
    monkeypatch.setattr(direct, "AT_ONCE", 2 * 42 * 8 * (3 if kind == "coils" else 1))
    found = A(x), A.adjoint(y), A.norm()
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    if len(lead) and x.numel() > 84 and kind != "real":
        assert max(sizes) <= 84 * (3 if kind == "coils" else 1)
    assert A(x.clone().requires_grad_()).requires_grad
    with pytest.raises((ValueError, TypeError)) as refused:
        A(x[..., :5])
    assert str(tuple(x[..., :5].shape)) in str(refused.value)


@pytest.mark.parametrize("kind", ["Mask", "Fourier"])
def test_a_data_step_is_by_the_solve_that_an_operator_has(kind: str) -> None:
    """By that of a subclass, or one that takes its place; and where ρ or the arguments do not fit, it says so."""
    A = made(kind, (8, 8))
    v = torch.randn(3, 8, 8, dtype=torch.float32 if kind == "Mask" else torch.complex64)
    z = torch.randn_like(v)
    assert torch.equal(A.data_step(v, z, 0.5), A.solve(z + 0.5 * v, 0.5))
    other = type("Other", (type(A),), {"solve": lambda self, b, rho: 2 * b})(A.mask)
    assert torch.equal(other.data_step(v, z, 0.5), 2 * (z + 0.5 * v))
    for wrong in (-1.0, torch.nan):
        with pytest.raises(ValueError, match="rho must be a finite number > 0"):
            A.data_step(v, z, wrong)
    with pytest.raises(ValueError, match="v and At_y must have one shape"):
        A.data_step(v, z[:1], 0.5)
    with pytest.raises(TypeError, match=r"At_y must be a torch\.Tensor"):
        A.data_step(v, None, 0.5)
    rho = torch.tensor(0.5, requires_grad=True)
    A.data_step(v, z, rho).abs().sum().backward()
    assert rho.grad is not None
    A.solve = lambda b, rho: 3 * b
    assert torch.equal(A.data_step(v, z, 0.5), 3 * (z + 0.5 * v))


@pytest.mark.parametrize("name", ["scan", "coils"])
@pytest.mark.parametrize("adjoint", [False, True])
def test_batches_of_gradients_in_parts(name: str, adjoint: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """``is_grads_batched=True`` sees no memory of its own where few pictures or coils go after others."""
    for size in ("AT_ONCE", "COILS_AT_ONCE"):
        monkeypatch.setattr(direct, size, 1)
    mask, maps = torch.ones(6, 5), torch.randn(3, 6, 5, dtype=torch.complex64)
    A = lin.Fourier(mask) if name == "scan" else lin.MultiCoilFourier(mask, maps)
    x = torch.randn(2, 6, 5, dtype=torch.complex64)
    leaf = (A(x) if adjoint else x).detach().requires_grad_()
    out = A.adjoint(leaf) if adjoint else A(leaf)
    directions = torch.randn(2, *out.shape, dtype=out.dtype)
    (batched,) = torch.autograd.grad(out, leaf, directions, is_grads_batched=True, retain_graph=True)
    for one, direction in zip(batched, directions, strict=True):
        torch.testing.assert_close(one, torch.autograd.grad(out, leaf, direction, retain_graph=True)[0])


def test_a_data_step_of_ones_own() -> None:
    """What a user puts in the place of a solve or a data step is called, and what it returns is checked."""
    y = torch.rand(2, 4, 4)
    A = lin.Mask(torch.ones(4, 4))
    own = A.solve
    double, fewer = lambda b, rho: own(b, rho).double(), lambda b, rho: own(b[:1], rho)
    for wrong, error in ((double, TypeError), (fewer, ValueError)):
        A.solve = wrong  # type: ignore[method-assign]
        with pytest.raises(error, match="must return"):
            fu.solvers.admm(A, y, 0.1)
    A = lin.Mask(torch.ones(4, 4))
    A.data_step = lambda v, At_y, rho: torch.zeros_like(v)  # type: ignore[method-assign]
    assert not fu.solvers.admm(A, y, 0.1, iterations=1).any()


def test_complex_measurements_of_real_pictures_are_refused_at_once() -> None:
    with pytest.raises(TypeError, match="complex"):
        fu.solvers.fista(lin.Fourier(torch.ones(4, 4)), torch.rand(1, 4, 4), 0.1, step=1.0, iterations=1)
