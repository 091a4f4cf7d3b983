"""The interface between the operators and the backends of networks: specs as numbers, results and their shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

from .adaptive_spec import ADAPTIVE_PROXES, ADAPTIVE_SCHEMES, GATES, AdaptiveParameters, AdaptiveSpec
from .spec import LINEAR_STEPS, PROXES, SCHEMES, NetworkSpec, Parameters

Spec: TypeAlias = NetworkSpec | AdaptiveSpec
Shape: TypeAlias = Sequence[int]


class Outcome(NamedTuple):
    """The results of a network. A result that the caller did not ask for has no values.

    x: every layer, (K, batch, n).
    last: the last layer, (batch, n).
    s: the second state after the last layer, (batch, state size).
    saved: the values that the gradient needs besides x, (K, batch, saved size).
    selected: whether support selection left an element or group unshrunk, (K, batch, n / group).
    """

    x: Tensor
    last: Tensor
    s: Tensor
    saved: Tensor
    selected: Tensor


def outcome_shapes(
    spec: Any, p: Any, batch: int, return_layers: bool, save_for_backward: bool, saves_residuals: bool
) -> tuple[tuple[int, ...], ...]:
    """The shapes of an :class:`Outcome`."""
    m, n = spec.sizes(p)
    return (
        (spec.layers if return_layers or save_for_backward else 0, batch, n),
        (0 if return_layers else batch, n),
        (batch, spec.state_size(m, n)),
        (spec.layers, batch, spec.saved_size(p, saves_residuals) if save_for_backward else 0),
        (spec.layers, batch, spec.selected_size(n) if save_for_backward else 0),
    )


def gradient_shapes(spec: Any, p: Any, y: Tensor, needs: Sequence[bool]) -> list[Shape]:
    """The shapes of the gradients that ``needs`` asks for: of y, x0, s0, and the tensors of each list of parameters."""
    m, n = spec.sizes(p)
    inputs: tuple[Shape, ...] = (y.shape, (y.shape[0], n), (y.shape[0], spec.state_size(m, n)))
    shapes = [shape for need, shape in zip(needs[:3], inputs, strict=True) if need]
    for need, group in zip(needs[3:], p, strict=True):
        shapes += [t.shape for t in group] if need else []
    return shapes


def counts_of(p: Sequence[Sequence[Tensor]]) -> list[int]:
    """The length of each list of parameters."""
    return [len(group) for group in p]


def split(values: Sequence[Any], counts: Sequence[int]) -> list[list[Any]]:
    """Lists of these lengths, from all their entries one after another."""
    lists, at = [], 0
    for count in counts:
        lists.append(list(values[at : at + count]))
        at += count
    return lists


def parameters_of(spec: Spec, tensors: Sequence[Tensor], counts: Sequence[int]) -> Any:
    """The parameters of a network from all tensors one after another."""
    kind: Any = Parameters if isinstance(spec, NetworkSpec) else AdaptiveParameters
    return kind(*split(tensors, counts))


# The schema of a torch operator has no dataclasses: numbers stand for a spec and the lengths of the lists.


def encode(spec: Spec, counts: Sequence[int]) -> list[int]:
    if isinstance(spec, NetworkSpec):
        choices = [LINEAR_STEPS.index(spec.linear), SCHEMES.index(spec.scheme), PROXES.index(spec.prox), spec.group]
    else:
        choices = [ADAPTIVE_SCHEMES.index(spec.scheme), ADAPTIVE_PROXES.index(spec.prox), GATES.index(spec.gate)]
    return [int(isinstance(spec, NetworkSpec)), spec.layers, *choices, *counts, *spec.support_sizes]


def decode(numbers: Sequence[int]) -> tuple[Spec, list[int]]:
    """The spec, and the lengths of the lists of parameters."""
    is_network, layers, *rest = numbers
    if is_network:
        (linear, scheme, prox, group), counts, support_sizes = rest[:4], rest[4:10], tuple(rest[10:])
        names = LINEAR_STEPS[linear], SCHEMES[scheme], PROXES[prox]
        return NetworkSpec(layers, *names, group, support_sizes), counts
    (scheme, prox, gate), counts, support_sizes = rest[:3], rest[3:6], tuple(rest[6:])
    return AdaptiveSpec(layers, ADAPTIVE_SCHEMES[scheme], ADAPTIVE_PROXES[prox], GATES[gate], support_sizes), counts
