"""In which order the layers of a network are trained, and how fast."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral

from .. import _checks

_MOST_LAYERS = 100_000


@dataclass(frozen=True)
class Stage:
    """Some steps of Adam on the output of one layer.

    Args:
        steps: how many, ≥ 1.
        depth: the layer whose output is trained, counted from 1; None for the last.
        alone: train that layer's own parameters, and what all layers share, only.
        rate: times the rates of the parameters.
        fade: the parameters of the layer j before it have rates times fade^j. Rates, not gradients, which Adam scales
            away.
        final: rates decay, as half a cosine, to this share.
        inherit: before the stage, the layer's parameters of these names become those of the layer before, times a
            factor: ``{"log_theta": 0.8}`` starts from 0.8 θ.
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
            object.__setattr__(self, name, value)  # plain Python, to be written and compared

    def rate_at(self, step: int) -> float:
        """The factor of all rates in a step, counted from 0: a warm-up of 10 steps, then half a cosine."""
        warm = min(1.0, (step + 1) / min(10, self.steps))
        return self.rate * warm * (self.final + (1 - self.final) * (1 + math.cos(math.pi * step / self.steps)) / 2)


def _mapping(name: str, value: Mapping[str, float]) -> Mapping[str, float]:
    """``value`` if it maps names of parameters."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} must map names of parameters to numbers, got {_checks.shown(value)}")
    return value


def end_to_end(steps: int, rate: float = 1.0, final: float = 0.03) -> list[Stage]:
    """All layers at once."""
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
    """Layer after layer: each alone first, then with those before it, once for each of ``rates``.

    Args:
        layers: K.
        alone: steps of each new layer.
        together: steps of all layers so far, for each of ``rates``.
        rates: of the stages together, times the rates of the parameters. The literature uses (0.2, 0.02).
        fade: layers further back have rates times fade^j; 0.3 in the literature, where it scales gradients, which Adam
            undoes. As rates 1 trains better.
        final: see :class:`Stage`.
        inherit: see :class:`Stage`; not for the first layer.

    Reference: Chen, Liu, Wang and Yin, *Theoretical linear convergence of unfolded ISTA*, 2018.
    """
    layers = _checks.count("layers", layers)
    if layers > _MOST_LAYERS:
        raise ValueError(f"layers must be at most {_MOST_LAYERS}, since each has stages of its own, got {layers}")
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
