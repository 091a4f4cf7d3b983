"""Networks made of given numbers, instead of those that a classical algorithm starts with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..nn import ALISTA, LISTA, LISTACP, LISTACPSS, LISTASS, StepLISTA, UnrolledNetwork
from ..nn.selection import schedule
from .converted import (
    Converted,
    ConvertedALISTA,
    ConvertedLISTACP,
    ConvertedLISTACPSS,
    ConvertedLISTASS,
    ConvertedStepLISTA,
)

Selection = tuple[float, float] | None
N = TypeVar("N", bound=UnrolledNetwork)

_CONVERTED: dict[type[UnrolledNetwork], type[Converted]] = {
    ALISTA: ConvertedALISTA,
    LISTACP: ConvertedLISTACP,
    LISTACPSS: ConvertedLISTACPSS,
    LISTASS: ConvertedLISTASS,
    StepLISTA: ConvertedStepLISTA,
}


def empty(kind: Callable[..., N], A: Tensor, layers: int, **options: Any) -> N:
    """A network for a matrix of the shape of A whose numbers are all to be filled in.

    It is made on the meta device, where starting as a classical algorithm costs nothing.
    """
    return kind(torch.empty_like(A, device="meta"), layers=layers, **options)


def fill(module: nn.Module, learns: bool = True, **values: Tensor | Sequence[Tensor]) -> None:
    """Sets buffers to tensors, and parameter lists to lists: a tensor that occurs twice becomes one parameter.

    A number becomes a parameter of the shape that the module gives to numbers.
    """
    for name, value in values.items():
        if isinstance(value, Tensor):
            setattr(module, name, value.detach().clone().contiguous())
        else:
            number = getattr(module, name)[0].shape
            made = {id(t): t.detach().clone().reshape(number if t.numel() == 1 else t.shape) for t in value}
            unique = {key: nn.Parameter(t.contiguous(), learns) for key, t in made.items()}
            setattr(module, name, nn.ParameterList(unique[id(t)] for t in value))


def logs(values: Sequence[Tensor]) -> list[Tensor]:
    """Logarithms of magnitudes; a tensor that occurs twice has one."""
    made = {id(v): v.abs().log() for v in values}
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


def _made(
    kind: type[UnrolledNetwork],
    A: Tensor,
    step: Sequence[Tensor],
    theta: Sequence[Tensor],
    passing: tuple[int, ...] = (),
    **options: Any,
) -> Any:
    """A network of ``kind``, or of its relative that keeps signs and numbers that pass, where its source needs that."""
    negative = any(bool((t < 0).any()) for t in (*step, *theta))
    own = (
        issubclass(kind, Converted) or negative or passing != schedule(options.get("selection"), len(theta), A.shape[1])
    )
    net: Any = empty(_CONVERTED.get(kind, kind) if own else kind, A, len(theta), **options)
    if own:
        net.keep(step, theta, passing)
    return net


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
    options = {"tied": tied, "threshold": kind_of(theta), "selection": selection}
    net: LISTASS = _made(LISTASS, W1[0].mT, [], theta, passing, **options)
    count = 1 if tied else layers
    fill(net, W1=repeated(W1, count), W2=repeated(W2, count), log_theta=logs(theta))
    return net


def lista_cp(A: Tensor, W: Sequence[Tensor], theta: Sequence[Tensor]) -> LISTACP:
    """x⁺ = S_θ(x + Wᵀ(y − A x))."""
    net: LISTACP = _made(LISTACP, A, [], theta, tied=len(W) == 1 < len(theta), threshold=kind_of(theta))
    fill(net, A=A, W=W, log_theta=logs(theta))
    return net


def lista_cpss(
    A: Tensor, W: Sequence[Tensor], theta: Sequence[Tensor], passing: tuple[int, ...], selection: Selection
) -> LISTACPSS:
    """x⁺ = P_θ(x + Wᵀ(y − A x)), where ``passing`` of each layer pass unshrunk."""
    options = {"tied": len(W) == 1 < len(theta), "threshold": kind_of(theta), "selection": selection}
    net: LISTACPSS = _made(LISTACPSS, A, [], theta, passing, **options)
    fill(net, A=A, W=W, log_theta=logs(theta))
    return net


def step_lista(A: Tensor, step: Sequence[Tensor], lam: float) -> StepLISTA:
    """x⁺ = S_{λt}(x − t Aᵀ(A x − y))."""
    net: StepLISTA = _made(StepLISTA, A, step, step, lam=lam)
    fill(net, A=A, log_step=logs(step))
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
    options = {"W": torch.empty_like(A, device="meta"), "selection": selection}
    net: A_ = _made(kind, A, step, theta, passing, **options)
    fill(net, A=A, W=W, log_step=logs(step), log_theta=logs(theta))
    return net
