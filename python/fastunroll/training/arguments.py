"""Checks of what training is given: networks, functions, losses."""

from __future__ import annotations

from torch import Tensor

from .. import _checks


def network(model: object, kind: type) -> None:
    """Refuses what is not a network of ``kind``."""
    if not isinstance(model, kind):
        raise TypeError(f"model must be a fastunroll.nn.{kind.__name__}, got {_checks.shown(model)}")


def function(name: str, value: object) -> None:
    """Refuses what cannot be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {_checks.shown(value)}")


def truth(found: Tensor, x: Tensor | None) -> Tensor:
    """``x`` if it is a truth of the shape of the reconstruction ``found``."""
    if x is None:
        raise ValueError("a supervised loss needs the truth x, but the samples have none: train on kkt or lasso")
    if x.shape != found.shape:
        raise ValueError(
            f"the truth x must be {_checks.shape_text(found.shape)} as the reconstruction is, got "
            f"{_checks.shape_text(x.shape)}"
        )
    return x


def loss_value(value: object) -> Tensor:
    """``value`` if it is what a loss returns: a tensor with one real number."""
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
        got = f"one of {value.dtype}" if isinstance(value, Tensor) and value.numel() == 1 else _checks.shown(value)
        raise TypeError(f"loss must return a tensor with one real number, got {got}: use .mean(), say")
    return value.reshape(())
