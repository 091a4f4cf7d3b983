"""Loads networks from the .npz files of two TensorFlow packages.

B is (n, m), W and S are (n, n), and thresholds are () or (n, 1). In TensorFlow samples are columns, x = B y. In
fastunroll they are rows, x = y Bᵀ. The matrices are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..nn import ALISTA, LAMP, LISTA, LISTACP, UnrolledNetwork
from ..nn.selection import schedule
from .build import Selection, alista, empty, fill, lista, lista_cp, lista_ss, logs, of_equal_size
from .converted import SignedSoftShrinkage
from .source import AskedSelection, Source


def load_onsager_lista(source: Source) -> LISTA:
    """Loads x = S_λ(B y) and then x = S_λ(S x + B y). The thresholds are max(λ, 0), one for each shrinkage."""
    B = source.matrix("B_0:0")
    n = B.shape[0]
    lam = [source.values(name, 1, n).clamp(min=0) for name in source.layers("lam_{k}:0")]
    return lista([B], [source.matrix("S_0:0", n, n)], of_equal_size(lam), len(lam))


def load_onsager_lamp(source: Source, A: Tensor | None = None, *, shrinkage: str | None = None) -> LAMP:
    """Loads AMP with a learned matrix B in the place of Aᵀ.

    The soft shrinkage stores (α, s) or α for each layer, and its threshold is max(α, 0)·√variance. The
    Bernoulli-Gaussian shrinkage stores (power, log(1/density − 1)), and uses the absolute value of the power.
    """
    A = source.given("A", A)
    names = source.layers("theta_{k}:0")
    W = _transposed(source, "B", source.layers("B_{k}:0"), A, len(names))
    theta = [source[name].reshape(-1) for name in names]
    for name, value in zip(names, theta, strict=True):
        if value.numel() > 2:
            raise ValueError(
                f"{name} must hold 1 or 2 values for the soft shrinkage, or 2 for the Bernoulli-Gaussian shrinkage, "
                f"got {value.numel()}: LAMP of fastunroll has no other shrinkage"
            )
    if shrinkage is not None or any(value.numel() == 2 for value in theta):
        shrinkage = source.choice("shrinkage", shrinkage, "soft", "bernoulli-gaussian")
    if shrinkage == "bernoulli-gaussian":
        if any(value.numel() != 2 for value in theta):
            raise ValueError(
                "the Bernoulli-Gaussian shrinkage must have 2 values in each layer, but some layers have 1: use "
                'shrinkage="soft"'
            )
        net = empty(LAMP, A, len(theta), tied=len(W) == 1 < len(theta), shrinkage=shrinkage)
        fill(net, A=A, W=W)
        fill(net.shrinkage, log_power=[v[0].abs().log() for v in theta], logit=[-v[1] for v in theta])
        return net
    return _soft_lamp(A, W, [v[0] for v in theta], [v[1] if v.numel() == 2 else v.new_ones(()) for v in theta])


def _transposed(source: Source, letter: str, names: list[str], A: Tensor, layers: int) -> list[Tensor]:
    return _one_or_all(letter, [source.matrix(name, *A.mT.shape).mT for name in names], layers)


def _one_or_all(letter: str, found: list[Tensor], layers: int) -> list[Tensor]:
    if len(found) not in (1, layers):
        raise ValueError(
            f"the mapping must hold 1 or {layers} matrices {letter}, got {len(found)}: add the missing layers"
        )
    return found


def _soft_lamp(A: Tensor, W: Sequence[Tensor], alpha: Sequence[Tensor], scale: Sequence[Tensor]) -> LAMP:
    net = empty(LAMP, A, len(alpha), tied=len(W) == 1 < len(alpha))
    fill(net, A=A, W=W)
    clamped = [a.clamp(min=0) for a in alpha]
    if any(bool(s < 0) for s in scale):
        net.shrinkage = SignedSoftShrinkage(clamped, scale)  # type: ignore[assignment]  # LAMP runs any shrinkage
    else:
        fill(net.shrinkage, log_alpha=logs(clamped), log_scale=logs(scale))
    return net


def load_vita_lamp(source: Source, A: Tensor | None = None) -> LAMP:
    """Loads AMP with a learned matrix B in the place of Aᵀ, and thresholds max(λ·√variance, 0)."""
    A = source.given("A", A)
    names = source.layers("lam_{k}:0", first=1)
    W = _transposed(source, "B", _shared_or_own(source, "B"), A, len(names))
    alpha = of_equal_size([source.values(name, 1, A.shape[1]) for name in names])
    return _soft_lamp(A, W, alpha, [A.new_ones(()) for _ in names])


def _shared_or_own(source: Source, name: str) -> list[str]:
    return [f"{name}:0"] if f"{name}:0" in source else source.layers(f"{name}_{{k}}:0", first=1)


def load_vita_lista(source: Source, *, selection: AskedSelection = ...) -> UnrolledNetwork:
    """Loads LISTA, x⁺ = S_θ(B y + W x) with thresholds max(θ, 0), or LISTA-SS if ``selection`` is given."""
    selection = source.selection(selection)
    B = source.matrix("B:0")
    n = B.shape[0]
    theta = of_equal_size([source.values(name, 1, n) for name in source.layers("theta_{k}:0", first=1)])
    W = _one_or_all("W", [source.matrix(name, n, n) for name in _shared_or_own(source, "W")], len(theta))
    if selection is None:
        return lista([B], W, [t.clamp(min=0) for t in theta], len(theta))
    return lista_ss([B], W, theta, _above_percentile(selection, len(theta), n), selection)


def load_vita_cp(source: Source, A: Tensor | None = None, *, selection: AskedSelection = ...) -> LISTACP:
    """Loads LISTA-CP, x⁺ = S_θ(x + W (y − A x)) with W (n, m), or LISTA-CPSS if ``selection`` is given."""
    selection = source.selection(selection)
    A = source.given("A", A)
    n = A.shape[1]
    theta = of_equal_size([source.values(name, 1, n) for name in source.layers("theta_{k}:0", first=1)])
    W = _transposed(source, "W", _shared_or_own(source, "W"), A, len(theta))
    return lista_cp(A, W, theta, _above_percentile(selection, len(theta), n), selection)


def load_vita_alista(
    source: Source, A: Tensor | None = None, *, W: Tensor | None = None, selection: AskedSelection = ...
) -> ALISTA:
    """Loads ALISTA, x⁺ = P_θ(x + α Wᵀ(y − A x))."""
    selection = source.selection(selection)
    A = source.given("A", A)
    W = source.given("W", W, *A.shape)
    n = A.shape[1]
    alpha, theta = source.one_a_layer("alpha_{k}:0", "theta_{k}:0", first=1)
    sizes = _above_percentile(selection, len(theta), n)
    thresholds = of_equal_size([source.values(name, 1, n) for name in theta])
    return alista(ALISTA, A, W, [source.values(name, 1) for name in alpha], thresholds, sizes, selection)


def _above_percentile(selection: Selection, layers: int, n: int) -> tuple[int, ...]:
    """Returns the number of elements that exceed the percentile, for each layer. The percentile is an element too."""
    schedule(selection, layers, n)  # raises an exception if the selection is invalid
    if selection is None:
        return ()
    return tuple(round(min((k + 1) * selection[0], selection[1]) / 100 * (n - 1)) for k in range(layers))
