"""What a layer of an unrolled algorithm is made of: a linear step, a proximal step, perhaps a second state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from . import _checks, ops
from .products import product

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
class Gram:
    """The coupled step by its Gram matrix, z = v + t ∘ (Wᴴy − G v) with G = WᴴA: :class:`Coupled`, but for rounding.

    On the CPU G is made once, and again when A or W has changed or learns: keep the object between calls. A layer then
    costs d·n² multiplications a sample instead of (1 + d)·m·n, where d is the share of v that is not zero. It pays for
    n ≤ 2m and v sparse (n = 2m, 1024 samples: 1.6 times as fast with d = 0.08, the same with 0.45), and loses for
    n = 4m.

    Args:
        A: (m, n).
        W: (m, n); A by default.
        step: t, one number, or one for each coordinate (n,); one or one a layer. 1 by default.

    Raises:
        TypeError: A or W is not floating point, or their dtypes differ.
        ValueError: their shapes or devices differ.
    """

    A: Tensor
    W: Tensor | None = None
    step: Values | None = None
    _kept: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        A = _checks.matrix("A", self.A)
        W = A if self.W is None else _checks.matrix("W", self.W)
        if W.shape != A.shape:
            raise ValueError(f"W must be {_checks.shape_text(A.shape)} as A is, got {_checks.shape_text(W.shape)}")
        _checks.require_same_dtype_and_device(A=A, W=W)

    @property
    def G(self) -> Tensor:
        """WᴴA, (n, n)."""
        A, W = self.A, self.A if self.W is None else self.W
        if not A.is_cpu or ops.is_tracing() or ops.differentiable(A, W) or torch.is_inference_mode_enabled():
            return product(A.mT, W, adjoint=True).mT
        # Some optimisers, and edits through .data, leave no trace but the values.
        if not self._kept or not (torch.equal(self._kept[0][0], A) and torch.equal(self._kept[0][1], W)):
            # Of copies: another thread may change A and W meanwhile.
            A, W = A.detach().clone(), W.detach().clone()
            self._kept[:] = [(A, W, product(A.mT, W, adjoint=True).mT.contiguous())]
        return self._kept[0][2]


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
