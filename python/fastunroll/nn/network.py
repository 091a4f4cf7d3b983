"""What all unrolled networks share: how they start, run, and say what they have learned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import _checks, ops
from .._precision import own_precision
from ..engine.native import run
from ..table import Table
from .old_scalars import accept_old_scalars

Threshold = Literal["scalar", "vector"]
Weights = Literal["full", "bf16"]


def logarithms(values: Iterable[float], like: Tensor, size: int = 1) -> nn.ParameterList:
    """Parameters that stay positive: the logarithm of a value for each layer, of shape (size,)."""
    dtype = like.real.dtype if like.is_complex() else like.dtype
    logs = (math.log(value) if value > 0 else -math.inf for value in values)
    return nn.ParameterList(nn.Parameter(torch.full((size,), log, dtype=dtype, device=like.device)) for log in logs)


def exponentials(logs: nn.ParameterList) -> list[Tensor]:
    return [p.exp() for p in logs]


def copies(matrix: Tensor, count: int) -> nn.ParameterList:
    """``count`` matrices that start as this one."""
    return nn.ParameterList(nn.Parameter(matrix.detach().clone().contiguous()) for _ in range(count))


def starting_matrix(A: Tensor, device: torch.device | str | None, dtype: torch.dtype | None) -> Tensor:
    """The matrix that a network is made for: finite and not zero, of the device and dtype asked for."""
    dtype = _checks.floating_dtype(dtype)
    A = _checks.nonzero_matrix("A", A).detach()
    A = A.to(device=_checks.device(device), dtype=dtype.to_complex() if dtype is not None and A.is_complex() else dtype)
    return A.resolve_conj().resolve_neg().contiguous()


def threshold_size(threshold: str, n: int) -> int:
    _checks.choice("threshold", threshold, ("scalar", "vector"))
    return n if threshold == "vector" else 1


@cache
def _entry_names(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def tensors_of(module: nn.Module, names: Iterable[str]) -> list[Tensor] | None:
    """The parameters, buffers and entries of lists with these names; quickly, since it is asked in every call.

    None where something stands in the place of one, such as a parametrization or a pruned weight, and has to be asked.
    """
    found: list[Any] = []
    for name in names:
        held: Any = module._modules.get(name)
        if held is None:
            held = module._parameters.get(name)
            held = module._buffers.get(name) if held is None else held
            if held is None:
                return None
            found.append(held)
        elif type(held) is nn.ParameterList:
            entries = held._parameters
            if tuple(entries) != _entry_names(held._size):  # its length, without a call
                return None
            found += entries.values()
        else:
            inner = tensors_of(held, getattr(held, "tensors", ()))
            if not inner:
                return None
            found += inner
    return found


def rounded(p: ops.Parameters) -> ops.Parameters:
    """With matrices rounded to bfloat16."""
    first, second = ([w.bfloat16().to(w.dtype) for w in group] for group in (p.W1, p.W2))
    return p._replace(W1=first, W2=second)


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
        weights: ``"full"`` or, for speed, ``"bf16"``: a float32 network then computes, where no gradient is recorded,
            with matrices rounded to bfloat16, 8 bits each, in half the memory. Sums stay float32. For networks whose
            layers run in one native call.
        tensors: the names of the parameters, buffers and lists that such a network is made of; none for others.

    Without gradients the packed form of the weights is kept from call to call, as large as they are. In-place
    operations, optimisers, ``load_state_dict`` and ``.to()`` are noticed. So are edits through ``.data`` or NumPy that
    change all values of a matrix, a quarter of its rows or columns side by side, or every second, third or fourth of
    them; make smaller edits under ``torch.no_grad()``, without ``.data``.

    Raises:
        ValueError: K is no whole number ≥ 1.
    """

    layers: int
    m: int
    n: int
    tensors: tuple[str, ...] = ()

    def __init__(self, layers: int, m: int, n: int) -> None:
        super().__init__()
        self.layers, self.m, self.n = _checks.count("layers", layers), m, n
        self._weights: Weights = "full"
        self._prepared = self._prepare()
        accept_old_scalars(self)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name != "training" and "_prepared" in self.__dict__:  # the layers may be others now
            self.__dict__["_prepared"] = self._prepare()

    def _prepare(self) -> Any:
        """What is kept between calls, empty."""
        return ops.NetworkCache()

    @property
    def weights(self) -> Weights:
        return self._weights

    @weights.setter
    def weights(self, weights: Weights) -> None:
        _checks.choice("weights", weights, ("full", "bf16"))
        if weights == "bf16" and not self.tensors:
            raise ValueError(f'weights="bf16" is for layers in one native call, which {type(self).__name__} has not')
        self._weights = weights

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
            ValueError: ``y`` or ``x0`` does not fit, or is on another device; ``depth`` is not from 1 to K; or weights
                are ``"bf16"`` and not those of a float32 network.
        """
        if self._weights == "bf16" and self._matrix().dtype != torch.float32:
            raise ValueError(
                f'weights="bf16" rounds those of a float32 network, but they are {self._matrix().dtype}: use .float() '
                'or set weights to "full"'
            )
        if depth is None and isinstance(return_layers, bool) and not ops.is_tracing():
            out = self._at_once(y, x0, return_layers)
            if out is not None:
                return out
        _checks.unsharded(self)
        y, x0 = self._checked(y, x0)
        _checks.flag("return_layers", return_layers)
        depth = self.layers if depth is None else depth
        if _checks.count("depth", depth) > self.layers:
            raise ValueError(f"depth must be from 1 to layers = {self.layers}, got {_checks.shown(depth)}")
        return self._run(y, x0, depth, return_layers)

    def _at_once(self, y: Tensor, x0: Tensor | None, return_layers: bool) -> Tensor | None:
        """All layers in one native call; None where arguments need a check, or no kernel takes them as they are."""
        tensors = tensors_of(self, self.tensors) if self.tensors else None
        if not tensors:
            return None
        measure = None if type(self)._measured is UnrolledNetwork._measured else self._measured
        return self._prepared.run(
            tensors, self._describe, measure, y, self.m, x0, return_layers, self._weights == "bf16"
        )

    def layers_summary(self) -> Table:
        """What each layer has learned: a table, a row a layer, which prints as text."""
        with torch.no_grad():
            return Table({"layer": k, **self._layer(k)} for k in range(self.layers))

    def _describe(self) -> tuple[ops.NetworkSpec, ops.Parameters]:
        """The layers as the kernels take them; of networks that run in one call."""
        raise NotImplementedError

    def _measured(self, y: Tensor) -> Tensor:
        """What the layers see of y."""
        return y

    def _run(self, y: Tensor, x0: Tensor | None, depth: int, return_layers: bool) -> Tensor:
        with own_precision(y):  # autocast would have a parametrization make matrices of half precision
            form, p = self._describe()
        y = self._measured(y)
        if y.is_complex():  # .to(dtype) of a module turns real parameters complex, or leaves them behind
            small = ([(t.real if t.is_complex() else t).to(y.real.dtype) for t in group] for group in p[2:])
            p = ops.Parameters(p.W1, p.W2, *small)
        if self._weights == "bf16" and not ops.differentiable(y, x0, *(t for group in p for t in group)):
            p = rounded(p)
        learns = ops.differentiable(*(t for group in p for t in group)) and not ops.differentiable(y, x0)
        frozen = _frozen(p, depth) if learns and not torch.compiler.is_compiling() else 0
        if not frozen:
            return run(form.part(0, depth), p.part(0, depth), y, x0, keep=return_layers)[0]
        # Layers that learn nothing, and that nothing before them learns from, need no gradient.
        with torch.no_grad():
            first, s = run(form.part(0, frozen), p.part(0, frozen), y, x0, keep=return_layers)
        start, state = first[-1] if return_layers else first, None if form.scheme == "proximal_gradient" else s
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

        beta = {"fista": "momentum", "admm": "relaxation"}.get(form.scheme, "")
        named = {"step": p.step, "threshold": p.theta, "gain": p.gain, beta: p.beta}
        row = {name: of(values) for name, values in named.items() if values}
        return row | ({"support_size": float(form.support_sizes[k])} if form.support_sizes else {})

    def _checked(self, y: Tensor, x0: Tensor | None) -> tuple[Tensor, Tensor | None]:
        shape = self.m, self.n
        _checks.columns("y", _checks.tensor("y", y), self.m, shape)
        if x0 is not None:
            _checks.columns("x0", _checks.tensor("x0", x0), self.n, shape)
            _checks.same_batch("x0", x0, "y", y)
        with own_precision(y):
            matrix = self._matrix()
        _, y, x0 = _checks.require_same_dtype_and_device(**{"the network": matrix, "y": y, "x0": x0})
        return y, x0

    def _matrix(self) -> Tensor:
        """One of its matrices, which says where and in which precision it works."""
        A: Any = self.A
        assert isinstance(A, Tensor)
        return A

    def extra_repr(self) -> str:
        rounded = ", weights='bf16'" if self._weights == "bf16" else ""
        return f"m={self.m}, n={self.n}, layers={self.layers}{rounded}"
