"""ALISTA of PyTorch, x⁺ = P_θ(x − γ Wᵀ(A x − y)), in two ways of letting the largest pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .. import ops
from ..nn import ALISTA, analytic_weights
from ..nn.network import exponentials
from ..nn.selection import schedule
from ..nn.stepwise import StepwiseNetwork
from ..prox import soft_threshold
from ..unrolling import run
from .build import Selection, alista
from .source import Source


def load_hyperlista_alista(source: Source, *, selection: Selection = (1.2, 13.0)) -> ALISTA:
    """γ and θ of shape (1, 1), A and W (m, n). What reaches the quantile 1 − p of a sample, and θ, passes."""
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


class TopALISTA(StepwiseNetwork, ALISTA):
    """ALISTA where the largest pass whether or not they exceed θ, as in na-alista: layer by layer, so slower.

    Equivalent to :class:`fastunroll.nn.ALISTA` with ``passes = largest(z.abs(), passing[k])``.
    """

    def _iterates(self, y: Tensor, x: Tensor) -> Iterator[Tensor]:
        form = ops.Form(1, "coupled", shrinkage="none")
        for count, step, theta in zip(
            self._passing, exponentials(self.log_step), exponentials(self.log_theta), strict=True
        ):
            z, _ = run(form, ops.Parameters([self.A], [self.W], [step]), y, x)
            x = soft_threshold(z, theta)
            if count:
                size = z.detach().abs()
                x = torch.where(size > size.topk(min(count + 1, self.n)).values[..., -1:], z, x)
            yield x


def load_na_alista(
    source: Source, A: Tensor | None = None, *, W: Tensor | None = None, p: int | Sequence[int] | None = None
) -> ALISTA:
    """γ and θ of shape (1,). What is larger than the p-th largest of a sample passes, whatever θ: p − 1 elements."""
    A = source.given("A", A)
    W = analytic_weights(A) if W is None else source.given("W", W, *A.shape)
    gamma, theta = source.one_a_layer("gamma.{k}", "theta.{k}")
    if p is None:
        raise ValueError(f"{source.convention} does not store p, how many pass in each layer: give p=, 0 for none")
    largest = [int(v) for v in ([p] * len(theta) if isinstance(p, int) else p)]
    if len(largest) != len(theta) or not all(0 <= v <= A.shape[1] for v in largest):
        raise ValueError(f"p must be a whole number from 0 to n = {A.shape[1]}, or {len(theta)} of them, got {p!r}")
    passing = tuple(max(v - 1, 0) for v in largest)
    step, thresholds = ([source.values(name, 1) for name in group] for group in (gamma, theta))
    if not any(passing):
        return alista(ALISTA, A, W, step, thresholds)
    return alista(TopALISTA, A, W, step, thresholds, passing)
