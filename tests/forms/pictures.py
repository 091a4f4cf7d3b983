"""Rows of the table whose operator acts on pictures: every normal operator, prior and scheme with its linear step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import torch
from fastunroll import ops
from fastunroll.operators.wavelet_filters import SCALING_FILTERS
from fastunroll.ops import PictureLayers
from fastunroll.ops.pictures import plain_layers_and_state
from torch import Tensor

from .row import Problem as AnyProblem
from .row import Row, covering

LEARNED = "z", "x0", "s0", "step", "theta", "numbers", "filters"
# The schemes with their linear steps: the name of the scheme, the linear step, and how many numbers a layer has.
SCHEMES: dict[str, tuple[str, str, int]] = {
    "fista": ("fista", "gradient", 1),
    "proximal_gradient": ("proximal_gradient", "gradient", 0),
    "hqs": ("proximal_gradient", "solve", 0),
    "fista with a data step": ("fista", "solve", 1),
    "admm": ("admm", "solve", 1),
    "linearised admm": ("admm", "gradient", 1),
    "primal dual": ("primal_dual", "gradient", 2),
}
WAVELETS = {"db4": ("db4", 2)}  # the prior "wavelet" with these names and levels
PRIORS = "identity", "soft", "nonnegative", "box", "total_variation", "filter_bank", *WAVELETS
REAL_PRIORS = "nonnegative", "box"
# The normal operators of real and of complex pictures: the shape of h for a grid (B, H, W), and the number of coils.
# Where each picture has an h, it has thresholds too.
NORMALS: dict[str, tuple[bool, Any, int]] = {
    "blur": (False, lambda B, H, W: (H, W // 2 + 1), 0),
    "a blur for each picture": (False, lambda B, H, W: (B, H, W // 2 + 1), 0),
    "rows": (False, lambda B, H, W: (1, W // 2 + 1), 0),
    "weights": (False, lambda B, H, W: (H, W), 0),
    "weights for each picture": (False, lambda B, H, W: (B, 1, W), 0),
    "downsample": (False, lambda B, H, W: (H, W // 2 + 1), 0),
    "valid": (False, lambda B, H, W: (H, W // 2 + 1), 0),
    "downsample, valid": (True, lambda B, H, W: (H, W), 0),
    "valid, larger grid, a blur for each picture": (False, lambda B, H, W: (B, H, W // 2 + 1), 0),
    "downsample, valid, larger grid": (True, lambda B, H, W: (H, W), 0),
    "reflect": (False, lambda B, H, W: (H, W // 2 + 1), 0),
    "periodic": (False, lambda B, H, W: (H, W // 2 + 1), 0),
    "downsample, periodic": (True, lambda B, H, W: (H, W), 0),
    "downsample, reflect": (True, lambda B, H, W: (H, W), 0),
    "downsample, zeros, a blur for each picture": (False, lambda B, H, W: (B, H, W // 2 + 1), 0),
    "downsample, a blur for each picture": (True, lambda B, H, W: (B, H, W), 0),
    "scan": (True, lambda B, H, W: (H, W), 0),
    "a scan for each picture": (True, lambda B, H, W: (B, H, W), 0),
    "columns": (True, lambda B, H, W: (1, W), 0),
    "complex weights": (True, lambda B, H, W: (H, 1), 0),
    "coils": (True, lambda B, H, W: (H, W), 3),
    "coils, columns for each picture": (True, lambda B, H, W: (B, 1, W), 2),
}
BANKS = (5, 3), (3, 7), (9, 4)  # how many filters of which size, of the shapes in turn


@dataclass(frozen=True)
class Form(Row):
    """Layers over pictures. The sides grow to what the operator and the levels of a wavelet divide."""

    batch: int = 2
    starts: bool = True
    state: bool = False  # whether the second state is given; that of ADMM is a result then
    size: tuple[int, int] = (5, 6)
    iterations: int = 4
    rho: float = 0.2  # the least ρ of data steps; the larger, the fewer conjugate gradients

    rounds_by_set: ClassVar[bool] = True
    tiny: ClassVar[dict[str, Any]] = {"batch": 1, "size": (2, 3), "layers": 2, "iterations": 3, "state": True}
    large: ClassVar[dict[str, Any]] = {"batch": 3, "size": (99, 100), "layers": 2, "state": True, "rho": 10.0}
    threads: ClassVar[int] = 3  # which meet many times in each layer, and then wait for cores that are busy

    @property
    def is_complex(self) -> bool:
        return NORMALS[self.operator][0]

    @property
    def coils(self) -> int:
        return NORMALS[self.operator][2]

    @property
    def factor(self) -> int:
        """Of how many pixels of a direction one is measured; 0 for all, without margins."""
        if self.operator.startswith("downsample"):
            return 3
        return 1 if self.operator.startswith(("valid", "reflect", "periodic")) else 0

    def sides(self, shape: tuple[int, ...]) -> tuple[list[int], list[int], list[int]]:
        """For pictures (B, H, W) the margins of the grid, what is around a picture, and how much of it is copied."""
        picture = shape[1:]
        around, copied = [0] * 4, [0] * 4
        if any(name in self.operator for name in ("reflect", "periodic", "zeros")):
            around = [2, 1, *(ops.fast_length(n + 5) - n - at for n, at in zip(picture, (2, 1), strict=True))]
        if "reflect" in self.operator or "periodic" in self.operator:
            copied = [min(pixels, n) for pixels, n in zip((1, 1, 2, 2), picture * 2, strict=True)]
        if "larger grid" in self.operator:
            around = [0, 0, *(ops.fast_length(n + 1) - n for n in picture)]
        margins = around
        if "valid" in self.operator:  # a multiple of the factor together, and what is around
            cut = [min(3, n - self.factor) // 3 * k for k in (1, 2) for n in picture]
            margins = [a + b for a, b in zip(cut, around, strict=True)]
        return margins, around, copied

    @property
    def normal(self) -> str:
        """What the package calls the normal operator."""
        of_weights = "weights" in self.operator
        return "weights" if of_weights else "downsample" if self.factor else "fourier"

    @property
    def is_native(self) -> bool:
        """Whether the operator and the prior go together."""
        return not (self.is_complex and self.prox in REAL_PRIORS)

    def __str__(self) -> str:
        return "-".join(self.columns)

    def draw(self, seed: int) -> Problem:
        return Problem(self, layers(self, torch.Generator().manual_seed(seed)))


def layers(form: Form, random: torch.Generator) -> PictureLayers:
    name, linear, count_of_scheme = SCHEMES[form.scheme]
    wavelet, levels = WAVELETS.get(form.prox, (form.prox, 0))
    count, factor, coils = form.layers, form.factor, form.coils
    multiple = max(factor, 1) << levels
    shape = form.batch, *(-(-n // multiple) * multiple for n in form.size)
    margins, around, copied = form.sides(shape)
    grid = [n + around[i] + around[i + 2] for i, n in enumerate(shape[1:])]
    numbers_as = form.dtype
    pictures_as = numbers_as.to_complex() if form.is_complex else numbers_as

    def draw(*size: int, kind: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(*size, dtype=kind, generator=random)

    count_of_bank, size = BANKS[sum(shape) % len(BANKS)]
    size = min(size, *shape[1:])
    is_bank = form.prox == "filter_bank"
    kind = torch.complex128 if form.is_complex else torch.float64
    z, x0, s0 = (draw(*shape, kind=kind) for _ in range(3))
    of_h = NORMALS[form.operator][1](form.batch, *grid)
    h = draw(*of_h, kind=torch.complex128) if factor else _spectrum(draw(*of_h).abs(), form)
    maps = draw(coils, *shape[1:], kind=kind) / coils**0.5 if coils else None
    bands = (3 * levels,) if levels else (count_of_bank,) if is_bank else ()
    of_bands = (count, form.batch, *bands) if "each picture" in form.operator else (count, *bands)
    step, theta = (form.rho if linear == "solve" else 0.2) + 0.1 * draw(count).abs(), 0.3 + 0.1 * draw(*of_bands).abs()
    numbers = draw(count, count_of_scheme) / 4 if count_of_scheme else None
    filters = draw(count, count_of_bank, size, size) / size / count_of_bank**0.5 if is_bank else None
    moves = torch.randint(2**levels, (2 * count,), generator=random).tolist()
    step, theta, numbers, filters = (None if t is None else t.to(numbers_as) for t in (step, theta, numbers, filters))
    z, x0, s0, maps = (None if t is None else t.to(pictures_as) for t in (z, x0, s0, maps))
    return PictureLayers(
        z, x0 if form.starts else None, s0 if form.state else None,
        h.to(numbers_as.to_complex() if factor else numbers_as), maps, step,
        None if form.prox in ("identity", "box") else theta, numbers, filters, form.normal, linear, name,
        "wavelet" if levels else form.prox, -0.4, 0.9, form.iterations,
        SCALING_FILTERS.get(wavelet, ()) if levels else (), levels, moves, factor, margins, around, copied,
        "periodic" in form.operator,
    )  # fmt: skip


def _spectrum(h: Tensor, form: Form) -> Tensor:
    """H with h(−k) = h(k) in the columns of half a spectrum that are mirror images of themselves."""
    if form.is_complex or form.normal == "weights":
        return h
    return (h + h.flip(-2).roll(1, -2)) / 2


@dataclass
class Problem(AnyProblem):
    """Arguments of one call."""

    form: Form
    given: PictureLayers

    @property
    def named_leaves(self) -> dict[str, Tensor]:
        return {name: t for name in LEARNED if (t := getattr(self.given, name)) is not None}

    @property
    def leaves(self) -> list[Tensor]:
        return [*self.named_leaves.values()]

    @property
    def of_each_sample(self) -> list[Tensor]:
        return [t for t in (self.given.z, self.given.x0, self.given.s0) if t is not None]

    def with_leaves(self, leaves: list[Tensor]) -> Problem:
        return self.changed(**dict(zip(self.named_leaves, leaves, strict=True)))

    def changed(self, **given: Any) -> Problem:
        """The same call of other arguments, by name."""
        return replace(self, given=self.given._replace(**given))

    def of_samples(self, samples: Any) -> Problem:
        p = self.given
        z, x0, s0 = (None if t is None else t[samples] for t in (p.z, p.x0, p.s0))
        theta = p.theta[:, samples] if p.theta is not None and p.has_theta_of_each else p.theta
        part = self.changed(z=z, x0=x0, s0=s0, h=p.h[samples] if p.h.dim() == 3 else p.h, theta=theta)
        return replace(part, form=replace(self.form, batch=len(part.given.z)))

    @property
    def _returns_state(self) -> bool:
        return self.form.state and self.given.scheme == "admm"

    def native(self) -> tuple[Tensor, ...]:
        if self._returns_state:
            return ops.picture_layers_and_state(self.given, self.form.layers)
        return (ops.picture_layers(self.given, self.form.layers),)

    def plain(self) -> tuple[Tensor, ...]:
        return plain_layers_and_state(self.given)[: 1 + self._returns_state]


EVERY = [form for form in (Form(*row) for row in product(NORMALS, PRIORS, SCHEMES)) if form.is_native]
ROWS = covering(EVERY, 2)
