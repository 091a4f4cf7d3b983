"""What a layer of an unrolled algorithm is made of: a linear step, a proximal step, perhaps a second state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

Values: TypeAlias = Tensor | float | Sequence[Tensor | float]  # one for all layers, or one for each


@dataclass(frozen=True)
class Direct:
    """The linear step z = W₁ y + W₂ v.

    Args:
        W1: (n, m), one or one a layer.
        W2: (n, n), one or one a layer.
    """

    W1: Tensor | Sequence[Tensor]
    W2: Tensor | Sequence[Tensor]


@dataclass(frozen=True)
class Coupled:
    """The linear step z = v + Wᴴ (t ∘ (y − A v)): a gradient step on ½‖A v − y‖² if W = A.

    Args:
        A: (m, n), one or one a layer.
        W: (m, n), one or one a layer; A by default.
        step: t, one number, or one for each row of A; one or one a layer. 1 by default.
    """

    A: Tensor | Sequence[Tensor]
    W: Tensor | Sequence[Tensor] | None = None
    step: Values | None = None


@dataclass(frozen=True)
class Momentum:
    """v = x + β (x − x_before).

    Args:
        beta: β, one number or one a layer (also as one tensor of K values).
    """

    beta: Values


@dataclass(frozen=True)
class Splitting:
    """ADMM with the scaled dual variable u: v = x − u, x⁺ = P(z + u), u⁺ = u + η (z − x⁺).

    Args:
        eta: η, one number or one a layer (also as one tensor of K values).
    """

    eta: Values = 1.0


@dataclass(frozen=True)
class Onsager:
    """AMP: the residual is r = y − A x + b r_before with b = gain·‖x‖₀/m, and the threshold is θ‖r‖₂/√m.

    For the coupled step without ``step``. b is differentiated as a function of the gain alone, since ‖x‖₀ is piecewise
    constant; the scale of the threshold is differentiated in full.
    """


@dataclass(frozen=True)
class Prox:
    """x⁺ = gain·P_θ(z), the proximal step.

    ========================== ====================================================================
    ``Prox(θ)``                soft threshold sign(z)·max(|z| − θ, 0); of the modulus for complex z
    ``kind="nonnegative"``     max(z − θ, 0)
    ``gain=1/(1 + γ)``         elastic net: the prox of θ‖x‖₁ + γ/2·‖x‖²
    ``group=G``                z_g·max(1 − θ/‖z_g‖₂, 0) for groups of G neighbours
    ``passing=(p_0, p_1, …)``  support selection: in layer k the p_k largest that exceed θ pass as they are
    ``kind="none"``            z itself
    ========================== ====================================================================

    Args:
        theta: θ, one number, or one for each element or group; one or one a layer. With ``passing``, a negative θ
            counts as zero.
        kind: "soft", "nonnegative" or "none".
        gain: positive, one number or one a layer (also as one tensor of K values).
        group: how many neighbours shrink together; it divides n.
        passing: how many pass, one number or one a layer. Of equal magnitudes those with the lower index pass. The
            choice is not differentiated.
    """

    theta: Values | None = None
    kind: str = "soft"
    gain: Values | None = None
    group: int = 1
    passing: int | Sequence[int] | None = None
