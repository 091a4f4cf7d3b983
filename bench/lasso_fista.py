"""FISTA with adaptive restart in JAX and in PyTorch. It stops when the gap of each sample is small enough."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from lasso_problems import Array, Problem
from lasso_solver import Solver
from torch import Tensor

MISSING = None if find_spec("jax") else "JAX left out: not installed; pip install '.[bench]'"
EVERY = 20  # iterations between two computations of the gap, which costs as much as an iteration
MOST = 5000  # iterations
# Samples and numbers of iterates a call, at most: few samples wait for the slowest, and iterates stay in the cache.
CHUNK = 500, 400_000
SINGLE = 1e-5  # smallest tolerance for float32: with float32 some samples never reach 1e-6


def _precision(tol: float) -> type:
    return np.float32 if tol >= SINGLE else np.float64


def _chunk(problem: Problem) -> int:
    samples, numbers = CHUNK
    return min(samples, numbers // problem.A.shape[1] // 50 * 50)


def _step(problem: Problem) -> float:
    return float(1 / np.linalg.norm(problem.A, 2) ** 2)


def _read(found: Any, problem: Problem) -> Array:
    return np.asarray(found, dtype=np.float64)


def jax(problem: Problem, tol: float) -> Solver:
    """Iterates until the last sample of a chunk has converged, because shapes must not change in JAX."""
    import jax
    import jax.numpy as jnp

    dtype, step = _precision(tol), _step(problem)

    def gap(A: Any, columns: Any, y: Any, lam: Any, x: Any) -> Any:
        residual = y - x @ columns
        square, size = (residual**2).sum(1), (y**2).sum(1)
        most = lam / jnp.abs(residual @ A).max(1)
        scale = jnp.clip((residual * y).sum(1) / square, -most, most)
        # P − D without the difference of large numbers
        return (
            square * (1 - scale) ** 2 / 2 + lam * jnp.abs(x).sum(1) - scale * (residual * (y - residual)).sum(1)
        ) / (size / 2)

    def iterate(_: int, state: Any, A: Any, columns: Any, y: Any, lam: Any) -> Any:
        x, z, t = state
        stepped = z + step * ((y - z @ columns) @ A)
        new = jnp.sign(stepped) * jnp.maximum(jnp.abs(stepped) - step * lam[:, None], 0)
        t = jnp.where(((z - new) * (new - x)).sum(1) > 0, jnp.ones_like(t), t)
        following = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
        return new, new + ((t - 1) / following)[:, None] * (new - x), following

    def solve(A: Any, columns: Any, y: Any, lam: Any) -> Any:
        def more(state: Any) -> Any:
            *_, count, worst = state
            return (worst > tol) & (count < MOST)

        def round_(state: Any) -> Any:
            x, z, t, count, _ = state
            x, z, t = jax.lax.fori_loop(0, EVERY, lambda i, s: iterate(i, s, A, columns, y, lam), (x, z, t))
            return x, z, t, count + EVERY, gap(A, columns, y, lam, x).max()

        x = jnp.zeros((len(y), A.shape[1]), y.dtype)
        return jax.lax.while_loop(more, round_, (x, x, jnp.ones(len(y), y.dtype), 0, jnp.array(jnp.inf, y.dtype)))[0]

    program = jax.jit(solve)
    double = jax.enable_x64 if callable(getattr(jax, "enable_x64", None)) else jax.experimental.enable_x64
    with double(True):
        A, columns = jnp.asarray(problem.A, dtype), jnp.asarray(problem.A.T, dtype)

    def load(part: Problem) -> Any:
        with double(True):
            return jnp.asarray(part.Y, dtype), jnp.asarray(part.lam, dtype)

    def run(data: Any) -> Any:
        with double(True):
            return program(A, columns, *data).block_until_ready()

    return Solver(load, run, _read, chunk=_chunk(problem), note=dtype.__name__)


def _gap(A: Tensor, y: Tensor, lam: Tensor, x: Tensor) -> Tensor:
    residual = y - x @ A.mT
    square, size = residual.square().sum(1), y.square().sum(1)
    most = lam / (residual @ A).abs().amax(1)
    scale = ((residual * y).sum(1) / square).clamp(-most, most)
    inner = (residual * (y - residual)).sum(1)
    return (square * (1 - scale) ** 2 / 2 + lam * x.abs().sum(1) - scale * inner) / (size / 2)


@torch.no_grad()
def _solve(A: Tensor, step: float, tol: float, y: Tensor, lam: Tensor) -> Tensor:
    out = y.new_zeros(len(y), A.shape[1])
    left = torch.arange(len(y))
    x = z = out
    t = y.new_ones(len(y))
    for count in range(1, MOST + 1):
        stepped = z + step * ((y - z @ A.mT) @ A)
        new = torch.sign(stepped) * torch.relu(stepped.abs() - step * lam[:, None])
        t = torch.where(((z - new) * (new - x)).sum(1) > 0, 1.0, t)
        following = (1 + torch.sqrt(1 + 4 * t**2)) / 2
        x, z, t = new, new + ((t - 1) / following)[:, None] * (new - x), following
        if count % EVERY == 0:
            more = _gap(A, y, lam, x) > tol
            out[left[~more]] = x[~more]
            if not more.any():
                return out
            left, x, z, t, y, lam = (v[more] for v in (left, x, z, t, y, lam))
    out[left] = x
    return out


def eager(problem: Problem, tol: float) -> Solver:
    """Runs FISTA in PyTorch. Converged samples leave the batch."""
    dtype, step = _precision(tol), _step(problem)

    def tensor(values: Array) -> Tensor:
        return torch.from_numpy(values.astype(dtype))

    A = tensor(problem.A)
    return Solver(
        lambda part: (tensor(part.Y), tensor(part.lam)),
        lambda data: _solve(A, step, tol, *data),
        _read,
        chunk=_chunk(problem),
        note=dtype.__name__,
    )


def solvers(problem: Problem, tol: float) -> dict[str, Solver]:
    found = {} if MISSING else {"JAX FISTA": jax(problem, tol)}
    return {**found, "PyTorch FISTA": eager(problem, tol)}
