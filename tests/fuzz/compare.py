"""When a result is that of the oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from twins import rounding

from .subject import WIDE, Leaves

VALUES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
GRADIENTS = {torch.float64: 1e-8, torch.float32: 1e-3, torch.float16: 3e-1, torch.bfloat16: 5e-1}
# By how much inputs are changed to see how a result answers, relative.
NUDGE = {torch.float64: 1e-14, torch.float32: 5e-6, torch.float16: 1e-2, torch.bfloat16: 5e-2}
NUDGES = 6


class Finding(Exception):
    """fastunroll and the oracle disagree."""


def _narrowed(leaves: Leaves, real: torch.dtype) -> dict[str, Tensor]:
    return {name: t.to(real.to_complex() if t.is_complex() else real) for name, t in leaves.items()}


def _nudged(leaves: Leaves, size: float) -> dict[str, Tensor]:
    return {name: t * (1 + size * torch.randn_like(t)) for name, t in leaves.items()}


def compare(
    what: str,
    found: Sequence[Tensor],
    evaluate: Callable[[Leaves], Sequence[Tensor]],
    leaves: Leaves,
    rows: Sequence[Callable[[Tensor], Tensor]],
    dtype: torch.dtype,
    *,
    tolerances: dict[torch.dtype, float] = VALUES,
    strict: bool = False,
    only: Tensor | None = None,
    hides: bool = False,
    poisoned: Tensor | None = None,
    cancels: bool = False,
    slack: float = 0.0,
) -> None:
    """Every tensor of ``found`` against that of ``evaluate(leaves)``, in double precision, sample by sample.

    A value that is not finite must not come back as one that is. Samples that are finite must be right. Where inputs
    and iterates that differ by rounding have results that differ, so may the result; if ``strict`` it may not. (Inputs
    alone do not show it: iterations that converge to zero residuals do so from all of them.)
    only: of results with a row for each sample, compare these.
    poisoned: the samples that may be not finite where the oracle is.
    cancels: terms may cancel for every input, as in the second derivatives of a matrix over its norm: where plain
    PyTorch in the same precision is off, so may the result be.
    slack: an absolute error that is allowed, for iterations that stop.
    hides: a value that is not finite says nothing: 0·∞ in a sum whose other order has no such term.
    """
    if not found:
        return
    real, wanted = dtype.to_real(), evaluate(leaves)
    others: list[Sequence[Tensor]] = []
    largest = max(float(torch.linalg.vector_norm(w.nan_to_num(0, 0, 0))) for w in wanted)
    floor = largest * (1e-3 if real.itemsize > 2 else 0.3)
    for i, (f, w, to_rows) in enumerate(zip(found, wanted, rows, strict=True)):
        name = what if len(found) == 1 else f"{what} {i}"
        if f.shape != w.shape:
            raise Finding(f"{name}: shape {tuple(f.shape)} where {tuple(w.shape)} is right")
        if f.is_complex() != w.is_complex():
            raise Finding(f"{name}: dtype {f.dtype} where {w.dtype} is right")
        F, W = to_rows(f.detach().as_subclass(Tensor).to(WIDE[f.is_complex()])), to_rows(w.detach())
        if only is not None and len(F) == len(only):
            F, W = F[only], W[only]
        if not hides:
            _require_same_pattern(name, F, W, real, poisoned)
        sound = W.isfinite().all(1) & F.isfinite().all(1)
        error = torch.linalg.vector_norm(F[sound] - W[sound], dim=1)
        size = torch.linalg.vector_norm(W[sound], dim=1)
        allowed = tolerances[real] * (size + floor) + 1e3 * torch.finfo(real).tiny + slack
        if not bool((error > allowed).any()):
            continue
        if not strict and not others:
            with rounding(NUDGE[real]):
                others += [evaluate(_nudged(leaves, NUDGE[real])) for _ in range(NUDGES)]
        if cancels and len(others) in (0, NUDGES):
            others.append(evaluate(_narrowed(leaves, real)))
        for other in others:
            after = to_rows(other[i].detach().to(w.dtype))
            after = after[only] if only is not None and len(after) == len(only) else after
            spread = torch.linalg.vector_norm(after[sound] - W[sound], dim=1)
            allowed = torch.maximum(allowed, 10 * spread.nan_to_num(torch.inf))
        wrong = (error > allowed).nonzero()[:, 0]
        if len(wrong):
            r = int(wrong[0])
            raise Finding(f"{name}: {len(wrong)} of {len(W)} rows wrong, error {error[r]:.3g} of norm {size[r]:.3g}")


def _require_same_pattern(name: str, F: Tensor, W: Tensor, real: torch.dtype, poisoned: Tensor | None) -> None:
    hidden = ~W.isfinite() & F.isfinite()
    if real.itemsize == 2:  # which rounds a sum to zero that double precision does not, and θ = −∞ leaves zero alone
        hidden &= F != 0
    if bool(hidden.any()):
        r, c = hidden.nonzero()[0].tolist()
        raise Finding(f"{name}: {W[r, c].item()} comes back as {F[r, c].item()}")
    sound = W.isfinite().all(1)
    overflows = bool((W[sound].abs() > 1e-3 * torch.finfo(real).max).any())
    sound &= torch.ones_like(sound) if poisoned is None else ~poisoned
    if not overflows and bool((~F[sound].isfinite()).any()):
        raise Finding(f"{name}: not finite in a sample that is finite")


def equal(what: str, a: Any, b: Any) -> None:
    """To the last bit, NaN included."""
    if a.shape != b.shape or a.dtype != b.dtype:
        raise Finding(f"{what}: {a.dtype} {tuple(a.shape)} and {b.dtype} {tuple(b.shape)}")
    if not bool(((a == b) | ((a != a) & (b != b))).all()):
        raise Finding(f"{what}: bits differ, by {(a - b).abs().max().item():.3g}")
