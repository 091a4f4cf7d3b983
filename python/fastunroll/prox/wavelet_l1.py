"""The ℓ₁ norm of wavelet details, a prior for pictures that are smooth between edges."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks, ops
from .._checks import shape_text
from ..operators.wavelet import Wavelet
from ..reference_wavelets import shrunk
from .proximal import Proximal
from .threshold import soft_threshold

_SHIFTS = 1024  # after which the sequence of shifts begins again


class WaveletL1(Proximal):
    """R(x) = Σ |w_i(x)| over the wavelet details w of pictures (..., H, W): prox_θ(z) = Wᵀ S_θ(W z).

    W is orthonormal and periodic. Details shrink by the soft threshold S_θ. The approximation of the last level does
    not. Pictures are real or complex; the modulus of complex details shrinks.

    **Shift.** Layer k of a network, and iteration k of ``fista``, ``ista`` and ``admm``, moves the grid of the wavelet
    by 0 to 2ᴸ − 1 pixels down and right before it shrinks (cycle spinning), so that the blocks of the grid average out.
    The moves are a random sequence, which repeats after 1024 of them. ``seed`` determines it: every call has the same
    moves, forward and backward. Iterates move around the solution and have no limit: use ``shift=False`` with a
    tolerance. ``prox`` by itself does not move the grid, and :meth:`value` is that of this grid.

    **Thresholds.** θ is one number, or one for each picture, or a vector. A network learns a vector for each layer.
    With ``per="level"`` it has a threshold for each level, the finest first. With ``per="band"`` it has three for each
    level: for details across rows (the lower left quarter in the layout of :class:`fastunroll.operators.Wavelet`),
    across columns (upper right), and across both (lower right).

    Args:
        name: of an orthogonal wavelet, as in :class:`fastunroll.operators.Wavelet`.
        levels: L ≥ 1. The sides of pictures must be multiples of 2ᴸ: crop or pad other pictures, or use fewer levels.
        per: "band" (3L thresholds), "level" (L), or "all" (one).
        shift: whether the grid moves from layer to layer.
        seed: of the sequence of moves.

    Raises:
        ValueError: the name is unknown, L < 1, ``per`` is another word, z has fewer than two dimensions, a side is no
            multiple of 2ᴸ, or θ has another number of thresholds.

    Example::

        net = fu.nn.Unrolled(fu.schemes.FISTA(), blur, fu.prox.WaveletL1("db4", levels=3), layers=16, lam=1e-3)
        x = fu.solvers.fista(scan, y, 1e-3, prox=fu.prox.WaveletL1("haar"), iterations=100)

    Equivalent to, for one θ and a move of (down, right) pixels::

        c = W(z.roll((down, right), (-2, -1)))
        details = torch.sgn(c) * torch.relu(c.abs() - theta)
        details[..., : H // 2**L, : W // 2**L] = c[..., : H // 2**L, : W // 2**L]
        W.adjoint(details).roll((-down, -right), (-2, -1))

    References: Daubechies, Defrise and De Mol, *An iterative thresholding algorithm for linear inverse problems with a
    sparsity constraint*, 2004; Coifman and Donoho, *Translation-invariant de-noising*, 1995; Figueiredo and Nowak, *An
    EM algorithm for wavelet-based image restoration*, 2003.
    """

    sample_dims = 2

    def __init__(
        self, name: str = "db4", levels: int = 3, per: str = "band", shift: bool = True, *, seed: int = 0
    ) -> None:
        super().__init__()
        self.wavelet = Wavelet(name, levels)
        self.levels = self.wavelet.levels
        _checks.choice("per", per, _THRESHOLDS_OF_A_LEVEL)
        self.per, self.shift, self.seed = per, _checks.flag("shift", shift), _checks.seed(seed)
        generator = torch.Generator().manual_seed(self.seed)
        moves = torch.randint(2**self.levels, (_SHIFTS, 2), generator=generator).tolist()
        self.moves: list[tuple[int, int]] = [(down, right) for down, right in moves]

    @property
    def thresholds(self) -> int:
        """The number of thresholds of a layer."""
        return _THRESHOLDS_OF_A_LEVEL[self.per] * self.levels or 1

    def initial_threshold(self, theta: float) -> Tensor:
        return torch.full((self.thresholds,), theta, dtype=torch.float64, device="cpu")

    def move(self, k: int) -> tuple[int, int]:
        """By how many pixels the grid of layer k is moved: (down, right)."""
        return self.moves[k % _SHIFTS] if self.shift else (0, 0)

    def at_iteration(self, k: int) -> Proximal:
        return _Moved(self, self.move(k)) if self.shift else self

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        return self.moved(z, theta, (0, 0))

    def moved(self, z: Tensor, theta: Tensor, move: tuple[int, int]) -> Tensor:
        """prox_θ(z) on a grid that is moved by (down, right) pixels."""
        theta, down, right = torch.as_tensor(theta, device=z.device), *move
        found = ops.picture_prox(
            z, theta if _is_of_each(theta) else self.band_thresholds(theta), "wavelet",
            low_pass=self.wavelet.low_pass, levels=self.levels, move=move,
        )  # fmt: skip
        if found is not None:
            return found
        c = self.wavelet(z.roll((down, right), (-2, -1)) if any(move) else z)
        x = self.wavelet.adjoint(shrunk(c, self._thresholds(theta), soft_threshold))
        return (x.roll((-down, -right), (-2, -1)) if any(move) else x).to(z.dtype)

    def _thresholds(self, theta: Tensor) -> list[Tensor]:
        """θ of the three bands of each level, the finest level first."""
        if _is_of_each(theta):
            return [theta] * (3 * self.levels)
        return [*self.band_thresholds(theta).unbind()]

    def band_thresholds(self, theta: Tensor) -> Tensor:
        """θ of the three bands of each level, the finest level first: (3L,), of one number or of :attr:`thresholds`."""
        if theta.numel() == 1:
            return theta.reshape(1).expand(3 * self.levels)
        if theta.shape != (self.thresholds,):
            raise ValueError(
                f'theta must be one number or {self.thresholds}, for {self.levels} levels and per="{self.per}", got '
                f"shape {shape_text(theta.shape)}"
            )
        return theta.reshape(self.levels, -1).expand(self.levels, 3).reshape(-1)

    def value(self, x: Tensor) -> Tensor:
        c = self.wavelet(x)
        rows, columns = (n >> self.levels for n in c.shape[-2:])
        total: Tensor = c.abs().flatten(1).sum(1) - c[..., :rows, :columns].abs().flatten(1).sum(1)
        return total

    def extra_repr(self) -> str:
        return f"per={self.per!r}, shift={self.shift}, seed={self.seed}"


_THRESHOLDS_OF_A_LEVEL = {"band": 3, "level": 1, "all": 0}


def _is_of_each(theta: Tensor) -> bool:
    """Whether there is a threshold for each picture."""
    return theta.numel() > 1 and theta.shape[-2:] == (1, 1)


class _Moved(Proximal):
    """The operator on the grid of one layer."""

    def __init__(self, prior: WaveletL1, move: tuple[int, int]) -> None:
        super().__init__()
        self.prior, self.move = prior, move

    def initial_threshold(self, theta: float) -> Tensor:
        return self.prior.initial_threshold(theta)

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        found: Tensor = self.prior.moved(z, theta, self.move)
        return found
