"""Variables that TensorFlow saved as .npz: B is (n, m), W and S are (n, n), thresholds () or (n, 1).

There samples are columns, x = B y; here they are rows, x = y Bᵀ: the matrices are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..nn import ALISTA, LAMP, LISTA, LISTACP, UnrolledNetwork
from ..nn.selection import schedule
from .build import alike, alista, empty, fill, lista, lista_cp, lista_cpss, lista_ss, logs
from .converted import SignedSoftShrinkage
from .source import AskedSelection, Source


def load_onsager_lista(source: Source) -> LISTA:
    """x = S_λ(B y), then x = S_λ(S x + B y), by max(λ_t, 0): as many shrinkages as there are λ."""
    B = source.matrix("B_0:0")
    n = B.shape[0]
    lam = [source.values(name, 1, n).clamp(min=0) for name in source.layers("lam_{k}:0")]
    return lista([B], [source.matrix("S_0:0", n, n)], alike(lam), len(lam))


def load_onsager_lamp(source: Source, A: Tensor | None = None, *, shrinkage: str | None = None) -> LAMP:
    """AMP with B for Aᵀ. θ of a layer: (α, s) or α of the soft threshold; (power, log(1/density − 1)) of the other.

    A threshold is max(α, 0)·√variance, a power |θ₀|.
    """
    A = source.given("A", A)
    names = source.layers("theta_{k}:0")
    W = _transposed(source, source.layers("B_{k}:0"), A, len(names))
    theta = [source[name].reshape(-1) for name in names]
    for name, value in zip(names, theta, strict=True):
        if value.numel() > 2:
            raise ValueError(
                f"{name} holds {value.numel()} values: LAMP here has the soft shrinkage, of 1 or 2, and the "
                "Bernoulli-Gaussian one, of 2"
            )
    if shrinkage is not None or any(value.numel() == 2 for value in theta):
        shrinkage = source.choice("shrinkage", shrinkage, "soft", "bernoulli-gaussian")
    if shrinkage == "bernoulli-gaussian":
        if any(value.numel() != 2 for value in theta):
            raise ValueError("the Bernoulli-Gaussian shrinkage has 2 values in each layer, but some have 1")
        net = empty(LAMP, A, len(theta), tied=len(W) == 1 < len(theta), shrinkage=shrinkage)
        fill(net, A=A, W=W)
        fill(net.shrinkage, log_power=[v[0].abs().log() for v in theta], logit=[-v[1] for v in theta])
        return net
    return _soft_lamp(A, W, [v[0] for v in theta], [v[1] if v.numel() == 2 else v.new_ones(()) for v in theta])


def _transposed(source: Source, names: list[str], A: Tensor, layers: int) -> list[Tensor]:
    if len(names) not in (1, layers):
        raise ValueError(f"there are {layers} layers but {len(names)} matrices: one, or one a layer")
    return [source.matrix(name, *A.mT.shape).mT for name in names]


def _soft_lamp(A: Tensor, W: Sequence[Tensor], alpha: Sequence[Tensor], scale: Sequence[Tensor]) -> LAMP:
    net = empty(LAMP, A, len(alpha), tied=len(W) == 1 < len(alpha))
    fill(net, A=A, W=W)
    least = [a.clamp(min=0) for a in alpha]
    if any(bool(s < 0) for s in scale):
        net.shrinkage = SignedSoftShrinkage(least, scale)  # type: ignore[assignment]  # another that LAMP can run
    else:
        fill(net.shrinkage, log_alpha=logs(least), log_scale=logs(scale))
    return net


def load_vita_lamp(source: Source, A: Tensor | None = None) -> LAMP:
    """AMP with B for Aᵀ and thresholds max(λ_t·√variance, 0)."""
    A = source.given("A", A)
    names = source.layers("lam_{k}:0", first=1)
    W = _transposed(source, _shared_or_own(source, "B"), A, len(names))
    alpha = alike([source.values(name, 1, A.shape[1]) for name in names])
    return _soft_lamp(A, W, alpha, [A.new_ones(()) for _ in names])


def _shared_or_own(source: Source, name: str) -> list[str]:
    return [f"{name}:0"] if f"{name}:0" in source else source.layers(f"{name}_{{k}}:0", first=1)


def load_vita_lista(source: Source, *, selection: AskedSelection = ...) -> UnrolledNetwork:
    """LISTA, x⁺ = S_θ(B y + W x) by max(θ, 0), or, with ``selection``, LISTA-SS."""
    selection = source.selection(selection)
    B = source.matrix("B:0")
    n = B.shape[0]
    theta = alike([source.values(name, 1, n) for name in source.layers("theta_{k}:0", first=1)])
    W = [source.matrix(name, n, n) for name in _shared_or_own(source, "W")]
    _require_as_many(W, theta)
    if selection is None:
        return lista([B], W, [t.clamp(min=0) for t in theta], len(theta))
    return lista_ss([B], W, theta, _above_percentile(selection, len(theta), n), selection)


def load_vita_cp(source: Source, A: Tensor | None = None, *, selection: AskedSelection = ...) -> LISTACP:
    """LISTA-CP, x⁺ = S_θ(x + W (y − A x)) with W (n, m), or, with ``selection``, LISTA-CPSS."""
    selection = source.selection(selection)
    A = source.given("A", A)
    n = A.shape[1]
    theta = alike([source.values(name, 1, n) for name in source.layers("theta_{k}:0", first=1)])
    W = [source.matrix(name, *A.mT.shape).mT for name in _shared_or_own(source, "W")]
    _require_as_many(W, theta)
    if selection is None:
        return lista_cp(A, W, theta)
    return lista_cpss(A, W, theta, _above_percentile(selection, len(theta), n), selection)


def load_vita_alista(
    source: Source, A: Tensor | None = None, *, W: Tensor | None = None, selection: AskedSelection = ...
) -> ALISTA:
    """ALISTA, x⁺ = P_θ(x + α Wᵀ(y − A x))."""
    selection = source.selection(selection)
    A = source.given("A", A)
    W = source.given("W", W, *A.shape)
    n = A.shape[1]
    alpha, theta = source.one_a_layer("alpha_{k}:0", "theta_{k}:0", first=1)
    passing = () if selection is None else _above_percentile(selection, len(theta), n)
    thresholds = alike([source.values(name, 1, n) for name in theta])
    return alista(ALISTA, A, W, [source.values(name, 1) for name in alpha], thresholds, passing, selection)


def _require_as_many(W: Sequence[Tensor], theta: Sequence[Tensor]) -> None:
    if len(W) not in (1, len(theta)):
        raise ValueError(f"there are {len(theta)} layers but {len(W)} matrices W: one, or one a layer")


def _above_percentile(selection: tuple[float, float], layers: int, n: int) -> tuple[int, ...]:
    """How many of n exceed the percentile, which is the nearest of them."""
    schedule(selection, layers, n)  # refuses what is none
    return tuple(round(min((k + 1) * selection[0], selection[1]) / 100 * (n - 1)) for k in range(layers))
