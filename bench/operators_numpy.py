"""Operators of imaging in libraries of NumPy, image by image: SciPy, DUCC, PyLops and SigPy."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from operators_problems import LAM, RHO, SOLVE, Images, Problem, Rival
from torch import Tensor

PACKAGES = {"scipy": "scipy.fft", "ducc0": "ducc0", "pylops": "PyLops", "sigpy": "SigPy"}
MISSING = [
    f"{name} left out: not installed; pip install '.[bench]'" for p, name in PACKAGES.items() if not find_spec(p)
]
Array = NDArray[Any]


class NumpyRival(Rival):
    """A library of NumPy. A subclass has ``normal``, AᴴA of one image (H, W), and for solve ``inverse``."""

    by_image = True

    def load(self, images: Images) -> Images:
        return Images(*(part.numpy() for part in images))

    def read(self, found: Any) -> Tensor:
        return torch.from_numpy(np.concatenate(found) if isinstance(found, list) else found)

    def normal(self, image: Array) -> Array:
        raise NotImplementedError

    def inverse(self, image: Array) -> Array:
        """(AᴴA + ρI)⁻¹ of one image (H, W)."""
        raise NotImplementedError

    def gradient(self, v: Array, of: Images) -> Array:
        y = np.empty_like(v)
        for i, image in enumerate(v):
            np.subtract(self.normal(image), of.z[i], out=y[i])
        return y

    def solve(self, of: Images) -> Array:
        y = np.empty_like(of.x)
        for i, (x, z) in enumerate(zip(of.x, of.z, strict=True)):
            y[i] = self.inverse(z + np.float32(RHO) * x)
        return y

    def soft_threshold(self, u: Array) -> Array:
        lam = np.float32(LAM)
        if np.iscomplexobj(u):
            modulus = np.abs(u)
            return u * (np.maximum(modulus - lam, 0) / np.maximum(modulus, lam))
        return np.sign(u) * np.maximum(np.abs(u) - lam, 0)

    def fista(self, of: Images) -> Array:
        with np.errstate(all="ignore"):
            return super().fista(of)


class Filter(NumpyRival):
    """F⁻¹ diag(h) F by a library of Fourier transforms. A subclass has :meth:`filter`."""

    own_threads = True

    def __init__(self, problem: Problem) -> None:
        self.kind, self.shape = problem.kind, problem.shape
        self.h, self.maps = problem.h.numpy(), problem.maps.numpy()
        self.conjugate, self.scale = self.maps.conj(), 1 / (self.h + np.float32(RHO))
        self.threads = torch.get_num_threads()

    def filter(self, image: Array, h: Array) -> Array:
        raise NotImplementedError

    def normal(self, image: Array) -> Array:
        if self.kind != "coils":
            return self.filter(image, self.h)
        y = np.zeros_like(image)
        for s, conjugate in zip(self.maps, self.conjugate, strict=True):
            y += conjugate * self.filter(s * image, self.h)
        return y

    def inverse(self, image: Array) -> Array:
        return self.filter(image, self.scale)


class SciPy(Filter):
    def filter(self, image: Array, h: Array) -> Array:
        import scipy.fft

        real = self.kind == "blur"
        transform = scipy.fft.rfft2 if real else scipy.fft.fft2
        spectrum = transform(image, workers=self.threads)
        spectrum *= h
        options = {"workers": self.threads, "overwrite_x": True}
        return scipy.fft.irfft2(spectrum, self.shape, **options) if real else scipy.fft.ifft2(spectrum, **options)


class Ducc(Filter):
    """DUCC, by the author of the transforms of SciPy, with results in arrays that it is given."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        dtype = np.float32 if self.kind == "blur" else np.complex64
        self.spectrum = np.empty(np.broadcast_shapes(self.h.shape, (self.shape[0], 1)), np.complex64)
        self.found = np.empty(self.shape, dtype)

    def filter(self, image: Array, h: Array) -> Array:
        import ducc0

        options: dict[str, Any] = {"axes": (0, 1), "nthreads": self.threads}
        if self.kind == "blur":
            ducc0.fft.r2c(image, out=self.spectrum, **options)
            self.spectrum *= h
            return ducc0.fft.c2r(
                self.spectrum, out=self.found, lastsize=self.shape[1], forward=False, inorm=2,
                allow_overwriting_input=True, **options,
            )  # fmt: skip
        ducc0.fft.c2c(image, out=self.spectrum, **options)
        self.spectrum *= h
        return ducc0.fft.c2c(self.spectrum, out=self.found, forward=False, inorm=2, **options)


class PyLops(NumpyRival):
    """Fᴴ diag(h) F as a product of PyLops' operators, with scipy.fft in it."""

    own_threads = True

    def __init__(self, problem: Problem) -> None:
        import pylops

        self.shape = problem.shape
        h = problem.h.expand(-1 if problem.kind == "blur" else problem.shape[0], -1).numpy()
        if problem.kind == "inpainting":
            self.N: Any = pylops.Diagonal(h.ravel(), dtype="float32")
            return
        real = problem.kind == "blur"
        F = pylops.signalprocessing.FFT2D(
            problem.shape, norm="ortho", real=real, engine="scipy", dtype="float32" if real else "complex64",
            workers=torch.get_num_threads(),
        )  # fmt: skip
        self.N = F.H @ pylops.Diagonal(h.ravel(), dtype="complex64") @ F

    def normal(self, image: Array) -> Array:
        return self.N.matvec(image.ravel()).reshape(self.shape)


class SigPy(NumpyRival):
    """The normal operator ``A.N`` of masks, Fourier transforms and maps, which are NumPy's: in one thread."""

    note = "1 thread"

    def __init__(self, problem: Problem) -> None:
        import sigpy
        import sigpy.mri

        mask, maps = problem.mask.numpy(), problem.maps.numpy()
        A = {
            "MRI": lambda: sigpy.linop.Multiply(problem.shape, mask) * sigpy.linop.FFT(problem.shape),
            "coils": lambda: sigpy.mri.linop.Sense(maps, weights=mask),
            "inpainting": lambda: sigpy.linop.Multiply(problem.shape, mask),
        }[problem.kind]()
        self.N = A.N

    def normal(self, image: Array) -> Array:
        return self.N(image)


def rivals(problem: Problem, task: str) -> dict[str, Rival]:
    kinds: dict[str, Callable[[Problem], Rival]] = {}
    if find_spec("scipy") and problem.kind != "inpainting":
        kinds["scipy.fft"] = SciPy
    if find_spec("ducc0") and problem.kind != "inpainting":
        kinds["ducc0"] = Ducc
    if find_spec("pylops") and problem.kind != "coils" and task != SOLVE:
        kinds["PyLops"] = PyLops
    if find_spec("sigpy") and problem.kind != "blur" and task != SOLVE:
        kinds["SigPy"] = SigPy
    return {name: make(problem) for name, make in kinds.items()}
