"""K layers of any unrolled algorithm as a function, with a scheme, a linear step and a proximal operator."""

from __future__ import annotations

from torch import Tensor

from . import _checks
from .arrays import takes_arrays
from .engine.layers import LinearStep, describe, require_batches
from .engine.run import run
from .prox import Proximal
from .schemes import ProximalGradient, Scheme
from .steps import Values


@takes_arrays("y")
def unrolled(
    y: Tensor,
    linear: LinearStep,
    prox: Proximal,
    theta: Values | None = None,
    *,
    layers: int,
    gain: Values | None = None,
    scheme: Scheme | None = None,
    x0: Tensor | None = None,
    s0: Tensor | None = None,
    return_layers: bool = False,
    return_state: bool = False,
    keep_every: int | None = None,
    checkpoint: None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """K layers of any unrolled algorithm, in one native call where all pieces are compiled; differentiable throughout.

    Each layer takes a linear step from the iterate to z, and the proximal step x⁺ = gain·prox_θ(z). The scheme says
    where the linear step is taken, and what else is carried from layer to layer.

    =============================================== ==================================================
    ISTA, step-LISTA                                ``GradientStep(A, step=t)``
    LISTA-CP                                        ``GradientStep(A, W)`` with W a list, one for each layer
    TiLISTA, ALISTA                                 ``GradientStep(A, W)``, or with ``via="gram"``
    FISTA, LFISTA                                   ``scheme=FISTA(β)``
    LISTA                                           ``AffineStep(W1, W2)``
    ADMM, ADMM-Net                                  ``scheme=ADMM(η)``
    AMP, LAMP                                       ``GradientStep(A, W)`` and ``scheme=AMP()``
    Chambolle and Pock                              ``GradientStep(A, step=τ)`` and ``scheme=PrimalDual(σ)``
    plug and play                                   ``DataStep(A, ρ)`` and ``fu.prox.Denoiser(network)``
    =============================================== ==================================================

    All layers run in one native call if A, W, W₁ and W₂ are matrices, the scheme is :class:`ProximalGradient`,
    :class:`FISTA`, :class:`ADMM`, :class:`HQS` or :class:`AMP`, and the proximal operator is compiled. So do those over
    pictures, and over a matrix for every sample, that :class:`fastunroll.nn.Unrolled` lists. All other layers run one
    by one in PyTorch. A network of :mod:`fastunroll.nn` states its pieces by ``net.pieces()``.

    Args:
        y: (..., m); for an operator a batch (B, ...), or (..., *A.shape_out) where A states the shape of one sample.
        linear: :class:`AffineStep`, :class:`GradientStep` or :class:`DataStep`.
        prox: an operator of :mod:`fastunroll.prox`, or your own :class:`fastunroll.prox.Proximal`.
        theta: θ, one number, or one for each element or group; one or a list with one for each layer. None for an
            operator without a threshold.
        layers: K ≥ 1.
        gain: positive, one number, a list with one for each layer, or one tensor of K values. 1 by default.
        scheme: of :mod:`fastunroll.schemes`; :class:`ProximalGradient` by default.
        x0: where to start, (..., n); zero by default.
        s0: where the second state starts: of FISTA the iterate before x0, x0 by default; of ADMM the dual variable,
            (..., n), zero by default; of AMP b·r_before, (..., m), zero by default; of PrimalDual the dual variable,
            of the shape of y.
        return_layers: return every layer.
        return_state: return the second state after the last layer too, with which another call can go on.
        keep_every: the number of layers between two outputs that are kept for gradients (gradient checkpointing). The
            backward pass computes the other layers again: less memory for one more forward pass. The square root of K
            is a good number. Not with ``return_layers``.
        checkpoint: the former name of ``keep_every``, which is refused.

    Returns:
        (..., n), or (K, ..., n) with ``return_layers``; with ``return_state``, a pair. Arrays where ``y`` is one.

    Raises:
        TypeError: not floating point, complex where only reals are defined, dtypes differ, or a piece is of another
            kind.
        ValueError: shapes do not fit, devices differ, a list has neither 1 nor K entries, or pieces do not go together.

    Equivalent to: :func:`fastunroll.reference.network`, and :meth:`fastunroll.schemes.Scheme.step` for each layer.

    References: Gregor and LeCun 2010 (LISTA); Chen et al. 2018 (LISTA-CP, support selection); Liu et al. 2019 (ALISTA);
    Yang et al. 2016 (ADMM-Net); Borgerding, Schniter and Rangan 2017 (LAMP).
    """
    layers = _checks.count("layers", layers)
    _checks.flag("return_layers", return_layers)
    _checks.flag("return_state", return_state)
    _checks.tensor("y", y)
    scheme = ProximalGradient() if scheme is None else scheme
    pieces = {"scheme": scheme, "linear": linear, "prox": prox, "theta": theta, "gain": gain}
    net = describe(y, pieces, layers)
    segment = _checks.segment(keep_every, checkpoint, return_layers)
    if (s0 is not None or return_state) and not scheme.has_state:
        raise ValueError(
            f"s0 and return_state are about a second state, but {type(scheme).__name__} has none: give another scheme"
        )
    net, y, x0, s0 = require_batches(net, y, x0, s0)
    x, s = run(net, y, x0, s0, keep=return_layers, segment=segment, wants_state=return_state)
    if not return_state:
        return x
    assert s is not None
    return x, s
