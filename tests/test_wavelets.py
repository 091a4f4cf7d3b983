"""The wavelet transform of pictures by itself: one native call, equal to PyTorch and to the same picture alone."""

from __future__ import annotations

from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error, tolerance
from fastunroll import ops
from fastunroll.ops import wavelet as native_wavelet
from fastunroll.ops.tensors import plain
from torch import Tensor

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]
NAMES = ["haar", "db2", "db4", "sym7", "coif5"]  # 2, 4, 8, 14 and 30 taps
# Sides of less than a filter, of half a vector, of whole vectors, and of vectors and a rest.
SIZES = {1: [(2, 2), (6, 10), (4, 64)], 2: [(4, 4), (12, 20), (8, 36)], 3: [(8, 8), (16, 24), (64, 128), (40, 272)]}
CASES = [(levels, size) for levels, sizes in SIZES.items() for size in sizes]
BATCHES: list[tuple[int, ...]] = [(), (1,), (3,), (2, 1, 3)]
WAYS = ["forward", "adjoint"]


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """An entry for each native call: whether it was that of the adjoint."""
    calls: list[bool] = []

    def counted(x: Tensor, low_pass: Any, levels: int, adjoint: bool) -> Tensor:
        calls.append(adjoint)
        return transform(x, low_pass, levels, adjoint)

    transform = native_wavelet.cpu.wavelet_transform
    monkeypatch.setattr(native_wavelet.cpu, "wavelet_transform", counted)
    return calls


def product(W: fu.operators.Wavelet, way: str, x: Tensor) -> Tensor:
    return W(x) if way == "forward" else W.adjoint(x)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("levels", "size"), CASES, ids=str)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_gradients(
    dtype: torch.dtype, name: str, levels: int, size: tuple[int, int], way: str, native: list[bool]
) -> None:
    W = fu.operators.Wavelet(name, levels)
    for batch in BATCHES:
        x = torch.randn(*batch, *size, dtype=dtype).requires_grad_()
        native.clear()
        found = product(W, way, x)
        weight = torch.randn_like(found)
        (gradient,) = torch.autograd.grad(found, x, weight)
        assert native == [way == "adjoint", way == "forward"]
        with plain():
            wanted = product(W, way, x)
            (exact,) = torch.autograd.grad(wanted, x, weight)
        assert len(native) == 2
        assert found.dtype == dtype
        assert found.shape == x.shape
        assert relative_error(found, wanted) <= 10 * tolerance(dtype)
        assert relative_error(gradient, exact) <= 10 * tolerance(dtype)
        with torch.no_grad():
            assert torch.equal(product(W, way, x), found)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_pixels_that_are_not_finite(dtype: torch.dtype, name: str, value: float, way: str, native: list[bool]) -> None:
    """They show as in PyTorch, and in their picture alone."""
    W, x = fu.operators.Wavelet(name, 2), torch.randn(3, 12, 36, dtype=dtype)
    clean = product(W, way, x)
    x[1, 4, 5] = value
    x[1, 0, 35] = -value
    found = product(W, way, x)
    assert len(native) == 2
    with plain():
        wanted = product(W, way, x)
    assert torch.equal(found[::2], clean[::2])
    for part, of_plain in ((found.real, wanted.real), (found.imag, wanted.imag)) if dtype.is_complex else (
        (found, wanted),
    ):  # fmt: skip
        torch.testing.assert_close(part, of_plain, equal_nan=True)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_picture_has_the_same_bits_in_every_batch(dtype: torch.dtype, way: str, native: list[bool]) -> None:
    W, x = fu.operators.Wavelet("db4", 2), torch.randn(5, 12, 36, dtype=dtype)
    together = product(W, way, x)
    for k in range(5):
        assert torch.equal(product(W, way, x[k]), together[k])
        assert torch.equal(product(W, way, x[k:]), together[k:])
    strided = x.mT.contiguous().mT
    expanded = x[:1].expand(3, -1, -1)
    assert torch.equal(product(W, way, strided), together)
    assert torch.equal(product(W, way, expanded), together[:1].expand(3, -1, -1))
    if dtype.is_complex:
        assert torch.equal(product(W, way, x.conj()), product(W, way, x.conj().resolve_conj()))
        assert torch.equal(product(W, way, x.imag), product(W, way, x.imag.contiguous()))
    assert torch.equal(product(W, way, torch._neg_view(x)), product(W, way, -x))
    assert len(native) > 10


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)
def test_threads_share_a_picture(dtype: torch.dtype, way: str) -> None:
    """With the bits of one thread, whichever rows each of them has."""
    W, x = fu.operators.Wavelet("db3", 3), torch.randn(5, 136, 152, dtype=dtype)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        wanted = product(W, way, x)
        for count in (2, 3):
            torch.set_num_threads(count)
            assert torch.equal(product(W, way, x), wanted)
    finally:
        torch.set_num_threads(threads)


def test_second_derivatives() -> None:
    W = fu.operators.Wavelet("db2", 1)
    for dtype in (torch.float64, torch.complex128):
        x = torch.randn(2, 4, 6, dtype=dtype).requires_grad_()
        for way in WAYS:
            assert torch.autograd.gradcheck(lambda x, way=way: product(W, way, x), x)
            assert torch.autograd.gradgradcheck(lambda x, way=way: product(W, way, x), x)


@pytest.mark.parametrize("way", WAYS)
def test_transforms(way: str, native: list[bool]) -> None:
    """What has no kernel goes through PyTorch: samples of vmap, tangents, batches of gradients, volumes."""
    W, x = fu.operators.Wavelet("db2", 2), torch.randn(4, 12, 8, dtype=torch.float64)
    wanted = product(W, way, x)
    assert len(native) == 1
    torch.testing.assert_close(torch.func.vmap(lambda x: product(W, way, x))(x), wanted)
    found, tangent = torch.func.jvp(lambda x: product(W, way, x), (x,), (x,))
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(tangent, wanted)
    assert product(W, way, x[:0]).shape == x[:0].shape
    compiled = torch.compile(lambda x: product(W, way, x), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), wanted)
    volumes = fu.operators.Wavelet("db2", 1, dims=3)
    assert product(volumes, way, x[None]).shape == (1, 4, 12, 8)
    assert len(native) == 1
    x.requires_grad_()
    weights = torch.randn(3, *x.shape, dtype=x.dtype)
    (batched,) = torch.autograd.grad(product(W, way, x), x, weights, is_grads_batched=True)
    each = [torch.autograd.grad(product(W, way, x), x, weight)[0] for weight in weights]
    torch.testing.assert_close(batched, torch.stack(each))


def test_a_blur_of_coefficients() -> None:
    """The gradient of a product with both operators, as the solvers need it."""
    W, blur = fu.operators.Wavelet("db4", 2), fu.operators.Blur(torch.ones(3, 3) / 9)
    c = torch.randn(3, 16, 36).requires_grad_()
    y = (blur @ W.H)(c)
    (found,) = torch.autograd.grad(y, c, torch.ones_like(y))
    torch.testing.assert_close(found, W(blur.adjoint(torch.ones_like(y))))


def test_half_precision_is_converted() -> None:
    x = torch.randn(8, 8)
    assert torch.equal(fu.operators.Wavelet("haar")(x.half()), fu.operators.Wavelet("haar")(x.half().float()))


def test_arguments_that_no_kernel_takes() -> None:
    x, low_pass = torch.randn(2, 8, 12), [0.5, 0.5]
    fits = native_wavelet.fits
    assert fits(x, low_pass, 2)
    assert not fits(x, low_pass, 3)
    assert not fits(x, low_pass, 0)
    assert not fits(x, [*low_pass, 0.5], 2)
    assert not fits(x, [0.5] * 34, 2)
    assert not fits(x[0, 0], low_pass, 2)
    assert ops.wavelet_transform(x, [0.1] * 34, 1).shape == x.shape  # by PyTorch
