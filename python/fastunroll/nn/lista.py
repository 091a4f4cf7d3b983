"""LISTA: ISTA with learned matrices and thresholds."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import _checks, ops
from ..iterations import lista
from .ista_matrices import ista_matrices
from .network import UnrolledNetwork, copies, starting_matrix, threshold_size


def _rounded(weights: list[Tensor]) -> list[Tensor]:
    return [w.bfloat16().float() for w in weights]


class LISTA(UnrolledNetwork):
    """K layers x⁺ = S_θ(W₁ y + W₂ x), run in one native call forward and backward.

    It starts as exactly ISTA on ½‖A x − y‖² + λ‖x‖₁, with L = ‖A‖²: W₁ = Aᵀ/L, W₂ = I − AᵀA/L, θ = λ/L. So an
    untrained network returns the K-th iterate of ISTA from zero.

    Args:
        A: (m, n), finite and not zero, where the network starts. Without it, give ``m`` and ``n``: it then starts from
            a random matrix with unit columns.
        m: rows of the random matrix.
        n: columns of the random matrix.
        layers: K ≥ 1.
        lam: λ ≥ 0.
        tied: share W₁ and W₂ between layers; thresholds are always a layer's own.
        threshold: ``"scalar"`` for one threshold a layer, ``"vector"`` for one a coordinate and layer.
        weights: ``"bf16"`` for speed: a float32 network then computes, where no gradient is recorded, with W₁ and W₂
            rounded to bfloat16, 8 bits each, in half the memory. Sums stay float32. Can be set later.
        device: where parameters live; that of ``A`` by default.
        dtype: their type; that of ``A`` by default.

    Attributes:
        W1: K matrices (n, m), or one if tied.
        W2: K matrices (n, n), or one if tied. The first layer's takes effect only with ``x0``.
        theta: K thresholds, of shape () or (n,). They are learned as they are, and not as logarithms, so that the
            network takes the place of those that people write; a negative one makes magnitudes larger.

    Raises:
        TypeError: A is not real floating point.
        ValueError: A is not a matrix, not finite or zero; λ < 0; K < 1; or both or neither of ``A`` and (``m``, ``n``).

    Equivalent to::

        x = torch.zeros(*y.shape[:-1], n) if x0 is None else x0
        for k in range(layers):
            z = y @ W1[k].mT + x @ W2[k].mT
            x = torch.sign(z) * torch.relu(z.abs() - theta[k])

    Without gradients, the packed form of the weights is kept from call to call, as large as they are. Whatever changes
    weights is noticed, but for single values edited through ``.data`` or NumPy: edit under ``torch.no_grad()``.

    Reference: Gregor and LeCun, *Learning fast approximations of sparse coding*, 2010.
    """

    def __init__(
        self,
        A: Tensor | None = None,
        *,
        m: int | None = None,
        n: int | None = None,
        layers: int = 16,
        lam: float = 0.1,
        tied: bool = False,
        threshold: Literal["scalar", "vector"] = "scalar",
        weights: Literal["full", "bf16"] = "full",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        lam = _checks.not_negative("lam", lam)
        sizes = (m is not None) + (n is not None)
        if sizes != (2 if A is None else 0):
            raise ValueError("LISTA starts from a matrix or from its size: give either A, or both m and n")
        if A is None:
            dtype = _checks.floating_dtype(dtype)
            A = torch.randn(_checks.count("m", m), _checks.count("n", n), device=device, dtype=dtype)
            A = A / A.norm(dim=0, keepdim=True)
        A = starting_matrix(A, device, dtype)
        _checks.real("A", A)
        super().__init__(layers, *A.shape)
        self.tied, self.threshold, self.weights = tied, threshold, weights
        self._prepared = ops.Prepared()
        size = threshold_size(threshold, self.n)
        shape = () if size is None else (size,)

        w1, w2, step = ista_matrices(A)
        self.W1, self.W2 = (copies(w, 1 if tied else layers) for w in (w1, w2))
        self.theta = nn.ParameterList(
            nn.Parameter(torch.full(shape, lam * step, device=A.device, dtype=A.dtype)) for _ in range(layers)
        )

    def forward(
        self, y: Tensor, x0: Tensor | None = None, return_layers: bool = False, *, depth: int | None = None
    ) -> Tensor:
        """Reconstructs x from ``y``.

        Args:
            y: (..., m), with any leading shape.
            x0: where to start, (..., n); zero by default.
            return_layers: return the output of every layer.
            depth: run so many layers only, the first.

        Returns:
            (..., n), or (K, ..., n) with ``return_layers``.

        Raises:
            TypeError: ``y`` is not floating point, or has another dtype than the parameters.
            ValueError: ``y`` or ``x0`` does not fit, or is on another device; ``depth`` is not from 1 to K; or weights
                are ``"bf16"`` and not those of a float32 network.
        """
        w1, w2, theta = self._groups()
        halved = self._weights == "bf16"
        if halved and w1[0].dtype != torch.float32:
            raise ValueError(
                f'weights="bf16" rounds those of a float32 network, but they are {w1[0].dtype}: use .float() or '
                'set weights to "full"'
            )
        if depth is not None:
            return super().forward(y, x0, return_layers, depth=depth)
        out = self._prepared.run([*w1, *w2, *theta], self._describe, y, x0, return_layers, halved)
        if out is not None:
            return out
        if halved and not ops.differentiable(y, x0, *w1, *w2, *theta):
            w1, w2 = _rounded(w1), _rounded(w2)
        return lista(y, w1, w2, theta, x0, layers=self.layers, return_layers=return_layers)

    @property
    def weights(self) -> Literal["full", "bf16"]:
        return self._weights

    @weights.setter
    def weights(self, weights: Literal["full", "bf16"]) -> None:
        if weights not in ("full", "bf16"):
            raise ValueError(f'weights must be "full" or "bf16", got {weights!r}')
        self._weights: Literal["full", "bf16"] = weights

    def _groups(self) -> list[list[Tensor]]:
        """W1, W2 and theta; past ParameterList, which takes longer than a small network."""
        modules: Any = self._modules
        return [[*modules[name]._parameters.values()] for name in ("W1", "W2", "theta")]

    def _run(self, y: Tensor, x0: Tensor | None, depth: int, return_layers: bool) -> Tensor:
        w1, w2, theta = self._groups()
        if self._weights == "full" or ops.differentiable(y, x0, *w1, *w2, *theta):
            return super()._run(y, x0, depth, return_layers)
        w1, w2, theta = (group if len(group) < 2 else group[:depth] for group in (_rounded(w1), _rounded(w2), theta))
        return lista(y, w1, w2, theta, x0, layers=depth, return_layers=return_layers)

    def _describe(self) -> tuple[ops.Form, ops.Parameters]:
        w1, w2, theta = self._groups()
        return ops.Form(self.layers), ops.Parameters(w1, w2, (), theta)

    def _matrix(self) -> Tensor:
        return self._groups()[0][0]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, tied={self.tied}, threshold={self.threshold!r}, weights={self.weights!r}"
