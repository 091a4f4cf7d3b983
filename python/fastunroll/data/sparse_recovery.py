"""Sparse recovery: random matrices, and sparse vectors with their measurements."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import _checks
from ..operators.convert import OperatorLike, matrix_or_operator
from ..operators.linear_operator import LinearOperator
from ..products import product
from .problems import Samples


def sensing_matrix(m: int, n: int, *, seed: int = 0, condition: float | None = None) -> Tensor:
    """Returns a random matrix (m, n) in float32.

    Entries are drawn from N(0, 1/m), and columns are scaled to norm 1. With ``condition``, a geometric sequence from 1
    to 1/condition replaces the singular values, and the matrix is scaled such that the root mean square norm of its
    columns is 1.

    Args:
        m: the number of rows, ≥ 1.
        n: the number of columns, ≥ 1.
        seed: the seed of the generator.
        condition: the ratio of the largest to the smallest singular value, ≥ 1.

    Raises:
        ValueError: a size is not an integer ≥ 1, or ``condition`` < 1.
    """
    shape = _checks.count("m", m), _checks.count("n", n)
    generator = torch.Generator().manual_seed(_checks.seed(seed))
    if condition is not None:
        condition = _checks.finite("condition", condition, "≥ 1", lambda number: number >= 1)
    A = torch.randn(shape, generator=generator, dtype=torch.float64)
    if condition is None:
        return (A / A.norm(dim=0)).float()
    U, s, Vt = torch.linalg.svd(A, full_matrices=False)
    s = torch.logspace(0, -math.log10(condition), len(s), dtype=s.dtype)
    return ((U * (s * (n / s.square().sum()).sqrt())) @ Vt).float()


class SparseRecovery:
    """Draws samples y = A x + e with a sparse x and white noise e.

    An element of x is drawn from N(0, 1) with probability ``density``, and is zero otherwise. The standard deviation of
    the noise is 10^(−snr/20) times the average standard deviation of an element of A x, so the noise level is the same
    for every batch.

    Args:
        A: (m, n), real or complex, or any operator that states ``shape_in``
            (:func:`fastunroll.operators.as_operator`). Samples have its dtype and device.
        density: the probability that an element of x is not zero, in (0, 1].
        nonzeros: the exact number of nonzeros of every x. It replaces ``density``.
        snr: the signal-to-noise ratio in dB, or None for no noise.

    Raises:
        TypeError: A is not floating point, or neither a matrix nor an operator.
        ValueError: A is a matrix that is not finite, or an operator that states no ``shape_in``; a number out of its
            range.
    """

    def __init__(
        self, A: OperatorLike, *, density: float = 0.1, nonzeros: int | None = None, snr: float | None = None
    ) -> None:
        given = matrix_or_operator(A)
        self.A: Any = _checks.finite_matrix("A", given).detach() if isinstance(given, Tensor) else given
        like, self.shape = _samples_of(self.A)
        self.dtype, self.device, n = like.dtype, like.device, math.prod(self.shape)
        if like.is_meta:
            raise TypeError("A must hold values, but it is on the meta device: make it on another one")
        if nonzeros is not None and _checks.count("nonzeros", nonzeros) > n:
            raise ValueError(f"nonzeros must be at most n = {n}, got {nonzeros}")
        density = _checks.share("density", density)
        self.nonzeros, self.density = nonzeros, density if nonzeros is None else nonzeros / n
        self.snr = snr if snr is None else _checks.finite("snr", snr, "of dB, or None for no noise")
        self.noise = 0.0 if snr is None else _deviation(self.A, like, self.density) * 10 ** (-snr / 20)

    def sample(self, count: int, generator: torch.Generator) -> Samples:
        """Draws ``count`` samples (y, x). Random numbers are drawn on the CPU, so all devices get the same samples."""
        count, generator = _checks.count("count", count), _checks.generator(generator)
        n, dtype = math.prod(self.shape), self.dtype
        if self.nonzeros is None:
            present = torch.rand(count, n, generator=generator) < self.density
        else:
            chosen = torch.rand(count, n, generator=generator).argsort(dim=1)[:, : self.nonzeros]
            present = torch.zeros(count, n, dtype=torch.bool).scatter(1, chosen, True)
        x = torch.where(present, torch.randn(count, n, generator=generator, dtype=dtype), 0.0).to(self.device)
        x = x.reshape(count, *self.shape)
        y = _measured(self.A, x)
        if self.noise:
            y = y + self.noise * torch.randn(y.shape, generator=generator, dtype=y.dtype).to(self.device)
        return Samples(y, x)


def _samples_of(A: Tensor | LinearOperator) -> tuple[Tensor, tuple[int, ...]]:
    """A tensor of the type and device of x, and the shape of one sample."""
    if isinstance(A, Tensor):
        return A, (A.shape[1],)
    like = A.sample()
    assert A.shape_in is not None
    return like, A.shape_in


@torch.no_grad()
def _measured(A: Tensor | LinearOperator, x: Tensor) -> Tensor:
    return product(x, A) if isinstance(A, Tensor) else A(x)


def _deviation(A: Tensor | LinearOperator, like: Tensor, density: float) -> float:
    """The standard deviation of A x for x of a density: √(density/m)·‖A‖_F, estimated by 64 samples for an operator."""
    if isinstance(A, Tensor):
        return math.sqrt(density / A.shape[0]) * float(torch.linalg.matrix_norm(A.to(torch.complex128)).real)
    signs = torch.randint(2, (64, *like.shape[1:]), generator=torch.Generator().manual_seed(0)).to(like) * 2 - 1
    return math.sqrt(density) * float(_measured(A, signs).abs().double().square().mean().sqrt())
