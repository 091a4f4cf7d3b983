"""Loads PyTorch networks with the layers of LISTA, x⁺ = S_θ(W₁ y + W₂ x) from x = 0."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from ..nn import LISTA
from .build import lista, of_equal_size
from .source import Source


def load_own(source: Source) -> LISTA:
    """Loads ``fastunroll.nn.LISTA``, with W1 (n, m), W2 (n, n) and θ of each layer. It is tied if there is one W1."""
    names = [source.layers(template) for template in ("W1.{k}", "W2.{k}", "theta.{k}")]
    n, m = source.matrix(names[0][0]).shape
    layers = len(names[2])
    for group, template in zip(names[:2], ("W1.{k}", "W2.{k}"), strict=True):
        if len(group) not in (1, layers):
            raise ValueError(
                f"the mapping must hold 1 or {layers} {template}, as it holds {layers} theta.{{k}}, got {len(group)}: "
                "add the missing layers"
            )
    W1 = [source.matrix(name, n, m) for name in names[0]]
    W2 = [source.matrix(name, n, n) for name in names[1]]
    return lista(W1, W2, of_equal_size([source.values(name, 1, n) for name in names[2]]), layers)


def load_copied(
    source: Source, *, theta: float | None = None, layers: int | None = None, max_iter: int | None = None
) -> LISTA:
    """Loads the widely copied LISTA with tensors ``_W`` and ``_S``.

    It computes x = S_θ(_W y), and then x = S_θ(_W y + _S x) ``max_iter`` times, but not at all if ``max_iter`` is 1.
    With ``thr`` of shape (K, 1) it runs K layers from x = 0, and each layer has its threshold.
    """
    W = source.matrix("_W.weight")
    n = W.shape[0]
    S = source.matrix("_S.weight", n, n)
    if "thr" in source:
        if theta is not None:
            raise ValueError("theta must not be given, because the mapping stores it as thr: leave out theta=")
        thr = source["thr"]
        if thr.numel() > 1 and (thr.dim() > 2 or thr.shape != (len(thr), *[1] * (thr.dim() - 1))):
            raise ValueError(
                f"thr must hold one value, or K values in the shape (K, 1), got shape {_checks.shape_text(thr.shape)}"
            )
        if negative := [k for k, value in enumerate(thr.reshape(-1).tolist()) if value < 0]:
            raise ValueError(
                f"thr must be ≥ 0, but it is negative in layer {', '.join(map(str, negative))}, where "
                f"{source.convention} doubles small values and no network of fastunroll does: retrain with thr ≥ 0"
            )
        if thr.numel() > 1:
            if max_iter is not None or layers not in (None, thr.numel()):
                raise ValueError(
                    f"layers and max_iter must not be given, because thr has {thr.numel()} layers: leave them out"
                )
            return lista([W], [S], list(thr.reshape(-1).unbind()), thr.numel())
    elif theta is None:
        raise ValueError(f"{source.convention} does not store its threshold: give theta=")
    depth = _depth(source, layers, max_iter)
    if theta is None:
        return lista([W], [S], [source.values("thr", 1)], depth)
    return lista([W], [S], [W.new_full((), _checks.not_negative("theta", theta))], depth, learned_theta=False)


def _depth(source: Source, layers: int | None, max_iter: int | None) -> int:
    if (layers is None) == (max_iter is None):
        raise ValueError(
            f"{source.convention} does not store its number of layers: give either layers=, the number of shrinkages, "
            "or max_iter=, which stands for max_iter + 1 shrinkages, or for 1 if it is 1"
        )
    if layers is not None:
        return _checks.count("layers", layers)
    iterations = _checks.count("max_iter", max_iter)
    return iterations if iterations == 1 else iterations + 1


def load_hyperlista_lista(source: Source) -> LISTA:
    """Loads HyperLISTA's LISTA, with one B (n, m) for all layers, and W (n, n) and θ (1, 1) of each layer."""
    B = source.matrix("B")
    n = B.shape[0]
    W, theta = source.one_a_layer("W.{k}", "theta.{k}")
    return lista([B], [source.matrix(name, n, n) for name in W], [source.values(name, 1) for name in theta], len(theta))


def load_ada_lista_lista(source: Source, *, lam: float | None = None) -> LISTA:
    """Loads AdaLISTA's LISTA, x⁺ = η·softshrink((x − γ B x + γ A y)/η, λ), with A (n, m) and B (n, n).

    Its threshold is λ|η|.
    """
    A = source.matrix("A.weight")
    return _with_steps(source, A, source.matrix("B.weight", len(A), len(A)), lam)


def load_ada_lista(
    source: Source, A: Tensor | None = None, *, lam: float | None = None, network: str | None = None
) -> LISTA:
    """Loads Ada-LISTA for a single dictionary A, x⁺ = η·softshrink((x − γ (W₂A)ᵀW₂A x + γ (W₁A)ᵀy)/η, λ)."""
    if source.choice("network", network, "Ada-LISTA", "Ada-LFISTA") == "Ada-LFISTA":
        raise ValueError(
            "Ada-LFISTA cannot be converted: its thresholds follow a momentum that no network of fastunroll has"
        )
    A = source.given("A", A)
    m = A.shape[0]
    first, second = (source.matrix(name, m, m) @ A for name in ("W1.weight", "W2.weight"))
    return _with_steps(source, first.mT, second.mT @ second, lam)


def _with_steps(source: Source, A: Tensor, B: Tensor, lam: float | None) -> LISTA:
    if lam is None:
        raise ValueError(f"{source.convention} does not store λ, its lambd: give lam=")
    lam = _checks.not_negative("lam", lam)
    layers = _checks.count("the number of etas", source["etas"].numel())
    eta, gamma = (source.values(name, layers).reshape(-1) for name in ("etas", "gammas"))
    eye = torch.eye(len(A), dtype=source.dtype, device=source.device)
    return lista([g * A for g in gamma], [eye - g * B for g in gamma], list((lam * eta.abs()).unbind()), layers)


def load_sparse_representation(source: Source, *, layers: int | None = None) -> LISTA:
    """Loads sparse-representation, x = S_θ(W_e y) and then x = S_θ(W_e y + S x), with ``n_folds`` shrinkages in all.

    The thresholds are max(θ, 0), one θ for each element.
    """
    W = source.matrix("weight_input")
    n = W.shape[0]
    S = source.matrix("weight_lateral", n, n)
    theta = source.values("soft_shrink.lambd", n).clamp(min=0)
    if layers is None:
        raise ValueError(f"{source.convention} does not store its number of layers: give layers=, its n_folds")
    return lista([W], [S], [theta], _checks.count("layers", layers))
