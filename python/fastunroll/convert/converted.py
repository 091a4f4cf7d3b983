"""Networks that keep of their source what the networks of ``nn`` have no place for: signs, and how many pass.

Trained steps and thresholds may be negative, and the sources compute with them: S_θ(z) = sign(z)·max(|z| − θ, 0) makes
magnitudes larger where θ < 0. Networks here learn logarithms; those of this file keep the signs beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from .. import ops
from ..nn import ALISTA, LISTACP, LISTACPSS, LISTASS, StepLISTA, UnrolledNetwork
from ..nn.adaptive import rows_of
from ..nn.shrinkage import Shrinkage
from ..prox import soft_threshold
from ..reference import largest
from ..unrolling import run
from .stepwise import StepwiseNetwork


class Converted(StepwiseNetwork):
    """A network with signs of its steps and thresholds, and numbers that pass, that are its source's own.

    All layers are one native call, unless a threshold is negative where some pass: then it goes layer by layer.

    Attributes:
        step_sign, theta_sign: (K,), and (K, 1) or (K, n): 1 or −1, buffers.
        passing: how many of the largest pass unshrunk in each layer, if they exceed θ; none if empty.
        one_call: whether all layers are one native call.
    """

    step_sign: Tensor
    theta_sign: Tensor
    passing: tuple[int, ...]
    one_call: bool

    def keep(self, step: Sequence[Tensor], theta: Sequence[Tensor], passing: tuple[int, ...]) -> None:
        """Keeps the signs of the numbers of a source; no ``step`` is steps of 1."""
        signs = [1.0 - 2.0 * (t.detach().reshape(-1) < 0).to(t.dtype) for t in theta]
        self.register_buffer("theta_sign", torch.stack(signs))
        ones = torch.ones_like(self.theta_sign[:, 0])
        self.register_buffer("step_sign", torch.stack([torch.sign(t.reshape(())) for t in step]) if step else ones)
        self.passing = passing if any(passing) else ()
        self.one_call = self._is_one_call()

    def _describe(self) -> tuple[ops.NetworkSpec, ops.Parameters]:
        form, p = super()._describe()
        step = [sign * t for sign, t in zip(self.step_sign, p.step, strict=True)] if p.step else p.step
        theta = [sign * t for sign, t in zip(self.theta_sign, p.theta, strict=True)]
        # Not dataclasses.replace, through which torch 2.6 does not compile.
        form = ops.NetworkSpec(form.layers, form.linear, form.scheme, form.prox, form.group, self.passing)
        return form, ops.Parameters(p.W1, p.W2, step, theta, p.gain, p.beta)

    def _run(self, y: Tensor, x0: Tensor | None, depth: int, return_layers: bool) -> Tensor:
        if self.one_call:
            return UnrolledNetwork._run(self, y, x0, depth, return_layers)
        return super()._run(y, x0, depth, return_layers)

    def _is_one_call(self) -> bool:
        """Whether a native call does all layers: signs are constants, so it is asked once."""
        return not self.passing or bool((self.theta_sign > 0).all())

    def _iterates(self, y: Tensor, x: Tensor) -> Iterator[Tensor]:
        form, p = self._describe()
        real = y.real.dtype if y.is_complex() else y.dtype
        for k in range(self.layers):
            first, second, step, theta, *_ = p.part(k, k + 1)
            linear = ops.NetworkSpec(1, form.linear, prox="identity")
            w1, w2 = ([w.to(y.dtype) for w in group] for group in (first, second))
            z, _ = run(linear, ops.Parameters(w1, w2, [t.to(real) for t in step]), y, x)
            x = self._shrunk(k, z, self._threshold(theta[0].to(real), x))
            yield x

    def _threshold(self, theta: Tensor, x: Tensor) -> Tensor:
        """The threshold of a layer with parameter θ, whose input is x."""
        return theta

    def _shrunk(self, k: int, z: Tensor, theta: Tensor) -> Tensor:
        shrunk = soft_threshold(z, theta)
        if not (self.passing and self.passing[k]):
            return shrunk
        return torch.where(self._passes(z.detach().abs(), theta, self.passing[k]), z, shrunk)

    def _passes(self, size: Tensor, theta: Tensor, count: int) -> Tensor:
        """Where elements of these magnitudes pass unshrunk."""
        return largest(size, count) & (size > theta)


class ConvertedALISTA(Converted, ALISTA):
    """ALISTA with signs and numbers that pass of its own."""


class ConvertedLISTACP(Converted, LISTACP):
    """LISTACP with signs of its own."""


class ConvertedLISTACPSS(Converted, LISTACPSS):
    """LISTACPSS with signs and numbers that pass of its own."""


class ConvertedLISTASS(Converted, LISTASS):
    """LISTASS with signs and numbers that pass of its own."""


class ConvertedStepLISTA(Converted, StepLISTA):
    """StepLISTA with signs of its own."""


class TopALISTA(ConvertedALISTA):
    """ALISTA where the largest pass whether or not they exceed θ, as in na-alista.

    Equivalent to :class:`fastunroll.nn.ALISTA` with ``passes = largest(z.abs(), passing[k])``, but for equal
    magnitudes: of those none passes if not all can.
    """

    def _is_one_call(self) -> bool:
        return not self.passing

    def _passes(self, size: Tensor, theta: Tensor, count: int) -> Tensor:
        return size > size.topk(min(count + 1, self.n)).values[..., -1:]


class AdaptiveALISTA(TopALISTA):
    """ALISTA-AT of na-alista: the threshold of each element is θ/(1 + |x|/0.1), by the iterate x before the layer."""

    def _is_one_call(self) -> bool:
        return False

    def _threshold(self, theta: Tensor, x: Tensor) -> Tensor:
        return theta / (x.abs() / 0.1 + 1)


class SignedSoftShrinkage(Shrinkage):
    """s·S_θ(r) with θ = α·√variance, where s may be negative.

    Attributes:
        log_alpha: K logarithms of α.
        scale: K numbers s.
    """

    tensors = "log_alpha", "scale"
    prox = "soft"

    def __init__(self, alpha: Sequence[Tensor], scale: Sequence[Tensor]) -> None:
        super().__init__()
        self.log_alpha = nn.ParameterList(nn.Parameter(a.log().reshape(1)) for a in alpha)
        self.scale = nn.ParameterList(nn.Parameter(s.detach().clone().reshape(1)) for s in scale)

    def values(self, depth: int) -> Tensor:
        return rows_of(depth, self.log_alpha, self.scale, exponential=1)

    def layer(self, k: int) -> dict[str, float]:
        return {"threshold": float(self.log_alpha[k].exp()), "gain": float(self.scale[k])}
