"""Operators of SigPy, PyLops and MRpro that this package has too are computed by it."""

from __future__ import annotations

from typing import Any

import fastunroll as fu
import numpy as np
import pylops
import pytest
import sigpy
import sigpy.mri
import torch
from fastunroll.operators.foreign import GramOperator, MatvecOperator, SigpyOperator
from fastunroll.operators.recognised import Recognised
from torch import Tensor

lin = fu.operators
EXTRA = "not installed: it is among the packages of the extra interop, which tests do without"


def sigpy_arrays(size: tuple[int, int]) -> tuple[Any, Any, Any]:
    """A mask, columns, and maps of three coils."""
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((3, *size)) + 1j * rng.standard_normal((3, *size))
    return rng.random(size) < 0.5, rng.random(size[1:]), maps


def known_of_sigpy(size: tuple[int, int]) -> dict[str, Any]:
    mask, columns, maps = sigpy_arrays(size)
    S = sigpy.linop
    stack = (2, *size)
    return {
        "mask": S.Multiply(size, columns[None] * mask),
        "mask of a stack": S.Multiply(stack, mask),
        "Fourier": S.FFT(size),
        "Fourier of a stack": S.FFT(stack, axes=(-1, -2)),
        "scan": S.Multiply(size, mask) * S.FFT(size),
        "scan, origin at the corner": S.Multiply(size, mask * 2.0) * S.FFT(size, center=False),
        "scan of columns": S.Multiply(size, columns) * S.FFT(size),
        "scan of a stack": S.Multiply(stack, np.stack([mask, ~mask])) * S.FFT(stack, axes=[1, 2]),
        "coils": sigpy.mri.linop.Sense(maps),
        "coils and weights": sigpy.mri.linop.Sense(maps, weights=mask * columns),
        "coils of single precision": sigpy.mri.linop.Sense(maps.astype(np.complex64), weights=columns),
        "conjugate maps": S.FFT(maps.shape, axes=(1, 2)) * S.Multiply(size, maps, conj=True),
    }


def other_of_sigpy(size: tuple[int, int]) -> dict[str, Any]:
    mask, _, maps = sigpy_arrays(size)
    S = sigpy.linop
    return {
        "complex mask": S.Multiply(size, mask * 1j),
        "a number": S.Multiply(size, 2.0),
        "one dimension": S.FFT(size, axes=(-1,)),
        "three dimensions": S.FFT(maps.shape),
        "a pixelwise product of a stack": S.FFT(maps.shape, axes=(1, 2)) * S.Multiply(maps.shape, maps),
        "a mask of pixels": S.FFT(size) * S.Multiply(size, mask),
        "coils in turn": sigpy.mri.linop.Sense(maps, coil_batch_size=2),
        "weights of each coil": S.Multiply(maps.shape, abs(maps)) * sigpy.mri.linop.Sense(maps),
        "not finite": S.Multiply(size, np.where(mask, np.nan, 1.0)),
        "wavelet": S.Wavelet(size),
    }


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
@pytest.mark.parametrize("size", [(9, 7), (8, 6)])
@pytest.mark.parametrize("name", known_of_sigpy((2, 2)))
def test_scans_of_sigpy_are_recognised(name: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    """With all that SigPy computes, in the precision of x."""
    linop = known_of_sigpy(size)[name]
    op, wrapped = lin.as_operator(linop), SigpyOperator(linop)
    assert isinstance(op, Recognised)
    assert op.collapsed
    assert op.shape_in == tuple(linop.ishape)
    tolerance = 1e-4 if dtype == torch.complex64 else 1e-11
    x = torch.randn(2, *linop.ishape, dtype=dtype)
    y = torch.randn(2, *linop.oshape, dtype=dtype)
    for found, wanted in (
        (op(x), wrapped(x)), (op.adjoint(y), wrapped.adjoint(y)), (op.normal(x), wrapped.normal(x)),
        (op.gradient(x, y), wrapped.gradient(x, y)), (op.solve(x, 0.5), wrapped.solve(x, 0.5)),
        (solved(linop, y), solved(wrapped, y)),
    ):  # fmt: skip
        assert found.dtype == dtype
        assert torch.allclose(found, wanted, rtol=10 * tolerance, atol=10 * tolerance)
    assert op.norm() >= 0.999 * float(torch.linalg.matrix_norm(dense(wrapped), 2))
    x[0] = torch.nan
    assert bool(torch.isnan(op.normal(x)[0]).any())
    assert torch.equal(op.normal(x)[1], op.normal(x[1:])[0])
    with pytest.raises(ValueError, match="x must have the shape"):
        op(x[..., 1:])


def solved(op: Any, y: Tensor) -> Tensor:
    return fu.solvers.fista(op, y, 0.1, iterations=5, step=0.02)


def dense(op: Any) -> Tensor:
    """The matrix of an operator on complex samples."""
    n = int(np.prod(op.shape_in))
    return op(torch.eye(n, dtype=torch.complex128).reshape(n, *op.shape_in)).reshape(n, -1).mT


@pytest.mark.parametrize("name", other_of_sigpy((8, 6)))
def test_other_operators_of_sigpy_are_wrapped(name: str) -> None:
    assert isinstance(lin.as_operator(other_of_sigpy((8, 6))[name]), SigpyOperator)


@pytest.mark.parametrize("offset", [(0, 0), (1, 2), (3, 1)])
@pytest.mark.parametrize("shape", [(4, 3), (5, 4)])
def test_convolutions_of_pylops_are_recognised(shape: tuple[int, int], offset: tuple[int, int]) -> None:
    kernel = np.random.default_rng(0).standard_normal(shape)
    linop = pylops.signalprocessing.Convolve2D((2, 12, 9), kernel, offset, axes=(1, 2))
    op, wrapped = lin.as_operator(linop), MatvecOperator(linop)
    assert isinstance(op, Recognised) == all(k <= n for k, n in zip(linop.nh, (12, 9), strict=True))
    x = torch.randn(3, 2, 12, 9, dtype=torch.float64)
    assert torch.allclose(op(x), wrapped(x))
    assert torch.allclose(op.adjoint(x), wrapped.adjoint(x))
    assert torch.allclose(op.normal(x), wrapped.normal(x))
    assert torch.allclose(op(x.float()), wrapped(x).float(), atol=1e-4)


def test_other_operators_of_pylops_are_wrapped() -> None:
    for linop in (
        pylops.signalprocessing.Convolve2D((12, 9, 2), np.ones((3, 3)), (1, 1), axes=(0, 1)),
        pylops.signalprocessing.Convolve1D(12, np.ones(3), 1),
        pylops.FirstDerivative((5, 6)),
    ):
        assert isinstance(lin.as_operator(linop), MatvecOperator)


def mrpro_scans() -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Cartesian scans, and the shape of x."""
    operators = pytest.importorskip("mrpro.operators", reason=EXTRA)
    fourier = operators.FastFourierOp(dim=(-1, -2))
    mask, columns = (torch.rand(12, 9) < 0.6).float(), (torch.rand(9) < 0.6).float()
    maps = torch.randn(3, 1, 12, 9, dtype=torch.complex64)
    of_each = operators.SensitivityOp(torch.randn(2, 3, 4, 12, 9, dtype=torch.complex64))
    return {
        "mask": (operators.CartesianMaskingOp(mask) @ fourier, (2, 3, 4, 12, 9)),
        "columns": (operators.CartesianMaskingOp(columns[None]) @ fourier, (2, 1, 1, 12, 9)),
        "rows": (operators.CartesianMaskingOp(columns[:, None]) @ fourier, (2, 1, 1, 9, 12)),
        "coils": (operators.CartesianMaskingOp(mask) @ fourier @ operators.SensitivityOp(maps), (2, 1, 1, 12, 9)),
        "coils of each": (operators.CartesianMaskingOp(mask[None, None]) @ fourier @ of_each, (2, 1, 4, 12, 9)),
        "mask of each": (
            operators.CartesianMaskingOp((torch.rand(2, 1, 1, 12, 9) < 0.5).float()) @ fourier, (2, 3, 4, 12, 9),
        ),
        "trajectory": (mrpro_trajectory(), (2, 1, 1, 12, 9)),
    }  # fmt: skip


def mrpro_trajectory() -> Any:
    """Every second row of k-space, and maps of coils."""
    data = pytest.importorskip("mrpro.data", reason=EXTRA)
    operators = pytest.importorskip("mrpro.operators", reason=EXTRA)
    rows, columns = torch.arange(-6, 6, 2.0)[:, None], torch.arange(9.0)[None] - 4
    shape = (1, 1, 1)
    traj = data.KTrajectory(torch.zeros(*shape, 1, 1), rows.reshape(*shape, 6, 1), columns.reshape(*shape, 1, 9))
    size = data.SpatialDimension(1, 12, 9)
    maps = torch.randn(3, 1, 12, 9, dtype=torch.complex64)
    return operators.FourierOp(size, size, traj) @ operators.SensitivityOp(maps)


def test_scans_of_mrpro_are_recognised() -> None:
    for name, (scan, shape) in mrpro_scans().items():
        op, wrapped = lin.as_operator(scan), GramOperator(scan, unpacks=True)
        assert isinstance(op, Recognised), name
        x = torch.randn(shape, dtype=torch.complex64)
        y = op(x)
        for found, wanted in (
            (y, scan(x)[0]), (op.adjoint(y), scan.adjoint(y)[0]), (op.normal(x), wrapped.normal(x)),
            (op.gradient(x, 2 * y), wrapped.gradient(x, 2 * y)), (op.solve(x, 0.5), wrapped.solve(x, 0.5)),
        ):  # fmt: skip
            assert found.shape == wanted.shape, name
            assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-3), name
        assert float(op(x).norm()) <= op.norm() * float(x.norm()) * 1.001, name


def test_other_operators_of_mrpro_are_wrapped() -> None:
    operators = pytest.importorskip("mrpro.operators", reason=EXTRA)
    mask, maps = torch.ones(12, 9), torch.randn(3, 1, 12, 9, dtype=torch.complex64).requires_grad_()
    fourier = operators.FastFourierOp(dim=(-2, -1))
    for other in (
        operators.CartesianMaskingOp(mask), operators.SensitivityOp(maps.detach()),
        operators.CartesianMaskingOp(mask) @ fourier @ operators.SensitivityOp(maps),
        operators.CartesianMaskingOp(mask) @ operators.FastFourierOp(dim=(-3, -2, -1)),
        operators.CartesianMaskingOp(mask) @ operators.FastFourierOp((-2, -1), (10, 9), (12, 9)),
    ):  # fmt: skip
        assert not isinstance(lin.as_operator(other), Recognised)
