"""Operators of imaging in libraries of PyTorch: DeepInverse and MRpro."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from operators_problems import LAM, RHO, SOLVE, Images, Problem, Rival
from torch import Tensor

PACKAGES = {"deepinv": "DeepInverse", "mrpro": "MRpro"}
MISSING = [
    f"{name} left out: not installed; pip install '.[interop]'" for p, name in PACKAGES.items() if not find_spec(p)
]


class DeepInverse(Rival):
    """Aᴴ(A v − y) as its data fidelity computes it. Complex images are two real channels (B, 2, H, W)."""

    def __init__(self, problem: Problem) -> None:
        from deepinv import physics

        self.is_complex = problem.kind in ("MRI", "coils")
        size = (1, *problem.shape)
        self.physics: Any = {
            "blur": lambda: physics.BlurFFT(img_size=size, filter=problem.kernel[None, None]),
            "MRI": lambda: physics.MRI(mask=problem.mask),
            "coils": lambda: physics.MultiCoilMRI(mask=problem.mask, coil_maps=problem.maps[None]),
            "inpainting": lambda: physics.Inpainting(img_size=size, mask=problem.mask[None]),
        }[problem.kind]()

    def load(self, images: Images) -> Images:
        if not self.is_complex:
            return Images(*(part.unsqueeze(1) for part in images))
        return Images(*(torch.stack([part.real, part.imag], 1) for part in images))

    def read(self, found: Tensor) -> Tensor:
        return torch.complex(found[:, 0], found[:, 1]) if self.is_complex else found[:, 0]

    def gradient(self, v: Tensor, of: Images) -> Tensor:
        return self.physics.A_adjoint(self.physics.A(v) - of.y)

    def solve(self, of: Images) -> Tensor:
        return self.physics.prox_l2(of.x, of.y, 1 / RHO)

    def soft_threshold(self, u: Tensor) -> Tensor:
        if not self.is_complex:
            return super().soft_threshold(u)
        modulus = torch.linalg.vector_norm(u, dim=1, keepdim=True)
        return u * (torch.relu(modulus - LAM) / modulus.clamp(min=LAM))


class DeepInverseNormal(DeepInverse):
    """The same by its ``A_adjoint_A``, given Aᴴ y."""

    def gradient(self, v: Tensor, of: Images) -> Tensor:
        return self.physics.A_adjoint_A(v) - of.z


class MRpro(Rival):
    """The ``gram`` of its operators, of images (B, coils, z, H, W)."""

    def __init__(self, problem: Problem) -> None:
        from mrpro import operators

        fourier, mask = operators.FastFourierOp(dim=(-2, -1)), operators.CartesianMaskingOp(problem.mask)
        gram = fourier.H @ mask @ fourier  # as that of its FourierOp
        if problem.kind == "coils":
            maps = operators.SensitivityOp(problem.maps.unsqueeze(1))
            gram = maps.H @ gram @ maps
        self.gram: Any = gram

    def load(self, images: Images) -> Images:
        x, y, z = images
        return Images(x[:, None, None], y, z[:, None, None])

    def read(self, found: Tensor) -> Tensor:
        return found[:, 0, 0]

    def gradient(self, v: Tensor, of: Images) -> Tensor:
        return self.gram(v)[0] - of.z


def rivals(problem: Problem, task: str) -> dict[str, Rival]:
    found: dict[str, Rival] = {}
    if find_spec("deepinv"):
        found["DeepInverse"] = DeepInverse(problem)
        if task != SOLVE:
            found["DeepInverse, A_adjoint_A"] = DeepInverseNormal(problem)
    if find_spec("mrpro") and problem.kind in ("MRI", "coils") and task != SOLVE:
        found["MRpro"] = MRpro(problem)
    return found
