"""Networks made of given numbers, instead of those that a classical algorithm starts with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..nn import ALISTA, LISTA, LISTACP, LISTACPSS, LISTASS, UnrolledNetwork
from ..nn.selection import schedule

Selection = tuple[float, float] | None
N = TypeVar("N", bound=UnrolledNetwork)


def empty(kind: Callable[..., N], A: Tensor, layers: int, **options: Any) -> N:
    """A network for a matrix of the shape of A whose numbers are all to be filled in.

    It is made on the meta device, where starting as a classical algorithm costs nothing.
    """
    return kind(torch.empty_like(A, device="meta"), layers=layers, **options)


def fill(module: nn.Module, learns: bool = True, **values: Tensor | Sequence[Tensor]) -> None:
    """Sets buffers to tensors, and parameter lists to lists: a tensor that occurs twice becomes one parameter."""
    for name, value in values.items():
        if isinstance(value, Tensor):
            setattr(module, name, value.detach().clone().contiguous())
        else:
            unique = {id(t): nn.Parameter(t.detach().clone().contiguous(), learns) for t in value}
            setattr(module, name, nn.ParameterList(unique[id(t)] for t in value))


def logs(what: str, values: Sequence[Tensor], kind: type[UnrolledNetwork]) -> list[Tensor]:
    """Logarithms of what must not be negative."""
    for k, value in enumerate(values):
        if bool((value < 0).any()):
            raise ValueError(
                f"the {what} of layer {k} is negative, which {kind.__name__} cannot be: it keeps logarithms"
            )
    made = {id(v): v.log() for v in values}
    return [made[id(v)] for v in values]


def alike(values: Sequence[Tensor]) -> list[Tensor]:
    """Thresholds of one value each, or of n each if one has n."""
    size = max(v.numel() for v in values)
    return list(values) if size == 1 else [v if v.numel() == size else v.expand(size) for v in values]


def repeated(values: Sequence[Tensor], count: int) -> list[Tensor]:
    """So many entries: those given, or the one given, over and over."""
    return list(values) if len(values) == count else [*values] * count


def kind_of(theta: Sequence[Tensor]) -> str:
    return "vector" if theta[0].dim() else "scalar"


def lista(
    W1: Sequence[Tensor], W2: Sequence[Tensor], theta: Sequence[Tensor], layers: int, *, learned_theta: bool = True
) -> LISTA:
    """x⁺ = S_θ(W₁ y + W₂ x). A list of one is shared by all layers."""
    tied = len(W1) == len(W2) == 1 < layers
    net = empty(LISTA, W1[0].mT, layers, tied=tied, threshold=kind_of(theta))
    count = 1 if tied else layers
    fill(net, W1=repeated(W1, count), W2=repeated(W2, count))
    fill(net, learned_theta, theta=repeated(theta, layers))
    return net


def lista_ss(
    W1: Sequence[Tensor], W2: Sequence[Tensor], theta: Sequence[Tensor], passing: tuple[int, ...], selection: Selection
) -> LISTASS:
    """x⁺ = P_θ(W₁ y + W₂ x), where ``passing`` of each layer pass unshrunk."""
    layers = len(theta)
    tied = len(W1) == len(W2) == 1 < layers
    net = empty(LISTASS, W1[0].mT, layers, tied=tied, threshold=kind_of(theta), selection=selection)
    count = 1 if tied else layers
    fill(net, W1=repeated(W1, count), W2=repeated(W2, count), log_theta=logs("threshold", theta, LISTASS))
    net._passing = passing
    return net


def lista_cp(A: Tensor, W: Sequence[Tensor], theta: Sequence[Tensor]) -> LISTACP:
    """x⁺ = S_θ(x + Wᵀ(y − A x))."""
    net = empty(LISTACP, A, len(theta), tied=len(W) == 1 < len(theta), threshold=kind_of(theta))
    fill(net, A=A, W=W, log_theta=logs("threshold", theta, LISTACP))
    return net


def lista_cpss(
    A: Tensor, W: Sequence[Tensor], theta: Sequence[Tensor], passing: tuple[int, ...], selection: Selection
) -> LISTACPSS:
    """x⁺ = P_θ(x + Wᵀ(y − A x)), where ``passing`` of each layer pass unshrunk."""
    n, layers = A.shape[1], len(theta)
    if schedule(selection, layers, n) != passing:
        raise ValueError(
            f"with selection={selection} and n = {n} the source lets {passing} pass in its layers, and LISTACPSS "
            f"{schedule(selection, layers, n)}: no network here does what it does"
        )
    net = empty(LISTACPSS, A, layers, tied=len(W) == 1 < layers, threshold=kind_of(theta), selection=selection)
    fill(net, A=A, W=W, log_theta=logs("threshold", theta, LISTACPSS))
    return net


A_ = TypeVar("A_", bound=ALISTA)


def alista(
    kind: type[A_],
    A: Tensor,
    W: Tensor,
    step: Sequence[Tensor],
    theta: Sequence[Tensor],
    passing: tuple[int, ...] = (),
    selection: Selection = None,
) -> A_:
    """x⁺ = P_θ(x + t Wᵀ(y − A x))."""
    net = empty(kind, A, len(theta), W=torch.empty_like(A, device="meta"), selection=selection)
    fill(net, A=A, W=W, log_step=logs("step", step, kind), log_theta=logs("threshold", theta, kind))
    net._passing = passing
    return net
