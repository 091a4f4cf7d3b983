"""A proximal operator of its own for each layer of a network."""

from __future__ import annotations

from copy import deepcopy

from torch import Tensor, nn

from .. import _checks
from .proximal import Proximal, require_proximal


class PerLayer(Proximal):
    """Copies of a proximal operator, one for each layer of a network, which learn parameters of their own.

    All layers of a network share the parameters of their proximal operator, as an iteration does. With ``PerLayer``,
    each layer has its own filters or weights, as most unrolled networks of the literature do.

    Args:
        prox: the operator that is copied, with its parameters.
        layers: the number of copies, at least the number of layers of the network.

    Attributes:
        copies: the operators of the layers.

    Raises:
        TypeError: ``prox`` is no proximal operator.
        ValueError: ``layers`` is no whole number ≥ 1, the network has more layers, or the operator is used outside of a
            network.

    Example::

        prior = fu.prox.PerLayer(fu.prox.FilterBank(count=24, size=5), layers=10)
        net = fu.nn.Unrolled(fu.schemes.ProximalGradient(), blur, prior, layers=10)

    Equivalent to: ``copies[k].prox(z, theta)`` in layer k.
    """

    def __init__(self, prox: Proximal, layers: int) -> None:
        super().__init__()
        require_proximal(prox)
        self.layers = _checks.count("layers", layers)
        self.copies = nn.ModuleList(deepcopy(prox) for _ in range(self.layers))
        self.has_threshold, self.takes_autocast = prox.has_threshold, prox.takes_autocast
        self.sample_dims = prox.sample_dims

    def copy_of(self, k: int) -> Proximal:
        """The copy that layer k has."""
        if k >= self.layers:
            raise ValueError(
                f"PerLayer has {self.layers} operators, but the network has more layers: make it with the layers of "
                "the network"
            )
        prox: Proximal = self.copies[k]  # type: ignore[assignment]
        return prox

    def at_layer(self, k: int) -> Proximal:
        return self.copy_of(k).at_layer(k)

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        raise ValueError("PerLayer has an operator for each layer of a network: use prox.at_layer(k).prox(z, theta)")

    def extra_repr(self) -> str:
        return f"layers={self.layers}"
