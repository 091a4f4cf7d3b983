"""A network from a reader's own pieces: a scheme, a linear operator and a proximal operator."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks, ops
from ..arrays import answered, is_array
from ..engine import pictures
from ..engine.equilibrium import run_to_equilibrium
from ..engine.layers import Layers, Pieces, describe, require_batches
from ..engine.layers_cache import LayersCache, MadeOf
from ..engine.run import Compiled, compiled, is_batch_of_samples, run
from ..operators import Dense, LinearOperator, as_operator
from ..prox import L1, ElasticNet, Identity, NonNegativeL1, Proximal
from ..prox.proximal import require_proximal
from ..schemes import Scheme
from ..table import Table
from .network import HasWeights, checked_depth, tensors_of

_COMPILED = Identity, L1, NonNegativeL1, ElasticNet  # classes that have a kernel whatever their numbers
_POSITIVE = frozenset({"step", "theta", "rho", "tau", "sigma"})


class Unrolled(HasWeights):
    """K iterations of a classical algorithm for min ½‖A x − y‖² + λ·R(x) as the K layers of a network.

    The network starts as the algorithm: with the step 1/‖A‖², the threshold λ/‖A‖² and the momenta of the scheme. Each
    layer learns its own step, threshold and momentum. Parameters of the operator and of the proximal operator are
    learned too.

    Args:
        scheme: of :mod:`fastunroll.schemes`, such as ``fu.schemes.FISTA()``.
        operator: A, a matrix (m, n), or a linear operator with ``A(x)`` and ``A.adjoint(y)``.
        prox: of :mod:`fastunroll.prox`, such as ``fu.prox.L1()``, or your own :class:`fastunroll.prox.Proximal`.
        layers: K ≥ 1, or None for a deep equilibrium network: one layer, run to its fixed point.
        lam: the weight λ ≥ 0 of R at the start. A threshold of zero does not learn.
        step: the step at the start. The default is 1/‖A‖², from ``A.norm()``. ``HQS`` and ``ADMM`` have ρ, which starts
            as 1/step, and ``PrimalDual`` τ and σ, which start as √step.
        learn: the names of the numbers that are learned, such as ``("step", "theta")``. The default is all, and ``()``
            learns none. Numbers that are not learned are parameters that require no gradient.
        tol: the distance ‖f(x) − x‖/‖f(x)‖ at which an equilibrium network stops, for each sample.
        max_iter: the number of layers at which it stops in any case.
        device: the device of the numbers. The default is the device of the operator.
        dtype: the dtype of the numbers. The default is the real dtype of the operator, or the default of PyTorch.

    Attributes:
        scheme, operator, prox: the pieces.
        log_step, log_theta, beta, …: a list for each number of the scheme, K parameters of shape (1,). Numbers that
            stay positive are kept as logarithms. A proximal operator may have several thresholds θ.
        weights: ``"full"``, or ``"bf16"`` for speed. With ``"bf16"``, calls without gradients round the matrices of the
            layers to bfloat16 (8 significant bits, half the memory). Sums stay float32. Only networks whose layers run
            in one native call over a float32 matrix support it.

    All layers run in one native call if A is a matrix and the scheme and the proximal operator are compiled, and with a
    matrix for every sample, with ``ProximalGradient`` or ``FISTA`` and ``L1`` or ``NonNegativeL1``. They do for
    pictures too: on the CPU, with ``ProximalGradient``, ``FISTA``, ``HQS``, ``ADMM`` or ``PrimalDual``, a
    ``Blur``, ``Downsample``, ``Fourier``, ``MultiCoilFourier`` or ``Mask`` that does not learn, and
    ``TotalVariation``, ``WaveletL1``, ``FilterBank``, ``L1``, ``NonNegativeL1``, ``Box`` or ``Identity``. One picture
    then passes all layers before the next one. For gradients, a call keeps the layers of as many pictures as fit into
    32 MB. The backward pass computes those of the other pictures again, so that memory does not grow with
    batch × layers. All other layers run one by one in PyTorch. :meth:`explain` says which way a call goes, and why.
    Calls without gradients reuse what earlier calls have made of the numbers and the matrices of layers, until these
    change: :class:`fastunroll.nn.UnrolledNetwork` says which edits they notice.

    A deep equilibrium network (``layers=None``) has the numbers of one layer. Anderson acceleration finds the fixed
    point of the layer, and the implicit function theorem gives its gradient, by a second fixed point. Memory does not
    grow with the number of iterations. Gradients can be taken once. A fixed point exists if the layer contracts.
    Samples that do not reach ``tol`` cause a :class:`fastunroll.solvers.ConvergenceWarning`.

    Raises:
        TypeError: a piece is of another kind, or ``dtype`` is not real floating point.
        ValueError: K < 1, λ < 0, ``step`` ≤ 0, ``learn`` has an unknown name, or A is zero or not finite.

    Example::

        net = fu.nn.Unrolled(fu.schemes.FISTA(), A, fu.prox.L1(), layers=10)
        x = net(y)
        net.layers_summary()  # what each layer has learned

    Equivalent to: :meth:`fastunroll.schemes.Scheme.step` for each layer.

    References: Monga, Li and Eldar, *Algorithm unrolling: interpretable, efficient deep learning for signal and image
    processing*, 2021; Bai, Kolter and Koltun, *Deep equilibrium models*, 2019; Gilton, Ongie and Willett, *Deep
    equilibrium architectures for inverse problems in imaging*, 2021.
    """

    _is_as_written = True  # whether values() and pieces() are those of this class

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._is_as_written = cls.values is Unrolled.values and cls.pieces is Unrolled.pieces

    def __init__(
        self,
        scheme: Scheme,
        operator: Any,
        prox: Proximal,
        layers: int | None,
        *,
        lam: float = 0.1,
        step: float | None = None,
        learn: Sequence[str] | None = None,
        tol: float = 1e-4,
        max_iter: int = 100,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._structure: object = None  # of the network that the cache was made for
        self._cache: ops.NetworkCache | None = None
        self._kept_layers = LayersCache()
        if not isinstance(scheme, Scheme):
            raise TypeError(f"scheme must be one of fu.schemes, such as fu.schemes.FISTA(), got {_checks.kind(scheme)}")
        require_proximal(prox)
        self.is_equilibrium = layers is None
        self.layers, self.scheme, self.prox = 1 if layers is None else _checks.count("layers", layers), scheme, prox
        self.tol, self.max_iter = _checks.positive("tol", tol), _checks.count("max_iter", max_iter)
        self.operator = _own(operator)
        if self.operator.shape_in is not None:
            prox.require_sample(self.operator.shape_in)
        lam = _checks.not_negative("lam", lam)
        start = _step(self.operator) if step is None else _checks.positive("step", step)
        values: dict[str, list[Any]] = {**scheme.starting_values(self.layers, lam, start)}
        if not prox.has_threshold:
            values.pop("theta", None)
        if "theta" in values:
            values["theta"] = [prox.at_layer(k).initial_threshold(t) for k, t in enumerate(values["theta"])]
        learned = values.keys() if learn is None else _names(learn, values)
        tensors = (*self.operator.parameters(), *self.operator.buffers())
        like = next((t for t in tensors if t.is_floating_point() or t.is_complex()), torch.empty(0))
        dtype, place = _checks.floating_dtype(dtype) or like.dtype.to_real(), _checks.device(device) or like.device
        for name, numbers in values.items():
            starts = [torch.as_tensor(v, dtype=torch.float64, device="cpu").reshape(-1) for v in numbers]
            entries = [(v.log() if name in _POSITIVE else v).to(place, dtype) for v in starts]
            setattr(self, _stored(name), nn.ParameterList(nn.Parameter(v, name in learned) for v in entries))
        self.numbers = tuple(values)
        self.tensors = ("operator", *map(_stored, values))

    def forward(
        self,
        y: Tensor,
        x0: Tensor | None = None,
        return_layers: bool = False,
        *,
        operator: Any = None,
        keep_every: int | None = None,
        depth: int | None = None,
        checkpoint: None = None,
    ) -> Tensor:
        """Reconstructs x from ``y``.

        Args:
            y: (..., m); for an operator a batch (B, ...), or (..., *A.shape_out) where A states the shape of a sample.
                An array of another library gives a result of its kind.
            x0: where to start; zero by default.
            return_layers: return the output of every layer.
            operator: another A for this call, such as the mask of this scan.
            keep_every: the number of layers between two outputs that are kept for gradients (gradient checkpointing).
                The backward pass computes the other layers again.
            depth: the number of layers to run. The default is K.
            checkpoint: the former name of ``keep_every``, which is refused.

        Returns:
            x, or (K, ...) with ``return_layers``.

        Raises:
            TypeError: ``y`` is not floating point, or dtypes differ.
            ValueError: ``y`` or ``x0`` does not fit, or is on another device; ``depth`` is not from 1 to K; or weights
                are ``"bf16"`` and the layers do not run in one native call over a float32 matrix.
        """
        usual = (
            operator is None
            and keep_every is None
            and depth is None
            and checkpoint is None
            and isinstance(return_layers, bool)
            and isinstance(y, Tensor)
        )
        if usual and not ops.is_tracing():
            x = self._at_once(y, x0, return_layers)
            if x is not None:
                return x
        if is_array(y) or is_array(x0):
            options = {"operator": operator, "keep_every": keep_every, "depth": depth}
            return answered(self.forward, y=y, x0=x0, return_layers=return_layers, **options)
        keep = _checks.flag("return_layers", return_layers)
        segment = _checks.segment(keep_every, checkpoint, keep)
        if self.is_equilibrium and (segment or keep):
            raise ValueError("an equilibrium network keeps no layers: leave out return_layers and keep_every")
        net, y, x0, _ = require_batches(self._described(y, operator, depth), y, x0, None)
        rounds = self._weights == "bf16"
        if rounds:
            self._require_rounding(net)
        if self.is_equilibrium:
            return run_to_equilibrium(net, y, x0, self.max_iter, self.tol)
        return run(net, y, x0, None, keep=keep, segment=segment, wants_state=False, rounds=rounds)[0]

    def _require_rounding(self, net: Layers) -> None:
        """Refuses ``weights="bf16"`` for layers without a kernel that rounds their matrices."""
        reason = "one layer runs until its fixed point is found" if self.is_equilibrium else net.unsupported_reason()
        if reason is None and (net.is_of_pictures or net.has_matrix_of_each_sample):
            reason = "the samples do not share a matrix"
        if reason is None and (dtype := net.first[0].dtype) != torch.float32:
            reason = f"its matrix is {dtype}"
        if reason is not None:
            raise ValueError(
                'weights="bf16" needs a float32 matrix, and a scheme and a proximal operator that are compiled, but '
                f'{reason}: set weights to "full"'
            )

    def _at_once(self, y: Tensor, x0: Tensor | None, return_layers: bool) -> Tensor | None:
        """All layers by what an earlier call has made of them; None where arguments have to be checked or described."""
        A: Any = self._modules["operator"]
        prox: Any = self._modules["prox"]
        rounds = self._weights == "bf16"
        if self.is_equilibrium or not self._is_as_written:
            return None
        if type(A) is Dense:
            tensors = tensors_of(self, self.tensors)
            numbers = None if tensors is None or tensors[0].dim() == 2 else tensors[1:]
        else:
            tensors = numbers = tensors_of(self, self.tensors[1:])
        if not tensors:
            return None
        if numbers is not None:
            if rounds:
                return None
            made_of = MadeOf(A, self.scheme, prox, self.layers)
            describe = partial(self._fitting, y, made_of, numbers)
            return self._kept_layers.run(made_of, numbers, describe, y, x0, return_layers)
        kernel: Any = type(prox) if type(prox) in _COMPILED else prox.kernel
        if kernel is None or type(prox).gain is not Proximal.gain or (rounds and tensors[0].dtype != torch.float32):
            return None
        structure = A, type(self.scheme), kernel, self.layers
        if self._structure != structure:
            is_compiled = self._described(y, None).unsupported_reason() is None
            self.__dict__.update(_structure=structure, _cache=ops.NetworkCache() if is_compiled else None)
        if self._cache is None:
            return None
        return self._cache.run(tensors, partial(self._compiled, y), y, x0, return_layers, rounds)

    def _fitting(self, y: Tensor, made_of: MadeOf, numbers: list[Tensor]) -> Layers | None:
        """The layers for y; None if another thread has put other pieces or numbers in the place of these."""
        net, now = self._layers_for(y), tensors_of(self, self.tensors[1:])
        is_same = self.operator is made_of.A and self.scheme is made_of.scheme and self.prox is made_of.prox
        return net if is_same and now and all(a is b for a, b in zip(now, numbers, strict=True)) else None

    def _layers_for(self, y: Tensor) -> Layers:
        return require_batches(self._described(y, None), y, None, None)[0]

    def _compiled(self, y: Tensor) -> Compiled:
        return compiled(self._layers_for(y))

    def explain(self, y: Tensor, *, operator: Any = None) -> str:
        """One sentence: whether all layers of this network are one native call for a batch like ``y``, or why not.

        operator: in the place of A, as in a call.
        """
        net = self._described(y, operator)
        if self.is_equilibrium:
            return "One layer runs in PyTorch until its fixed point is found."
        reason = net.unsupported_reason()
        if reason is None and net.has_matrix_of_each_sample and not is_batch_of_samples(y):
            reason = "with a matrix for every sample only real batches (B, m) on the CPU have kernels"
        if reason is None and net.is_of_pictures:
            reason = pictures.refused_reason(net, y)
        if reason is None and not ops.is_supported(y, complex_too=True):
            reason = f"there are no kernels for {y.dtype} on {y.device.type} devices"
        if reason is None:
            return f"All {self.layers} layers run in one native call."
        return f"The {self.layers} layers run one by one in PyTorch, because {reason}."

    def layers_summary(self) -> Table:
        """What the layers k = 1, …, K have learned: a table with a row for each layer, which prints as text.

        Several thresholds of a layer have a column each, theta[0], theta[1], ….
        """
        with torch.no_grad():
            values = self.values()
        return Table(
            {"layer": k + 1, **{key: v for name, entries in values.items() for key, v in _cells(name, entries[k])}}
            for k in range(self.layers)
        )

    def values(self) -> dict[str, list[Tensor]]:
        """The numbers of all layers by name."""
        stored = {name: [*getattr(self, _stored(name))] for name in self.numbers}
        return {name: [t.exp() for t in of] if name in _POSITIVE else of for name, of in stored.items()}

    def pieces(self, operator: Any = None, depth: int | None = None) -> Pieces:
        """The scheme, the linear step, the proximal operator and the numbers of all layers.

        ``fu.unrolled(y, **net.pieces(), layers=net.layers)`` is ``net(y)``.

        Args:
            operator: another A, such as the mask of this scan.
            depth: the number of layers. The default is K.
        """
        values = {name: of_layers[:depth] for name, of_layers in self.values().items()}
        linear, scheme = self.scheme.with_numbers(self.operator if operator is None else as_operator(operator), values)
        return {"scheme": scheme, "linear": linear, "prox": self.prox, "theta": values.get("theta"), "gain": None}

    def _described(self, y: Tensor, operator: Any, depth: int | None = None) -> Layers:
        _checks.tensor("y", y)
        depth = checked_depth(depth, self.layers)
        return describe(y, self.pieces(operator, depth), depth)

    def extra_repr(self) -> str:
        layers = None if self.is_equilibrium else self.layers
        rounded = ", weights='bf16'" if self._weights == "bf16" else ""
        return f"scheme={type(self.scheme).__name__}, layers={layers}{rounded}"


def _step(A: LinearOperator) -> float:
    """1/‖A‖²."""
    try:
        norm = float(A.norm())
    except ValueError as error:
        raise ValueError(f"step must be given where the norm of A cannot be found: {error}") from error
    if not 0 < norm < math.inf:
        raise ValueError(f"A must have a norm that is finite and not zero for a step size, got {norm!r}: give step")
    return norm**-2


def _own(operator: Any) -> LinearOperator:
    """The operator; of a matrix one with a copy, so that the network changes no tensor of the user."""
    is_matrix = isinstance(operator, Tensor) and operator.layout == torch.strided
    learns = isinstance(operator, nn.Parameter)
    if (is_matrix and (learns or not operator.requires_grad)) or (not callable(operator) and is_array(operator)):
        return Dense(operator, learn=learns)
    return as_operator(operator)


def _stored(name: str) -> str:
    return f"log_{name}" if name in _POSITIVE else name


def _cells(name: str, numbers: Tensor) -> list[tuple[str, float]]:
    """The numbers of a layer by the names of their columns."""
    if numbers.numel() == 1:
        return [(name, numbers.item())]
    return [(f"{name}[{i}]", number) for i, number in enumerate(numbers.flatten().tolist())]


def _names(learn: Sequence[str], values: dict[str, list[Any]]) -> set[str]:
    given = tuple(learn) if isinstance(learn, Iterable) and not isinstance(learn, str) else (learn,)
    for name in given:
        _checks.choice("learn", name, values)
    return set(given)
