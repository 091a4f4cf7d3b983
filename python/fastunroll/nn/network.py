"""What all unrolled networks share: how they start, run, and say what they have learned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import _checks, ops
from ..table import Table
from ..unrolling import run

Threshold = Literal["scalar", "vector"]


def logarithms(values: Iterable[float], like: Tensor, size: int | None = None) -> nn.ParameterList:
    """Parameters that stay positive: the logarithm of a value for each layer, of shape (), or (size,)."""
    dtype = like.real.dtype if like.is_complex() else like.dtype
    shape = () if size is None else (size,)
    logs = (math.log(value) if value > 0 else -math.inf for value in values)
    return nn.ParameterList(nn.Parameter(torch.full(shape, log, dtype=dtype, device=like.device)) for log in logs)


def exponentials(logs: nn.ParameterList) -> list[Tensor]:
    return [p.exp() for p in logs]


def copies(matrix: Tensor, count: int) -> nn.ParameterList:
    """``count`` matrices that start as this one."""
    return nn.ParameterList(nn.Parameter(matrix.detach().clone().contiguous()) for _ in range(count))


def starting_matrix(A: Tensor, device: torch.device | str | None, dtype: torch.dtype | None) -> Tensor:
    """The matrix that a network is made for: finite and not zero, of the device and dtype asked for."""
    dtype = _checks.floating_dtype(dtype)
    A = _checks.nonzero_matrix("A", A).detach()
    A = A.to(device=device, dtype=dtype.to_complex() if dtype is not None and A.is_complex() else dtype)
    return A.contiguous()


def threshold_size(threshold: str, n: int) -> int | None:
    if threshold not in ("scalar", "vector"):
        raise ValueError(f'threshold must be "scalar" or "vector", got {threshold!r}')
    return n if threshold == "vector" else None


def _frozen(p: ops.Parameters, depth: int) -> int:
    """How many layers there are before the first that learns; one of ``depth`` is left in any case."""
    for k in range(depth - 1):
        if any(t.requires_grad for group in p.part(k, k + 1) for t in group):
            return k
    return depth - 1


class UnrolledNetwork(nn.Module):
    """K layers of an algorithm, whose parameters are learned. Each of its kinds says what a layer computes.

    Attributes:
        layers: K.
        m: measurements of a sample.
        n: unknowns of a sample.

    Raises:
        ValueError: K is no whole number ≥ 1.
    """

    layers: int
    m: int
    n: int

    def __init__(self, layers: int, m: int, n: int) -> None:
        super().__init__()
        self.layers, self.m, self.n = _checks.count("layers", layers), m, n

    def forward(
        self, y: Tensor, x0: Tensor | None = None, return_layers: bool = False, *, depth: int | None = None
    ) -> Tensor:
        """Reconstructs x from ``y``.

        Args:
            y: (..., m), with any leading shape.
            x0: where to start, (..., n); zero by default.
            return_layers: return the output of every layer.
            depth: run so many layers only, the first.

        Returns:
            (..., n), or (K, ..., n) with ``return_layers``.

        Raises:
            TypeError: ``y`` is not floating point, or has another dtype than the network.
            ValueError: ``y`` or ``x0`` does not fit, or is on another device; or ``depth`` is not from 1 to K.
        """
        y, x0 = self._checked(y, x0)
        depth = self.layers if depth is None else depth
        if _checks.count("depth", depth) > self.layers:
            raise ValueError(f"depth must be from 1 to layers = {self.layers}, got {depth!r}")
        return self._run(y, x0, depth, return_layers)

    def layers_summary(self) -> Table:
        """What each layer has learned: a table, a row a layer, which prints as text."""
        with torch.no_grad():
            return Table({"layer": k, **self._layer(k)} for k in range(self.layers))

    def _describe(self) -> tuple[ops.Form, ops.Parameters]:
        """The layers as the kernels take them; of networks that run in one call."""
        raise NotImplementedError

    def _measured(self, y: Tensor) -> Tensor:
        """What the layers see of y."""
        return y

    def _run(self, y: Tensor, x0: Tensor | None, depth: int, return_layers: bool) -> Tensor:
        form, p = self._describe()
        y = self._measured(y)
        if y.is_complex():  # .to(dtype) of a module turns real parameters complex, or leaves them behind
            small = ([(t.real if t.is_complex() else t).to(y.real.dtype) for t in group] for group in p[2:])
            p = ops.Parameters(p.first, p.second, *small)
        learns = ops.differentiable(*(t for group in p for t in group)) and not ops.differentiable(y, x0)
        frozen = _frozen(p, depth) if learns and not torch.compiler.is_compiling() else 0
        if not frozen:
            return run(form.part(0, depth), p.part(0, depth), y, x0, keep=return_layers)[0]
        # Layers that learn nothing, and that nothing before them learns from, need no gradient.
        with torch.no_grad():
            first, s = run(form.part(0, frozen), p.part(0, frozen), y, x0, keep=return_layers)
        start, state = first[-1] if return_layers else first, None if form.state == "none" else s
        x, _ = run(form.part(frozen, depth), p.part(frozen, depth), y, start, state, keep=return_layers)
        return torch.cat([first, x]) if return_layers else x

    def _layer(self, k: int) -> dict[str, float]:
        """The meaning of a layer's parameters: those that are numbers, and the mean of those that are vectors."""
        form, p = self._describe()

        def of(values: Sequence[Tensor]) -> float:
            value = values[min(k, len(values) - 1)]
            return float(
                value.reshape(-1)[k] if len(values) == 1 and 1 < value.numel() == form.layers else value.mean()
            )

        blend = {"momentum": "momentum", "splitting": "relaxation"}.get(form.state, "")
        named = {"step": p.step, "threshold": p.theta, "gain": p.gain, blend: p.blend}
        row = {name: of(values) for name, values in named.items() if values}
        return row | ({"passing": float(form.passing[k])} if form.passing else {})

    def _checked(self, y: Tensor, x0: Tensor | None) -> tuple[Tensor, Tensor | None]:
        shape = self.m, self.n
        _checks.columns("y", _checks.tensor("y", y), self.m, shape)
        if x0 is not None:
            _checks.columns("x0", _checks.tensor("x0", x0), self.n, shape)
            _checks.same_batch("x0", x0, "y", y)
        _, y, x0 = _checks.alike(**{"the network": self._matrix(), "y": y, "x0": x0})
        return y, x0

    def _matrix(self) -> Tensor:
        """One of its matrices, which says where and in which precision it works."""
        A: Any = self.A
        assert isinstance(A, Tensor)
        return A

    def extra_repr(self) -> str:
        return f"m={self.m}, n={self.n}, layers={self.layers}"
