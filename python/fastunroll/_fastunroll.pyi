"""The native core: addresses in, results written in place. Called by :mod:`fastunroll.ops`, which owns the tensors."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .ops.adaptive_spec import AdaptiveSpec
from .ops.spec import NetworkSpec

cuda_compiled: bool
bench: Any  # for benchmarks alone
cuda: Any  # the kernels of devices, where compiled

class Monitor:
    def __init__(self, tensors: list[Tensor], shapes: list[tuple[int, int]]) -> None: ...
    def is_same(self, tensors: list[Tensor]) -> bool: ...
    def is_current(self, tensors: list[Tensor]) -> bool: ...

Arrays = tuple[list[int], int]  # the arrays of a parameter, and the number of values of each

class Network:
    def __init__(
        self, is_double: bool, spec: NetworkSpec, *, m: int, n: int, W1: Arrays, W2: Arrays, step: Arrays,
        theta: Arrays, gain: Arrays, beta: Arrays,
    ) -> None: ...  # fmt: skip
    def is_at(self, tensors: list[Tensor]) -> bool: ...
    def wrong_gain(self) -> tuple[int, float]: ...
    def forward(
        self, batch: int, threads: int, packed: PackedWeights | None, y: int, x0: int, s0: int, x: int, last: int,
        s: int, saved: int, selected: int,
    ) -> bool: ...  # fmt: skip
    def backward(  # arrays: y, x0, s0, x, saved
        self, batch: int, threads: int, arrays: tuple[int, int, int, int, int], grad: int, every_layer: bool,
        grad_s: int, selected: int, of_inputs: tuple[int, ...], of_parameters: tuple[Arrays, ...],
    ) -> None: ...  # fmt: skip

class PackedWeights:
    def __init__(self, network: Network, threads: int, bfloat16: bool) -> None: ...

class PackedMatrix:
    def __init__(
        self, is_double: bool, shape: tuple[int, int], threads: int, adjoint: bool, a: int, bfloat16: bool
    ) -> None: ...

class AdaptiveNetwork:
    def __init__(  # matrices: shape, address, and a PackedMatrix of products and of adjoint products, or None
        self, is_double: bool, spec: AdaptiveSpec, *, m: int, n: int, saved_size: int, values: int, value_count: int,
        matrices: list[tuple[Any, ...]],
    ) -> None: ...  # fmt: skip
    def forward(self, batch: int, threads: int, y: int, x0: int, x: int, last: int, saved: int) -> None: ...
    def backward(
        self, batch: int, threads: int, y: int, x0: int, *, x: int, saved: int, grad: int, every_layer: bool,
        grad_y: int, grad_x0: int, grad_values: int, grad_W: list[int],
    ) -> None: ...  # fmt: skip

class Columns:
    def __init__(
        self, is_double: bool, shape: tuple[int, int], ridge: float, at: Sequence[int], strides: Sequence[int],
        wide: bool,
    ) -> None: ...  # fmt: skip
    def solve(
        self,
        batch: int,
        threads: int,
        nonnegative: bool,
        tol: float,
        max_steps: int,
        max_columns: int,
        given: Sequence[int],
        out: Sequence[int],
    ) -> int: ...

class Dictionary:
    def __init__(self, is_double: bool, shape: tuple[int, int], threads: int, ridge: float, a: int) -> None: ...
    def is_current(self) -> bool: ...
    def solve(
        self,
        batch: int,
        threads: int,
        nonnegative: bool,
        tol: float,
        max_steps: int,
        given: Sequence[int],
        out: Sequence[int],
    ) -> int: ...

def empty(is_double: bool, is_complex: bool, shapes: Sequence[Sequence[int]]) -> list[Any]: ...  # DLPack capsules
def product(
    is_double: bool,
    shape: tuple[int, int, int],
    threads: int,
    adjoint: bool,
    a: int,
    packed: PackedMatrix | None,
    x: int,
    start: int,
    out: int,
) -> None: ...
def outer(is_double: bool, shape: tuple[int, int, int], threads: int, g: int, x: int, out: int) -> None: ...
def proximal_gradient(
    is_double: bool,
    shape: tuple[int, ...],
    threads: int,
    iterations: int,
    every: int,
    restarts: bool,
    monotone: bool,
    nonnegative: bool,
    step: float,
    tol: float,
    a: int,
    y: int,
    lam: int,
    state: tuple[int, int, int, int, int, int],
) -> None: ...

class OperatorPasses:
    def iterate(self, slope: Any, beta: float, threads: int) -> Tensor | None: ...
    def residual_at(self, product: Any, beta: float, threads: int) -> Tensor | None: ...
    @property
    def residual(self) -> Tensor: ...

def operator_passes(
    x: Tensor, y: Tensor, residual: Tensor, theta: Tensor, layout: tuple[int, int, int], step: float, nonnegative: bool
) -> OperatorPasses | None: ...
def is_watched() -> bool: ...
def weigh(  # looks at its tensors itself
    weighting: int, weights: Any, x: Any, z: Any, threads: int, records: bool
) -> Tensor | None: ...

class KeptWeights:
    def __init__(self, weights: Tensor) -> None: ...
    def weigh(
        self, monitor: Monitor, tensor: Tensor, weighting: int, x: Any, z: Any, rho: float, threads: int,
        records: bool,
    ) -> Tensor | bool | None: ...  # fmt: skip

def soft_threshold(
    is_double: bool, shape: tuple[int, int, int], threads: int, complex: bool, x: int, theta: int, out: int
) -> None: ...
def soft_threshold_backward(
    is_double: bool,
    shape: tuple[int, int, int],
    threads: int,
    complex: bool,
    out: int,
    theta: int,
    grad: int,
    grad_x: int,
    grad_theta: int,
) -> None: ...

class PackedSpectrum:
    def __init__(  # shape: count, rows, columns
        self, is_double: bool, shape: tuple[int, int, int], real_images: bool, complex: bool, of_rows: bool,
        threads: int, d: int,
    ) -> None: ...  # fmt: skip
    def apply(  # maps: coils, number of sets of maps, images in a row with the same set. tensors: x, z, maps, y
        self, batch: int, threads: int, adjoint: bool, repeat: int, maps: tuple[int, int, int],
        tensors: tuple[int, int, int, int],
    ) -> bool: ...  # fmt: skip
    def filter(  # looks at its tensors itself; False where the monitor finds that `tensor` has changed
        self, monitor: Monitor, tensor: Tensor, shape: tuple[int, int], x: Any, z: Any, maps: Any, adjoint: bool,
        repeat: int, threads: int, records: bool, added: Any, scale: float,
    ) -> Tensor | bool | None: ...  # fmt: skip

def sample_forward(  # shape: batch, m, n, layers, values of theta. tensors: A, step, theta, beta, x0
    is_double: bool,
    shape: tuple[int, ...],
    threads: int,
    prox: int,
    tensors: tuple[int, int, int, int, int],
    kept: int,
    results: tuple[int, int, int],  # y, x, residuals
) -> None: ...
def sample_backward(  # saved: x, residuals, the gradient of x. gradients: of A, y, x0, step, theta, beta
    is_double: bool,
    shape: tuple[int, ...],
    threads: int,
    prox: int,
    tensors: tuple[int, int, int, int, int],
    saved: tuple[int, int, int],
    gradients: tuple[int, ...],
) -> None: ...

# Layers over pictures by the fields of the native structs: numbers, and addresses of tensors. False if the spectrum was
# packed for another instruction set.
def picture_forward(is_double: bool, spectrum: PackedSpectrum | None, /, **fields: float) -> bool: ...
def picture_backward(is_double: bool, spectrum: PackedSpectrum | None, /, **fields: float) -> bool: ...
def wavelet_transform(  # shape: batch, rows, columns. tensors: x, y
    is_double: bool,
    shape: tuple[int, int, int],
    is_real: bool,
    low_pass: Sequence[float],
    levels: int,
    adjoint: bool,
    threads: int,
    tensors: tuple[int, int],
) -> None: ...
def instruction_set() -> str: ...
def instruction_set_reason() -> str: ...
def compiled_instruction_sets() -> list[str]: ...
def use_instruction_set(name: str) -> None: ...
def dense_above() -> float: ...
def set_dense_above(density: float) -> None: ...
def openmp() -> bool: ...
def cuda_devices() -> tuple[int, str]: ...
