"""Operators of imaging equal those of SciPy, PyWavelets, SigPy, DeepInverse and MRpro."""

from __future__ import annotations

from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import pywt
import scipy.fft
import scipy.ndimage
import scipy.signal
import sigpy
import sigpy.mri
import torch
from fastunroll.operators.channels import RealChannels, as_channels
from fastunroll.operators.foreign import DeepinvOperator
from fastunroll.operators.wavelet_filters import SCALING_FILTERS
from torch import Tensor

lin = fu.operators
EXTRA = "not installed: it is among the packages of the extra interop, which tests do without"
SIZES = [(9, 7), (8, 12), (13, 16), (37, 41), (8, 74)]
KERNELS = [(1, 1), (3, 3), (4, 2), (5, 6), (1, 4), (7, 7)]


def close(found: Tensor, wanted: Any, tolerance: float = 1e-12) -> bool:
    return np.allclose(found.detach().numpy(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", KERNELS)
@pytest.mark.parametrize(
    ("boundary", "mode"), [("circular", "wrap"), ("reflect", "reflect"), ("constant", "constant"), ("valid", None)]
)
def test_blur_is_that_of_scipy(boundary: str, mode: str | None, shape: tuple[int, int], size: tuple[int, int]) -> None:
    kernel, x = np.random.default_rng(0).standard_normal(shape), np.random.default_rng(1).standard_normal(size)
    found = lin.Blur(torch.from_numpy(kernel), boundary)(torch.from_numpy(x))
    wanted = (
        scipy.signal.convolve2d(x, kernel, "valid") if mode is None else scipy.ndimage.convolve(x, kernel, mode=mode)
    )
    assert close(found, wanted)


@pytest.mark.parametrize("size", [(5, 4, 7), (6, 8, 37)])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 3, 3), (4, 2, 5), (5, 4, 1)])
@pytest.mark.parametrize(
    ("boundary", "mode"), [("circular", "wrap"), ("reflect", "reflect"), ("constant", "constant"), ("valid", None)]
)
def test_blur_of_volumes_is_that_of_scipy(
    boundary: str, mode: str | None, shape: tuple[int, ...], size: tuple[int, ...]
) -> None:
    kernel, x = np.random.default_rng(0).standard_normal(shape), np.random.default_rng(1).standard_normal(size)
    found = lin.Blur(torch.from_numpy(kernel), boundary, dims=3)(torch.from_numpy(x))
    wanted = (
        scipy.signal.convolve(x, kernel, "valid", "direct") if mode is None
        else scipy.ndimage.convolve(x, kernel, mode=mode)
    )  # fmt: skip
    assert close(found, wanted)


@pytest.mark.parametrize("size", [(3, 4, 5), (4, 6, 37)])
@pytest.mark.parametrize("centered", [True, False])
def test_scans_of_volumes_are_those_of_numpy(centered: bool, size: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, maps = (rng.standard_normal(s) + 1j * rng.standard_normal(s) for s in (size, (2, *size)))
    axes = (-3, -2, -1)

    def transform(x: Any, inverse: bool = False) -> Any:
        x = np.fft.ifftshift(x, axes) if centered else x
        x = (np.fft.ifftn if inverse else np.fft.fftn)(x, axes=axes, norm="ortho")
        return np.fft.fftshift(x, axes) if centered else x

    for shape in (size, size[1:], size[2:], (size[0], 1, 1), (1, *size[1:])):
        mask = rng.standard_normal(shape)
        scan = lin.Fourier(torch.from_numpy(mask), centered, dims=3)
        y = mask * transform(x)
        assert close(scan(torch.from_numpy(x)), y)
        assert close(scan.adjoint(torch.from_numpy(y)), transform(mask * y, True))
        assert close(scan.normal(torch.from_numpy(x)), transform(mask * y, True))
        real = lin.Fourier(torch.from_numpy(mask), centered, dims=3, real=True)
        assert close(real.normal(torch.from_numpy(x.real)), transform(mask**2 * transform(x.real), True).real)
        coils = lin.MultiCoilFourier(torch.from_numpy(mask), torch.from_numpy(maps), centered, dims=3)
        y = mask * transform(maps * x)
        assert close(coils(torch.from_numpy(x)), y)
        back = (maps.conj() * transform(mask * y, True)).sum(0)
        assert close(coils.adjoint(torch.from_numpy(y)), back)
        assert close(coils.normal(torch.from_numpy(x)), back)


@pytest.mark.parametrize("name", SCALING_FILTERS)
def test_filters_are_those_of_pywavelets(name: str) -> None:
    assert list(SCALING_FILTERS[name]) == pywt.Wavelet(name).rec_lo


@pytest.mark.filterwarnings("ignore:Level value of")
@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("name", ["haar", "db2", "db4", "db10", "sym7", "coif2", "coif5"])
def test_wavelets_are_those_of_pywavelets(name: str, levels: int) -> None:
    for size in ((8, 24), (16, 8), (64, 40)):
        x = np.random.default_rng(0).standard_normal(size)
        coefficients = pywt.wavedec2(x, name, "periodization", levels)
        op = lin.Wavelet(name, levels)
        found = op(torch.from_numpy(x))
        assert close(found, pywt.coeffs_to_array(coefficients)[0])
        assert close(op.adjoint(found), pywt.waverec2(coefficients, name, "periodization"), 1e-10)
    x = np.random.default_rng(0).standard_normal((8, 16, 8))
    wanted = pywt.coeffs_to_array(pywt.wavedecn(x, name, "periodization", levels))[0]
    assert close(lin.Wavelet(name, levels, 3)(torch.from_numpy(x)), wanted)


@pytest.mark.parametrize("size", [*SIZES, (1, 5), (2, 2)])
def test_cosine_transform_is_that_of_scipy(size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal((3, *size))
    assert close(lin.DCT()(torch.from_numpy(x)), scipy.fft.dctn(x, axes=(-2, -1), norm="ortho"))
    assert close(lin.DCT().adjoint(torch.from_numpy(x)), scipy.fft.idctn(x, axes=(-2, -1), norm="ortho"))
    assert close(lin.DCT(3)(torch.from_numpy(x)), scipy.fft.dctn(x, norm="ortho"))


def test_cosine_transform_of_blocks_is_that_of_scipy() -> None:
    x = np.random.default_rng(0).standard_normal((2, 12, 18))
    tiles = x.reshape(2, 2, 6, 3, 6).swapaxes(2, 3).reshape(2, 6, 6, 6)
    assert close(lin.Blocks(6)(torch.from_numpy(x)), tiles.reshape(2, 6, 36), 0)
    wanted = scipy.fft.dctn(tiles, axes=(-2, -1), norm="ortho").reshape(2, 6, 36)
    op = lin.BlockDCT(6, shape=(12, 18))
    assert close(op(torch.from_numpy(x)), wanted)
    assert close(op.adjoint(torch.from_numpy(wanted)), x)


def test_downsampling_and_differences_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((12, 18)), rng.standard_normal((4, 3))
    found = lin.Downsample(3, torch.from_numpy(kernel))(torch.from_numpy(x))
    assert close(found, scipy.ndimage.convolve(x, kernel, mode="wrap")[::3, ::3])
    volume, deep = rng.standard_normal((4, 6, 8)), rng.standard_normal((3, 2, 4))
    found = lin.Downsample(2, torch.from_numpy(deep), "reflect", dims=3)(torch.from_numpy(volume))
    assert close(found, scipy.ndimage.convolve(volume, deep, mode="reflect")[::2, ::2, ::2])
    for factor in (1, 2):
        pool = torch.nn.functional.avg_pool3d(torch.from_numpy(volume[None, :, :4]), factor)
        A = lin.Downsample(factor, dims=3).double()
        assert close(A(torch.from_numpy(volume[None, :, :4])), pool, 1e-6)
    down, right = lin.Gradient()(torch.from_numpy(x))
    assert close(down[:-1], np.diff(x, axis=0), 0)
    assert close(right[:, :-1], np.diff(x, axis=1), 0)
    assert not down[-1].any()
    assert not right[:, -1].any()


def test_convolutional_dictionary_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    filters, x = rng.standard_normal((3, 2, 4)), rng.standard_normal((3, 5, 6))
    wanted = sum(scipy.signal.convolve2d(c, d) for c, d in zip(x, filters, strict=True))
    assert close(lin.Convolution(torch.from_numpy(filters))(torch.from_numpy(x)), wanted)


@pytest.mark.parametrize("size", SIZES)
def test_scans_are_those_of_sigpy(size: tuple[int, int]) -> None:
    """Centred and orthonormal, with masks and coils."""
    rng = np.random.default_rng(0)
    mask = (rng.random(size) < 0.5).astype(float)
    maps = rng.standard_normal((4, *size)) + 1j * rng.standard_normal((4, *size))
    x = rng.standard_normal(size) + 1j * rng.standard_normal(size)
    for op, linop in (
        (lin.Fourier(torch.from_numpy(mask)), sigpy.linop.Multiply(size, mask) * sigpy.linop.FFT(size)),
        (
            lin.MultiCoilFourier(torch.from_numpy(mask), torch.from_numpy(maps)),
            sigpy.linop.Multiply((4, *size), mask) * sigpy.mri.linop.Sense(maps),
        ),
    ):
        y = linop(x)
        assert close(op(torch.from_numpy(x)), y)
        assert close(op.adjoint(torch.from_numpy(y)), linop.H(y))
        assert close(op.normal(torch.from_numpy(x)), linop.N(x))
        wrapped = lin.as_operator(linop)
        leaf = torch.from_numpy(x).requires_grad_()
        assert close(wrapped.normal(leaf), linop.N(x))
        (gradient,) = torch.autograd.grad(wrapped.normal(leaf).abs().square().sum(), leaf)
        assert close(gradient, 2 * linop.N(linop.N(x)), 1e-10)


def deepinv_physics() -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Physics that are known, and the shape of x."""
    physics = pytest.importorskip("deepinv.physics", reason=EXTRA)
    kernel, mask = torch.rand(1, 1, 4, 3), (torch.rand(12, 9) < 0.6).float()
    maps = torch.randn(1, 3, 12, 9, dtype=torch.complex64)
    blurs = {
        f"Blur, {padding}": (physics.Blur(filter=kernel, padding=padding), (2, 3, 12, 9))
        for padding in ("circular", "valid", "constant")
    }
    return {
        **blurs,
        "Blur, one a sample": (physics.Blur(filter=torch.rand(2, 3, 3, 3), padding="circular"), (2, 3, 12, 9)),
        "BlurFFT": (physics.BlurFFT(img_size=(3, 12, 9), filter=kernel), (2, 3, 12, 9)),
        "BlurFFT, one a channel": (physics.BlurFFT(img_size=(3, 12, 9), filter=torch.rand(1, 3, 3, 3)), (2, 3, 12, 9)),
        "MRI": (physics.MRI(mask=mask), (2, 2, 12, 9)),
        "MRI, one a sample": (physics.MRI(mask=(torch.rand(2, 1, 12, 9) < 0.6).float()), (2, 2, 12, 9)),
        "MultiCoilMRI": (physics.MultiCoilMRI(mask=mask, coil_maps=maps), (2, 2, 12, 9)),
        "MultiCoilMRI, one a sample": (
            physics.MultiCoilMRI(mask=mask, coil_maps=torch.randn(2, 3, 12, 9, dtype=torch.complex64)), (2, 2, 12, 9),
        ),
        "Inpainting": (physics.Inpainting(img_size=(3, 12, 9), mask=mask.expand(3, 12, 9)), (2, 3, 12, 9)),
    }  # fmt: skip


def test_physics_of_deepinv_become_operators() -> None:
    for name, (physics, shape) in deepinv_physics().items():
        op, wrapped = lin.as_operator(physics), DeepinvOperator(physics)
        assert not isinstance(op, DeepinvOperator), name
        x = torch.randn(shape)
        y = physics.A(x)
        assert torch.allclose(op(x), y, atol=1e-5), name
        assert torch.allclose(op.adjoint(y), physics.A_adjoint(y), atol=1e-4), name
        assert torch.allclose(op.normal(x), wrapped.normal(x), atol=1e-4), name
        found = fu.solvers.fista(physics, y, 0.01, iterations=10, step=0.01)
        assert torch.allclose(found, fu.solvers.fista(wrapped, y, 0.01, iterations=10, step=0.01), atol=1e-4), name


def test_other_physics_of_deepinv_are_wrapped() -> None:
    physics = pytest.importorskip("deepinv.physics", reason=EXTRA)
    kernel = torch.rand(1, 1, 3, 3)
    learned = physics.BlurFFT(img_size=(1, 8, 8), filter=kernel)
    learned.filter = torch.nn.Parameter(kernel)
    decimation = physics.Downsampling(img_size=(1, 8, 8), filter=None)
    for other in (physics.Blur(filter=kernel, padding="reflect"), decimation, learned):
        assert isinstance(lin.as_operator(other), DeepinvOperator)


def test_operators_become_physics_of_deepinv() -> None:
    pytest.importorskip("deepinv.physics", reason=EXTRA)
    mask = (torch.rand(12, 9) < 0.6).float()
    maps = torch.randn(3, 12, 9, dtype=torch.complex64)
    for op, shape in (
        (lin.Blur(torch.rand(3, 3)), (2, 3, 12, 9)),
        (lin.Fourier(mask), (2, 2, 12, 9)),
        (lin.MultiCoilFourier(mask, maps), (2, 2, 12, 9)),
        (lin.Downsample(3), (2, 3, 12, 9)),
    ):
        physics = op.to_deepinv()
        x = torch.randn(shape)
        y = physics.A(x)
        assert not y.is_complex()
        assert float(physics.adjointness_test(x).abs().max()) < 1e-2
        assert torch.allclose(physics.A_adjoint_A(x), physics.A_adjoint(y), atol=1e-4)
        for gamma in (2.0, torch.tensor(2.0), torch.tensor([2.0]), torch.tensor([2.0, 0.5]).reshape(2, 1, 1, 1)):
            for z in (x, None, 0.0):
                proximal = physics.prox_l2(z, y, gamma, solver="CG", max_iter=200, tol=1e-6)
                slope = physics.A_adjoint(physics.A(proximal) - y)
                assert torch.allclose(
                    gamma * slope + proximal, torch.zeros_like(x) if z is None else z + 0 * x, atol=1e-2
                )


def test_gram_of_mrpro_is_used() -> None:
    operators = pytest.importorskip("mrpro.operators", reason=EXTRA)
    op = lin.as_operator(operators.FastFourierOp(dim=(-2, -1)))
    x = torch.randn(3, 1, 1, 6, 8, dtype=torch.complex64)
    assert op.collapsed
    assert torch.allclose(op.normal(x), x, atol=1e-5)


def test_real_channels() -> None:
    """Complex pictures as two real channels, without any library."""
    mask = (torch.rand(12, 9) < 0.6).double()
    op = lin.Fourier(mask)
    pairs = RealChannels(op)
    x, y = (torch.randn(2, 12, 9, dtype=torch.complex128) for _ in range(2))
    for found, wanted in (
        (pairs(as_channels(x)), op(x)), (pairs.adjoint(as_channels(y)), op.adjoint(y)),
        (pairs.normal(as_channels(x)), op.normal(x)), (pairs.solve(as_channels(x), 0.5), op.solve(x, 0.5)),
        (pairs.gradient(as_channels(x), as_channels(y)), op.gradient(x, y)),
    ):  # fmt: skip
        assert torch.allclose(found, as_channels(wanted))
    assert pairs.norm() == op.norm()
    with pytest.raises(ValueError, match=r"complex pictures must be real tensors \(B, 2, H, W\)"):
        pairs(x)
