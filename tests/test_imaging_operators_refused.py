"""What operators of imaging refuse, in one sentence: the rule, what broke it, the fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from torch import Tensor

lin = fu.operators
NAN = float("nan")


def picture(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, dtype=dtype)


BOUNDARIES = ("circular", "reflect", "constant", "valid")
REFUSED: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    *(
        (
            f"a kernel larger than the picture, {b}",
            lambda b=b: lin.Blur(torch.ones(9, 3), b)(picture(8, 8)),
            ValueError,
            r"a kernel must not be larger than the pictures, but the kernel is \(9, 3\) and the pictures are \(8, 8\)",
        )
        for b in BOUNDARIES
    ),
    (
        "the same, of a stated shape",
        lambda: lin.Blur(torch.ones(3, 9), shape=(8, 8)),
        ValueError,
        "a kernel must not be larger",
    ),
    *(
        (
            f"a kernel larger than the volume, {b}",
            lambda b=b: lin.Blur(torch.ones(3, 3, 3), b, dims=3)(picture(2, 8, 8)),
            ValueError,
            r"the kernel is \(3, 3, 3\) and the pictures are \(2, 8, 8\)",
        )
        for b in BOUNDARIES
    ),
    (
        "a kernel of pictures for volumes",
        lambda: lin.Blur(torch.ones(3, 3), dims=3),
        ValueError,
        r"kernel must be \(d, h, w\), or \(\.\.\., d, h, w\), with d, h, w ≥ 1, got \(3, 3\)",
    ),
    (
        "a picture in the place of a volume",
        lambda: lin.Blur(torch.ones(2, 3, 3), dims=3)(picture(8, 8)),
        ValueError,
        r"Blur.forward takes pictures \(\.\.\., D, H, W\)",
    ),
    (
        "a kernel of volumes that takes them for samples",
        lambda: lin.Blur(torch.ones(2, 3, 3))(picture(4, 8, 8)),
        ValueError,
        r"kernel is \(2, 3, 3\), so x must have the shape \(\.\.\., 2, H, W\), got \(4, 8, 8\)",
    ),
    (
        "a batch of kernels of volumes of another size",
        lambda: lin.Blur(torch.ones(3, 2, 3, 3), dims=3)(picture(2, 4, 8, 8)),
        ValueError,
        r"so x must have the shape \(\.\.\., 3, D, H, W\), got \(2, 4, 8, 8\)",
    ),
    (
        "a mask of pictures for volumes of other columns",
        lambda: lin.Fourier(torch.ones(8, 8), dims=3)(picture(4, 8, 9)),
        ValueError,
        r"mask is \(8, 8\), so x must have the shape \(\.\.\., 8, 8\), got \(4, 8, 9\)",
    ),
    (
        "pictures in the place of volumes of a scan",
        lambda: lin.Fourier(torch.ones(8, 8), dims=3)(picture(8, 8)),
        ValueError,
        r"Fourier.forward takes pictures \(\.\.\., D, H, W\)",
    ),
    (
        "maps of pictures for volumes",
        lambda: lin.MultiCoilFourier(torch.ones(8, 8), torch.ones(3, 8, 8), dims=3),
        ValueError,
        r"maps must be \(C, D, H, W\), or \(B, C, D, H, W\), got shape \(3, 8, 8\)",
    ),
    (
        "a volume in the place of k-space",
        lambda: lin.MultiCoilFourier(torch.ones(8, 8), torch.ones(3, 4, 8, 8), dims=3).adjoint(
            picture(2, 4, 8, 8, dtype=torch.complex64)
        ),
        ValueError,
        r"so y must have the shape \(\.\.\., 3, D, H, W\), with the coils before the pictures",
    ),
    *(
        (f"{name} of four axes", make, ValueError, "dims must be 2 for pictures or 3 for volumes, got ")
        for name, make in (
            ("a blur", lambda: lin.Blur(torch.ones(1, 1, 1, 1), dims=4)),
            ("a scan", lambda: lin.Fourier(torch.ones(8, 8), dims=True)),
            ("coils", lambda: lin.MultiCoilFourier(torch.ones(8, 8), torch.ones(2, 8, 8), dims="3")),
            ("a mask", lambda: lin.Mask(torch.ones(8, 8), dims=2.0)),
        )
    ),
    ("a kernel with NaN", lambda: lin.Blur(torch.tensor([[1.0, NAN]])), ValueError, "kernel must be finite"),
    ("a kernel of one dimension", lambda: lin.Blur(torch.ones(3)), ValueError, r"kernel must be \(h, w\)"),
    (
        "a kernel of whole numbers",
        lambda: lin.Blur(torch.ones(3, 3, dtype=torch.int64)),
        TypeError,
        "kernel must be floating",
    ),
    ("an unknown boundary", lambda: lin.Blur(torch.ones(3, 3), "symmetric"), ValueError, "boundary must be"),
    (
        "a batch of kernels of another size",
        lambda: lin.Blur(torch.ones(3, 3, 3))(picture(2, 8, 8)),
        ValueError,
        r"kernel is \(3, 3, 3\), so x must have the shape \(\.\.\., 3, H, W\), got \(2, 8, 8\)",
    ),
    (
        "a complex kernel of real pictures",
        lambda: lin.Blur(torch.ones(3, 3, dtype=torch.complex64))(picture(8, 8)),
        TypeError,
        "a complex kernel takes complex pictures",
    ),
    (
        "pictures of another precision",
        lambda: lin.Blur(torch.ones(3, 3))(picture(8, 8, dtype=torch.float64)),
        TypeError,
        "x must have the precision of the Blur, torch.float32 or complex numbers of that size, got torch.float64",
    ),
    (
        "a signal",
        lambda: lin.Blur(torch.ones(3, 3))(picture(8)),
        ValueError,
        r"Blur.forward takes pictures \(\.\.\., H, W\)",
    ),
    ("a picture without pixels", lambda: lin.DCT()(picture(0, 8)), ValueError, "with at least one pixel"),
    ("no tensor", lambda: lin.DCT()([1.0]), TypeError, "x must be a torch.Tensor, got list"),
    ("a mask with NaN", lambda: lin.Fourier(torch.tensor([1.0, NAN])), ValueError, "mask must be finite"),
    ("a complex mask", lambda: lin.Fourier(torch.ones(8, 8, dtype=torch.complex64)), TypeError, "mask must be real"),
    ("a mask that is a number", lambda: lin.Fourier(torch.tensor(1.0)), ValueError, r"mask must be \(H, W\)"),
    (
        "a mask of another shape",
        lambda: lin.Fourier(torch.ones(8, 8))(picture(8, 9)),
        ValueError,
        r"mask is \(8, 8\), so x must have the shape \(\.\.\., 8, 8\), got \(8, 9\)",
    ),
    (
        "the same in the adjoint",
        lambda: lin.Fourier(torch.ones(8)).adjoint(picture(8, 9)),
        ValueError,
        "so y must have the shape",
    ),
    (
        "another number of masks",
        lambda: lin.Fourier(torch.ones(3, 1, 8))(picture(2, 8, 8)),
        ValueError,
        "so x must have",
    ),
    (
        "k-space in the place of real pictures",
        lambda: lin.Fourier(torch.ones(8, 8), real=True)(picture(8, 8, dtype=torch.complex64)),
        TypeError,
        r"Fourier\(real=True\) takes real pictures, got x of torch.complex64: leave out real=True",
    ),
    (
        "maps without coils",
        lambda: lin.MultiCoilFourier(torch.ones(8, 8), torch.ones(8, 8)),
        ValueError,
        "maps must be",
    ),
    (
        "maps of another size",
        lambda: lin.MultiCoilFourier(torch.ones(8, 8), torch.ones(3, 8, 9)),
        ValueError,
        "so maps must have",
    ),
    (
        "maps of another precision",
        lambda: lin.MultiCoilFourier(torch.ones(8, 8), torch.ones(3, 8, 8).double()),
        TypeError,
        "mask and maps must have one precision",
    ),
    (
        "maps with NaN",
        lambda: lin.MultiCoilFourier(torch.ones(8, 8), torch.full((3, 8, 8), NAN)),
        ValueError,
        "maps must be finite",
    ),
    (
        "a picture in the place of k-space",
        lambda: lin.MultiCoilFourier(torch.ones(8, 8), torch.ones(3, 8, 8)).adjoint(
            picture(2, 8, 8, dtype=torch.complex64)
        ),
        ValueError,
        r"so y must have the shape \(\.\.\., 3, H, W\), with the coils before the pictures",
    ),
    (
        "k-space of coils in the place of pictures",
        lambda: lin.MultiCoilFourier(torch.ones(8, 8), torch.ones(2, 3, 8, 8))(
            picture(2, 3, 8, 8, dtype=torch.complex64)
        ),
        ValueError,
        "maps is",
    ),
    ("a mask of pixels of another shape", lambda: lin.Mask(torch.ones(8, 8))(picture(8, 9)), ValueError, "mask is"),
    (
        "a mask of whole numbers",
        lambda: lin.Mask(torch.ones(8, 8, dtype=torch.int32)),
        TypeError,
        "mask must be floating",
    ),
    (
        "a factor that does not divide",
        lambda: lin.Downsample(2)(picture(8, 9)),
        ValueError,
        "the factor must divide the sides",
    ),
    ("the same, of a stated shape", lambda: lin.Downsample(3, shape=(8, 9)), ValueError, "the factor must divide"),
    (
        "a factor that does not divide the depth",
        lambda: lin.Downsample(2, dims=3)(picture(3, 8, 8)),
        ValueError,
        r"the factor must divide the sides of the blurred pictures, but it is 2 and they are \(3, 8, 8\)",
    ),
    ("a factor of zero", lambda: lin.Downsample(0), ValueError, "factor must be a whole number"),
    ("an unknown wavelet", lambda: lin.Wavelet("bior4.4"), ValueError, "name must be that of an orthogonal wavelet"),
    (
        "sides that cannot be halved",
        lambda: lin.Wavelet("db4", 3)(picture(8, 12)),
        ValueError,
        "the sides of pictures must be multiples of 8 for 3 levels, got",
    ),
    ("no levels", lambda: lin.Wavelet("db4", 0), ValueError, "levels must be a whole number"),
    ("four axes", lambda: lin.DCT(4), ValueError, "dims must be 2 for pictures or 3 for volumes, got 4"),
    (
        "pictures in the place of volumes",
        lambda: lin.Gradient(3)(picture(8, 8)),
        ValueError,
        r"pictures \(\.\.\., D, H, W\)",
    ),
    (
        "a picture in the place of differences",
        lambda: lin.Gradient().adjoint(picture(3, 8, 8)),
        ValueError,
        "y must hold 2 differences for each pixel",
    ),
    (
        "blocks that do not fill",
        lambda: lin.Blocks(3)(picture(8, 9)),
        ValueError,
        "blocks of 3×3 pixels must fill the pictures",
    ),
    (
        "blocks of which picture?",
        lambda: lin.Blocks(2).adjoint(picture(6, 4)),
        ValueError,
        r"with the blocks of a square picture, or shape=\(H, W\) be stated",
    ),
    (
        "blocks of another picture",
        lambda: lin.Blocks(2, shape=(4, 6)).adjoint(picture(4, 4)),
        ValueError,
        r"y must have the shape \(\.\.\., 6, 4\) that this Blocks states, got \(4, 4\)",
    ),
    (
        "complex filters",
        lambda: lin.Convolution(torch.ones(3, 2, 2, dtype=torch.complex64)),
        TypeError,
        "filters must be real",
    ),
    ("filters without maps", lambda: lin.Convolution(torch.ones(2, 2)), ValueError, "filters must be"),
    (
        "another number of maps",
        lambda: lin.Convolution(torch.ones(3, 2, 2))(picture(2, 4, 4)),
        ValueError,
        "x must have 3 maps",
    ),
    (
        "pictures that strides do not fill",
        lambda: lin.Convolution(torch.ones(3, 2, 2), 2).adjoint(picture(5, 4)),
        ValueError,
        "pictures must be filters",
    ),
    ("an empty stack", lambda: lin.Stack(), ValueError, "Stack must have at least one operator"),
    (
        "a stack of pictures and volumes",
        lambda: lin.Stack(lin.Blur(torch.ones(2, 3, 3)), lin.DCT(3)),
        ValueError,
        "stacked operators must have results of one number of dimensions, got 2 and 3",
    ),
    (
        "a stack of other shapes",
        lambda: lin.Stack(lin.DCT(shape=(4, 4)), lin.DCT(shape=(4, 6))),
        ValueError,
        "stacked operators must have one shape_in",
    ),
    (
        "a stack of other results",
        lambda: lin.Stack(lin.Blur(torch.ones(3, 3)), lin.Blur(torch.ones(3, 3), "valid"))(picture(8, 8)),
        ValueError,
        "stacked operators must return results of one shape",
    ),
    (
        "results that are not stacked",
        lambda: lin.Stack(lin.DCT(), lin.DCT()).adjoint(picture(3, 4, 4)),
        ValueError,
        "y must hold 2 stacked results",
    ),
    (
        "real and imaginary parts",
        lambda: lin.Fourier(torch.ones(8)).adjoint(torch.view_as_real(picture(8, 8) + 0j)),
        ValueError,
        r"mask is \(8,\), so y must have the shape \(..., 8\), got \(8, 8, 2\): use torch.view_as_complex\(y\)",
    ),
    (
        "a negative ρ",
        lambda: lin.Blur(torch.ones(3, 3)).solve(picture(8, 8), -1.0),
        ValueError,
        "rho must be a finite number > 0",
    ),
    (
        "one dimension too few for a solver",
        lambda: fu.solvers.fista(lin.Blur(torch.ones(3, 3)), picture(8), 0.1),
        ValueError,
        "y must have 2 dimensions for a sample of Blur",
    ),
]


@pytest.mark.parametrize(("call", "kind", "sentence"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused_in_a_sentence(call: Callable[[], Any], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence) as error:
        call()
    text = str(error.value)
    assert "\n" not in text
    assert not text.endswith(".")


def test_an_even_kernel_has_its_centre_at_half_its_size() -> None:
    """As its documentation says."""
    kernel = torch.zeros(4, 6)
    kernel[2, 3] = 1
    x = picture(8, 9)
    for boundary in BOUNDARIES[:3]:
        assert torch.allclose(lin.Blur(kernel, boundary)(x), x, atol=1e-6)


def test_maps_need_not_be_normalised() -> None:
    maps = 3 * torch.randn(4, 8, 8, dtype=torch.complex64)
    assert lin.MultiCoilFourier(torch.ones(8, 8), maps).norm() == pytest.approx(
        float(maps.abs().square().sum(0).max().sqrt()), rel=1e-5
    )
