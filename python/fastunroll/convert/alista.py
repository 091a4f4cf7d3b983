"""Loads ALISTA, x⁺ = P_θ(x − γ Wᵀ(A x − y)), from two PyTorch packages that select the support differently."""

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
    """Loads HyperLISTA's ALISTA, with γ and θ of shape (1, 1), and A and W of shape (m, n).

    The support of a layer are the elements that exceed θ and reach the quantile 1 − p of their sample.
    """
    selection = source.selection(selection)
    A = source.matrix("A")
    gamma, theta = source.one_a_layer("gamma.{k}", "theta.{k}")
    return alista(
        ALISTA, A, source.matrix("W", *A.shape),
        [source.values(name, 1) for name in gamma], [source.values(name, 1) for name in theta],
        _above_quantile(selection, len(theta), A), selection,
    )  # fmt: skip


def _above_quantile(selection: Selection, layers: int, A: Tensor) -> tuple[int, ...]:
    """Returns the number of elements that reach the quantile, for each layer.

    The quantile lies between two elements. Its position is computed in the dtype of A, as ``torch.quantile`` does.
    """
    schedule(selection, layers, A.shape[1])  # raises an exception if the selection is invalid
    if selection is None:
        return ()
    last = A.shape[1] - 1
    shares = (min((k + 1) * selection[0], selection[1]) / 100 for k in range(layers))
    return tuple(last + 1 - math.ceil(float(A.new_tensor(1 - share) * last)) for share in shares)


def load_na_alista(
    source: Source, A: Tensor | None = None, *, W: Tensor | None = None, p: int | Sequence[int] | None = None,
    network: str | None = None,
) -> ALISTA:  # fmt: skip
    """Loads na-alista's ALISTA, with γ and θ of shape (1,).

    The support of a layer are the p − 1 elements that are larger than the p-th largest of their sample, even if they
    are smaller than θ. ALISTA-AT stores the same names, and uses the threshold θ/(1 + |x|/0.1) for each element.
    """
    network = source.choice("network", network, "ALISTA", "ALISTA-AT")
    A = source.given("A", A)
    W = source.given("W", W, *A.shape, such_as="fastunroll.nn.analytic_weights(A)")
    gamma, theta = source.one_a_layer("gamma.{k}", "theta.{k}")
    support_sizes = _above_largest(source, p, len(theta), A.shape[1])
    step, thresholds = ([source.values(name, 1) for name in group] for group in (gamma, theta))
    kind = AdaptiveALISTA if network == "ALISTA-AT" else TopALISTA if any(support_sizes) else ALISTA
    return alista(kind, A, W, step, thresholds, support_sizes if any(support_sizes) else ())


def _above_largest(source: Source, p: int | Sequence[int] | None, layers: int, n: int) -> tuple[int, ...]:
    """Returns the number of elements that exceed the p-th largest of n, for each layer."""
    if p is None:
        raise ValueError(
            f"{source.convention} does not store p, the support size of each layer: give p=, or p=0 to shrink all"
        )
    given: list[int] = list(p) if isinstance(p, (list, tuple)) else [p] * layers  # type: ignore[list-item]
    if len(given) != layers or not all(type(v) is int and 0 <= v <= n for v in given):
        raise ValueError(
            f"p must be an integer from 0 to n = {n}, or a list of {layers} such integers, got {_checks.shown(p)}"
        )
    return tuple(max(v - 1, 0) for v in given)
