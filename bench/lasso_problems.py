"""The Lasso problems that are solved, and the duality gap in float64 of every solution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import fastunroll as fu
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GAUSSIAN = {"gaussian 250×500": (250, 500, 50), "gaussian 512×2048": (512, 2048, 100)}  # m, n, nonzeros
PATCHES = "patches 64×256"
NAMES = "gaussian 250×500", PATCHES, "gaussian 512×2048"
BATCH = {"gaussian 250×500": 10000, PATCHES: 10000, "gaussian 512×2048": 2000}
SHARE = 0.1  # λ over λ_max
NOISE = 0.05  # standard deviation of the noise relative to that of A x
SIDE, FLATTEST = 8, 0.02  # the side of patches in pixels, and the smallest norm of a patch that is drawn
CHUNK = 1000  # samples whose gaps are computed together


@dataclass(frozen=True)
class Problem:
    """min ½‖A x − y‖² + λ‖x‖₁ for each row y of Y, (B, m), and each of λ, (B,).

    All are float64, but hold numbers of float32, so that solvers of both precisions are given the same problem.
    """

    A: Array
    Y: Array
    lam: Array

    def __len__(self) -> int:
        return len(self.Y)

    def part(self, start: int, stop: int) -> Problem:
        return replace(self, Y=self.Y[start:stop], lam=self.lam[start:stop])

    def scaled(self) -> Array:
        """Y for which λ = 1: its solutions are x/λ. For solvers that take one λ for all samples."""
        return np.asarray(self.Y / self.lam[:, None])

    def gaps(self, x: Array) -> Array:
        """(P − D) / (½‖y‖²) for x (B, n), with the best multiple of the residual as dual point, (B,)."""
        if x.shape != (len(self), self.A.shape[1]):
            raise ValueError(f"solutions of shape {x.shape}, expected {(len(self), self.A.shape[1])}")
        starts = range(0, len(self), CHUNK)
        return np.concatenate([self.part(s, s + CHUNK)._gaps(x[s : s + CHUNK]) for s in starts])

    def _gaps(self, x: Array) -> Array:
        y, lam = self.Y, self.lam
        residual = y - x @ self.A.T
        square, size = (residual**2).sum(1), (y**2).sum(1) / 2
        primal = square / 2 + lam * np.abs(x).sum(1)
        most = lam / np.maximum(np.abs(residual @ self.A).max(1), 1e-300)
        scale = np.clip((residual * y).sum(1) / np.maximum(square, 1e-300), -most, most)
        dual = size - ((y - scale[:, None] * residual) ** 2).sum(1) / 2
        return np.asarray((primal - dual) / size)


def _gaussian(m: int, n: int, nonzeros: int, count: int, random: np.random.Generator) -> tuple[Array, Array]:
    A = random.standard_normal((m, n))
    A /= np.linalg.norm(A, axis=0)
    x = np.zeros((count, n))
    places = random.random((count, n)).argpartition(nonzeros, axis=1)[:, :nonzeros]
    np.put_along_axis(x, places, random.standard_normal((count, nonzeros)), axis=1)
    Y = x @ A.T
    return A, Y + NOISE * Y.std() * random.standard_normal(Y.shape)


def _patches(count: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Returns patches of a photograph of scikit-image without their mean, and leaves out flat patches."""
    from skimage import data

    picture = data.camera() / 255.0
    windows = np.lib.stride_tricks.sliding_window_view(picture, (SIDE, SIDE))
    top, left = (random.integers(0, size, 3 * count) for size in windows.shape[:2])
    Y = windows[top, left].reshape(3 * count, -1)
    Y = Y - Y.mean(1, keepdims=True)
    Y = Y[np.linalg.norm(Y, axis=1) > FLATTEST][:count]
    if len(Y) < count:
        raise RuntimeError(f"only {len(Y)} of {3 * count} patches are not flat")
    return fu.data.cosine_dictionary(SIDE).double().numpy(), Y


def _rounded(values: Array) -> Array:
    return np.ascontiguousarray(values, dtype=np.float32).astype(np.float64)


@lru_cache(maxsize=2)
def problem(name: str, common: bool, count: int, seed: int) -> Problem:
    """``count`` samples of a problem of NAMES; λ is SHARE of each sample's λ_max, or of their median."""
    random = np.random.default_rng(seed)
    A, Y = map(_rounded, _patches(count, random) if name == PATCHES else _gaussian(*GAUSSIAN[name], count, random))
    largest = np.abs(Y @ A).max(1)
    return Problem(A, Y, _rounded(SHARE * (np.full(count, np.median(largest)) if common else largest)))
