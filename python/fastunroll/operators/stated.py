"""The shapes of samples that operators state: what they may be, and samples of another shape."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .. import _checks
from .._checks import shape_text

if TYPE_CHECKING:
    from .linear_operator import LinearOperator

SHAPES = "shape_in", "shape_out"


def as_stated(name: str, value: Any) -> Any:
    """A shape as tensors have it: a list is a tuple, and a number the shape of a vector."""
    return _checks.shape(name, value) if isinstance(value, (list, Integral)) else value


def require_stated(op: LinearOperator, name: str, x: Tensor) -> None:
    """Refuses samples of another shape than the one that an operator states, of which its norm is."""
    shape = op.shape_out if name == "y" else op.shape_in
    if shape is not None and not _fits(x, shape):
        raise ValueError(
            f"{name} must have the shape {shape_text(('...', *shape))} that this {type(op).__name__} states, got "
            f"{shape_text(x.shape)}: leave out shape, or state another one"
        )


def refuse_other_shapes(op: LinearOperator, method: str, x: Tensor, found: Tensor | None) -> None:
    """Refuses samples x of another shape than A states, of which a product that a user has written failed (``found`` is
    None), or made results of the shape that A states.

    An operator whose results follow the shape of its samples may state one for its norm alone.
    """
    takes, gives = (
        ("shape_out" if method == "adjoint" else "shape_in"),
        ("shape_out" if method == "forward" else "shape_in"),
    )
    shape = _known(op, takes)
    if shape is None or _fits(x, shape):
        return
    wanted = _known(op, gives)
    if found is None or (wanted is not None and _fits(found, wanted)):
        raise ValueError(
            f"{op.product_name(method)} takes samples of the shape {shape_text(('...', *shape))} that {takes} states, "
            f"got {shape_text(x.shape)}: give it such samples, or an operator of that shape"
        )


def _known(op: LinearOperator, name: str) -> tuple[int, ...] | None:
    try:
        shape = as_stated(name, getattr(op, name))
    except Exception:  # a property of the user's that cannot tell it
        return None
    return tuple(shape) if isinstance(shape, (tuple, list)) else None


def _fits(x: Tensor, shape: tuple[int, ...]) -> bool:
    return x.shape[max(0, x.dim() - len(shape)) :] == shape
