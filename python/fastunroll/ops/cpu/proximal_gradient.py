"""Iterations of ISTA and FISTA until each sample has converged, on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ... import _fastunroll
from ..library import operator, require
from ..tensors import address, have_same_dtype_and_device, is_double


@dataclass(frozen=True)
class State:
    """The state of each sample, from which iterations continue, and which they change in place.

    x: (batch, n). iterations: their number, (batch,). gap: the relative duality gap, (batch,), at first infinite; a
    sample whose gap is at most tol does not change. With momentum also before: the iterate from which x is
    extrapolated, (batch, n); g_before: the gradient there, (batch, n); momentum: t, β and the lowest objective in
    double precision, (batch, 3).
    """

    x: Tensor
    gap: Tensor
    iterations: Tensor
    before: Tensor | None = None
    g_before: Tensor | None = None
    momentum: Tensor | None = None

    @staticmethod
    def begin(x0: Tensor, accelerated: bool) -> State:
        """The state before the first iteration, at a copy of ``x0``."""
        batch = x0.shape[0]
        gap, counts = x0.new_full((batch,), torch.inf), torch.zeros(batch, dtype=torch.int64)
        x = x0.clone(memory_format=torch.contiguous_format)
        if not accelerated:
            return State(x, gap, counts)
        momentum = torch.tensor([1.0, 0.0, torch.inf], dtype=torch.float64).repeat(batch, 1)
        return State(x, gap, counts, torch.zeros_like(x), torch.zeros_like(x), momentum)


def _fake(*_: object) -> None:
    return None


@operator(
    "proximal_gradient(Tensor A, Tensor y, Tensor lam, float step, int iterations, int every, bool restarts,"
    " bool monotone, bool nonnegative, float tol, Tensor(a!) x, Tensor(b!) gap, Tensor(c!) counts, Tensor(d!)? before,"
    " Tensor(e!)? g_before, Tensor(f!)? momentum) -> ()",
    _fake,
)
def _proximal_gradient(
    A: Tensor, y: Tensor, lam: Tensor, step: float, iterations: int, every: int, restarts: bool, monotone: bool,
    nonnegative: bool, tol: float, x: Tensor, gap: Tensor, counts: Tensor, before: Tensor | None,
    g_before: Tensor | None, momentum: Tensor | None,
) -> None:  # fmt: skip
    batch, (m, n) = y.shape[0], A.shape
    numbers = [t for t in (before, g_before) if t is not None]
    fits = (
        y.shape == (batch, m)
        and x.shape == (batch, n)
        and gap.shape == counts.shape == (batch,)
        and lam.dim() == 2
        and lam.shape[0] in (1, batch)
        and lam.shape[1] in (1, n)
        and len(numbers) == (0 if momentum is None else 2)
        and all(t.shape == x.shape for t in numbers)
        and (momentum is None or (momentum.shape == (batch, 3) and momentum.dtype == torch.float64))
        and counts.dtype == torch.int64
        and all(t.is_contiguous() for t in (x, gap, counts, *numbers))
        and (momentum is None or momentum.is_contiguous())
        and iterations >= 0
        and every >= 1
    )
    require(
        fits and have_same_dtype_and_device(A, y, lam, x, gap, *numbers) and y.device.type == "cpu", "proximal_gradient"
    )
    A, y, lam = A.contiguous(), y.contiguous(), lam.contiguous()
    _fastunroll.proximal_gradient(
        is_double(y), (batch, m, n, *lam.shape), torch.get_num_threads(), iterations, every, restarts, monotone,
        nonnegative, step, tol, A.data_ptr(), y.data_ptr(), lam.data_ptr(),
        (x.data_ptr(), address(before), address(g_before), address(momentum), gap.data_ptr(), counts.data_ptr()),
    )  # fmt: skip


def proximal_gradient(
    A: Tensor, y: Tensor, lam: Tensor, step: float, state: State, *, iterations: int, every: int, restarts: bool,
    monotone: bool, nonnegative: bool, tol: float,
) -> None:  # fmt: skip
    """Advances each sample that has not converged by at most ``iterations``. lam: (1 or batch, 1 or n).

    ``nonnegative`` minimises over x ≥ 0, from a state that is ≥ 0.
    """
    _proximal_gradient(
        A, y, lam, step, iterations, every, restarts, monotone, nonnegative, tol, state.x, state.gap, state.iterations,
        state.before, state.g_before, state.momentum,
    )  # fmt: skip
