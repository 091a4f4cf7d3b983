"""LISTA: ISTA with learned matrices and thresholds."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from .. import _checks
from ..engine.layers import Pieces
from ..prox import L1
from ..steps import AffineStep
from .affine import AffineNetwork
from .network import Weights, entries, starting_matrix, threshold_size


class LISTA(AffineNetwork):
    """K layers x⁺ = S_θ(W₁ y + W₂ x), which run in one native call, forward and backward.

    It starts exactly as ISTA on ½‖A x − y‖² + λ‖x‖₁, with L = ‖A‖², W₁ = Aᵀ/L, W₂ = I − AᵀA/L and θ = λ/L. An untrained
    network returns the K-th iterate of ISTA from zero.

    Args:
        A: the matrix (m, n) for the start, finite and not zero. Without it, give ``m`` and ``n``, and the network
            starts from a random matrix with columns of norm 1.
        m: the number of rows of the random matrix.
        n: the number of columns of the random matrix.
        layers: the number K ≥ 1 of layers.
        lam: λ ≥ 0.
        tied: whether all layers share W₁ and W₂. Thresholds are never shared.
        threshold: ``"scalar"`` for one threshold in each layer, ``"vector"`` for one threshold for each element of x.
        weights: ``"full"``, or ``"bf16"`` for speed. With ``"bf16"``, a float32 network rounds W₁ and W₂ to bfloat16 (8
            significant bits, half the memory) in calls without gradients. Sums stay float32. It can be set later.
        device: the device of the network. The default is the device of ``A``.
        dtype: the dtype of the network. The default is the dtype of ``A``.

    Attributes:
        W1: K matrices (n, m), or one if tied.
        W2: K matrices (n, n), or one if tied. W₂ of the first layer has no effect without ``x0``.
        theta: K thresholds, of shape (1,) or (n,). They are not logarithms, so that the network can replace
            hand-written LISTA networks. A negative threshold increases magnitudes.

    Raises:
        TypeError: A is not real floating point.
        ValueError: A is not a matrix, not finite or zero; λ < 0; K < 1; or both or neither of ``A`` and (``m``, ``n``).

    Equivalent to::

        x = torch.zeros(*y.shape[:-1], n) if x0 is None else x0
        for k in range(layers):
            z = y @ W1[k].mT + x @ W2[k].mT
            x = torch.sign(z) * torch.relu(z.abs() - theta[k])

    :class:`UnrolledNetwork` describes when calls reuse packed weights, and which edits of weights they notice.

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
        self.prox = L1()
        self.weights, size = weights, threshold_size(threshold, self.n)
        step = self._start(A, tied, threshold)
        self.theta = nn.ParameterList(
            nn.Parameter(torch.full((size,), lam * step, device=A.device, dtype=A.dtype)) for _ in range(layers)
        )

    def pieces(self) -> Pieces:
        return self._pieces(AffineStep(entries(self.W1), entries(self.W2)), theta=entries(self.theta))
