"""The settings of the comparison, and the measurements of blocks of photographs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...data.photographs import Given, Photographs, photograph
from ...operators import Blocks, LinearOperator
from ...training.loop import Budget

_STEPS = 10**6  # more than any training has time for
SECONDS, QUICK_SECONDS = 300.0, 20.0


@dataclass(frozen=True)
class Settings:
    """What is measured, and how networks are made and trained.

    Attributes:
        budget: how long each network is trained.
        seed: the seed of the measurements, of weights and of training.
        layers: the number of layers of each network.
        side: the side of a block in pixels.
        share: the number of measurements of a block relative to its pixels.
        features: the number of maps of the learned transform.
        batch: the number of blocks of a training step.
        rate: the largest learning rate of filters. Steps and thresholds learn at three times this rate.
        images: the photographs for training, as :class:`fastunroll.data.Photographs` takes them.
        tested: the names of the photographs for tests (:func:`fastunroll.data.photograph`).
    """

    budget: Budget
    seed: int = 0
    layers: int = 9
    side: int = 33
    share: float = 0.25
    features: int = 32
    batch: int = 16
    rate: float = 1e-3
    images: Given = None
    tested: tuple[str, ...] = ("camera", "chelsea", "coffee", "coins")

    @staticmethod
    def of_command(seed: int, quick: bool) -> Settings:
        """Returns the settings of the command line."""
        return Settings(Budget(_STEPS, QUICK_SECONDS if quick else SECONDS), seed)

    @property
    def measurements(self) -> int:
        """The number of measurements of a block."""
        return round(self.share * self.side**2)


class BlockSensing(LinearOperator):
    """y = Φ x for blocks x (..., side, side), with random orthonormal rows Φ: y is (..., m).

    Args:
        matrix: Φ, (m, side²), with ΦΦᵀ = I.
        side: the side of a block in pixels.
    """

    def __init__(self, matrix: Tensor, side: int) -> None:
        super().__init__()
        self.register_buffer("Phi", matrix)
        self.Phi: Tensor
        self.shape_in, self.shape_out = (side, side), (len(matrix),)

    def forward(self, x: Tensor) -> Tensor:
        """Φ x."""
        return x.flatten(-2) @ self.Phi.mT

    def adjoint(self, y: Tensor) -> Tensor:
        """Φᵀ y."""
        return (y @ self.Phi).unflatten(-1, self.shape_in)

    def norm(self) -> float:
        """‖Φ‖ = 1."""
        return 1.0

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(ΦᵀΦ + ρI)⁻¹ b = (b − ΦᵀΦ b/(1 + ρ))/ρ."""
        return (b - self.normal(b) / (1 + rho)) / rho


def sensing(settings: Settings) -> BlockSensing:
    """Returns the measurements of blocks, drawn from the seed."""
    gaussian = np.random.default_rng(settings.seed).standard_normal((settings.side**2, settings.measurements))
    return BlockSensing(torch.from_numpy(np.linalg.qr(gaussian)[0].T.copy()).float(), settings.side)


class TrainingBlocks:
    """Draws blocks of the training photographs (count, side, side)."""

    def __init__(self, settings: Settings) -> None:
        self.photographs = Photographs(None, settings.side, images=settings.images)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws ``count`` blocks."""
        return self.photographs.draw(count, generator)


class HeldOutPhotograph:
    """A photograph for tests, and its blocks.

    Args:
        name: the name of the photograph. It is cropped to a multiple of the side of a block.
        side: the side of a block in pixels.
    """

    def __init__(self, name: str, side: int) -> None:
        pixels = photograph(name)
        h, w = (n // side * side for n in pixels.shape)
        self.name, self.x, self.side = name, pixels[:h, :w].contiguous(), side
        self._to_blocks = Blocks(side, shape=(h, w))

    def blocks(self) -> Tensor:
        """Returns the blocks (count, side, side), row by row."""
        return self._to_blocks(self.x).unflatten(-1, (self.side, self.side))

    def assemble(self, blocks: Tensor) -> Tensor:
        """Returns the photograph of other blocks, clipped to [0, 1]."""
        return self._to_blocks.adjoint(blocks.flatten(-2)).clamp(0, 1)


def linear_start(A: BlockSensing, blocks: Tensor) -> Tensor:
    """Returns the matrix Q (side², m) for which Q y is nearest to the training blocks (count, side, side)."""
    x, y = blocks.flatten(1).double(), A(blocks).double()
    gram = y.mT @ y
    ridge = 1e-3 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram + ridge, y.mT @ x).mT.float()
