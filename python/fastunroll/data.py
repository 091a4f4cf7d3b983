"""Problems that draw samples for training and testing. All random draws are seeded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import _checks
from .operators.convert import OperatorLike, matrix_or_operator
from .operators.linear_operator import LinearOperator
from .products import product


class Samples(NamedTuple):
    """Measurements y (count, m) and the ground truth x (count, n), which is None if it is unknown."""

    y: Tensor
    x: Tensor | None


class Problem(Protocol):
    """An object that draws samples."""

    def sample(self, count: int, generator: torch.Generator) -> Samples:
        """Draws ``count`` samples. All random numbers come from the generator."""
        ...


def stream(problem: Problem, batch: int, seed: int = 0) -> Iterator[Samples]:
    """Yields batches of samples without end. They share no random number with :func:`fixed`, whatever its seed."""
    batch, seed = _checks.count("batch", batch), _checks.seed(seed)
    return _batches(_problem(problem), batch, torch.Generator().manual_seed(2 * seed))


def _batches(problem: Problem, batch: int, generator: torch.Generator) -> Iterator[Samples]:
    while True:
        yield problem.sample(batch, generator)


def _problem(problem: Problem) -> Problem:
    if not callable(getattr(problem, "sample", None)):
        raise TypeError(f"problem must have sample(count, generator), got {_checks.shown(problem)}")
    return problem


def fixed(problem: Problem, count: int, seed: int = 0) -> Samples:
    """Returns a fixed set of samples for tests. It shares no random number with :func:`stream`, whatever its seed."""
    count, seed = _checks.count("count", count), _checks.seed(seed)
    return _problem(problem).sample(count, torch.Generator().manual_seed(2 * seed + 1))


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


class Patches:
    """Draws square patches of photographs, minus their mean, as measurements for sparse coding without ground truth.

    Args:
        images: a list of grey photographs (height, width) from 0 to 1; or a folder of pictures; or None for the
            photographs of scikit-image. Folder and None need ``pip install 'fastunroll[demo]'``.
        side: the side of a patch in pixels.
        contrast: the standard deviation of all patches together, to which they are scaled, or None for no scaling.

    Raises:
        ValueError: an image is not two-dimensional or smaller than a patch, or there is no image.
    """

    def __init__(
        self,
        images: Sequence[NDArray[np.floating]] | Path | str | None = None,
        *,
        side: int = 8,
        contrast: float | None = 1.0,
    ) -> None:
        self.side = _checks.count("side", side)
        found = _pictures(images) if images is None or isinstance(images, (str, Path)) else images
        if not isinstance(found, Sequence):
            raise TypeError(f"images must be a list of pictures, a folder or None, got {_checks.shown(found)}")
        self._images = [_grey(image, self.side) for image in found]
        if not self._images:
            raise ValueError("images must hold at least one picture, got none")
        self._scale = 1.0
        if contrast is not None:
            contrast = _checks.positive("contrast", contrast)
            spread = float(self.sample(4096, torch.Generator().manual_seed(0)).y.std())
            self._scale = contrast / spread if spread > 0 else 1.0

    def sample(self, count: int, generator: torch.Generator) -> Samples:
        """Draws ``count`` patches (count, side²) at random positions of random pictures."""
        count, generator = _checks.count("count", count), _checks.generator(generator)
        which = torch.randint(len(self._images), (count,), generator=generator).tolist()
        places = torch.rand(count, 2, generator=generator)
        side, out = self.side, torch.empty(count, self.side**2)
        for i, image in enumerate(which):
            pixels = self._images[image]
            top, left = (int(places[i, d] * (pixels.shape[d] - side + 1)) for d in (0, 1))
            out[i] = pixels[top : top + side, left : left + side].reshape(-1)
        return Samples(self._scale * (out - out.mean(dim=1, keepdim=True)), None)


def _grey(image: object, side: int) -> Tensor:
    """Returns a picture as a float32 tensor (height, width)."""
    image = _checks.array("images", image)
    try:
        pixels = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    except (TypeError, ValueError, RuntimeError, NotImplementedError):
        raise TypeError(f"images must be arrays of numbers, got {_checks.shown(image)}") from None
    if pixels.dim() != 2 or min(pixels.shape) < side:
        got = _checks.shape_text(pixels.shape)
        raise ValueError(f"images must be grey and at least {side}x{side} pixels, got shape {got}")
    if not bool(pixels.isfinite().all()):
        raise ValueError("images must be finite, but an image holds NaN or infinity: check how it was computed")
    return pixels


def _pictures(folder: Path | str | None) -> list[NDArray[np.float64]]:
    if find_spec("skimage") is None:
        raise ModuleNotFoundError("scikit-image must be installed to read pictures: pip install 'fastunroll[demo]'")
    from .demo import photographs

    if folder is not None:
        return [p.pixels for p in photographs.from_folder(Path(folder))]
    return photographs.training_pictures()


def cosine_dictionary(side: int = 8, frequencies: int = 16) -> Tensor:
    """Returns the overcomplete cosine dictionary (side², frequencies²) for patches of side × side pixels.

    Columns are products of a vertical and a horizontal cosine cos(π i f / frequencies) with i < side and
    f < frequencies. They have norm 1, and all cosines but the constant have zero mean.
    """
    side, frequencies = _checks.count("side", side), _checks.count("frequencies", frequencies)
    i, f = torch.arange(side, dtype=torch.float64), torch.arange(frequencies, dtype=torch.float64)
    atoms = torch.cos(math.pi * i[:, None] * f / frequencies)
    atoms[:, 1:] -= atoms[:, 1:].mean(dim=0)
    D = torch.kron(atoms, atoms)
    return (D / D.norm(dim=0)).float()
