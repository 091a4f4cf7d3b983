"""The native core: addresses in, results written in place. Called by :mod:`fastunroll.ops`, which owns the tensors."""

cuda_compiled: bool

def lista_panels_size(is_double: bool, m: int, n: int, w1_count: int, w2_count: int) -> int: ...
def lista_pack(is_double: bool, m: int, n: int, threads: int, w1: list[int], w2: list[int], panels: int) -> None: ...
def lista_forward(
    is_double: bool,
    shape: tuple[int, int, int, int],
    threads: int,
    panels: int,
    w1_count: int,
    w2_count: int,
    theta: list[int],
    theta_size: int,
    y: int,
    x0: int,
    keep_layers: bool,
    x: int,
) -> None: ...
def lista_backward(
    is_double: bool,
    shape: tuple[int, int, int, int],
    threads: int,
    w1: list[int],
    w2: list[int],
    theta_count: int,
    theta_size: int,
    y: int,
    x0: int,
    x: int,
    grad: int,
    every_layer: bool,
    grad_y: int,
    grad_x0: int,
    grad_w1: list[int],
    grad_w2: list[int],
    grad_theta: list[int],
) -> None: ...
def ista(
    is_double: bool,
    shape: tuple[int, int, int],
    threads: int,
    a: int,
    step: float,
    theta: int,
    theta_size: int,
    momentum: list[float],
    y: int,
    x0: int,
    keep_iterates: bool,
    x: int,
) -> None: ...
def product(
    is_double: bool,
    shape: tuple[int, int, int],
    threads: int,
    adjoint: bool,
    a: int,
    x: int,
    start: int,
    out: int,
) -> None: ...
def outer(is_double: bool, shape: tuple[int, int, int], threads: int, g: int, x: int, out: int) -> None: ...
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
def instruction_set() -> str: ...
def instruction_set_reason() -> str: ...
def compiled_instruction_sets() -> list[str]: ...
def use_instruction_set(name: str) -> None: ...
def fingerprint(addresses: list[int], bytes: int) -> int: ...
def dense_above() -> float: ...
def set_dense_above(density: float) -> None: ...
def openmp() -> bool: ...
def cuda_devices() -> tuple[int, str]: ...
