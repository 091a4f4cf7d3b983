"""Checks of the arguments of training functions and of the values that a user's loss returns."""

from __future__ import annotations

from torch import Tensor, nn

from .. import _checks


def require_network(model: object, *kinds: type) -> None:
    """Raises TypeError unless ``model`` is an instance of one of the network classes ``kinds``."""
    if not isinstance(model, kinds):
        names = " or ".join(f"fastunroll.nn.{kind.__name__}" for kind in kinds)
        raise TypeError(f"model must be a {names}, got {_checks.shown(model)}")


def require_callable(name: str, value: object) -> None:
    """Raises TypeError unless ``value`` can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {_checks.shown(value)}")


def require_loss(loss: object) -> None:
    """Raises TypeError unless ``loss`` can be called with x̂, y and x, which losses of PyTorch cannot."""
    require_callable("loss", loss)
    if isinstance(loss, nn.modules.loss._Loss) or getattr(loss, "__module__", None) == nn.functional.__name__:
        name = getattr(loss, "__name__", type(loss).__name__)
        raise TypeError(
            f"loss must be a function of x̂, y and x, but {name} takes two tensors: "
            "use lambda x_hat, y, x: loss(x_hat, x)"
        )


def require_truth(x_hat: Tensor, x: Tensor | None) -> Tensor:
    """Returns the ground truth ``x`` after a check that it exists and has the shape of the reconstruction ``x_hat``."""
    if x is None:
        raise ValueError("a supervised loss needs the truth x, but the samples have none: train on kkt or lasso")
    if x.shape != x_hat.shape:
        raise ValueError(
            f"the truth x must have the shape of the reconstruction, {_checks.shape_text(x_hat.shape)}, got "
            f"{_checks.shape_text(x.shape)}"
        )
    return x


def loss_value(value: object) -> Tensor:
    """Returns the loss ``value`` as a scalar tensor after a check that it is a tensor with one real number."""
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
        is_number = isinstance(value, Tensor) and value.numel() == 1
        got = f"a number of {value.dtype}" if is_number else _checks.shown(value)  # type: ignore[attr-defined]
        raise TypeError(f"loss must return a tensor with one real number, got {got}: end it with .mean(), for example")
    return value.reshape(())
