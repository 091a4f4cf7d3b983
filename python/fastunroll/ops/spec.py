"""The structure of a network, and its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from .. import reference
from .tensors import have_same_dtype_and_device

LINEAR_STEPS = ("affine", "gradient", "gram")
SCHEMES = ("proximal_gradient", "fista", "admm", "amp")
PROXES = ("identity", "soft", "nonnegative")


@dataclass(frozen=True)
class NetworkSpec:
    """The structure of a network, without its parameters. :func:`fastunroll.reference.network` has the formulas.

    Attributes:
        layers: K.
        linear: the linear step, ``"affine"``, ``"gradient"`` or ``"gram"``.
        scheme: ``"proximal_gradient"``, ``"fista"``, ``"admm"`` or ``"amp"``.
        prox: the proximal step, ``"identity"``, ``"soft"`` or ``"nonnegative"``.
        group: the number of neighbours that shrink together.
        support_sizes: for each layer, how many of the largest elements or groups stay unshrunk; empty for none.
    """

    layers: int
    linear: str = "affine"
    scheme: str = "proximal_gradient"
    prox: str = "soft"
    group: int = 1
    support_sizes: tuple[int, ...] = ()

    @property
    def is_gradient_step(self) -> bool:
        """Whether the linear step adds to v: z = v + …"""
        return self.linear != "affine"

    def of_pairs(self) -> NetworkSpec:
        """The network of reals that computes this one of complex numbers, each a pair of neighbours."""
        group = self.group if self.prox == "identity" else 2 * self.group
        return NetworkSpec(self.layers, self.linear, self.scheme, self.prox, group, self.support_sizes)

    def part(self, start: int, stop: int) -> NetworkSpec:
        """The layers start … stop − 1."""
        support_sizes = self.support_sizes[start:stop]
        return NetworkSpec(stop - start, self.linear, self.scheme, self.prox, self.group, support_sizes)

    def sizes(self, p: Parameters) -> tuple[int, int]:
        """m and n."""
        rows, columns = p.W1[0].shape
        return (rows, columns) if self.is_gradient_step else (columns, rows)

    def state_size(self, m: int, n: int) -> int:
        """The values of the second state of a sample."""
        return {"proximal_gradient": 0, "amp": m}.get(self.scheme, n)

    def saved_size(self, p: Parameters, saves_residuals: bool) -> int:
        """The values that the gradient needs of a layer and sample besides x⁺.

        saves_residuals: whether gradient steps save their residual y − A v, which is computed again otherwise.
        """
        m, n = self.sizes(p)
        of_scheme = 2 * n if self.scheme == "admm" else 0
        return of_scheme + (m if self.scheme == "amp" or (self.is_gradient_step and saves_residuals) else 0)

    def selected_size(self, n: int) -> int:
        """The elements or groups of a layer and sample among which support selection chooses; 0 without selection."""
        return n // self.group if any(self.support_sizes) else 0

    def fits(self, p: Parameters, y: Tensor, x0: Tensor | None, s0: Tensor | None) -> bool:
        """Whether the arguments of an operator fit each other."""
        if not (self.layers > 0 and len(p.W1) > 0 and p.W1[0].dim() == 2):
            return False
        m, n = self.sizes(p)
        batch = y.shape[0]
        W2_shape = (m, n) if self.is_gradient_step else (n, n)
        W2_counts = {"affine": {1, self.layers}, "gradient": {0, 1, self.layers}, "gram": {0}}[self.linear]
        scalar = {1, self.layers}  # one value a layer, perhaps all in one tensor
        allowed = ({m * n}, {W2_shape[0] * n}, {1, m}, {1, n // self.group}, scalar, scalar)
        return (
            y.shape == (batch, m)
            and (x0 is None or x0.shape == (batch, n))
            and (s0 is None or s0.shape == (batch, self.state_size(m, n)))
            and all(w.shape == p.W1[0].shape for w in p.W1) and all(w.shape == W2_shape for w in p.W2)
            and all(len(group) in (0, 1, self.layers) for group in p)
            and all(len({t.numel() for t in group}) < 2 and group[0].numel() in a
                    for group, a in zip(p, allowed, strict=True) if group)
            and len(p.W2) in W2_counts and (m == n or self.linear != "gram")
            and (self.scheme != "amp" or (self.linear == "gradient" and not p.step))
            and (self.group == 1 and not any(self.support_sizes) if self.prox == "identity" else len(p.theta) > 0)
            and (self.prox != "nonnegative" or self.group == 1)
            and len(self.support_sizes) in (0, self.layers) and min(self.support_sizes, default=0) >= 0
            and self.group > 0 and n % self.group == 0
            and (self.scheme not in ("fista", "admm") or len(p.beta) > 0)
            and have_same_dtype_and_device(y, x0, s0, *(t for group in p for t in group))
        )  # fmt: skip

    def can_differentiate(self, needs: Sequence[bool]) -> bool:
        """Whether kernels have the gradients of these lists of parameters."""
        return len(needs) == len(Parameters._fields)

    def reference(self, p: Parameters, y: Tensor, x0: Tensor | None, s0: Tensor | None) -> tuple[Tensor, Tensor]:
        """Every layer, (K, ..., n), and the second state after the last, by plain PyTorch."""
        start = y.new_zeros(*y.shape[:-1], self.sizes(p)[1]) if x0 is None else x0
        return reference.network(
            y, *p, start, s0, layers=self.layers, linear=self.linear, scheme=self.scheme, prox=self.prox,
            group=self.group, support_sizes=self.support_sizes,
        )  # fmt: skip


class Parameters(NamedTuple):
    """The parameters of a network: each is a list with one entry, which all layers share, one for each layer, or none.

    The affine step is W1 y + W2 v. In gradient steps W1 is A, and W2 is W, or A if the list is empty; in Gram steps W1
    is the Gram matrix.
    """

    W1: Sequence[Tensor]  # affine (n, m); gradient (m, n); gram (n, n), where m = n
    W2: Sequence[Tensor]  # affine (n, n); gradient (m, n)
    step: Sequence[Tensor] = ()  # 1 or m values
    theta: Sequence[Tensor] = ()  # 1 or n / group values
    gain: Sequence[Tensor] = ()  # 1 value a layer, or one tensor with all of them
    beta: Sequence[Tensor] = ()  # as gain: the momentum β of FISTA, the relaxation η of ADMM

    def part(self, start: int, stop: int) -> Parameters:
        """Those of the layers start … stop − 1."""
        own: list[Sequence[Tensor]] = []
        for group in self:
            if len(group) > 1:
                own.append(group[start:stop])
            elif len(own) > 3 and len(group) == 1 and group[0].numel() > 1:  # one tensor with a value a layer
                own.append([group[0][start:stop]])
            else:
                own.append(group)
        return Parameters(*own)
