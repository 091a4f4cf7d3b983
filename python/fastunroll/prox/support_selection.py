"""Proximal steps that do not shrink the largest elements."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _checks, reference
from .l1 import L1
from .proximal import Kernel, Proximal


class SupportSelection(Proximal):
    """A threshold that leaves the p largest elements that exceed it unshrunk: the bias of the soft threshold is gone.

    Of elements of equal size those with the lower index are left. The choice is not differentiated. A negative θ
    counts as zero.

    Args:
        support_sizes: p, one number, or one for each layer.
        prox: the threshold: :class:`L1`, :class:`NonNegativeL1` or :class:`GroupL1`, of which whole groups are left.

    Raises:
        TypeError: ``prox`` is another operator.
        ValueError: a p is no whole number ≥ 0.

    Equivalent to, for ``L1``::

        largest = z.abs() >= z.abs().topk(p, dim=-1).values[..., -1:]
        torch.where(largest & (z.abs() > theta), z, torch.sgn(z) * torch.relu(z.abs() - theta))

    Reference: Chen, Liu, Wang and Yin, *Theoretical linear convergence of unfolded ISTA and its practical weights and
    thresholds*, 2018.
    """

    def __init__(self, support_sizes: int | Sequence[int], prox: Proximal | None = None) -> None:
        super().__init__()
        self.threshold = L1() if prox is None else prox
        kernel = self.threshold.kernel if isinstance(self.threshold, Proximal) else None
        if kernel is None or kernel.name == "identity" or kernel.support_sizes is not None or self._has_gain():
            raise TypeError(
                f"prox must be L1(), NonNegativeL1() or GroupL1(size), whose largest elements are left as they are, "
                f"got {type(prox).__name__}"
            )
        given = support_sizes if isinstance(support_sizes, (tuple, list)) else [support_sizes]
        if not given or any(type(p) is not int or not 0 <= p < 2**63 for p in given):
            raise ValueError(
                f"support_sizes must be a whole number ≥ 0, or a list of them with one for each layer, got "
                f"{_checks.shown(support_sizes)}"
            )
        self.support_sizes = tuple(given) if isinstance(support_sizes, (tuple, list)) else given[0]

    def _has_gain(self) -> bool:
        return self.threshold.gain(torch.ones(())) is not None

    def at_layer(self, k: int) -> SupportSelection:
        if isinstance(self.support_sizes, int):
            return self
        return SupportSelection(self.support_sizes[k], self.threshold)

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        name, group, _ = self.kernel
        if not isinstance(self.support_sizes, int):
            raise ValueError(
                f"support_sizes must be one number outside of a network, got {self.support_sizes}: use "
                "prox.at_layer(k).prox(z, theta)"
            )
        return reference.proximal_step(z, name, theta, 1.0, group, self.support_sizes)

    @property
    def kernel(self) -> Kernel:
        inner = self.threshold.kernel
        assert inner is not None
        return Kernel(inner.name, inner.group, self.support_sizes)

    def extra_repr(self) -> str:
        return f"support_sizes={self.support_sizes}"


class TopK(Proximal):
    """The projection onto vectors of at most k nonzeros: the k largest elements stay, all others become zero.

    θ has no effect. Of elements of equal size those with the lower index stay. The choice is not differentiated.

    Args:
        k: how many elements of the last dimension stay, ≥ 0.

    Raises:
        ValueError: k is no whole number ≥ 0.

    Equivalent to::

        index = z.abs().topk(k, dim=-1).indices
        torch.zeros_like(z).scatter(-1, index, z.gather(-1, index))

    Reference: Blumensath and Davies, *Iterative hard thresholding for compressed sensing*, 2009.
    """

    has_threshold = False

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k if type(k) is int and k == 0 else _checks.count("k", k)

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        return torch.where(reference.largest(z.detach().abs(), self.k), z, torch.zeros_like(z))

    def value(self, x: Tensor) -> Tensor:
        has_more = ((x != 0).sum(-1) > self.k).reshape(len(x), -1).any(1)
        return torch.where(has_more, torch.inf, x.real.new_zeros(()))

    def extra_repr(self) -> str:
        return f"k={self.k}"
