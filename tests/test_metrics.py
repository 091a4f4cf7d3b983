"""PSNR and SSIM equal those of scikit-image, picture by picture, and refuse what they cannot compare."""

from __future__ import annotations

import math
from collections.abc import Callable

import fastunroll as fu
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

GAUSSIAN = {"gaussian_weights": True, "use_sample_covariance": False}
METRICS = {
    "psnr": (fu.metrics.psnr, peak_signal_noise_ratio),
    "ssim": (fu.metrics.ssim, structural_similarity),
    "gaussian ssim": (
        lambda x, x_true, data_range: fu.metrics.ssim(x, x_true, data_range, gaussian=True),
        lambda x_true, x, data_range: structural_similarity(x_true, x, data_range=data_range, **GAUSSIAN),
    ),
}
metrics = pytest.mark.parametrize("name", METRICS)


def pictures(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_true = torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)
    if dtype.is_complex:
        x_true = x_true * torch.exp(1j * torch.rand(shape, generator=generator, dtype=torch.float64)).to(dtype)
    return x_true + 0.1 * torch.randn(shape, generator=generator, dtype=dtype), x_true


@metrics
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
@pytest.mark.parametrize("data_range", [1.0, 3.5])
def test_equals_scikit_image(name: str, dtype: torch.dtype, data_range: float) -> None:
    """Of complex pictures the magnitudes are compared."""
    ours, theirs = METRICS[name]
    x, x_true = pictures((2, 3, 23, 37), dtype)
    found = ours(x, x_true, data_range)
    assert found.shape == (2, 3)
    assert found.dtype == dtype.to_real()
    a, b = ((t.abs() if dtype.is_complex else t).double().numpy() for t in (x_true, x))
    wanted = [[theirs(a[i, j], b[i, j], data_range=data_range) for j in range(3)] for i in range(2)]
    tolerance = 1e-4 if dtype.to_real() == torch.float32 else 1e-10
    np.testing.assert_allclose(found.numpy(), wanted, rtol=tolerance)


@metrics
def test_one_picture_zero_pictures_and_arrays(name: str) -> None:
    metric = METRICS[name][0]
    x, x_true = pictures((4, 13, 12), torch.float64)
    each = metric(x, x_true, 1.0)
    torch.testing.assert_close(metric(x[2], x_true[2], 1.0), each[2])
    assert metric(x[:0], x_true[:0], 1.0).shape == (0,)
    as_array = metric(x.numpy(), x_true.numpy(), 1.0)
    assert isinstance(as_array, np.ndarray)
    np.testing.assert_allclose(as_array, each.numpy())
    half = metric(x.bfloat16(), x_true.bfloat16(), 1.0)
    torch.testing.assert_close(half, metric(x.bfloat16().float(), x_true.bfloat16().float(), 1.0))


@metrics
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_stays_in_its_picture(name: str, value: float) -> None:
    metric = METRICS[name][0]
    x, x_true = pictures((3, 15, 16), torch.float64)
    wanted = metric(x, x_true, 1.0)
    x[1, 7, 7] = value
    found = metric(x, x_true, 1.0)
    assert not found[1].isfinite()
    assert torch.equal(found[[0, 2]], wanted[[0, 2]])


def test_equal_pictures() -> None:
    x, _ = pictures((12, 14), torch.float64)
    assert fu.metrics.psnr(x, x) == math.inf
    assert float(fu.metrics.ssim(x, x)) == pytest.approx(1)
    assert float(fu.metrics.ssim(x, x, gaussian=True)) == pytest.approx(1)


@metrics
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gradients(name: str, dtype: torch.dtype) -> None:
    metric = METRICS[name][0]
    x, x_true = pictures((1, 11, 12), dtype)
    assert torch.autograd.gradcheck(lambda x: metric(x, x_true, 1.0), x.requires_grad_())


def test_ssim_keeps_its_precision_under_autocast() -> None:
    x, x_true = pictures((2, 20, 20), torch.float32)
    wanted = fu.metrics.ssim(x, x_true, gaussian=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fu.metrics.ssim(x, x_true, gaussian=True), wanted)


X = torch.rand(3, 12, 12)


@pytest.mark.parametrize(
    ("call", "kind", "says"),
    [
        (
            lambda: fu.metrics.psnr(X, X[:2]), ValueError,
            "x and x_true must be pictures (..., H, W) of one shape, got (3, 12, 12) and (2, 12, 12)",
        ),
        (
            lambda: fu.metrics.psnr(X[0, 0], X[0, 0]), ValueError,
            "x and x_true must be pictures (..., H, W) of one shape, got (12,) and (12,)",
        ),
        (
            lambda: fu.metrics.psnr(X[..., :0], X[..., :0]), ValueError,
            "x and x_true must be pictures (..., H, W) of one shape, got (3, 12, 0) and (3, 12, 0)",
        ),
        (
            lambda: fu.metrics.ssim(X, X.double()), TypeError,
            "x and x_true must have one precision, but x is torch.float32 and x_true is torch.float64: convert one "
            "with .to()",
        ),
        (
            lambda: fu.metrics.ssim(X, (255 * X).byte()), TypeError,
            "x_true must be floating point, got torch.uint8: use x_true.float(), divided by 255 for a picture",
        ),
        (
            lambda: fu.metrics.ssim(X[:, :6], X[:, :6]), ValueError,
            "pictures must have at least 7x7 pixels, the window of SSIM, got (6, 12): give larger pictures",
        ),
        (
            lambda: fu.metrics.ssim(X[:, :10], X[:, :10], gaussian=True), ValueError,
            "pictures must have at least 11x11 pixels, the window of SSIM, got (10, 12): give larger pictures",
        ),
        (lambda: fu.metrics.psnr(X, X, 0), ValueError, "data_range must be a finite number > 0, got 0"),
        (
            lambda: fu.metrics.ssim(X, X, gaussian=1), TypeError,
            "gaussian must be True or False, got 1: use bool(gaussian) if it holds one",
        ),
    ],
)  # fmt: skip
def test_refused(call: Callable[[], object], kind: type[Exception], says: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == says
