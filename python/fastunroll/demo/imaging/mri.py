"""The brain: magnetic resonance imaging from a quarter of the columns of k-space, with one coil and with eight."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from ...data import Phantoms, Photographs, shepp_logan
from ...data.pictures import smooth_field
from ...operators import Fourier, LinearOperator, MultiCoilFourier
from . import rivals
from .classical import Method, total_variation, wavelet
from .compare import Experiment
from .network import refining_network
from .scene import Scene
from .training import Batch

NOISE = 0.005  # the standard deviation of a sample of k-space
SHARE, CENTRE = 0.25, 0.08  # of the columns that are sampled, and of those around the frequency zero
PHASE = 1.0  # the standard deviation of the phase in radians
COILS = 8
SIDE, PATCH = 256, 96  # of the pictures for tests and for training
SLICE = 85  # of the brain


def columns(count: int, width: int, generator: torch.Generator) -> Tensor:
    """Draws masks (count, width) of columns: a block in the middle, and others at random, a quarter of all."""
    centre, sampled = round(CENTRE * width), round(SHARE * width)
    first = (width - centre) // 2
    order = torch.rand(count, width, generator=generator)
    order[:, first : first + centre] = -1
    masks = torch.zeros(count, width)
    return masks.scatter(1, order.argsort(1)[:, :sampled], 1.0)


def coil_maps(shape: tuple[int, int], coils: int = COILS) -> Tensor:
    """The sensitivities (C, H, W) of coils in a circle around the picture, with Σ|S|² = 1 at each pixel."""
    down, right = (torch.linspace(-1, 1, n) for n in shape)
    angle = 2 * torch.pi * torch.arange(coils) / coils
    distance = (down[:, None] - 1.2 * angle.sin()[:, None, None]).square()
    distance = distance + (right - 1.2 * angle.cos()[:, None, None]).square()
    phase = angle[:, None, None] + down[:, None] * angle.cos()[:, None, None] - right * angle.sin()[:, None, None]
    maps = torch.polar(torch.exp(-distance / 1.2), phase)
    return maps / maps.abs().square().sum(0).sqrt()


def brain() -> Tensor | None:
    """A section of the averaged T1-weighted brain of the Montreal Neurological Institute; None without nilearn.

    Reference: Fonov, Evans, McKinstry, Almli and Collins, *Unbiased nonlinear average age-appropriate brain templates
    from birth to adulthood*, 2009.
    """
    if find_spec("nilearn") is None:
        return None
    from nilearn.datasets import load_mni152_template

    volume = torch.from_numpy(load_mni152_template(resolution=1).get_fdata(dtype="float32"))
    section = volume[:, :, SLICE].mT.flip(0)
    h, w = section.shape
    x = torch.zeros(SIDE, SIDE)
    top, left = (SIDE - h) // 2, (SIDE - w) // 2
    x[top : top + h, left : left + w] = section / section.max()
    return x


def scene(name: str, magnitude: Tensor, seed: int, coils: int = 1) -> Scene:
    """A picture with a smooth phase, and noisy samples of a quarter of its columns of k-space."""
    shape = (magnitude.shape[-2], magnitude.shape[-1])
    generator = torch.Generator().manual_seed(2 * seed + 1)
    x = torch.polar(magnitude, PHASE * smooth_field(1, shape, generator)[0])[None]
    mask = columns(1, shape[1], generator)[0]
    A: LinearOperator = Fourier(mask) if coils == 1 else MultiCoilFourier(mask, coil_maps(shape, coils))
    y = A(x)
    y = y + NOISE * mask * torch.randn(y.shape, generator=generator, dtype=y.dtype)
    return Scene(f"{name}, {coils} coil{'s' * (coils > 1)}", x, A, y, A.adjoint(y))


def scenes(seed: int) -> list[Scene]:
    """The phantom of Shepp and Logan, and the brain where nilearn is installed, with one coil and with eight."""
    pictures = {"phantom": shepp_logan(SIDE)} | ({} if (x := brain()) is None else {"brain": x})
    return [scene(name, x, seed, coils) for name, x in pictures.items() for coils in (1, COILS)]


def methods(converged: int) -> list[Method]:
    """The classical methods, and the weights λ from which each is chosen."""
    few, many = (0.002, 0.004, 0.008, 0.016, 0.032, 0.064), (0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016)
    return [
        wavelet(16, few, drawn=False),
        wavelet(converged, many),
        total_variation(16, few),
        total_variation(converged, many),
    ]


class Draw:
    """Draws training pictures: phantoms and photographs with a smooth phase, each with a mask of its own.

    A batch has one coil or several, and its phantoms are flat or shaded, at random.
    """

    def __init__(self, side: int = PATCH, coils: tuple[int, ...] = (1, COILS)) -> None:
        self.phantoms = [Phantoms(None, side, phase=PHASE, shading=shading) for shading in (0.0, 0.1)]
        self.photographs = Photographs(None, side, phase=PHASE)
        self.side, self.coils = side, coils
        self.maps = coil_maps((side, side))

    def __call__(self, count: int, generator: torch.Generator) -> Batch:
        first = (count + 1) // 2
        phantoms = self.phantoms[int(torch.randint(len(self.phantoms), (), generator=generator))]
        pairs = (phantoms, first), (self.photographs, count - first)
        parts = [p.sample(n, generator).y for p, n in pairs if n]
        x = torch.cat(parts)
        mask = columns(count, self.side, generator)[:, None]
        coils = self.coils[int(torch.randint(len(self.coils), (), generator=generator))]
        A: LinearOperator = Fourier(mask) if coils == 1 else MultiCoilFourier(mask, self.maps)
        y = A(x)
        mask = mask if coils == 1 else mask[:, None]
        return Batch(y + NOISE * mask * torch.randn(y.shape, generator=generator, dtype=y.dtype), x, A)


def experiment(seed: int, converged: int) -> Experiment:
    """What ``fastunroll mri`` compares.

    Args:
        seed: the seed of the masks, the phases and the noise of the tests.
        converged: the number of iterations of converged methods.
    """
    tested = scenes(seed)
    return Experiment(
        "mri", "Magnetic resonance imaging from a quarter of the columns of k-space", tested,
        lambda seed: refining_network(tested[0].A, seed), rivals.refining, Draw(), Draw(),
        methods(converged), "zero-filled", gamma=0.7, batch=2, half_until=0.4,
    )  # fmt: skip
