"""Loads networks of adopty, where samples are rows, the dictionary D is (n, m), and thresholds are multiples of λ."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from ..nn import ALISTA, LISTA, UnrolledNetwork
from ..operators.dense import spectral_norm
from .build import alista, lista, lista_cp, of_equal_size, step_lista
from .source import Source

_PARTS = ("threshold", "step_size", "lr", "W_coupled", "W_hessian", "Wx", "Wz")
TEMPLATES = tuple(f"layer{{k}}-{part}" for part in _PARTS)


def load_adopty(
    source: Source, A: Tensor | None = None, *, lam: float | None = None, W: Tensor | None = None,
    of_y: str | None = None,
) -> UnrolledNetwork:  # fmt: skip
    """Loads x⁺ = S_{λθ}(z), where z = x Wz + y Wx or z = x − t (x D − y) W.

    Every layer stores some of t, W and θ. The defaults of the others are

    - W: ``W_coupled`` (m, n) if it is stored, or Dᵀ times ``W_hessian`` (n, n). Without both, W is the analytic weights
      if all layers store a step and a threshold, and Dᵀ otherwise.
    - t: ``step_size`` (``lr`` in old files), or 1.
    - θ: ``threshold``, or t, or 1/‖D‖².

    Old versions of adopty exchanged the names Wx and Wz. The shapes tell which of them multiplies y. If D is square,
    ``of_y`` must name the matrix that multiplies y.
    """
    parts = _parts(source)
    if lam is None:
        raise ValueError(f"{source.convention} does not store λ: give lam=")
    lam = _checks.not_negative("lam", lam)
    if "Wx" in parts[0] or "Wz" in parts[0]:
        return _affine(source, A, parts, lam, of_y)
    A = _checks.nonzero_matrix("A", source.given("A", A))
    n = A.shape[1]
    stored = [set(names) for names in parts]
    steps = [source.values(names.get("step_size") or names["lr"], 1) if {"step_size", "lr"} & set(names) else None
             for names in parts]  # fmt: skip
    if all(names == {"step_size"} for names in stored):
        return step_lista(A, [t for t in steps if t is not None], lam)
    theta = of_equal_size([lam * _threshold(source, names, t, A) for names, t in zip(parts, steps, strict=True)])
    if all(names in ({"step_size", "threshold"}, {"lr", "threshold"}) for names in stored):
        W = source.given("W", W, *A.shape, such_as="fastunroll.nn.analytic_weights(A)")
        return alista(ALISTA, A, W, [t for t in steps if t is not None], theta)
    matrices = []
    for names, t in zip(parts, steps, strict=True):
        w = A
        if "W_coupled" in names:
            w = source.matrix(names["W_coupled"], *A.shape)
        elif "W_hessian" in names:
            w = A @ source.matrix(names["W_hessian"], n, n)
        matrices.append(w if t is None else t * w)
    return lista_cp(A, matrices, theta)


def _parts(source: Source) -> list[dict[str, str]]:
    """Returns the names of the tensors of each layer, by their part ("threshold", "Wx", …)."""
    groups = {part: source.numbers(f"layer{{k}}-{part}") for part in _PARTS}
    layers = max(max(numbers, default=-1) for numbers in groups.values()) + 1
    stored = set().union(*groups.values())
    if len(stored) < layers:
        missing = next(k for k in range(layers) if k not in stored)
        raise ValueError(f"layer{missing} is missing: layers are numbered from 0 to {layers - 1}, without a gap")
    return [{part: f"layer{k}-{part}" for part in _PARTS if k in groups[part]} for k in range(layers)]


def _threshold(source: Source, names: dict[str, str], step: Tensor | None, A: Tensor) -> Tensor:
    """Returns the threshold of a layer as a multiple of λ."""
    if "threshold" in names:
        return source.values(names["threshold"], 1, A.shape[1])
    return A.new_tensor(1 / spectral_norm(A) ** 2) if step is None else step


def _affine(source: Source, A: Tensor | None, parts: list[dict[str, str]], lam: float, named_of_y: str | None) -> LISTA:
    """Loads layers x⁺ = S_{λθ}(x Wz + y Wx)."""
    of_y, of_x = "Wx", "Wz"
    for k, names in enumerate(parts):
        for part in (of_y, of_x):
            if part not in names:
                raise ValueError(f"layer{k}-{part} is missing: each layer needs Wx and Wz")
    first, second = (source[parts[0][part]] for part in (of_y, of_x))
    if first.dim() == second.dim() == 2 and first.shape[0] == first.shape[1]:
        # The two matrices have different roles in different versions of adopty.
        named_of_y = "Wz" if first.shape != second.shape else source.choice("of_y", named_of_y, "Wx", "Wz")
    if named_of_y == "Wz":
        of_y, of_x = of_x, of_y
    m, n = source.matrix(parts[0][of_y]).shape
    W1 = [source.matrix(names[of_y], m, n).mT for names in parts]
    W2 = [source.matrix(names[of_x], n, n).mT for names in parts]
    if all("threshold" in names for names in parts):
        theta = [lam * source.values(names["threshold"], 1, n) for names in parts]
        return lista(W1, W2, of_equal_size(theta), len(parts))
    if A is None:
        raise ValueError(
            f"{source.convention} without thresholds uses λ/‖A‖² as threshold, but does not store A: give A="
        )
    A = _checks.nonzero_matrix("A", source.given("A", A, m, n))
    fixed = torch.tensor(lam / spectral_norm(A) ** 2, dtype=source.dtype, device=source.device)
    return lista(W1, W2, [fixed], len(parts), learned_theta=False)
