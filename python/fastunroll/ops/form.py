"""The forms that layers can take, and the parameters they come with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from .register import alike

LINEARS = ("direct", "coupled", "gram")
STATES = ("none", "momentum", "splitting", "onsager")
SHRINKAGES = ("none", "soft", "nonnegative")


@dataclass(frozen=True)
class Form:
    """What the layers of a network compute, but for their parameters; :func:`fastunroll.reference.network` says it.

    passing: for each layer how many of the largest pass unshrunk; none if empty.
    """

    layers: int
    linear: str = "direct"
    state: str = "none"
    shrinkage: str = "soft"
    group: int = 1
    passing: tuple[int, ...] = ()

    def numbers(self) -> list[int]:
        return [
            self.layers, LINEARS.index(self.linear), STATES.index(self.state), SHRINKAGES.index(self.shrinkage),
            self.group, *self.passing,
        ]  # fmt: skip

    @staticmethod
    def of(numbers: Sequence[int]) -> Form:
        layers, linear, state, shrinkage, group, *passing = numbers
        return Form(layers, LINEARS[linear], STATES[state], SHRINKAGES[shrinkage], group, tuple(passing))

    @property
    def coupled(self) -> bool:
        """Whether z is v and a step from it."""
        return self.linear != "direct"

    def of_pairs(self) -> Form:
        """For complex numbers as pairs of reals."""
        group = self.group if self.shrinkage == "none" else 2 * self.group
        return Form(self.layers, self.linear, self.state, self.shrinkage, group, self.passing)

    def part(self, first: int, last: int) -> Form:
        """The layers first … last − 1."""
        return Form(last - first, self.linear, self.state, self.shrinkage, self.group, self.passing[first:last])

    def state_size(self, m: int, n: int) -> int:
        return {"none": 0, "onsager": m}.get(self.state, n)

    def trace_size(self, m: int, n: int, has_residuals: bool) -> int:
        """The values that the gradient needs of a layer and sample besides x⁺.

        has_residuals: where layers are coupled y − A v is among them, which is made again otherwise.
        """
        of_state = 2 * n if self.state == "splitting" else 0
        return of_state + (m if self.state == "onsager" or (self.coupled and has_residuals) else 0)


class Parameters(NamedTuple):
    """Lists with one entry, shared by all layers, one for each layer, or none."""

    first: Sequence[Tensor]  # direct W₁ (n, m); coupled A (m, n); gram G (n, n), where m = n
    second: Sequence[Tensor]  # direct W₂ (n, n); coupled W (m, n), A if not given
    step: Sequence[Tensor] = ()  # 1 or m values
    theta: Sequence[Tensor] = ()  # 1 or n / group values
    gain: Sequence[Tensor] = ()  # 1 value a layer, or one tensor with all of them
    blend: Sequence[Tensor] = ()  # as gain

    @staticmethod
    def split(values: Sequence[Any], counts: Sequence[int]) -> Parameters:
        """From one sequence."""
        lists, at = [], 0
        for count in counts:
            lists.append(list(values[at : at + count]))
            at += count
        return Parameters(*lists)

    def counts(self) -> list[int]:
        return [len(group) for group in self]

    def part(self, first: int, last: int) -> Parameters:
        own: list[Sequence[Tensor]] = []
        for group in self:
            if len(group) > 1:
                own.append(group[first:last])
            elif len(own) > 3 and len(group) == 1 and group[0].numel() > 1:  # one tensor with a value a layer
                own.append([group[0][first:last]])
            else:
                own.append(group)
        return Parameters(*own)


def sizes(form: Form, p: Parameters) -> tuple[int, int]:
    """(m, n)"""
    rows, columns = p.first[0].shape
    return (rows, columns) if form.coupled else (columns, rows)


def fits(form: Form, p: Parameters, y: Tensor, x0: Tensor | None, s0: Tensor | None) -> bool:
    """Whether the arguments of an operator go together."""
    if not (form.layers > 0 and len(p.first) > 0 and p.first[0].dim() == 2):
        return False
    m, n = sizes(form, p)
    batch = y.shape[0]
    second = (m, n) if form.coupled else (n, n)
    seconds = {"direct": {1, form.layers}, "coupled": {0, 1, form.layers}, "gram": {0}}[form.linear]
    one = {1, form.layers}  # one value a layer, perhaps all in one tensor
    allowed = ({m * n}, {m * n if form.coupled else n * n}, {1, m}, {1, n // form.group}, one, one)
    return (
        y.shape == (batch, m)
        and (x0 is None or x0.shape == (batch, n))
        and (s0 is None or s0.shape == (batch, form.state_size(m, n)))
        and all(w.shape == p.first[0].shape for w in p.first) and all(w.shape == second for w in p.second)
        and all(len(group) in (0, 1, form.layers) for group in p)
        and all(len({t.numel() for t in group}) < 2 and group[0].numel() in a
                for group, a in zip(p, allowed, strict=True) if group)
        and len(p.second) in seconds and (m == n or form.linear != "gram")
        and (form.state != "onsager" or (form.linear == "coupled" and not p.step))
        and (form.group == 1 and not any(form.passing) if form.shrinkage == "none" else len(p.theta) > 0)
        and (form.shrinkage != "nonnegative" or form.group == 1)
        and len(form.passing) in (0, form.layers) and min(form.passing, default=0) >= 0
        and form.group > 0 and n % form.group == 0
        and (form.state not in ("momentum", "splitting") or len(p.blend) > 0)
        and alike(y, x0, s0, *(t for group in p for t in group))
    )  # fmt: skip
