"""Networks that store signs and support sizes of their source, which the networks of ``nn`` cannot represent.

Trained steps and thresholds may be negative, and the sources compute with negative values: S_θ(z) =
sign(z)·max(|z| − θ, 0) increases magnitudes if θ < 0. The networks of ``nn`` learn logarithms. The subclasses in this
file also store signs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import ops
from ..engine.layers import Pieces
from ..engine.run import run_compiled
from ..nn import ALISTA, LISTACP, LISTACPSS, LISTASS, StepLISTA, UnrolledNetwork
from ..nn.adaptive import rows_of
from ..nn.shrinkage import Shrinkage
from ..ops.tensors import real_dtype
from ..prox import L1, SupportSelection, soft_threshold
from ..reference import largest
from ..steps import GradientStep, listed


class Converted(UnrolledNetwork):
    """A network that stores the signs of the steps and thresholds of its source, and the support sizes of its layers.

    All layers run in one native call, unless the network selects a support and has a negative threshold. Layers then
    run one by one.

    Attributes:
        step_sign: a buffer (K,) of signs, 1 or −1.
        theta_sign: a buffer (K, 1) or (K, n) of signs, 1 or −1.
        support_sizes: the number of largest elements that stay unshrunk in each layer, if they exceed θ. Empty if all
            elements are shrunk.
        one_call: whether all layers run in one native call.
    """

    step_sign: Tensor
    theta_sign: Tensor
    support_sizes: tuple[int, ...]
    one_call: bool

    def store(self, step: Sequence[Tensor], theta: Sequence[Tensor], support_sizes: tuple[int, ...]) -> None:
        """Stores the signs of steps and thresholds, and the support sizes. An empty ``step`` stands for steps of 1."""
        signs = [1.0 - 2.0 * (t.detach().reshape(-1) < 0).to(t.dtype) for t in theta]
        self.register_buffer("theta_sign", torch.stack(signs))
        ones = torch.ones_like(self.theta_sign[:, 0])
        self.register_buffer("step_sign", torch.stack([torch.sign(t.reshape(())) for t in step]) if step else ones)
        self.support_sizes = support_sizes if any(support_sizes) else ()
        self.prox = SupportSelection(support_sizes) if self.support_sizes else L1()
        self.one_call = self._is_one_call()
        if not self.one_call:
            self.tensors = ()  # so that calls without gradients are not native either

    def pieces(self) -> Pieces:
        pieces = super().pieces()
        linear = pieces["linear"]
        if isinstance(linear, GradientStep) and linear.step is not None:
            step = [sign * t for sign, t in zip(self.step_sign, listed(linear.step), strict=True)]
            linear = GradientStep(linear.A, linear.W, step)
        theta = [sign * t for sign, t in zip(self.theta_sign, pieces["theta"] or (), strict=True)]
        return self._pieces(linear, pieces["scheme"], theta)

    def _is_one_call(self) -> bool:
        """Returns whether a native call runs all layers. The answer never changes, because signs are constants."""
        return not self.support_sizes or bool((self.theta_sign > 0).all())

    def _run(self, y: Tensor, x0: Tensor | None, depth: int, return_layers: bool) -> Tensor:
        if self.one_call:
            return super()._run(y, x0, depth, return_layers)
        start = y.new_zeros(*y.shape[:-1], self.n) if x0 is None else x0
        # In float32 at least, whose range thresholds need. The rounding of PyTorch's sums depends on the memory layout.
        wide, x = (t.to(torch.promote_types(t.dtype, torch.float32)).contiguous() for t in (y, start))
        spec, p, _ = self._describe()
        real = real_dtype(wide)
        linear = ops.NetworkSpec(1, spec.linear, prox="identity")
        outputs = []
        for k in range(depth):
            layer = p.part(k, k + 1)
            W1, W2 = ([w.to(wide.dtype) for w in group] for group in (layer.W1, layer.W2))
            step, theta = ([t.to(real) for t in group] for group in (layer.step, layer.theta))
            z, _ = run_compiled(linear, ops.Parameters(W1, W2, step), wide, x)
            x = self._shrunk(k, z, self._threshold(theta[0], x))
            if return_layers:
                outputs.append(x)
        return (torch.stack(outputs) if return_layers else x).to(y.dtype)

    def _threshold(self, theta: Tensor, x: Tensor) -> Tensor:
        """Returns the threshold of a layer from its parameter θ and its input x."""
        return theta

    def _shrunk(self, k: int, z: Tensor, theta: Tensor) -> Tensor:
        shrunk = soft_threshold(z, theta)
        if not (self.support_sizes and self.support_sizes[k]):
            return shrunk
        return torch.where(self._support(z.detach().abs(), theta, self.support_sizes[k]), z, shrunk)

    def _support(self, magnitudes: Tensor, theta: Tensor, count: int) -> Tensor:
        """Returns the mask of the elements that stay unshrunk: the ``count`` largest, if they exceed θ."""
        return largest(magnitudes, count) & (magnitudes > theta)


class ConvertedALISTA(Converted, ALISTA):
    """ALISTA with the signs and support sizes of its source."""


class ConvertedLISTACP(Converted, LISTACP):
    """LISTACP with the signs of its source."""


class ConvertedLISTACPSS(Converted, LISTACPSS):
    """LISTACPSS with the signs and support sizes of its source."""


class ConvertedLISTASS(Converted, LISTASS):
    """LISTASS with the signs and support sizes of its source."""


class ConvertedStepLISTA(Converted, StepLISTA):
    """StepLISTA with the signs of its source."""


class TopALISTA(ConvertedALISTA):
    """ALISTA whose largest elements stay unshrunk even if they are smaller than θ, as in na-alista.

    Equivalent to :class:`fastunroll.nn.ALISTA` with ``passes = largest(z.abs(), support_sizes[k])``. If elements of
    equal magnitude do not all fit into the support, all of them are shrunk.
    """

    def _is_one_call(self) -> bool:
        return not self.support_sizes

    def _support(self, magnitudes: Tensor, theta: Tensor, count: int) -> Tensor:
        return magnitudes > magnitudes.topk(min(count + 1, self.n)).values[..., -1:]


class AdaptiveALISTA(TopALISTA):
    """ALISTA-AT of na-alista, whose threshold for each element is θ/(1 + |x|/0.1). Here x is the input of the layer."""

    def _is_one_call(self) -> bool:
        return False

    def _threshold(self, theta: Tensor, x: Tensor) -> Tensor:
        return theta / (x.abs() / 0.1 + 1)


class SignedSoftShrinkage(Shrinkage):
    """The soft threshold s·S_θ(r) with θ = α·√variance, where the factor s may be negative.

    Attributes:
        log_alpha: the logarithms of α, a list of K parameters.
        scale: the factors s, a list of K parameters.
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
