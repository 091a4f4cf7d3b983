"""Operators of imaging in PyTorch: with AᴴA in one, as A and Aᴴ, image by image, and compiled."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from operators_problems import RHO, SOLVE, Images, Problem, Rival
from torch import Tensor

MISSING = (
    None
    if shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    else "torch.compile left out: it needs a C++ compiler, such as g++"
)


def transforms(problem: Problem) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """The Fourier transform of images and its inverse."""
    if problem.kind == "blur":
        return torch.fft.rfft2, partial(torch.fft.irfft2, s=problem.shape)
    return torch.fft.fft2, torch.fft.ifft2


class Collapsed(Rival):
    """F⁻¹ diag(h) F v − z for the whole batch, so that A is not applied twice."""

    def __init__(self, problem: Problem) -> None:
        self.kind, self.h, self.maps = problem.kind, problem.h, problem.maps
        self.transform, self.inverse = transforms(problem)

    def gradient(self, v: Tensor, of: Images) -> Tensor:
        if self.kind == "inpainting":
            return self.h * v - of.z
        if self.kind == "coils":
            k = self.transform(self.maps * v.unsqueeze(-3)) * self.h
            return (self.maps.conj() * self.inverse(k)).sum(-3) - of.z
        return self.inverse(self.transform(v) * self.h) - of.z

    def solve(self, of: Images) -> Tensor:
        b = torch.add(of.z, of.x, alpha=RHO)
        if self.kind == "inpainting":
            return b / (self.h + RHO)
        return self.inverse(self.transform(b) / (self.h + RHO))


class Products(Rival):
    """Aᴴ(A v − y) as the formula says, with the shifts of centred transforms."""

    def __init__(self, problem: Problem) -> None:
        self.kind, self.mask, self.maps = problem.kind, problem.mask, problem.maps
        self.shape = problem.shape
        padded = torch.zeros(problem.shape)
        padded[:9, :9] = problem.kernel
        self.spectrum = torch.fft.rfft2(torch.roll(padded, (-4, -4), (0, 1)))

    def _A(self, x: Tensor) -> Tensor:
        if self.kind == "blur":
            return torch.fft.irfft2(torch.fft.rfft2(x) * self.spectrum, s=self.shape)
        if self.kind == "inpainting":
            return self.mask * x
        x = self.maps * x.unsqueeze(-3) if self.kind == "coils" else x
        shifted = torch.fft.ifftshift(x, (-2, -1))
        return self.mask * torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), (-2, -1))

    def _adjoint(self, y: Tensor) -> Tensor:
        if self.kind == "blur":
            return torch.fft.irfft2(torch.fft.rfft2(y) * self.spectrum.conj(), s=self.shape)
        if self.kind == "inpainting":
            return self.mask * y
        shifted = torch.fft.ifftshift(self.mask * y, (-2, -1))
        x = torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), (-2, -1))
        return (self.maps.conj() * x).sum(-3) if self.kind == "coils" else x

    def gradient(self, v: Tensor, of: Images) -> Tensor:
        return self._adjoint(self._A(v) - of.y)


class ImageByImage(Rival):
    """The first with ``out=``, image by image, so that an image, its spectrum and their product stay in the cache.

    A call writes over the result of the last one, and pays for no fresh memory.
    """

    by_image = True

    def __init__(self, problem: Problem, batch: int) -> None:
        self.kind, self.h, self.maps = problem.kind, problem.h, problem.maps
        self.scale = 1 / (self.h + RHO)
        self.transform, self.inverse = transforms(problem)
        dtype = torch.float32 if problem.kind in ("blur", "inpainting") else torch.complex64
        self.y = torch.empty(batch, *problem.shape, dtype=dtype)
        self.product = torch.empty(problem.shape, dtype=dtype)
        self.spectrum = torch.empty_like(self.transform(self.product))

    def gradient(self, v: Tensor, of: Images) -> Tensor:
        for image, z, y in zip(v, of.z, self.y, strict=False):
            if self.kind == "coils":
                torch.neg(z, out=y)
                for s in self.maps:
                    self._filter(torch.mul(s, image, out=self.product), self.h, self.product)
                    y.addcmul_(s.conj(), self.product)
            else:
                self._filter(image, self.h, y)
                y -= z
        return self.y[: len(v)]

    def solve(self, of: Images) -> Tensor:
        for x, z, y in zip(of.x, of.z, self.y, strict=True):
            self._filter(torch.add(z, x, alpha=RHO, out=self.product), self.scale, y)
        return self.y

    def _filter(self, x: Tensor, h: Tensor, out: Tensor) -> None:
        if self.kind == "inpainting":
            torch.mul(x, h, out=out)
            return
        self.transform(x, out=self.spectrum)
        self.spectrum *= h
        self.inverse(self.spectrum, out=out)

    def read(self, found: Any) -> Tensor:
        return found if isinstance(found, Tensor) else torch.cat(found)


class Compiled(Collapsed):
    """The first by torch.compile, for one shape. Complex numbers are left to eager PyTorch by it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        torch._dynamo.reset()
        self.program = torch.compile(super().gradient, dynamic=False)

    def gradient(self, v: Tensor, of: Images) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it does not compile complex numbers
            return self.program(v, of)


def rivals(problem: Problem, batch: int, task: str, compiles: bool) -> dict[str, Rival]:
    found: dict[str, Rival] = {"eager": Collapsed(problem)}
    if task != SOLVE:
        found["eager, A and Aᴴ"] = Products(problem)
    found["image by image"] = ImageByImage(problem, batch)
    if compiles and MISSING is None:
        found["torch.compile"] = Compiled(problem)
    return found
