"""LISTA: ISTA with learned matrices and thresholds."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from .. import _checks, ops
from .._precision import own_precision
from ..functional import lista
from .ista_matrices import ista_matrices
from .network import UnrolledNetwork, Weights, copies, starting_matrix, threshold_size


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
        theta: K thresholds, of shape (1,) or (n,). They are learned as they are, and not as logarithms, so that the
            network takes the place of those that people write; a negative one makes magnitudes larger.

    Raises:
        TypeError: A is not real floating point.
        ValueError: A is not a matrix, not finite or zero; λ < 0; K < 1; or both or neither of ``A`` and (``m``, ``n``).

    Equivalent to::

        x = torch.zeros(*y.shape[:-1], n) if x0 is None else x0
        for k in range(layers):
            z = y @ W1[k].mT + x @ W2[k].mT
            x = torch.sign(z) * torch.relu(z.abs() - theta[k])

    :class:`UnrolledNetwork` says when packed weights are kept from call to call, and which edits of weights it notices.

    Reference: Gregor and LeCun, *Learning fast approximations of sparse coding*, 2010.
    """

    tensors = "W1", "W2", "theta"

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
        weights: Weights = "full",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        lam = _checks.not_negative("lam", lam)
        sizes = (m is not None) + (n is not None)
        if sizes != (2 if A is None else 0):
            raise ValueError("LISTA starts from a matrix or from its size: give either A, or both m and n")
        if A is None:
            dtype = _checks.floating_dtype(dtype)
            device = _checks.device(device)
            A = torch.randn(_checks.count("m", m), _checks.count("n", n), device=device, dtype=dtype)
            A = A / A.norm(dim=0, keepdim=True)
        A = starting_matrix(A, device, dtype)
        _checks.real("A", A)
        super().__init__(layers, *A.shape)
        self.tied, self.threshold, self.weights = _checks.flag("tied", tied), threshold, weights
        size = threshold_size(threshold, self.n)

        w1, w2, step = ista_matrices(A)
        self.W1, self.W2 = (copies(w, 1 if tied else layers) for w in (w1, w2))
        self.theta = nn.ParameterList(
            nn.Parameter(torch.full((size,), lam * step, device=A.device, dtype=A.dtype)) for _ in range(layers)
        )

    def _run(self, y: Tensor, x0: Tensor | None, depth: int, return_layers: bool) -> Tensor:
        if depth < self.layers or self._weights == "bf16":
            return super()._run(y, x0, depth, return_layers)
        with own_precision(y):  # autocast would have a parametrization make matrices of half precision
            p = self._describe()[1]
        return lista(y, p.W1, p.W2, p.theta, x0, layers=depth, return_layers=return_layers)

    def _describe(self) -> tuple[ops.NetworkSpec, ops.Parameters]:
        return ops.NetworkSpec(self.layers), ops.Parameters([*self.W1], [*self.W2], (), [*self.theta])

    def _matrix(self) -> Tensor:
        return self.W1[0]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, tied={self.tied}, threshold={self.threshold!r}"
