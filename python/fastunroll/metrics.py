"""Quality of reconstructed pictures: the peak signal-to-noise ratio (PSNR) and the structural similarity (SSIM)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from . import _checks
from ._checks import shape_text
from ._precision import own_precision
from .arrays import takes_arrays

_HALF = (torch.float16, torch.bfloat16)
_UNIFORM = 7  # pixels of the side of the uniform window
_RADIUS, _DEVIATION = 5, 1.5  # of the Gaussian window, in pixels


@takes_arrays("x")
def psnr(x: Tensor, x_true: Tensor, data_range: float = 1.0) -> Tensor:
    """The peak signal-to-noise ratio of each picture in dB.

    PSNR = 10·log₁₀(range² / mean(|x̂ − x|²)), with the mean over the pixels of a picture. It is infinite where x̂ = x.
    Of complex pictures the magnitudes are compared, as usual in magnetic resonance imaging.

    Args:
        x: the reconstruction (..., H, W), real or complex.
        x_true: the ground truth (..., H, W).
        data_range: the difference between the largest and the smallest possible pixel value, > 0.

    Returns:
        (...), one value a picture in dB; an array where ``x`` is one.

    Raises:
        TypeError: not floating point, or precisions differ.
        ValueError: shapes or devices differ, a picture has no pixel, or ``data_range`` ≤ 0.

    Equivalent to::

        10 * torch.log10(data_range**2 / (x.abs() - x_true.abs()).square().mean((-2, -1)))  # of complex pictures
        skimage.metrics.peak_signal_noise_ratio(x_true, x, data_range=data_range)
    """
    x, x_true = _magnitudes(x, x_true)
    data_range = _checks.positive("data_range", data_range)
    return 10 * torch.log10(data_range**2 / (x - x_true).square().mean((-2, -1)))


@takes_arrays("x")
def ssim(x: Tensor, x_true: Tensor, data_range: float = 1.0, *, gaussian: bool = False) -> Tensor:
    """The mean structural similarity of each picture, at most 1, which it is where x̂ = x.

    SSIM = mean of (2μν + c₁)(2σ_xy + c₂) / ((μ² + ν² + c₁)(σ_x² + σ_y² + c₂)) over all windows inside the picture, with
    the means μ and ν, the variances and the covariance of x̂ and x in each window, c₁ = (0.01·range)² and
    c₂ = (0.03·range)². Of complex pictures the magnitudes are compared. It is differentiable in ``x``.

    Args:
        x: the reconstruction (..., H, W), real or complex.
        x_true: the ground truth (..., H, W).
        data_range: the difference between the largest and the smallest possible pixel value, > 0.
        gaussian: weigh the pixels of a window by a Gaussian with σ = 1.5 on 11×11 pixels, as the paper does. The
            default is a uniform window of 7×7 pixels with unbiased variances, the default of scikit-image.

    Returns:
        (...), one value a picture; an array where ``x`` is one.

    Raises:
        TypeError: not floating point, precisions differ, or ``gaussian`` is neither True nor False.
        ValueError: shapes or devices differ, a picture is smaller than a window, or ``data_range`` ≤ 0.

    Equivalent to::

        skimage.metrics.structural_similarity(x_true, x, data_range=data_range)
        skimage.metrics.structural_similarity(  # gaussian=True
            x_true, x, data_range=data_range, gaussian_weights=True, use_sample_covariance=False
        )

    Reference: Wang, Bovik, Sheikh and Simoncelli, *Image quality assessment: from error visibility to structural
    similarity*, 2004.
    """
    x, x_true = _magnitudes(x, x_true)
    data_range, gaussian = _checks.positive("data_range", data_range), _checks.flag("gaussian", gaussian)
    side = 2 * _RADIUS + 1 if gaussian else _UNIFORM
    if min(x.shape[-2:]) < side:
        raise ValueError(
            f"pictures must have at least {side}x{side} pixels, the window of SSIM, got {shape_text(x.shape[-2:])}: "
            "give larger pictures"
        )
    unbiased = 1 if gaussian else _UNIFORM**2 / (_UNIFORM**2 - 1)
    with own_precision(x):
        moments = torch.stack([x, x_true, x * x, x_true * x_true, x * x_true]).reshape(-1, 1, *x.shape[-2:])
        means = _gaussian_means(moments) if gaussian else avg_pool2d(moments, _UNIFORM, stride=1)
        a, b, aa, bb, ab = means.reshape(5, *x.shape[:-2], *means.shape[-2:])
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        variances, covariance = unbiased * (aa - a * a + bb - b * b), unbiased * (ab - a * b)
        similarity = (2 * a * b + c1) * (2 * covariance + c2) / ((a * a + b * b + c1) * (variances + c2))
        return similarity.mean((-2, -1))


def _gaussian_means(moments: Tensor) -> Tensor:
    """The mean of each window inside pictures (count, 1, H, W), with Gaussian weights."""
    at = torch.arange(-_RADIUS, _RADIUS + 1, dtype=moments.dtype, device=moments.device)
    weights = torch.exp(-at.square() / (2 * _DEVIATION**2))
    weights = weights / weights.sum()
    return conv2d(conv2d(moments, weights.reshape(1, 1, -1, 1)), weights.reshape(1, 1, 1, -1))


def _magnitudes(x: Tensor, x_true: Tensor) -> tuple[Tensor, Tensor]:
    """Two batches of pictures that fit each other, as real numbers of at least single precision."""
    _checks.same_device("x_true", _checks.tensor("x_true", x_true), _checks.tensor("x", x))
    if x.shape != x_true.shape or x.dim() < 2 or 0 in x.shape[-2:]:
        raise ValueError(
            f"x and x_true must be pictures (..., H, W) of one shape, got {shape_text(x.shape)} and "
            f"{shape_text(x_true.shape)}"
        )
    x, x_true = (t.float() if t.dtype in _HALF else t for t in (x, x_true))
    if x.dtype.to_real() != x_true.dtype.to_real():
        raise TypeError(
            f"x and x_true must have one precision, but x is {x.dtype} and x_true is {x_true.dtype}: convert one with "
            ".to()"
        )
    if x.is_complex() or x_true.is_complex():
        return x.abs(), x_true.abs()
    return x, x_true
