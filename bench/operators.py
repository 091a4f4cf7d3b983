"""Times the gradient Aᴴ(A x − y) of imaging operators against PyTorch and SciPy.

All contestants compute F⁻¹ diag(h) F x − z with z = Aᴴ y, so that A is not applied twice. PyTorch transforms the whole
batch at once, or image by image into memory that it reuses.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from itertools import product

import harness
import numpy as np
import scipy.fft
import torch
from fastunroll import ops
from torch import Tensor

SIZES = (256, 256), (320, 320), (512, 512), (640, 368)
ODD_SIZES = (64, 64), (218, 170), (255, 341), (356, 311), (768, 512)  # fastMRI's too; primes above 31 go by torch.fft
BATCHES = 1, 16
LARGEST_BATCH = 64  # at 256², where a batch exceeds every cache
COILS = 8
Gradient = Callable[[Tensor, Tensor, Tensor, "Tensor | None"], Tensor]


def _fft(x: Tensor) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """The transform and its inverse for real or complex images."""
    if x.is_complex():
        return torch.fft.fft2, torch.fft.ifft2
    return torch.fft.rfft2, partial(torch.fft.irfft2, s=x.shape[-2:])


def ours(x: Tensor, z: Tensor, h: Tensor, maps: Tensor | None) -> Tensor:
    return ops.fourier_normal(x, h, z) if maps is None else ops.coil_normal(x, maps, h, z)


def eager(x: Tensor, z: Tensor, h: Tensor, maps: Tensor | None) -> Tensor:
    transform, inverse = _fft(x)
    if maps is None:
        return inverse(transform(x) * h) - z
    return (maps.conj() * inverse(transform(maps * x.unsqueeze(-3)) * h)).sum(-3) - z


class ImageByImage:
    """PyTorch with ``out=``, so that the spectrum of an image and its product stay in the cache."""

    def __init__(self, x: Tensor, h: Tensor) -> None:
        self.transform, self.inverse = _fft(x)
        self.spectrum = torch.empty_like(self.transform(x[0]))
        self.product, self.y = torch.empty_like(x[0]), torch.empty_like(x)

    def __call__(self, x: Tensor, z: Tensor, h: Tensor, maps: Tensor | None) -> Tensor:
        for i in range(len(x)):
            if maps is None:
                self._filter(x[i], h, self.y[i])
                self.y[i] -= z[i]
            else:
                torch.neg(z[i], out=self.y[i])
                for s in maps:
                    self._filter(torch.mul(s, x[i], out=self.product), h, self.product)
                    self.y[i].addcmul_(s.conj(), self.product)
        return self.y

    def _filter(self, x: Tensor, h: Tensor, out: Tensor) -> None:
        self.transform(x, out=self.spectrum)
        self.spectrum *= h
        self.inverse(self.spectrum, out=out)


class SciPy:
    """scipy.fft image by image, in one thread an image."""

    def __init__(self, x: Tensor, h: Tensor) -> None:
        self.h, self.y = h.numpy(), np.empty(x.shape, x.numpy().dtype)
        self.workers = torch.get_num_threads()

    def __call__(self, x: Tensor, z: Tensor, h: Tensor, maps: Tensor | None) -> Tensor:
        for i, (image, adjoint) in enumerate(zip(x.numpy(), z.numpy(), strict=True)):
            if x.is_complex():
                spectrum = scipy.fft.fft2(image, workers=self.workers)
                spectrum *= self.h
                np.subtract(scipy.fft.ifft2(spectrum, workers=self.workers, overwrite_x=True), adjoint, out=self.y[i])
            else:
                spectrum = scipy.fft.rfft2(image, workers=self.workers)
                spectrum *= self.h
                np.subtract(
                    scipy.fft.irfft2(spectrum, s=image.shape, workers=self.workers, overwrite_x=True),
                    adjoint,
                    out=self.y[i],
                )
        return torch.from_numpy(self.y)


def build(case: harness.Case, seed: int) -> harness.Comparison:
    random = torch.Generator().manual_seed(seed)
    operator, batch = str(case["operator"]), int(case["B"])
    rows, columns = map(int, str(case["size"]).split("×"))
    dtype = torch.float32 if operator == "blur" else torch.complex64
    x, z = torch.randn(2, batch, rows, columns, dtype=dtype, generator=random).unbind()
    maps = torch.randn(COILS, rows, columns, dtype=dtype, generator=random) if operator == "MRI, 8 coils" else None
    if operator == "blur":
        kernel = torch.zeros(rows, columns)
        kernel[:9, :9] = 1 / 81
        h = torch.fft.rfft2(kernel).abs().square()
    else:
        h = (torch.rand(1 if operator == "MRI, columns" else rows, columns, generator=random) < 0.3).float()
    functions: dict[str, Gradient] = {"fastunroll": ours, "eager": eager, "image by image": ImageByImage(x, h)}
    if maps is None:
        functions["scipy.fft"] = SciPy(x, h)

    def contestant(gradient: Gradient) -> harness.Contestant:
        @torch.no_grad()
        def run() -> Tensor:
            return gradient(x, z, h, maps)

        return harness.Contestant(run)

    coils = 1 if maps is None else COILS
    # The customary count of a complex transform is 5 N log₂ N, of a real one half of that.
    flops = 2 * 5 * batch * coils * rows * columns * np.log2(rows * columns) / (1 if x.is_complex() else 2)
    return harness.Comparison({name: contestant(f) for name, f in functions.items()}, flops=float(flops))


def _cases() -> list[harness.Case]:
    text = {size: f"{size[0]}×{size[1]}" for size in SIZES + ODD_SIZES}
    operators = "blur", "MRI", "MRI, columns", "MRI, 8 coils"
    cases: list[harness.Case] = [
        {"operator": operator, "size": text[size], "B": batch}
        for operator, size, batch in product(operators, SIZES, BATCHES)
    ]
    cases += [{"operator": operator, "size": text[SIZES[0]], "B": LARGEST_BATCH} for operator in operators]
    return cases + [
        {"operator": operator, "size": text[size], "B": 16} for operator, size in product(operators[:2], ODD_SIZES)
    ]


BENCHMARK = harness.Benchmark(
    name="operators",
    question="How fast is the gradient Aᴴ(A x − y) of blur and Fourier samples, for a batch of images?",
    cases=_cases(),
    quick_cases=[{"operator": operator, "size": "256×256", "B": 4} for operator in ("blur", "MRI", "MRI, 8 coils")],
    build=build,
    baseline="eager",
    tolerance=1e-5,
    packages=["scipy"],
)

if __name__ == "__main__":
    sys.exit(harness.main(BENCHMARK))
