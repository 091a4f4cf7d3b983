"""Training schedules: lists of stages that say which layers learn, for how many steps, and at which rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral

from .. import _checks

_MAX_LAYERS = 100_000


@dataclass(frozen=True)
class Stage:
    """A number of Adam steps that train the output of one layer.

    Args:
        steps: the number of steps, ≥ 1.
        depth: the layer whose output the loss sees, counted from 1; None for the last layer.
        alone: train only the parameters of this layer and the parameters that all layers share. By default the stage
            trains the parameters of all layers up to ``depth``.
        rate: a factor of all learning rates.
        fade: a factor that lowers the rates of earlier layers. The layer j layers before ``depth`` has fade^j times
            the rate. The factor applies to rates and not to gradients, because Adam is invariant to the scale of
            gradients.
        final: the share of the rate that is left at the end. Rates decay along half a cosine.
        inherit: the parameters that start from the parameters of the layer before, each with a factor.
            ``{"log_theta": 0.8}`` starts θ of this layer from 0.8 times θ of the layer before.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: ``steps`` or ``depth`` < 1, a rate or factor is not positive, or the first layer inherits.
    """

    steps: int
    depth: int | None = None
    alone: bool = False
    rate: float = 1.0
    fade: float = 1.0
    final: float = 0.03
    inherit: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = {"steps": _checks.count("steps", self.steps), "alone": _checks.flag("alone", self.alone)}
        own |= {} if self.depth is None else {"depth": _checks.count("depth", self.depth)}
        numbers = {name: _checks.positive(name, getattr(self, name)) for name in ("rate", "fade", "final")}
        factors = {
            name: _checks.positive(f"inherit[{name!r}]", factor)
            for name, factor in _mapping("inherit", self.inherit).items()
        }
        if factors and self.depth == 1:
            raise ValueError("inherit starts a layer from the one before it, and the first has none")
        for name, value in (own | numbers | {"inherit": factors}).items():
            object.__setattr__(self, name, value)  # plain Python values, which checkpoints can store and compare

    def rate_at(self, step: int) -> float:
        """Returns the factor of all rates in a step, counted from 0: 10 steps of warm-up within half a cosine."""
        warm = min(1.0, (step + 1) / min(10, self.steps))
        return self.rate * warm * (self.final + (1 - self.final) * (1 + math.cos(math.pi * step / self.steps)) / 2)


def _mapping(name: str, value: Mapping[str, float]) -> Mapping[str, float]:
    """Returns ``value`` after a check that it is a mapping with strings as keys."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} must map names of parameters to numbers, got {_checks.shown(value)}")
    return value


def end_to_end(steps: int, rate: float = 1.0, final: float = 0.03) -> list[Stage]:
    """Returns a schedule with a single stage, which trains all layers together.

    Args:
        steps: the number of steps.
        rate: a factor of all learning rates.
        final: the share of the rates that is left at the end.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: ``steps`` < 1, or a rate is not positive.

    Equivalent to ``[Stage(steps, rate=rate, final=final)]``.
    """
    return [Stage(steps, rate=rate, final=final)]


def layerwise(
    layers: int,
    alone: int = 60,
    together: int = 30,
    *,
    rates: tuple[float, ...] = (0.2,),
    fade: float = 1.0,
    final: float = 1.0,
    inherit: Mapping[str, float] | None = None,
) -> list[Stage]:
    """Returns a schedule that adds layer after layer.

    For each layer, the first stage trains the new layer alone. Then one stage for each entry of ``rates`` trains the
    new layer together with all layers before it.

    Args:
        layers: the number K of layers.
        alone: the number of steps that train each new layer alone.
        together: the number of steps that train all layers so far, for each entry of ``rates``. 0 leaves them out.
        rates: factors of the learning rates in the stages that train layers together. The literature uses (0.2, 0.02).
        fade: see :class:`Stage`. The literature scales gradients by 0.3, which has no effect with Adam. As a factor of
            rates, 1 trains better.
        final: see :class:`Stage`.
        inherit: see :class:`Stage`. The first layer has no layer before it and inherits nothing.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: a number of layers or steps is out of range, or a rate is not positive.

    Reference: Chen, Liu, Wang and Yin, *Theoretical linear convergence of unfolded ISTA*, 2018.
    """
    layers = _checks.count("layers", layers)
    if layers > _MAX_LAYERS:
        raise ValueError(f"layers must be at most {_MAX_LAYERS}, since every layer has its stages, got {layers}")
    if not (isinstance(together, Integral) and together == 0):
        together = _checks.count("together", together)
    if not isinstance(rates, (tuple, list)):
        raise TypeError(f"rates must be a tuple of numbers, got {_checks.shown(rates)}")
    inherited = {} if inherit is None else _mapping("inherit", inherit)
    joint = [Stage(together or 1, rate=rate, fade=fade, final=final) for rate in rates]
    stages = []
    for depth in range(1, layers + 1):
        stages.append(Stage(alone, depth, alone=True, final=final, inherit=inherited if depth > 1 else {}))
        if depth > 1 and together:
            stages += [replace(stage, depth=depth) for stage in joint]
    return stages
