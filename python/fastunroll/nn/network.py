"""The base class of all unrolled networks, and functions that make their parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import _checks, ops
from .._precision import own_precision
from ..arrays import answered, as_tensor, is_array
from ..computed_weights import ComputesLists
from ..engine.layers import LinearStep, Pieces, layers_of
from ..engine.run import Compiled, compiled, run_learning
from ..prox import Proximal
from ..schemes import ProximalGradient, Scheme
from ..table import Table
from .old_scalars import accept_old_scalars

Threshold = Literal["scalar", "vector"]
Weights = Literal["full", "bf16"]


def logarithms(values: Iterable[float], like: Tensor, size: int = 1) -> nn.ParameterList:
    """Returns a parameter of shape (size,) with the logarithm of each value, so that the values stay positive."""
    dtype = like.real.dtype if like.is_complex() else like.dtype
    logs = (math.log(value) if value > 0 else -math.inf for value in values)
    return nn.ParameterList(nn.Parameter(torch.full((size,), log, dtype=dtype, device=like.device)) for log in logs)


def entries(parameters: nn.ParameterList) -> list[Tensor]:
    """Returns ``[*parameters]``. It is fast if all are parameters, which ``[*parameters]`` seeks one by one."""
    held: Any = parameters._parameters
    return [*held.values()] if [*held] == [*map(str, range(parameters._size))] else [*parameters]


def exponentials(logs: nn.ParameterList) -> list[Tensor]:
    return [p.exp() for p in entries(logs)]


def copies(matrix: Tensor, count: int) -> nn.ParameterList:
    """Returns a list of ``count`` parameters, each a copy of the matrix."""
    return nn.ParameterList(nn.Parameter(matrix.detach().clone().contiguous()) for _ in range(count))


def starting_matrix(A: Tensor, device: torch.device | str | None, dtype: torch.dtype | None) -> Tensor:
    """Returns the matrix of a network on a device and in a dtype, after a check that it is finite and not zero."""
    dtype = _checks.floating_dtype(dtype)
    A = _checks.nonzero_matrix("A", as_tensor(A, "A")).detach()
    A = A.to(device=_checks.device(device), dtype=dtype.to_complex() if dtype is not None and A.is_complex() else dtype)
    return A.resolve_conj().resolve_neg().contiguous()


def threshold_size(threshold: str, n: int) -> int:
    _checks.choice("threshold", threshold, ("scalar", "vector"))
    return n if threshold == "vector" else 1


@cache
def _entry_names(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def tensors_of(module: nn.Module, names: Iterable[str]) -> list[Tensor] | None:
    """Returns the parameters, buffers and entries of lists with these names. It is fast, because every call needs it.

    It returns None if a name stands for something else, such as a parametrization or a pruned weight, which has to be
    computed.
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


def checked_depth(depth: int | None, layers: int) -> int:
    """Returns the number of layers to run, all of them by default, after a check that the network has as many."""
    depth = layers if depth is None else _checks.count("depth", depth)
    if depth > layers:
        raise ValueError(f"depth must be from 1 to layers = {layers}, got {depth}")
    return depth


def of_layer(values: Sequence[Tensor], k: int, layers: int) -> float:
    """Returns the number of layer k, or the mean of its vector. One entry may hold the numbers of all layers."""
    value = values[min(k, len(values) - 1)].detach()
    return float(value.reshape(-1)[k] if len(values) == 1 and 1 < value.numel() == layers else value.mean())


class HasWeights(ComputesLists):
    """A network with the option ``weights``. ``tensors`` has the names of what kernels read of it."""

    tensors: tuple[str, ...] = ()
    _weights: Weights = "full"

    @property
    def weights(self) -> Weights:
        return self._weights

    @weights.setter
    def weights(self, weights: Weights) -> None:
        _checks.choice("weights", weights, ("full", "bf16"))
        if weights == "bf16" and not self.tensors:
            raise ValueError(
                f'weights must be "full" for {type(self).__name__}, which does not run in one native call, got "bf16"'
            )
        self._weights = weights


class UnrolledNetwork(HasWeights):
    """The base class of networks with K layers of an algorithm. Each subclass defines the computation of a layer.

    Attributes:
        layers: the number K of layers.
        m: the number of measurements of a sample.
        n: the number of unknowns of a sample.
        weights: ``"full"``, or ``"bf16"`` for speed. With ``"bf16"``, a float32 network rounds its matrices to bfloat16
            (8 significant bits, half the memory) in calls without gradients. Sums stay float32. Only networks whose
            layers run in one native call support it.
        tensors: the names of the parameters, buffers and lists of a network that runs in one native call, else empty.

    Calls without gradients reuse the packed weights of earlier calls, which take as much memory as the weights. They
    notice in-place operations, optimisers, ``load_state_dict`` and ``.to()``. They also notice edits through ``.data``
    or NumPy that change all values of a matrix, a quarter of its adjacent rows or columns, or every second, third or
    fourth row or column. Make smaller edits under ``torch.no_grad()`` without ``.data``.

    Raises:
        ValueError: K is not an integer ≥ 1.
    """

    layers: int
    m: int
    n: int
    prox: Proximal
    log_theta: nn.ParameterList

    def __init__(self, layers: int, m: int, n: int) -> None:
        super().__init__()
        self.layers, self.m, self.n = _checks.count("layers", layers), m, n
        self._cache = ops.NetworkCache()
        accept_old_scalars(self)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name != "training" and "_cache" in self.__dict__:  # the assignment may have replaced a parameter
            self.__dict__["_cache"] = ops.NetworkCache()

    def forward(
        self, y: Tensor, x0: Tensor | None = None, return_layers: bool = False, *, depth: int | None = None
    ) -> Tensor:
        """Reconstructs x from ``y``.

        Args:
            y: the measurements (..., m), with any batch shape. An array of another library gives a result of its kind.
            x0: the start (..., n). The default is zero.
            return_layers: whether to return the outputs of all layers.
            depth: the number of layers to run. The default is K.

        Returns:
            The reconstruction (..., n), or the outputs of all layers (K, ..., n) with ``return_layers``.

        Raises:
            TypeError: ``y`` is not floating point, or has another dtype than the network.
            ValueError: ``y`` or ``x0`` does not fit, or is on another device; ``depth`` is not from 1 to K; or weights
                are ``"bf16"`` and not those of a float32 network.
        """
        if self._weights == "bf16" and self._matrix().dtype != torch.float32:
            raise ValueError(
                f'weights="bf16" needs a float32 network, but its weights are {self._matrix().dtype}: use .float() or '
                'set weights to "full"'
            )
        if depth is None and isinstance(return_layers, bool) and not ops.is_tracing():
            out = self._at_once(y, x0, return_layers)
            if out is not None:
                return out
        if is_array(y) or is_array(x0):
            return answered(self.forward, y=y, x0=x0, return_layers=return_layers, depth=depth)
        _checks.unsharded(self)
        y, x0 = self._checked(y, x0)
        _checks.flag("return_layers", return_layers)
        return self._run(y, x0, checked_depth(depth, self.layers), return_layers)

    def _at_once(self, y: Tensor, x0: Tensor | None, return_layers: bool) -> Tensor | None:
        """Runs all layers in one native call, or returns None if arguments need a check or no kernel supports them."""
        tensors = tensors_of(self, self.tensors) if self.tensors else None
        if not tensors:
            return None
        return self._cache.run(tensors, self._describe, y, x0, return_layers, self._weights == "bf16")

    def layers_summary(self) -> Table:
        """The parameters of the layers k = 1, …, K: a table with a row for each layer, which prints as text."""
        with torch.no_grad():
            return Table({"layer": k + 1, **self._layer(k)} for k in range(self.layers))

    def pieces(self) -> Pieces:
        """Returns the scheme, the linear step, the proximal operator and the numbers of the layers.

        They are arguments of :func:`fastunroll.unrolled`, which computes the same from them, to the bit.

        Raises:
            NotImplementedError: the layers depend on statistics of each sample, as those of GLISTA, HyperLISTA and
                LVAMP do, so that no scheme of :mod:`fastunroll.schemes` describes them.

        Equivalent to::

            net(y)
            fu.unrolled(y, **net.pieces(), layers=net.layers)
        """
        raise NotImplementedError(f"no scheme of fu.schemes describes the layers of {type(self).__name__}")

    def _pieces(
        self, linear: LinearStep, scheme: Scheme | None = None, theta: list[Tensor] | None = None,
        gain: list[Tensor] | None = None,
    ) -> Pieces:  # fmt: skip
        """Returns pieces. By default they are those of proximal gradient steps with the thresholds of ``log_theta``."""
        scheme = ProximalGradient() if scheme is None else scheme
        theta = exponentials(self.log_theta) if theta is None else theta
        return {"scheme": scheme, "linear": linear, "prox": self.prox, "theta": theta, "gain": gain}

    def _describe(self) -> tuple[Any, Any, Tensor | None]:
        """Returns the structure and the parameters for the kernels, and M if the layers take Mᴴy in the place of y."""
        return compiled(layers_of(self.pieces(), self.layers))

    def _run(self, y: Tensor, x0: Tensor | None, depth: int, return_layers: bool) -> Tensor:
        with own_precision(y):  # autocast would have a parametrization make matrices of half precision
            spec, p, multiplier = self._describe()
        if _checks.autocasts(y):  # which accepts parameters of several dtypes
            matrices, numbers = (
                [[t.to(dtype) for t in group] for group in groups]
                for groups, dtype in ((p[:2], y.dtype), (p[2:], y.dtype.to_real()))
            )
            p = type(p)(*matrices, *numbers)
        self._require_one_type(p, y)
        if y.is_complex():  # .to(dtype) of a module makes real parameters complex, or does not convert them
            small = ([(t.real if t.is_complex() else t).to(y.real.dtype) for t in group] for group in p[2:])
            p = ops.Parameters(p.W1, p.W2, *small)
        net = Compiled(spec.part(0, depth), p.part(0, depth), multiplier)
        return run_learning(net, y, x0, keep=return_layers, rounds=self._weights == "bf16")[0]

    def _require_one_type(self, p: Any, y: Tensor) -> None:
        """Refuses parameters that have not the dtype and device of ``y``; real ones of a complex network may differ."""
        for group in p[:2] if y.is_complex() else p:
            for t in group:
                if t.dtype != y.dtype or t.device != y.device:
                    self._refuse(t, y)

    def _refuse(self, wrong: Tensor, y: Tensor) -> None:
        kept = chain(self.named_parameters(), self.named_buffers())
        name = next((n for n, t in kept if t.dtype == wrong.dtype and t.device == wrong.device), "a parameter")
        _checks.same_device(name, wrong, y)
        raise TypeError(
            f"all tensors must have one dtype, but y is {y.dtype} and {name} is {wrong.dtype}: use net.to({y.dtype})"
        )

    def _layer(self, k: int) -> dict[str, float]:
        """Returns the parameters of a layer by name: numbers as they are, and vectors by their mean."""
        spec, p, _ = self._describe()

        beta = {"fista": "momentum", "admm": "relaxation"}.get(spec.scheme, "")
        named = {"step": p.step, "threshold": p.theta, "gain": p.gain, beta: p.beta}
        row = {name: of_layer(values, k, spec.layers) for name, values in named.items() if values}
        return row | ({"support_size": float(spec.support_sizes[k])} if spec.support_sizes else {})

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
        """Returns a matrix of the network, whose device and dtype are those of the network."""
        A: Any = self.A
        assert isinstance(A, Tensor)
        return A

    def extra_repr(self) -> str:
        rounded = ", weights='bf16'" if self._weights == "bf16" else ""
        return f"m={self.m}, n={self.n}, layers={self.layers}{rounded}"
