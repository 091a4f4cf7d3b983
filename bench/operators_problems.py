"""The inverse problems of the benchmark of imaging operators, and what every contestant computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import fastunroll as fu
import torch
from torch import Tensor

COILS = 8
LAM, RHO = 0.02, 0.5
ITERATIONS = 16
GRADIENT, SOLVE, FISTA = "gradient", "solve", f"{ITERATIONS} iterations of FISTA"


class Images(NamedTuple):
    """A batch of images x, their measurements y, and z = Aᴴ y."""

    x: Any
    y: Any
    z: Any


@dataclass(frozen=True)
class Problem:
    """A operator of images (B, H, W), and what defines it.

    Attributes:
        A: the operator of fastunroll.
        kind: ``"blur"``, ``"MRI"``, ``"coils"`` or ``"inpainting"``.
        shape: (H, W).
        h: AᴴA is F⁻¹ diag(h) F, in the order of ``torch.fft``: (H, W), (1, W) for columns, (H, W//2 + 1) for blurs. For
            inpainting AᴴA is h itself.
        mask: the mask (H, W) of scans, with the frequency zero in the middle, and of inpainting.
        kernel: of blurs, (9, 9).
        maps: of coils, (C, H, W).
    """

    A: Any
    kind: str
    shape: tuple[int, int]
    h: Tensor
    mask: Tensor
    kernel: Tensor
    maps: Tensor


def problem(operator: str, shape: tuple[int, int], random: torch.Generator) -> Problem:
    kind = {"MRI, columns": "MRI", "MRI, 8 coils": "coils"}.get(operator, operator)
    columns = operator == "MRI, columns"
    mask = (torch.rand(1 if columns else shape[0], shape[1], generator=random) < 0.3).float()
    kernel = torch.rand(9, 9, generator=random)
    kernel /= kernel.sum()
    maps = torch.randn(COILS, *shape, dtype=torch.complex64, generator=random)
    maps /= torch.linalg.vector_norm(maps, dim=0)
    h = torch.fft.ifftshift(mask, (-1,) if columns else (-2, -1))
    make: dict[str, Callable[[], Any]] = {
        "blur": lambda: fu.operators.Blur(kernel, shape=shape),
        "MRI": lambda: fu.operators.Fourier(mask),
        "coils": lambda: fu.operators.MultiCoilFourier(mask, maps),
        "inpainting": lambda: fu.operators.Mask(mask),
    }
    if kind == "blur":
        padded = torch.zeros(shape)
        padded[:9, :9] = kernel
        h = torch.fft.rfft2(padded).abs().square()
    elif kind == "inpainting":
        h = mask
    return Problem(make[kind](), kind, shape, h, mask.expand(shape).contiguous(), kernel, maps)


@torch.no_grad()
def images(problem: Problem, batch: int, random: torch.Generator) -> Images:
    dtype = torch.complex64 if problem.kind in ("MRI", "coils") else torch.float32
    x = torch.randn(batch, *problem.shape, dtype=dtype, generator=random)
    y = problem.A(torch.randn(batch, *problem.shape, dtype=dtype, generator=random))
    return Images(x, y, problem.A.adjoint(y))


class Rival:
    """A way to compute with an operator. A subclass has :meth:`gradient`.

    Attributes:
        by_image: whether it takes image after image, which then pass all iterations of FISTA one after the other.
        own_threads: as :class:`harness.Contestant` has it.
        note: a note for readers.
    """

    by_image = False
    own_threads = False
    note = ""

    def load(self, images: Images) -> Images:
        """Returns images in the layout of the rival. This is not timed."""
        return images

    def read(self, found: Any) -> Any:
        """Returns a result as a tensor (B, H, W). This is not timed."""
        return found

    def gradient(self, v: Any, of: Images) -> Any:
        """Aᴴ(A v − y)."""
        raise NotImplementedError

    def solve(self, of: Images) -> Any:
        """(AᴴA + ρI)⁻¹(Aᴴy + ρ x), the linear step of ADMM."""
        raise NotImplementedError

    def soft_threshold(self, u: Any) -> Any:
        """sgn(u)·max(|u| − λ, 0)."""
        if u.is_complex():
            return torch.sgn(u) * torch.relu(u.abs() - LAM)
        return torch.sign(u) * torch.relu(u.abs() - LAM)

    def fista(self, of: Images) -> Any:
        """FISTA with the step 1 and the ℓ₁ norm, as a loop around :meth:`gradient`."""
        x = v = 0 * of.z
        t = 1.0
        for _ in range(ITERATIONS):
            before, x = x, self.soft_threshold(v - self.gradient(v, of))
            t, last = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
            v = x + (last - 1) / t * (x - before)
        return x

    def run(self, task: str, of: Images) -> Any:
        if task == GRADIENT:
            return self.gradient(of.x, of)
        if task == SOLVE:
            return self.solve(of)
        if not self.by_image:
            return self.fista(of)
        return [self.fista(Images(*(part[i : i + 1] for part in of))) for i in range(len(of.x))]


class Fastunroll(Rival):
    def __init__(self, problem: Problem) -> None:
        self.A = problem.A

    def gradient(self, v: Tensor, of: Images) -> Tensor:
        return self.A.collapsed_gradient(v, of.z)

    def solve(self, of: Images) -> Tensor:
        return self.A.data_step(of.x, of.z, RHO)

    def fista(self, of: Images) -> Tensor:
        return fu.solvers.fista(self.A, of.y, LAM, iterations=ITERATIONS, step=1.0)
