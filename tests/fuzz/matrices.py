"""The operators of imaging as dense matrices, each written from its formula: independent of what they check.

All matrices are of double precision, and act on flat samples. A kernel, a mask or a map for each sample gives a matrix
for each sample, (..., m, n).
"""

from __future__ import annotations

import math
from functools import reduce

import torch
from fastunroll.operators.wavelet_filters import SCALING_FILTERS
from torch import Tensor

DOUBLE = torch.float64
Size = tuple[int, ...]


def kron(*factors: Tensor) -> Tensor:
    """The Kronecker product: one matrix for each axis."""
    return reduce(torch.kron, factors)


def _selection(outputs: int, inputs: int, pairs: list[tuple[int, int]]) -> Tensor:
    """The matrix that takes output i from input j for each pair (i, j)."""
    E = torch.zeros(outputs, inputs, dtype=DOUBLE)
    for i, j in pairs:
        E[i, j] += 1
    return E


def _shift(n: int, length: int, a: int, boundary: str) -> Tensor:
    """What entry a of a kernel of this length meets along an axis: x[i − a + length//2] for each output i."""
    if boundary == "valid":
        count = n - length + 1
        return _selection(count, n, [(i, i + length - 1 - a) for i in range(count)])
    pairs = []
    for i in range(n):
        j = i - a + length // 2
        if boundary == "circular":
            j %= n
        elif boundary == "reflect":
            j = -1 - j if j < 0 else 2 * n - 1 - j if j >= n else j
        elif not 0 <= j < n:
            continue
        pairs.append((i, j))
    return _selection(n, n, pairs)


def blur(kernel: Tensor, boundary: str, size: Size) -> Tensor:
    """y[i] = Σ_a k[a] x[i − a + c] with c half its sides, beyond the border as ``boundary`` says."""
    dims = len(size)
    sides = zip(size, kernel.shape[-dims:], strict=True)
    shifts = [torch.stack([_shift(n, h, a, boundary) for a in range(h)]).to(kernel.dtype) for n, h in sides]
    letters = {2: "...ab,aij,bkl->...ikjl", 3: "...abd,aij,bkl,dmn->...ikmjln"}[dims]
    A = torch.einsum(letters, kernel, *shifts)
    return A.flatten(-2 * dims, -dims - 1).flatten(-dims)


def downsampling(size: Size, factor: int) -> Tensor:
    """Every factor-th pixel in each direction."""
    return kron(*(torch.eye(n, dtype=DOUBLE)[::factor] for n in size))


def fourier(size: Size, centered: bool) -> Tensor:
    """The orthonormal Fourier transform, with the origins in the middle or at the first entries."""

    def axis(n: int) -> Tensor:
        at = torch.arange(n, dtype=DOUBLE) - (n // 2 if centered else 0)
        return torch.polar(torch.tensor(n**-0.5, dtype=DOUBLE), -2 * math.pi / n * at[:, None] * at)

    return kron(*map(axis, size))


def of_pixels(weights: Tensor, size: Size) -> Tensor:
    """Weights that broadcast with pictures, as a vector (..., pixels)."""
    weights = weights.reshape((1,) * (len(size) - weights.dim()) + weights.shape)
    lead = weights.shape[: weights.dim() - len(size)]
    return weights.expand(*lead, *size).flatten(-len(size))


def masked(mask: Tensor, A: Tensor, size: Size) -> Tensor:
    """diag(m) A, with a mask of pictures of this size."""
    return of_pixels(mask, size)[..., None] * A


def coils(mask: Tensor, maps: Tensor, centered: bool, size: Size) -> Tensor:
    """m · F(S_c x), one coil after another."""
    S = maps.flatten(-len(size))[..., None, :]  # (..., C, 1, pixels)
    samples = of_pixels(mask, size)[..., None, :, None] * (fourier(size, centered) * S)
    return samples.flatten(-3, -2)


def wavelet(name: str, levels: int, size: Size) -> Tensor:
    """Mallat's layout: of each level the low half along each axis, then the high one, on what was low before.

    low[o] = Σ_j l_j x[2o + j + 1 − F/2], periodically, and high likewise with (−1)^j l_{F−1−j}.
    """

    def axis(n: int) -> Tensor:
        low = SCALING_FILTERS[name]
        high = [(-1) ** j * value for j, value in enumerate(reversed(low))]
        A = torch.zeros(n, n, dtype=DOUBLE)
        for half, taps in enumerate((low, high)):
            for o in range(n // 2):
                for j, value in enumerate(taps):
                    A[half * (n // 2) + o, (2 * o + j + 1 - len(taps) // 2) % n] += value
        return A

    A, corner = kron(*map(axis, size)), size
    for _ in range(levels - 1):
        corner = tuple(n // 2 for n in corner)
        inside = torch.zeros(size, dtype=torch.bool)
        inside[tuple(slice(n) for n in corner)] = True
        at = inside.flatten().nonzero()[:, 0]
        A[at] = kron(*map(axis, corner)) @ A[at]
    return A


def cosine(n: int) -> Tensor:
    """The orthonormal cosine transform of type II."""
    k = torch.arange(n, dtype=DOUBLE)
    C = (2 / n) ** 0.5 * torch.cos(math.pi * (2 * k + 1) * k[:, None] / (2 * n))
    C[0] /= 2**0.5
    return C


def cosines(size: Size) -> Tensor:
    return kron(*map(cosine, size))


def blocks(size: Size, side: int) -> Tensor:
    """The pixels of each square block, row by row, of one block after another."""
    H, W = size
    order = [
        (i * side + a) * W + j * side + b
        for i in range(H // side) for j in range(W // side) for a in range(side) for b in range(side)
    ]  # fmt: skip
    return torch.eye(H * W, dtype=DOUBLE)[order]


def block_cosines(size: Size, side: int) -> Tensor:
    count = size[0] * size[1] // side**2
    return kron(torch.eye(count, dtype=DOUBLE), cosine(side), cosine(side)) @ blocks(size, side)


def differences(size: Size) -> Tensor:
    """The next pixel minus this one along each axis, one axis after another; zero at the last ones."""

    def axis(n: int) -> Tensor:
        D = torch.diag(torch.ones(n - 1, dtype=DOUBLE), 1) - torch.eye(n, dtype=DOUBLE)
        D[-1] = 0
        return D

    eyes = [torch.eye(n, dtype=DOUBLE) for n in size]
    return torch.cat([kron(*eyes[:i], axis(n), *eyes[i + 1 :]) for i, n in enumerate(size)])


def convolution(filters: Tensor, stride: int, size: Size) -> Tensor:
    """y[s·i + a] = Σ_c d_c[a] x_c[i], for maps of this size."""
    dims = len(size)

    def axis(n: int, h: int) -> Tensor:
        ends = stride * (n - 1) + h
        return torch.stack([_selection(ends, n, [(stride * i + a, i) for i in range(n)]) for a in range(h)])

    placed = [axis(n, h) for n, h in zip(size, filters.shape[1:], strict=True)]
    letters = {2: "cab,aij,bkl->ikcjl", 3: "cabd,aij,bkl,dmn->ikmcjln"}[dims]
    A = torch.einsum(letters, filters, *placed)
    return A.flatten(0, dims - 1).flatten(1)


def stacked(*matrices: Tensor) -> Tensor:
    """One below the other."""
    lead = torch.broadcast_shapes(*(A.shape[:-2] for A in matrices))
    dtype = torch.complex128 if any(A.is_complex() for A in matrices) else DOUBLE
    return torch.cat([A.to(dtype).expand(*lead, *A.shape[-2:]) for A in matrices], -2)


def product(A: Tensor, x: Tensor, shape_in: Size, shape_out: Size, negligible: float = 0.0) -> Tensor:
    """A x for samples (..., *shape_in). A pixel that is not finite reaches the results that depend on it, no others.

    Entries of A whose size is at most ``negligible`` count as zeros there.
    """
    lead = x.shape[: x.dim() - len(shape_in)]
    flat = x.reshape(*lead, -1) if x.numel() else x.reshape(*lead, math.prod(shape_in))
    dtype = torch.promote_types(A.dtype, flat.dtype)
    A, flat = A.to(dtype), flat.to(dtype)
    if not bool(flat.detach().isfinite().all()):
        hidden = (A.detach().abs() <= negligible) & ~flat[..., None, :].isfinite()
        y = (A * torch.where(hidden, 0, flat[..., None, :])).sum(-1)
    elif A.dim() == 2:
        y = flat @ A.mT
    else:
        y = (A @ flat[..., None])[..., 0]
    return y.reshape(*lead, *shape_out)


def adjoint(A: Tensor, is_real: bool, y: Tensor, shape_in: Size, shape_out: Size) -> Tensor:
    """Aᴴ y, of which real pictures take the real part."""
    x = product(A.mH, y, shape_out, shape_in)
    return x.real if is_real and x.is_complex() else x


def gradient(A: Tensor, is_real: bool, x: Tensor, y: Tensor | None, shape_in: Size, shape_out: Size) -> Tensor:
    """Aᴴ(A x − y), or AᴴA x without y. A pixel that is not finite reaches those that AᴴA makes depend on it."""
    if bool(x.detach().isfinite().all()):
        residual = product(A, x, shape_in, shape_out)
        return adjoint(A, is_real, residual if y is None else residual - y, shape_in, shape_out)
    H = A.mH @ A
    H = H.real if is_real and H.is_complex() else H
    found = product(H, x, shape_in, shape_in, 1e-12 * float(H.detach().abs().max()))
    return found if y is None else found - adjoint(A, is_real, y, shape_in, shape_out)


def regularised_inverse(A: Tensor, is_real: bool, rho: Tensor, b: Tensor, shape: Size, *, of_rows: bool) -> Tensor:
    """(AᴴA + ρI)⁻¹ b, or with ``of_rows`` (A Aᴴ + ρI)⁻¹ b. With real x, complex y are pairs of real numbers."""
    pairs = is_real and A.is_complex()
    if pairs:
        A = torch.cat([A.real, A.imag], -2)
    lead = b.shape[: b.dim() - len(shape)]
    flat = b.reshape(*lead, math.prod(shape))
    if pairs and of_rows:
        flat = torch.cat([flat.real, flat.imag], -1)
    gram = A @ A.mH if of_rows else A.mH @ A
    gram = gram.to(torch.promote_types(gram.dtype, flat.dtype))
    system = gram + rho * torch.eye(gram.shape[-1], dtype=gram.dtype)
    x = torch.cholesky_solve(flat.to(system.dtype)[..., None], torch.linalg.cholesky(system))[..., 0]
    if pairs and of_rows:
        x = torch.complex(*x.chunk(2, -1))
    return x.reshape(*lead, *shape)
