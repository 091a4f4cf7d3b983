"""The schemes of the literature, which compute an iterate from the last one by a linear step and a proximal step.

Each layer of a network is one :meth:`Scheme.step`, in plain PyTorch. The steps of compiled schemes are functions of
:mod:`fastunroll.reference`, the specification of the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, ClassVar

import torch
from torch import Tensor

from . import reference
from .steps import DataStep, GradientStep, Values

Linear = Any  # fastunroll.engine.linear: a linear step whose arguments have been checked
Shrink = Callable[..., Tensor]  # shrink(k, z, scale=1): the proximal step of layer k, of threshold θ_k·scale


def momenta() -> Iterator[float]:
    """The momentum of each iteration of FISTA, (t_{k−1} − 1)/t_k with t₀ = 1 and t_k = (1 + √(1 + 4t²_{k−1}))/2."""
    yield 0.0
    t = 1.0
    while True:
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        yield (t - 1) / following
        t = following


def beck_teboulle(layers: int) -> list[float]:
    """The :func:`momenta` of the first iterations."""
    return [*islice(momenta(), layers)]


@dataclass(frozen=True)
class Scheme:
    """A way to iterate x, perhaps with a second state s.

    Attributes:
        has_state: whether there is a second state.
        numbers: the names of its numbers, of which each layer has one.
        state_of: "x" or "y", whose shape and type the second state has; None where it has others.
        needs_residual: whether a step uses y itself, as ``linear.residual`` does. Where it does not, operators whose
            AᴴA is cheap compute Aᴴy once for all layers.
    """

    has_state: ClassVar[bool] = False
    needs_residual: ClassVar[bool] = True
    numbers: ClassVar[tuple[str, ...]] = ()
    state_of: ClassVar[str | None] = None

    def with_defaults(self, layers: int) -> Scheme:
        """The scheme with a number for each layer where none was given."""
        return self

    def initial(self, x: Tensor, y: Tensor, linear: Linear) -> Tensor | None:
        """The second state that goes with the first iterate."""
        return None

    def step(
        self, k: int, x: Tensor, s: Tensor | None, data: Tensor, linear: Linear, shrink: Shrink
    ) -> tuple[Tensor, Tensor | None]:
        """Layer k: the next x and s. ``data`` are the measurements as ``linear`` takes them."""
        raise NotImplementedError(f"{type(self).__name__} must define step(k, x, s, data, linear, shrink)")

    def starting_values(self, layers: int, lam: float, step: float) -> dict[str, list[float]]:
        """The numbers of each layer with which it is the classical algorithm, by name; ``step`` is 1/‖A‖²."""
        raise NotImplementedError(f"{type(self).__name__} must define starting_values(layers, lam, step) for networks")

    def with_numbers(self, A: Any, values: dict[str, Any]) -> tuple[GradientStep | DataStep, Scheme]:
        """The linear step and the scheme that have these numbers; ``theta`` is left to the proximal step."""
        raise NotImplementedError(f"{type(self).__name__} must define with_numbers(A, values) for networks")


@dataclass(frozen=True)
class ProximalGradient(Scheme):
    """x⁺ = P(z), with z the linear step at x: ISTA, LISTA, LISTA-CP, ALISTA.

    Reference: Daubechies, Defrise and De Mol, *An iterative thresholding algorithm for linear inverse problems with a
    sparsity constraint*, 2004.
    """

    needs_residual: ClassVar[bool] = False

    def step(
        self, k: int, x: Tensor, s: Tensor | None, data: Tensor, linear: Linear, shrink: Shrink
    ) -> tuple[Tensor, Tensor | None]:
        return shrink(k, linear(k, x, data)), None

    def starting_values(self, layers: int, lam: float, step: float) -> dict[str, list[float]]:
        return {"step": [step] * layers, "theta": [lam * step] * layers}

    def with_numbers(self, A: Any, values: dict[str, Any]) -> tuple[GradientStep | DataStep, Scheme]:
        return GradientStep(A, step=values["step"]), self


@dataclass(frozen=True)
class FISTA(Scheme):
    """x⁺ = P(z), with z the linear step at v = x + β·(x − x_before): FISTA, LFISTA. The second state is x_before.

    Args:
        beta: β, one number, a list with one for each layer, or one tensor of K values; by default those of Beck and
            Teboulle, (t_{k−1} − 1)/t_k with t₀ = 1 and t_k = (1 + √(1 + 4t²_{k−1}))/2.

    Reference: Beck and Teboulle, *A fast iterative shrinkage-thresholding algorithm for linear inverse problems*, 2009.
    """

    has_state: ClassVar[bool] = True
    needs_residual: ClassVar[bool] = False
    numbers: ClassVar[tuple[str, ...]] = ("beta",)
    state_of: ClassVar[str | None] = "x"

    beta: Values | None = None

    def with_defaults(self, layers: int) -> FISTA:
        return FISTA(beck_teboulle(layers)) if self.beta is None else self

    def initial(self, x: Tensor, y: Tensor, linear: Linear) -> Tensor:
        return x

    def step(
        self, k: int, x: Tensor, s: Tensor | None, data: Tensor, linear: Linear, shrink: Shrink
    ) -> tuple[Tensor, Tensor | None]:
        assert s is not None
        beta = entry(self.beta, k)
        return reference.fista_layer(x, s, beta, lambda v: linear(k, v, data), lambda z: shrink(k, z))

    def starting_values(self, layers: int, lam: float, step: float) -> dict[str, list[float]]:
        beta = _numbers("beta", self.with_defaults(layers).beta, layers)
        return {"step": [step] * layers, "theta": [lam * step] * layers, "beta": beta}

    def with_numbers(self, A: Any, values: dict[str, Any]) -> tuple[GradientStep | DataStep, Scheme]:
        return GradientStep(A, step=values["step"]), FISTA(values["beta"])


@dataclass(frozen=True)
class ADMM(Scheme):
    """v = x − u, z the linear step at v, x⁺ = P(z + u), u⁺ = u + η·(z − x⁺). The second state is the dual variable u.

    Args:
        eta: η, one number, a list with one for each layer, or one tensor of K values.

    References: Boyd, Parikh, Chu, Peleato and Eckstein, *Distributed optimization and statistical learning via the
    alternating direction method of multipliers*, 2011; Yang, Sun, Li and Xu, *Deep ADMM-Net for compressive sensing
    MRI*, 2016.
    """

    has_state: ClassVar[bool] = True
    needs_residual: ClassVar[bool] = False
    numbers: ClassVar[tuple[str, ...]] = ("eta",)
    state_of: ClassVar[str | None] = "x"

    eta: Values = 1.0

    def initial(self, x: Tensor, y: Tensor, linear: Linear) -> Tensor:
        return torch.zeros_like(x)

    def step(
        self, k: int, x: Tensor, s: Tensor | None, data: Tensor, linear: Linear, shrink: Shrink
    ) -> tuple[Tensor, Tensor | None]:
        assert s is not None
        eta = entry(self.eta, k)
        return reference.admm_layer(x, s, eta, lambda v: linear(k, v, data), lambda z: shrink(k, z))

    def starting_values(self, layers: int, lam: float, step: float) -> dict[str, list[float]]:
        eta = _numbers("eta", self.eta, layers)
        return {"rho": [1 / step] * layers, "theta": [lam * step] * layers, "eta": eta}

    def with_numbers(self, A: Any, values: dict[str, Any]) -> tuple[GradientStep | DataStep, Scheme]:
        return DataStep(A, values["rho"]), ADMM(values["eta"])


@dataclass(frozen=True)
class HQS(ProximalGradient):
    """Half-quadratic splitting: z = argmin ½‖A z − y‖² + ρ/2·‖z − x‖², x⁺ = P(z).

    For a fixed ρ it minimises ½‖A z − y‖² + ρ/2·‖z − x‖² + λ·R(x) over both, which comes near to the problem without
    splitting as ρ grows from layer to layer.

    Reference: Geman and Yang, *Nonlinear image recovery with half-quadratic regularization*, 1995.
    """

    def starting_values(self, layers: int, lam: float, step: float) -> dict[str, list[float]]:
        return {"rho": [1 / step] * layers, "theta": [lam * step] * layers}

    def with_numbers(self, A: Any, values: dict[str, Any]) -> tuple[GradientStep | DataStep, Scheme]:
        return DataStep(A, values["rho"]), self


@dataclass(frozen=True)
class VariationalNetwork(ProximalGradient):
    """x⁺ = z + P(x) − x, with z the linear step at x: the gradients of the data term and of the prior are added.

    P(x) − x is a negative gradient of the prior, such as −Σ f̃_i ∗ ψ_i(f_i ⋆ x) of :class:`fastunroll.prox.FilterBank`.

    **VarNet.** A layer of the End-to-End VarNet is k⁺ = k − t·m²(k − y) − E(x − P(x)) in the k-space of all coils. It
    has E x = F(S_c x), x = Eᴴk, k₀ = y, and maps with Σ_c|S_c|² = 1. From x₀ = Aᴴy, this scheme computes:

    - for one coil with |S| = 1 the pictures of VarNet, because E is unitary;
    - for several coils the pictures of layers k⁺ = EEᴴ(k − t·m²(k − y)) − E(x − P(x)) with k₀ = EEᴴy, where k = E x.
      VarNet also keeps a part of k that no picture explains, and that its next data term sees.

    With k-space as the unknown, this scheme is VarNet for any number of coils::

        scan = fu.operators.MultiCoilFourier(torch.ones(W), maps)  # E
        lifted = fu.prox.Denoiser(lambda k: k - scan((x := scan.adjoint(k)) - network(x)))
        net = fu.nn.Unrolled(fu.schemes.VariationalNetwork(), fu.operators.Mask(mask), lifted, layers=12)
        x = scan.adjoint(net(y, x0=y))  # of y (B, C, H, W)

    A module in the place of the function learns.

    References: Hammernik, Klatzer, Kobler, Recht, Sodickson, Pock and Knoll, *Learning a variational network for
    reconstruction of accelerated MRI data*, 2018; Sriram, Zbontar, Murrell, Defazio, Zitnick, Yakubova, Knoll and
    Johnson, *End-to-end variational networks for accelerated MRI reconstruction*, 2020.
    """

    def step(
        self, k: int, x: Tensor, s: Tensor | None, data: Tensor, linear: Linear, shrink: Shrink
    ) -> tuple[Tensor, Tensor | None]:
        return linear(k, x, data) + shrink(k, x) - x, None


@dataclass(frozen=True)
class AMP(Scheme):
    """Approximate message passing: r = y − A x + b·r_before with b = gain·‖x‖₀/m, and the threshold is θ·‖r‖₂/√m.

    For matrices with columns of norm 1, and a gradient step without a step size. The second state is b·r_before. b is
    differentiated as a function of the gain alone, since ‖x‖₀ is piecewise constant; the scale of the threshold is
    differentiated in full.

    Args:
        alpha: θ that networks start with, in units of the noise; 1.1402 is the best for 10 % nonzeros and m = n/2.

    References: Donoho, Maleki and Montanari, *Message-passing algorithms for compressed sensing*, 2009; Borgerding,
    Schniter and Rangan, *AMP-inspired deep networks for sparse linear inverse problems*, 2017.
    """

    has_state: ClassVar[bool] = True
    state_of: ClassVar[str | None] = "y"

    alpha: float = 1.1402

    def initial(self, x: Tensor, y: Tensor, linear: Linear) -> Tensor:
        return torch.zeros_like(y)

    def step(
        self, k: int, x: Tensor, s: Tensor | None, data: Tensor, linear: Linear, shrink: Shrink
    ) -> tuple[Tensor, Tensor | None]:
        assert s is not None
        return reference.amp_layer(
            x, s, lambda v: linear.residual(k, v, data), partial(linear.along, k), partial(shrink, k),
            shrink.gain(k),  # type: ignore[attr-defined]
        )  # fmt: skip

    def starting_values(self, layers: int, lam: float, step: float) -> dict[str, list[float]]:
        return {"theta": [self.alpha] * layers}

    def with_numbers(self, A: Any, values: dict[str, Any]) -> tuple[GradientStep | DataStep, Scheme]:
        return GradientStep(A), self


@dataclass(frozen=True)
class PrimalDual(Scheme):
    """x⁺ = P(x − τ·Aᴴu), u⁺ = (u + σ·(A(x⁺ + ω·(x⁺ − x)) − y))/(1 + σ): the dual variable u is of the shape of y.

    It converges for τσ‖A‖² ≤ 1 and ω = 1. τ is the ``step`` of the gradient step. u starts as σ/(1 + σ)·(A x − y).

    Args:
        sigma: σ > 0, one number, a list with one for each layer, or one tensor of K values.
        omega: ω, likewise.

    Reference: Chambolle and Pock, *A first-order primal-dual algorithm for convex problems with applications to
    imaging*, 2011.
    """

    has_state: ClassVar[bool] = True
    numbers: ClassVar[tuple[str, ...]] = ("sigma", "omega")
    state_of: ClassVar[str | None] = "y"

    sigma: Values = 1.0
    omega: Values = 1.0

    def initial(self, x: Tensor, y: Tensor, linear: Linear) -> Tensor:
        sigma = entry(self.sigma, 0)
        return -sigma / (1 + sigma) * linear.residual(0, x, y)

    def step(
        self, k: int, x: Tensor, s: Tensor | None, data: Tensor, linear: Linear, shrink: Shrink
    ) -> tuple[Tensor, Tensor | None]:
        assert s is not None
        sigma = entry(self.sigma, k)
        before, x = x, shrink(k, linear.along(k, x, -s))
        ahead = x + entry(self.omega, k) * (x - before)
        return x, (s - sigma * linear.residual(k, ahead, data)) / (1 + sigma)

    def starting_values(self, layers: int, lam: float, step: float) -> dict[str, list[float]]:
        root = step**0.5
        omega = _numbers("omega", self.omega, layers)
        return {"tau": [root] * layers, "sigma": [root] * layers, "theta": [lam * root] * layers, "omega": omega}

    def with_numbers(self, A: Any, values: dict[str, Any]) -> tuple[GradientStep | DataStep, Scheme]:
        return GradientStep(A, step=values["tau"]), PrimalDual(values["sigma"], values["omega"])


def entry(values: Any, k: int) -> Any:
    """The value of layer k: of one for all, or of one for each layer."""
    if isinstance(values, (list, tuple)):
        return values[min(k, len(values) - 1)]
    return values


def _numbers(name: str, values: Any, layers: int) -> list[float]:
    """One number for each layer, for a network to start with."""
    found = torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist()
    if len(found) not in (1, layers):
        raise ValueError(f"{name} must be one number or one for each layer ({layers}), got {len(found)}")
    return found * layers if len(found) == 1 else found
