"""ALISTA of PyTorch, x⁺ = P_θ(x − γ Wᵀ(A x − y)), in two ways of letting the largest pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .. import _checks
from ..nn import ALISTA
from ..nn.selection import schedule
from .build import Selection, alista
from .converted import AdaptiveALISTA, TopALISTA
from .source import AskedSelection, Source


def load_hyperlista_alista(source: Source, *, selection: AskedSelection = ...) -> ALISTA:
    """γ and θ of shape (1, 1), A and W (m, n). What reaches the quantile 1 − p of a sample, and θ, passes."""
    selection = source.selection(selection)
    A = source.matrix("A")
    gamma, theta = source.one_a_layer("gamma.{k}", "theta.{k}")
    return alista(
        ALISTA, A, source.matrix("W", *A.shape),
        [source.values(name, 1) for name in gamma], [source.values(name, 1) for name in theta],
        _above_quantile(selection, len(theta), A), selection,
    )  # fmt: skip


def _above_quantile(selection: Selection, layers: int, A: Tensor) -> tuple[int, ...]:
    """How many of n reach the quantile, which lies between two of them: as torch finds its place, in their type."""
    schedule(selection, layers, A.shape[1])  # refuses what is none
    if selection is None:
        return ()
    last = A.shape[1] - 1
    shares = (min((k + 1) * selection[0], selection[1]) / 100 for k in range(layers))
    return tuple(last + 1 - math.ceil(float(A.new_tensor(1 - share) * last)) for share in shares)


def load_na_alista(
    source: Source, A: Tensor | None = None, *, W: Tensor | None = None, p: int | Sequence[int] | None = None,
    network: str | None = None,
) -> ALISTA:  # fmt: skip
    """γ and θ of shape (1,). What is larger than the p-th largest of a sample passes, whatever θ: p − 1 elements.

    ALISTA-AT has the same names, and a threshold of each element, θ/(1 + |x|/0.1).
    """
    network = source.choice("network", network, "ALISTA", "ALISTA-AT")
    A = source.given("A", A)
    W = source.given("W", W, *A.shape, such_as="fastunroll.nn.analytic_weights(A)")
    gamma, theta = source.one_a_layer("gamma.{k}", "theta.{k}")
    passing = _above_largest(source, p, len(theta), A.shape[1])
    step, thresholds = ([source.values(name, 1) for name in group] for group in (gamma, theta))
    kind = AdaptiveALISTA if network == "ALISTA-AT" else TopALISTA if any(passing) else ALISTA
    return alista(kind, A, W, step, thresholds, passing if any(passing) else ())


def _above_largest(source: Source, p: int | Sequence[int] | None, layers: int, n: int) -> tuple[int, ...]:
    """How many exceed the p-th largest of n in each layer."""
    if p is None:
        raise ValueError(f"{source.convention} does not store p, how many pass in each layer: give p=, 0 for none")
    given: list[int] = list(p) if isinstance(p, (list, tuple)) else [p] * layers  # type: ignore[list-item]  # looked at below
    if len(given) != layers or not all(type(v) is int and 0 <= v <= n for v in given):
        raise ValueError(f"p must be a whole number from 0 to n = {n}, or {layers} of them, got {_checks.shown(p)}")
    return tuple(max(v - 1, 0) for v in given)
