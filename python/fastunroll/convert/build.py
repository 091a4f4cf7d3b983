"""Builds networks from given tensors, instead of the starting values of a classical algorithm."""

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
    """Returns a network on the meta device for a matrix of the shape of A. :func:`fill` sets its tensors.

    On the meta device, the starting values of the classical algorithm cost no computation.
    """
    return kind(torch.empty_like(A, device="meta"), layers=layers, **options)


def fill(module: nn.Module, learns: bool = True, **values: Tensor | Sequence[Tensor]) -> None:
    """Sets the buffers and parameter lists of a module.

    A tensor that occurs several times in a list becomes a single shared parameter. A scalar gets the shape that the
    module uses for scalars.

    Args:
        module: the module.
        learns: whether the parameters require gradients.
        values: a tensor for each buffer, and a list of tensors for each parameter list.
    """
    for name, value in values.items():
        if isinstance(value, Tensor):
            setattr(module, name, value.detach().clone().contiguous())
        else:
            scalar_shape = getattr(module, name)[0].shape
            copies = {id(t): t.detach().clone().reshape(scalar_shape if t.numel() == 1 else t.shape) for t in value}
            unique = {key: nn.Parameter(t.contiguous(), learns) for key, t in copies.items()}
            setattr(module, name, nn.ParameterList(unique[id(t)] for t in value))


def logs(values: Sequence[Tensor]) -> list[Tensor]:
    """Returns the logarithms of magnitudes. A tensor that occurs several times has a single logarithm."""
    computed = {id(v): v.abs().log() for v in values}
    return [computed[id(v)] for v in values]


def of_equal_size(values: Sequence[Tensor]) -> list[Tensor]:
    """Expands thresholds to the same size: to 1 value each, or to n values each if any of them has n."""
    size = max(v.numel() for v in values)
    return list(values) if size == 1 else [v if v.numel() == size else v.expand(size) for v in values]


def repeated(values: Sequence[Tensor], count: int) -> list[Tensor]:
    """Returns a list of ``count`` entries from ``count`` values or from a single value."""
    return list(values) if len(values) == count else [*values] * count


def threshold_kind(theta: Sequence[Tensor]) -> str:
    return "vector" if theta[0].dim() else "scalar"


def _empty_network(
    kind: type[UnrolledNetwork],
    A: Tensor,
    step: Sequence[Tensor],
    theta: Sequence[Tensor],
    support_sizes: tuple[int, ...] = (),
    **options: Any,
) -> Any:
    """Returns an empty network of the class ``kind``, or of its subclass that stores signs and support sizes.

    The subclass is needed if a step or threshold is negative, or if the support sizes differ from the sizes that
    ``kind`` computes from its option ``selection``.
    """
    negative = any(bool((t < 0).any()) for t in (*step, *theta))
    needs_subclass = (
        issubclass(kind, Converted)
        or negative
        or support_sizes != schedule(options.get("selection"), len(theta), A.shape[1])
    )
    net: Any = empty(_CONVERTED.get(kind, kind) if needs_subclass else kind, A, len(theta), **options)
    if needs_subclass:
        net.store(step, theta, support_sizes)
    return net


def lista(
    W1: Sequence[Tensor], W2: Sequence[Tensor], theta: Sequence[Tensor], layers: int, *, learned_theta: bool = True
) -> LISTA:
    """Builds x⁺ = S_θ(W₁ y + W₂ x). All layers share the entry of a list of length 1."""
    tied = len(W1) == len(W2) == 1 < layers
    net = empty(LISTA, W1[0].mT, layers, tied=tied, threshold=threshold_kind(theta))
    count = 1 if tied else layers
    fill(net, W1=repeated(W1, count), W2=repeated(W2, count))
    fill(net, learned_theta, theta=repeated(theta, layers))
    return net


def lista_ss(
    W1: Sequence[Tensor],
    W2: Sequence[Tensor],
    theta: Sequence[Tensor],
    support_sizes: tuple[int, ...],
    selection: Selection,
) -> LISTASS:
    """Builds x⁺ = P_θ(W₁ y + W₂ x) with the support size of each layer."""
    layers = len(theta)
    tied = len(W1) == len(W2) == 1 < layers
    options = {"tied": tied, "threshold": threshold_kind(theta), "selection": selection}
    net: LISTASS = _empty_network(LISTASS, W1[0].mT, [], theta, support_sizes, **options)
    count = 1 if tied else layers
    fill(net, W1=repeated(W1, count), W2=repeated(W2, count), log_theta=logs(theta))
    return net


def lista_cp(
    A: Tensor,
    W: Sequence[Tensor],
    theta: Sequence[Tensor],
    support_sizes: tuple[int, ...] = (),
    selection: Selection = None,
) -> LISTACP:
    """Builds x⁺ = P_θ(x + Wᵀ(y − A x)) with the support size of each layer: LISTACPSS if there is a selection."""
    options: dict[str, Any] = {"tied": len(W) == 1 < len(theta), "threshold": threshold_kind(theta)}
    if selection is not None:
        options["selection"] = selection
    kind = LISTACP if selection is None else LISTACPSS
    net: LISTACP = _empty_network(kind, A, [], theta, support_sizes, **options)
    fill(net, A=A, W=W, log_theta=logs(theta))
    return net


def step_lista(A: Tensor, step: Sequence[Tensor], lam: float) -> StepLISTA:
    """Builds x⁺ = S_{λt}(x − t Aᵀ(A x − y))."""
    net: StepLISTA = _empty_network(StepLISTA, A, step, step, lam=lam)
    fill(net, A=A, log_step=logs(step))
    return net


AnyALISTA = TypeVar("AnyALISTA", bound=ALISTA)


def alista(
    kind: type[AnyALISTA],
    A: Tensor,
    W: Tensor,
    step: Sequence[Tensor],
    theta: Sequence[Tensor],
    support_sizes: tuple[int, ...] = (),
    selection: Selection = None,
) -> AnyALISTA:
    """Builds x⁺ = P_θ(x + t Wᵀ(y − A x)) with the support size of each layer."""
    options = {"W": torch.empty_like(A, device="meta"), "selection": selection}
    net: AnyALISTA = _empty_network(kind, A, step, theta, support_sizes, **options)
    fill(net, A=A, W=W, log_step=logs(step), log_theta=logs(theta))
    return net
