"""Layers over pictures, on the CPU: one native call for all pictures and layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ... import _fastunroll
from ..conjugate_gradients import warn_unsolved
from ..tensors import address, is_double, resolved
from .memory import empty
from .spectral import expanded, packed

PRIORS = "identity", "soft", "nonnegative", "box", "total_variation", "filter_bank", "wavelet"
STEPS = "gradient", "solve"
SCHEMES = {"proximal_gradient": 0, "fista": 1, "admm": 1, "primal_dual": 2}  # with their numbers of a layer
_NEED_INPUT = "box", "total_variation", "filter_bank"  # their gradients follow from what they are given


class PictureLayers(NamedTuple):
    """Layers over pictures: the arguments of :func:`fastunroll.ops.picture_layers`, which describes them."""

    z: Tensor
    x0: Tensor | None
    s0: Tensor | None
    h: Tensor
    maps: Tensor | None
    step: Tensor
    theta: Tensor | None
    numbers: Tensor | None
    filters: Tensor | None
    normal: str
    linear: str
    scheme: str
    prior: str
    low: float
    high: float
    iterations: int
    low_pass: Sequence[float] = ()
    levels: int = 0
    moves: Sequence[int] = ()
    factor: int = 0
    margins: Sequence[int] = (0, 0, 0, 0)
    around: Sequence[int] = (0, 0, 0, 0)
    copied: Sequence[int] = (0, 0, 0, 0)
    periodic: bool = False
    relaxation: float = 1.0

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that are given."""
        return [t for t in self if isinstance(t, Tensor)]

    @property
    def grid(self) -> tuple[int, int]:
        """The size of the Fourier transforms."""
        rows, columns = self.z.shape[-2:]
        top, left, bottom, right = self.around
        return top + rows + bottom, left + columns + right

    @property
    def bands(self) -> tuple[int, ...]:
        """The shape of the thresholds of a layer."""
        if self.filters is not None:
            return tuple(self.filters.shape[1:2])
        return (3 * self.levels,) if self.prior == "wavelet" else ()

    @property
    def has_theta_of_each(self) -> bool:
        """Whether each picture has thresholds of its own."""
        return self.theta is not None and self.theta.dim() == 2 + len(self.bands)

    @property
    def saved_shape(self) -> tuple[int, ...]:
        """What is saved of a picture for the gradient.

        Of each layer u where it is needed, the dual variable, the details of a wavelet, and x.
        """
        keeps_u = self.scheme == "admm" or (
            self.scheme != "primal_dual" and (self.linear == "solve" or self.prior in _NEED_INPUT)
        )
        return len(self.step), keeps_u + self.has_dual + (self.prior == "wavelet") + 1, *self.z.shape[-2:]

    @property
    def has_dual(self) -> bool:
        """Whether the second state is a dual variable."""
        return self.scheme in ("admm", "primal_dual")

    def call(self, function: Any, kept: int, saved: Tensor, **others: Tensor | None) -> None:
        """Calls a native function with these arguments, and with the addresses of others by name."""
        *batch, rows, columns = *self.z.shape[:-2], *self.grid
        is_real, of_weights, coils, map_count, map_repeat = not self.z.is_complex(), self.normal == "weights", 0, 1, 1
        if of_weights:
            h, count, repeat = expanded(self.h, batch, 2)
            h = h.expand(*h.shape[:-2], rows, columns)
            h = resolved(h if is_real else h.repeat_interleave(2, -1))
        else:
            h, count, repeat = expanded(self.h, batch, 2)
        maps = self.maps
        if maps is not None:
            maps, map_count, map_repeat = expanded(maps, batch, 3)
            maps, coils = resolved(maps), maps.shape[-3]
        tensors = {"z": self.z, "x0": self.x0, "s0": self.s0, "step": self.step, "theta": self.theta,
                   "numbers": self.numbers, "filters": self.filters}  # fmt: skip
        held = {name: None if t is None else resolved(t) for name, t in tensors.items()}
        held |= {"weights": h if of_weights else None, "maps": maps, "saved": saved, **others}
        unsolved = torch.zeros(1, dtype=torch.int64, device="cpu")
        held["unsolved"] = unsolved
        held["low_pass"] = torch.tensor(self.low_pass, dtype=self.step.dtype, device="cpu")
        held["moves"] = torch.tensor(self.moves, dtype=torch.int64, device="cpu")
        fields: dict[str, Any] = {
            "batch": math.prod(batch), "layers": len(self.step), "threads": torch.get_num_threads(), "rows": rows,
            "columns": columns, "real_images": is_real, "count": count, "repeat": repeat, "coils": coils,
            "map_count": map_count, "map_repeat": map_repeat, "factor": self.factor,
            "linear": STEPS.index(self.linear), "scheme": [*SCHEMES].index(self.scheme),
            "prior": PRIORS.index(self.prior), "low": self.low, "high": self.high, "iterations": self.iterations,
            "relaxation": self.relaxation, "kept": kept, "saved_pictures": len(saved),
            "thresholds": math.prod(self.bands), "theta_count": math.prod(batch) if self.has_theta_of_each else 1,
            "filter_count": 0 if self.filters is None else self.filters.shape[1],
            "filter_size": 0 if self.filters is None else self.filters.shape[2],
            "taps": len(self.low_pass), "levels": self.levels,
            "margins": self.margins, "around": self.around, "copied": self.copied,
            "periodic": self.periodic,
            **{name: address(t) for name, t in held.items()},
        }  # fmt: skip
        while not function(
            is_double(self.z),
            None if of_weights else packed(h, is_real, (count, rows, columns), h.shape[-2] == 1),
            **fields,
        ):
            pass  # the instruction set changed after h was packed
        if count := int(unsolved):
            warn_unsolved(f"{count} solutions of data steps", "use a larger rho")


def forward(p: PictureLayers, kept: int, saved_pictures: int, wants_state: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The last ``kept`` layers, (kept, ..., H, W); d after them, or nothing; and all layers of the first pictures."""
    of_state = p.z.shape if wants_state else (0,)
    x, s, saved = empty([(kept, *p.z.shape), of_state, (saved_pictures, *p.saved_shape)], p.z.dtype)
    p.call(_fastunroll.picture_forward, kept, saved, x=x, s=s if wants_state else None)
    return x, s, saved


def backward(
    grad: Tensor, grad_s: Tensor | None, p: PictureLayers, saved: Tensor, needs: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of z, x0, s0, step, theta, numbers and filters that ``needs`` asks for; None for the others."""
    batch = math.prod(p.z.shape[:-2])
    numbers = [() if t is None else (len(t), batch, *t.shape[1:]) for t in (p.step, p.theta, p.numbers, p.filters)]
    numbers[1] = (len(p.step), batch, *p.bands)
    pictures = iter(empty([p.z.shape for need in needs[:3] if need], p.z.dtype))
    rows = iter(empty([shape for shape, need in zip(numbers, needs[3:], strict=True) if need], p.step.dtype))
    each = [next(pictures if i < 3 else rows) if need else None for i, need in enumerate(needs)]
    names = "to_z", "to_x0", "to_s0", "to_step", "to_theta", "to_numbers", "to_filters"
    others = dict(zip(names, each, strict=True))
    others |= {"grad": resolved(grad), "grad_s": None if grad_s is None else resolved(grad_s)}
    p.call(_fastunroll.picture_backward, len(grad), resolved(saved), **others)
    sums = [None if t is None else t if i == 1 and p.has_theta_of_each else t.sum(1) for i, t in enumerate(each[3:])]
    return [*each[:3], *sums]
