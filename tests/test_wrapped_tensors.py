"""Tensors that hold their values in another one, without memory of their own, as those of distributed training do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from refusals import check_refused
from torch import Tensor
from torch.utils import _pytree as pytree

lin, S = fu.operators, fu.solvers


class Wrapped(Tensor):
    """A tensor that holds its values in ``values``."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> Wrapped:
        layout = {"strides": values.stride(), "storage_offset": values.storage_offset()}
        found: Wrapped = Tensor._make_wrapper_subclass(cls, values.shape, dtype=values.dtype, **layout)  # type: ignore[attr-defined]
        found.values = values
        return found

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = pytree.tree_map_only(Wrapped, lambda t: t.values, (args, kwargs or {}))
        return pytree.tree_map_only(Tensor, cls, func(*args, **kwargs))


def plain(t: Tensor) -> Tensor:
    return t.values if isinstance(t, Wrapped) else t


def picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


OPERATORS: dict[str, tuple[Callable[[Tensor], Any], Tensor]] = {
    "Mask": (lin.Mask, picture(8, 8)),
    **{
        f"Blur, {boundary}": (lambda k, boundary=boundary: lin.Blur(k, boundary), picture(3, 3))
        for boundary in ("circular", "reflect", "constant", "valid")
    },
    "Downsample": (lambda k: lin.Downsample(2, k), picture(2, 2)),
    "Fourier": (lambda m: lin.Fourier(m, real=True), picture(8, 8)),
    "MultiCoilFourier": (lambda m: lin.MultiCoilFourier(m, picture(2, 8, 8) + 0j), picture(8, 8)),
}


@pytest.mark.parametrize("kind", OPERATORS)
def test_what_operators_are_made_of(kind: str) -> None:
    make, t = OPERATORS[kind]
    found, right = make(Wrapped(t)), make(t)
    x = picture(2, 8, 8, seed=1)
    x = x + 0j if kind == "MultiCoilFourier" else x
    y = right(x)
    calls: list[Callable[[Any], Tensor]] = [
        lambda A: A(x), lambda A: A.adjoint(y), lambda A: A.normal(x), lambda A: A.gradient(x, y),
    ]  # fmt: skip
    if not x.is_complex():  # PyTorch loses the conjugation of a tensor that wraps another in inner products
        calls += [lambda A: A.solve(x, 0.5), lambda A: A.data_step(x, x, 0.5)]
    for call in calls:
        for _ in range(2):  # the second call finds what the first has kept, if anything
            torch.testing.assert_close(plain(call(found)), call(right), rtol=1e-9, atol=1e-12)
    assert found.norm() == pytest.approx(right.norm())
    if not y.is_complex():
        solved, wanted = (S.fista(A, y, 0.01, iterations=3) for A in (found, right))
        torch.testing.assert_close(plain(solved), wanted, rtol=1e-9, atol=1e-12)


A, Y = picture(6, 9), picture(2, 6, seed=1)
REFUSED: dict[str, Callable[[], object]] = {
    "A": lambda: S.lasso(Wrapped(A), Y, 0.1),
    "Y": lambda: S.lasso(A, Wrapped(Y), 0.1),
    "lam": lambda: S.lasso(A, Y, Wrapped(0.1 * Y[:, 0])),
    "x0": lambda: S.Lasso(A).solve(Y, 0.1, x0=Wrapped(picture(2, 9))),
    "weights": lambda: S.Lasso(A, weights=Wrapped(picture(9))).solve(Y, 0.1),
}


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("name", REFUSED)
def test_the_lasso_reads_memory(name: str) -> None:
    message = "a Wrapped holds them elsewhere: convert it to a torch.Tensor"
    check_refused((REFUSED[name], TypeError, message))
