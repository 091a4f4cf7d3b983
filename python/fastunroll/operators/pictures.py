"""What the operators of pictures share: the checks of their arguments, and the tensors that they keep."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from .. import _checks
from .._checks import shape_text
from ..colours import CHANNELS, are_colours_last, warn_of_colours
from ..ops.tensors import has_tangents, is_hidden
from ..warn import warn
from .gradients import is_as_written
from .linear_operator import LinearOperator
from .solve import rho_beside
from .stated import require_stated

_HALF = (torch.float16, torch.bfloat16)
_REAL = {
    torch.float32: torch.float32, torch.float64: torch.float64,
    torch.complex64: torch.float32, torch.complex128: torch.float64,
}  # fmt: skip


_HELD = "kernel", "mask", "maps", "filters"
_ROUNDING = 0.01  # of the largest value: more than that of half precision


def _are_near(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same but for rounding, as far as they can be read."""
    if a.is_meta or b.is_meta or a.shape != b.shape or a.numel() == 0:
        return a.shape == b.shape
    b = b.detach().to(a.device)
    return bool((a - b).abs().max() <= _ROUNDING * a.abs().max())


class NormalParts(NamedTuple):
    """What AᴴA v is made of, for compiled layers.

    normal: ``"fourier"`` for F⁻¹ diag(h) F v, or with maps for its sum over coils; ``"weights"`` for h · v;
        ``"downsample"`` for the blur with the spectrum h on a grid, of which every ``factor``-th pixel inside the
        ``margins`` is kept, and its adjoint. around: how many pixels the grid has around the picture, at the top, left,
        bottom and right. copied: how many of these are copies of pixels, ``periodic`` or reflected; others are zero.
    """

    normal: str
    h: Tensor
    maps: Tensor | None = None
    factor: int = 0
    margins: tuple[int, ...] = (0, 0, 0, 0)
    around: tuple[int, ...] = (0, 0, 0, 0)
    copied: tuple[int, ...] = (0, 0, 0, 0)
    periodic: bool = False


class PictureOperator(LinearOperator):
    """A linear operator on pictures (..., H, W), real or complex. All dimensions before (H, W) are a batch.

    Attributes:
        picture_dims: the number of dimensions of a picture: 2, or 3 for volumes (..., D, H, W).
        channel_dims: the number of dimensions that a sample of x, and one of y, has before those of a picture.
        is_shared: whether all samples of a batch have the same A, and not each a kernel, mask or map of its own.
        moves_pixels: whether a picture whose axes are mistaken is measured wrongly, as where pixels meet neighbours.
        measures_pictures: whether y is pictures too, and not their blocks.
    """

    picture_dims: int = 2
    channel_dims: tuple[int, int] = (0, 0)
    moves_pixels = True
    measures_pictures = True
    is_stated = False  # whether ``shape`` was given, which all x then have
    axes: ClassVar[str] = "DHW"

    @property
    def is_shared(self) -> bool:
        return not self.own_batch

    @property
    def is_sound(self) -> bool:
        """Whether its products are as this package has written them: then Aᴴ is the adjoint of A."""
        is_ours = type(self).__module__.startswith(f"{__package__}.") and not self._modules
        return is_ours and is_as_written(self, "forward", "adjoint")

    def _own_batch(self, *shapes: Sequence[int]) -> tuple[int, ...]:
        """The batch of what is held for each picture, of leading shapes, but for the channels of a stated sample."""
        own = shapes[0] if len(shapes) == 1 else torch.broadcast_shapes(*shapes)
        channels = 0 if self.shape_in is None else len(self.shape_in) - self.picture_dims
        return tuple(own[: max(0, len(own) - channels)])

    def samples(self, x: Tensor) -> Tensor:
        """``x`` as the operator takes it."""
        return self.pictures("x", x)

    @property
    def dims_in(self) -> int | None:
        if self.shape_in is not None:
            return len(self.shape_in)
        return self.picture_dims + self.channel_dims[0] if self.is_shared else None

    @property
    def dims_out(self) -> int | None:
        if self.shape_out is not None:
            return len(self.shape_out)
        return self.picture_dims + self.channel_dims[1] if self.is_shared else None

    def state(self, shape: object) -> tuple[int, ...]:
        """The shape of one sample of x that a user states, if it is that of pictures."""
        found = _checks.shape("shape", shape)
        channels = self.channel_dims[0]
        if len(found) < self.picture_dims + channels or 0 in found:
            raise ValueError(
                f"shape must be the shape of one sample of x, ({self._axes(channels)}) with sides ≥ 1, got "
                f"{shape_text(found)}"
            )
        self.is_stated = True
        return found

    def _axes(self, channels: int) -> str:
        return ", ".join(["..."] + ["C"] * channels + [*self.axes[-self.picture_dims :]])

    def _dims_text(self) -> str:
        """What a description says of volumes."""
        return "" if self.picture_dims == 2 else f", dims={self.picture_dims}"

    def keep(self, name: str, value: Tensor, learn: bool) -> None:
        """Keeps a finite tensor: as a parameter, as it is where PyTorch differentiates it, or as a buffer."""
        can_read = not (value.is_meta or is_hidden(value) or torch.compiler.is_compiling())
        if can_read and not _checks.all_finite(value):
            raise ValueError(f"{name} must be finite, but it holds NaN or infinity: check how it was computed")
        if _checks.flag("learn", learn):
            setattr(self, name, nn.Parameter(value.detach().clone().contiguous()))
        else:
            is_differentiated = value.requires_grad or has_tangents()
            self.register_buffer(name, value if is_differentiated else value.detach().clone().contiguous())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any, **options: Any) -> None:
        """Warns where a state has another mask, kernel or map than this operator, and replaces it."""
        is_read = torch._C._len_torch_dispatch_stack() == 0
        before = {name: t.clone() for name, t in self._buffers.items() if name in _HELD and t is not None and is_read}
        super()._load_from_state_dict(state_dict, prefix, *others, **options)
        for name, own in before.items():
            found = self._buffers.get(name)
            if found is not None and not _are_near(own, found):
                warn(
                    f"load_state_dict replaces {name} of the {type(self).__name__} by another one, which the state "
                    f"holds as {prefix + name!r}: to keep that of the operator, load a state without it, with "
                    "strict=False",
                    UserWarning,
                )

    def pictures(self, name: str, x: Tensor, beside: Tensor | None = None, channels: int = 0) -> Tensor:
        """``x`` if it is a batch of pictures of the device and precision of ``beside``; half precision is converted.

        channels: the number of dimensions that a sample has before those of a picture.
        """
        dims = self.picture_dims + channels
        if self._are_usual(x, beside, dims):
            return x
        _checks.tensor(name, x)
        if x.dim() < dims or 0 in x.shape[x.dim() - dims :]:
            method = "adjoint" if name == "y" else "solve" if name == "b" else "forward"
            raise ValueError(
                f"{self.product_name(method)} takes pictures ({self._axes(channels)}) with at least one pixel, got "
                f"{name} of shape {shape_text(x.shape)}"
            )
        if self.is_stated:
            require_stated(self, name, x)
        elif self._may_be_colours(x) and (name != "y" or self.measures_pictures):
            warn_of_colours(x.shape)
        if beside is None:
            return single(x)
        _checks.same_device(name, x, beside)
        real = single(beside).dtype.to_real()
        if x.dtype in _HALF:
            return x.to(real)
        if x.dtype.to_real() != real:
            raise TypeError(
                f"{name} must have the precision of the {type(self).__name__}, {real} or complex numbers of that size, "
                f"got {x.dtype}: convert {name}, or the operator with .to({x.dtype.to_real()})"
            )
        return x

    def _are_usual(self, x: Tensor, beside: Tensor | None, dims: int) -> bool:
        """Whether nothing is wrong with pictures, nor to be converted: quickly, since every product asks."""
        if type(x) is not Tensor or self.is_stated or not _checks.is_strided(x) or x.is_nested:
            return False
        real = _REAL.get(x.dtype)
        if real is None or x.dim() < dims or x.numel() == 0 or self._may_be_colours(x):
            return False
        return beside is None or (real is _REAL.get(beside.dtype) and x.device == beside.device)

    def _may_be_colours(self, x: Tensor) -> bool:
        """Whether pictures look like colour pictures (H, W, C), and nobody has stated the shape: quickly."""
        if torch.compiler.is_compiling() or x.size(-1) not in CHANNELS or self.picture_dims != 2:
            return False
        return are_colours_last(x.shape) and self.moves_pixels and self.shape_in is None


class Orthonormal(PictureOperator):
    """A picture operator with AᴴA = A Aᴴ = I: an orthonormal transform."""

    collapsed = True

    def normal(self, x: Tensor) -> Tensor:
        """X itself, as AᴴA = I."""
        return self.samples(x)

    def norm(self) -> float:
        """1."""
        return 1.0

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """b/(1 + ρ)."""
        b = self.samples(b)
        return b / (1 + rho_beside(rho, b))

    def adjoint_solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """b/(1 + ρ), as A Aᴴ = I too."""
        b = self.pictures("y", b)
        return b / (1 + rho_beside(rho, b))


def dims_of(value: object) -> int:
    """``value`` if it is the number of dimensions of pictures or of volumes."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value not in (2, 3):
        raise ValueError(f"dims must be 2 for pictures or 3 for volumes, got {_checks.shown(value)}")
    return int(value)


def single(t: Tensor) -> Tensor:
    """A tensor in which operators compute: half precision is converted to single."""
    return t.float() if t.dtype in _HALF else t


def samples_of(op: PictureOperator, x: Tensor, At_y: Tensor) -> tuple[Tensor, Tensor]:
    """X and Aᴴy, of one shape and type, as an operator takes them."""
    x = op.samples(x)
    At_y = At_y if At_y.dtype == x.dtype else op.samples(At_y)
    if At_y.shape != x.shape or At_y.dtype != x.dtype:
        raise ValueError(
            f"x and Aᴴy must have one shape and type, got {shape_text(x.shape)} of {x.dtype} and "
            f"{shape_text(At_y.shape)} of {At_y.dtype}: give each sample of one a sample of the other"
        )
    return x, At_y


def require_fit(
    name: str, value: Tensor, x_name: str, x: Tensor, shape: Sequence[int | str], fix: str | None = None
) -> None:  # fmt: skip
    """Refuses a tensor that holds something for each pixel or sample where ``shape`` does not broadcast to that of x.

    A dimension of ``shape`` that is a name fits any.
    """
    if x.shape[x.dim() - len(shape) :] == shape:  # quickly
        return
    sizes = zip(reversed(shape), reversed(x.shape), strict=False)
    if len(shape) > x.dim() or not all(isinstance(size, str) or size in (1, of_x) for size, of_x in sizes):
        fix = fix or "crop or pad one of them, or give as many samples"
        if x.shape[-1:] == (2,) and x.is_floating_point():  # real and imaginary parts
            fix = f"use torch.view_as_complex({x_name})"
        raise ValueError(
            f"{name} is {shape_text(value.shape)}, so {x_name} must have the shape {shape_text(('...', *shape))}, got "
            f"{shape_text(x.shape)}: {fix}"
        )


def with_axes_of(d: Tensor, x: Tensor, dims: int = 2, channels: int = 0) -> Tensor:
    """A diagonal, (H, W) or one for each sample, with the leading axes of x in the second case.

    dims: those of a picture. channels: the number of dimensions that the diagonal has before these.
    """
    own = dims + channels
    if d.dim() == own:
        return d
    axes = x.shape[:-dims]
    return d if d.shape[:-own] == axes else d.expand(*axes, *d.shape[-own:])
