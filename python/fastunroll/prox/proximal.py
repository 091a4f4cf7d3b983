"""The base class of proximal operators, by which algorithms use the prior of an inverse problem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, NamedTuple

from torch import Tensor, nn

from .. import _checks
from ..arrays import answered, is_array
from ..colours import are_colours_last, warn_of_colours
from ..operators.linear_operator import LinearOperator


class Kernel(NamedTuple):
    """The compiled proximal step that computes an operator inside the native engine.

    name: ``"soft"``, ``"nonnegative"`` or ``"identity"``.
    group: how many neighbours shrink together.
    support_sizes: the number of largest elements or groups that a layer does not shrink, one for all layers or one for
    each; None if all shrink.
    """

    name: str
    group: int = 1
    support_sizes: int | Sequence[int] | None = None


def _with_arrays(value: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Any], Any]:
    """R(x), which also takes an array and answers in its kind."""

    @wraps(value)
    def wrapper(self: Proximal, x: Any) -> Any:
        return answered(partial(value, self), x) if is_array(x) else value(self, _checks.tensor("x", x))

    return wrapper


def require_proximal(prox: object) -> None:
    """Refuses what is no :class:`Proximal`.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(prox, Proximal):
        is_module = callable(prox) and not isinstance(prox, type)
        fix = ": make it with fu.prox.Denoiser(module)" if is_module else ""
        raise TypeError(f"prox must be a fu.prox.Proximal, such as fu.prox.L1(), got {_checks.kind(prox)}{fix}")


def warn_of_layout(prox: Proximal, A: LinearOperator, shape: Sequence[int]) -> None:
    """Warns where a prior of pictures meets colour pictures (H, W, C), unless A states another sample."""
    if prox.sample_dims == 2 and A.shape_in is None and are_colours_last(shape):
        warn_of_colours(shape)


class Proximal(nn.Module):
    """The proximal operator of a function R: prox_θ(z) = argmin_x ½‖x − z‖² + θ·R(x).

    A subclass defines :meth:`prox`, and works in every network of :class:`fastunroll.nn.Unrolled`, in
    :func:`fastunroll.unrolled` and in the solvers that take ``prox=``. It defines :meth:`value` too if objectives are
    wanted. It may hold parameters, which then are learned with the network.

    Example::

        class HalfSquare(fu.prox.Proximal):
            \"\"\"R(x) = ½‖x‖².\"\"\"

            def prox(self, z, theta):
                return z / (1 + theta)

            def value(self, x):
                return x.abs().square().flatten(1).sum(1) / 2

    Attributes:
        has_threshold: whether θ has an effect.
        takes_autocast: whether a network runs :meth:`prox` in the precision of autocast, as is right for convolutions.

    Reference: Parikh and Boyd, *Proximal algorithms*, 2014.
    """

    has_threshold: bool = True
    takes_autocast: bool = False
    sample_dims: int = 1  # the least dimensions of a sample: 2 of a picture, 3 of a volume

    @property
    def kernel(self) -> Kernel | None:
        """The compiled step that equals :meth:`prox`, or None, where layers run one by one in PyTorch."""
        return None

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        """prox_θ(z), of the shape and dtype of ``z``; θ ≥ 0 broadcasts with ``z``."""
        raise NotImplementedError(f"{type(self).__name__} must define prox(z, theta)")

    def __init_subclass__(cls, **options: Any) -> None:
        """Makes a ``value`` of the class take arrays.

        A class that overrides ``prox`` has no kernel but its own: that of its base computes another operator.
        """
        super().__init_subclass__(**options)
        if "value" in cls.__dict__:
            setattr(cls, "value", _with_arrays(cls.__dict__["value"]))  # noqa: B010
        if "prox" in cls.__dict__ and "kernel" not in cls.__dict__:
            setattr(cls, "kernel", None)  # noqa: B010

    def value(self, x: Tensor) -> Tensor:
        """R(x) of each sample, (B, ...) to (B,)."""
        raise NotImplementedError(f"{type(self).__name__} must define value(x), which an objective needs")

    @property
    def has_value(self) -> bool:
        """Whether :meth:`value` is defined."""
        return type(self).value is not Proximal.value

    def weighted(self, x: Tensor, lam: Tensor) -> Tensor:
        """λ·R(x) of each sample, (B,); λ is one number, or one for each sample, (B, 1, ...)."""
        return lam.reshape(-1) * self.value(x)

    @property
    def has_duality_gap(self) -> bool:
        """Whether :meth:`dual_range` and :meth:`fenchel_gap` are defined, with which solvers certify a gap."""
        return False

    def dual_range(self, c: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the largest s, (B,) each, for which s·c is dual feasible: ⟨s·c, x⟩ ≤ λ·R(x) for all x."""
        raise NotImplementedError(f"{type(self).__name__} has no duality gap")

    def fenchel_gap(self, x: Tensor, c: Tensor, lam: Tensor) -> Tensor:
        """λ·R(x) − Re⟨x, c⟩ of each sample, (B,), for a dual feasible c: a sum of terms ≥ 0."""
        raise NotImplementedError(f"{type(self).__name__} has no duality gap")

    def at_layer(self, k: int) -> Proximal:
        """The operator of layer k of a network, k = 0, 1, …; by default that of iteration k of a solver."""
        return self.at_iteration(k)

    def at_iteration(self, k: int) -> Proximal:
        """The operator of iteration k of a solver; the same operator for all iterations by default."""
        return self

    def initial_threshold(self, theta: float) -> float | Tensor:
        """The thresholds θ that a layer of a network starts with, where the scheme starts with the number ``theta``."""
        return theta

    def require_sample(self, shape: Sequence[int]) -> None:
        """Refuses samples of a shape that has too few dimensions, such as the rows of a picture.

        Raises:
            ValueError: they have.
        """
        if len(shape) >= self.sample_dims:
            return
        if self.sample_dims == 3:
            raise ValueError(
                f"this {type(self).__name__} is of volumes (D, H, W), but a sample of x has the shape "
                f"{_checks.shape_text(shape)}: give an operator with dims=3, or one with shape=(D, H, W)"
            )
        raise ValueError(
            f"{type(self).__name__} is of pictures (H, W), but a sample of x has the shape "
            f"{_checks.shape_text(shape)}: give y[None] if y is one picture; in the place of a matrix M give "
            "an operator with shape_in = (H, W) and A(x) = x.flatten(-2) @ M.mT"
        )

    def gain(self, theta: Tensor) -> Tensor | None:
        """The factor by which the compiled proximal step is multiplied; None for 1."""
        return None

    def forward(self, z: Tensor, theta: Tensor | float) -> Tensor:
        """:meth:`prox`, whose result must be like ``z``. An array ``z`` gives an array of its kind.

        Raises:
            TypeError: ``z`` is not floating point, or ``prox`` returns no dense tensor, or another dtype.
            ValueError: ``prox`` returns another shape, or a tensor of another device.
        """
        are_usual = isinstance(z, Tensor) and isinstance(theta, (Tensor, float))
        if not are_usual and (is_array(z) or is_array(theta)):
            found: Tensor = answered(self.forward, z=z, theta=theta)
            return found
        _checks.tensor("z", z)
        theta = theta if isinstance(theta, Tensor) else z.new_tensor(theta, dtype=z.dtype.to_real())
        x: object = self.prox(z, theta)
        if type(x) is Tensor and not x.is_nested and x.shape == z.shape and x.dtype == z.dtype:
            is_like_z = _checks.is_strided(x) and x.device == z.device
            if is_like_z:
                return x  # quickly: every layer comes here
        name = f"{type(self).__name__}.prox"
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must return a tensor, got {type(x).__name__}")
        if x.is_nested:
            raise TypeError(f"{name} must return one dense tensor, got a nested one: convert it with torch.stack")
        if x.shape != z.shape:
            raise ValueError(
                f"{name} must return the shape of z, {_checks.shape_text(z.shape)}, got {_checks.shape_text(x.shape)}"
            )
        if x.dtype != z.dtype:
            raise TypeError(
                f"{name} must return the dtype of z, {z.dtype}, got {x.dtype}: convert it with .to(z.dtype)"
            )
        if x.device != z.device:
            raise ValueError(
                f"{name} must return a tensor of the device of z, {z.device}, got one of {x.device}: compute it there"
            )
        if not _checks.is_strided(x):
            raise TypeError(f"{name} must return a dense tensor, got layout {x.layout}: convert it with .to_dense()")
        return x
