"""Networks whose layers follow statistics of each sample: all layers in one native call, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import _fastunroll, reference_adaptive
from .cache import Kept
from .memory import empty
from .products import packed_matrix
from .register import (
    address,
    addresses,
    below_autograd,
    contiguous,
    differentiable,
    differentiate,
    has_tangents,
    have_same_dtype_and_device,
    is_batched,
    is_double,
    is_jit_tracing,
    is_plain,
    is_supported_on_cpu,
    is_tracing,
    operator,
    require,
)

KINDS = ("glista", "hyperlista", "lamp", "lvamp")

# Which products a pass makes with each matrix, the last of them standing for every W: x Mᵀ (False) and x M (True).
_FORWARD: tuple[tuple[tuple[bool, ...], ...], ...] = (
    ((False,), (True,)), ((False,), (True,), (False,)), ((False,), (True,)), ((False,), (False, True), ()),
)  # fmt: skip
_BACKWARD: tuple[tuple[tuple[bool, ...], ...], ...] = (
    ((True,), (False,)), ((True,), (False,), (True,)), ((True,), (False,)), ((True,), (False, True), ()),
)  # fmt: skip


@dataclass(frozen=True)
class AdaptiveSpec:
    """What the layers of a network compute, but for matrices and values; :mod:`fastunroll.reference_adaptive` says it.

    option: which gain G of GLISTA, or for LAMP and LVAMP 0 for soft and 1 for Bernoulli–Gaussian shrinkage.
    support_sizes: for each layer of GLISTA, how many of the largest stay unshrunk; empty for none.
    """

    kind: str
    layers: int
    option: int = 0
    support_sizes: tuple[int, ...] = ()

    def encode(self) -> list[int]:
        return [KINDS.index(self.kind), self.layers, self.option, *self.support_sizes]

    @staticmethod
    def decode(numbers: Sequence[int]) -> AdaptiveSpec:
        kind, layers, option, *support_sizes = numbers
        return AdaptiveSpec(KINDS[kind], layers, option, tuple(support_sizes))

    @property
    def learns(self) -> bool:
        """Whether W is learned, one matrix for all layers or one for each; it comes after the first matrix."""
        return self.kind in ("glista", "lamp")


def _sizes(f: AdaptiveSpec, matrices: Sequence[Tensor]) -> tuple[int, int]:
    """m and n."""
    if f.kind == "lvamp":
        return matrices[0].shape[1], matrices[1].shape[1]
    return matrices[0].shape[0], matrices[0].shape[1]


def _trace_size(f: AdaptiveSpec, matrices: Sequence[Tensor]) -> int:
    m, n = _sizes(f, matrices)
    if f.kind == "lvamp":
        return n + matrices[0].shape[0] + 4
    return {"glista": 2 * n + m, "hyperlista": 2 * n + 1, "lamp": m + n + 2}[f.kind]


def _fits(f: AdaptiveSpec, y: Tensor, matrices: Sequence[Tensor], values: Tensor, x0: Tensor | None) -> bool:
    count = len(matrices)
    if count < 2 or any(t.dim() != 2 for t in (y, values, *matrices)):
        return False
    m, n = _sizes(f, matrices)
    shapes = [tuple(t.shape) for t in matrices]
    sizes: tuple[int, ...] = (2,)
    if f.learns:
        right = shapes == [(m, n)] * count and count in (2, 1 + f.layers)
        sizes = (4, n + 3) if f.kind == "glista" else sizes
    elif f.kind == "hyperlista":
        right, sizes = shapes == [(m, n), (m, n), (n, m)], (3,)
    else:
        rank = shapes[0][0]
        right, sizes = shapes == [(rank, m), (rank, n), (1, rank)], (3,)
    return (
        right and y.shape[1] == m and values.shape[0] == f.layers and values.shape[1] in sizes
        and (x0 is None or x0.shape == (y.shape[0], n)) and len(f.support_sizes) in (0, f.layers)
        and all(0 <= p <= n for p in f.support_sizes) and have_same_dtype_and_device(y, values, x0, *matrices)
    )  # fmt: skip


Matrix = tuple[tuple[int, ...], int, Any, Any]


def _arrays(f: AdaptiveSpec, matrices: Sequence[Tensor], forward: bool, every: bool, bfloat16: bool) -> list[Matrix]:
    """The matrices as a native pass reads them: in a packed form, which is kept, but for W unless ``every`` is."""
    read = (_FORWARD if forward else _BACKWARD)[KINDS.index(f.kind)]
    arrays = []
    for i, t in enumerate(matrices):
        products = read[min(i, len(read) - 1)] if every or not (f.learns and i) else ()
        packed, adjoint = (packed_matrix(t, a, bfloat16) if a in products else None for a in (False, True))
        arrays.append((tuple(t.shape), t.data_ptr(), packed, adjoint))
    return arrays


def _call(
    f: AdaptiveSpec, y: Tensor, matrices: Sequence[Tensor], arrays: list[Matrix], values: Tensor, x0: Tensor | None
) -> tuple[bool, tuple[int, ...], tuple[int, ...], int, list[Matrix], tuple[int, int, int]]:
    """What both native passes are told."""
    batch, count = y.numel() // y.shape[-1], values.shape[1]
    numbers = KINDS.index(f.kind), f.option, f.layers, *_sizes(f, matrices), batch, count, _trace_size(f, matrices)
    inputs = values.data_ptr(), y.data_ptr(), address(x0)
    return is_double(y), numbers, f.support_sizes, torch.get_num_threads(), arrays, inputs


def _shapes(
    f: AdaptiveSpec, y: Tensor, matrices: Sequence[Tensor], keep: bool, record: bool
) -> tuple[tuple[int, ...], ...]:
    batch, n = y.shape[0], _sizes(f, matrices)[1]
    return (
        (f.layers if keep or record else 0, batch, n),
        (0 if keep else batch, n),
        (f.layers, batch, _trace_size(f, matrices) if record else 0),
    )


def _adaptive_fake(
    y: Tensor, matrices: list[Tensor], values: Tensor, x0: Tensor | None, form: list[int], keep: bool, record: bool,
    reuse: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    return tuple(y.new_empty(shape) for shape in _shapes(AdaptiveSpec.decode(form), y, matrices, keep, record))


@operator(
    "adaptive(Tensor y, Tensor[] matrices, Tensor values, Tensor? x0, int[] form, bool keep, bool record, bool reuse)"
    " -> (Tensor, Tensor, Tensor)",
    _adaptive_fake,
)
def _adaptive(
    y: Tensor, matrices: list[Tensor], values: Tensor, x0: Tensor | None, form: list[int], keep: bool, record: bool,
    reuse: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Every layer, the last, and what the gradient needs of each; those that nobody asked for have no values.

    keep: return every layer, and not the last. record: return every layer and the trace. reuse: packed forms of W are
    kept for later calls.
    """
    f = AdaptiveSpec.decode(form)
    require(y.device.type == "cpu" and _fits(f, y, matrices, values, x0), "adaptive")
    y, values, matrices = y.contiguous(), values.contiguous(), contiguous(matrices)
    x0 = None if x0 is None else x0.contiguous()
    x, last, trace = empty(_shapes(f, y, matrices, keep, record), y.dtype)
    out = tuple(t.data_ptr() if t.numel() else 0 for t in (x, last, trace))
    arrays = _arrays(f, matrices, True, reuse, False)
    _fastunroll.adaptive_forward(*_call(f, y, matrices, arrays, values, x0), out)
    return x, last, trace


def _backward_shapes(
    f: AdaptiveSpec, y: Tensor, matrices: Sequence[Tensor], values: Tensor, needs: Sequence[bool]
) -> list[Sequence[int]]:
    shapes: tuple[Sequence[int], ...] = (y.shape, (y.shape[0], _sizes(f, matrices)[1]), values.shape)
    out = [shape for need, shape in zip(needs[:3], shapes, strict=True) if need]
    return out + ([t.shape for t in matrices[1:]] if needs[3] else [])


def _backward_fake(
    grad: Tensor, y: Tensor, matrices: list[Tensor], values: Tensor, x0: Tensor | None, x: Tensor, trace: Tensor,
    form: list[int], needs: list[bool],
) -> list[Tensor]:  # fmt: skip
    shapes = _backward_shapes(AdaptiveSpec.decode(form), y, matrices, values, needs)
    return [y.new_empty(shape) for shape in shapes]


@operator(
    "adaptive_backward(Tensor grad, Tensor y, Tensor[] matrices, Tensor values, Tensor? x0, Tensor x, Tensor trace,"
    " int[] form, bool[] needs) -> Tensor[]",
    _backward_fake,
)
def _adaptive_backward(
    grad: Tensor, y: Tensor, matrices: list[Tensor], values: Tensor, x0: Tensor | None, x: Tensor, trace: Tensor,
    form: list[int], needs: list[bool],
) -> list[Tensor]:  # fmt: skip
    """The gradients that ``needs`` asks for, of y, x0, values and every W, in that order."""
    f = AdaptiveSpec.decode(form)
    batch = y.shape[0]
    require(
        y.device.type == "cpu" and _fits(f, y, matrices, values, x0) and len(needs) == 4
        and x.shape == (f.layers, batch, _sizes(f, matrices)[1]) and grad.shape in (x.shape, x.shape[1:])
        and trace.shape == (f.layers, batch, _trace_size(f, matrices)) and have_same_dtype_and_device(y, x, grad, trace)
        and x.is_contiguous() and trace.is_contiguous() and (f.learns or not needs[3]),
        "adaptive_backward",
    )  # fmt: skip
    grad, y, values, matrices = grad.contiguous(), y.contiguous(), values.contiguous(), contiguous(matrices)
    x0 = None if x0 is None else x0.contiguous()
    out = empty(_backward_shapes(f, y, matrices, values, needs), y.dtype)
    left = iter(addresses(out))
    inputs = tuple(next(left) if need else 0 for need in needs[:3])
    known = x.data_ptr(), trace.data_ptr(), grad.data_ptr()
    arrays = _arrays(f, matrices, False, False, False)
    _fastunroll.adaptive_backward(
        *_call(f, y, matrices, arrays, values, x0), known, grad.dim() == 3, inputs, list(left)
    )
    return out


def _set_up(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    y, matrices, values, x0, form, ctx.keep, _, _ = inputs
    x, _, trace = output
    ctx.form = AdaptiveSpec.decode(form)
    ctx.save_for_backward(y, values, x0, x, trace, *matrices)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad: Tensor | None, needs: Sequence[bool], needs_matrices: Sequence[bool]) -> list[Any]:
    """Those of y, values, x0 and each matrix."""
    y, values, x0, x, trace, *matrices = ctx.saved_tensors
    f: AdaptiveSpec = ctx.form
    require(len(x) == f.layers, "adaptive (without record)")
    need_y, need_values, need_x0 = needs
    grad = torch.zeros_like(x[-1]) if grad is None else grad
    if torch.is_grad_enabled() or is_batched(grad):
        return _plain_gradients(f, (y, values, x0, *matrices), [*needs, *needs_matrices], grad)
    wanted = [need_y, need_x0, need_values, any(needs_matrices)]
    found = iter(_adaptive_backward(grad, y, matrices, values, x0, x, trace, f.encode(), wanted))
    of_y, of_x0, of_values = (next(found) if need else None for need in wanted[:3])
    return [of_y, of_values, of_x0, None, *(list(found) or [None] * (len(matrices) - 1))]


def _plain_gradients(
    f: AdaptiveSpec, tensors: Sequence[Tensor | None], needs: Sequence[bool], grad: Tensor
) -> list[Tensor | None]:
    """By plain PyTorch, for second derivatives and batches of gradients."""
    again = torch.is_grad_enabled()
    leaves: list[Any] = [
        t if t is None or not need else t.view_as(t) if again else t.detach().requires_grad_()
        for t, need in zip(tensors, needs, strict=True)
    ]
    with torch.enable_grad():
        y, values, x0, *matrices = leaves
        x = reference_adaptive.network(f, y, matrices, values, x0)
        wanted = [t for t, need in zip(leaves, needs, strict=True) if need]
        found = iter(
            torch.autograd.grad(
                x if grad.dim() == 3 else x[-1], wanted, grad, create_graph=again, allow_unused=True,
                materialize_grads=True,
            )
        )  # fmt: skip
    return [next(found) if need else None for need in needs]


def _backward(ctx: Any, grad_x: Tensor | None, grad_last: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    need_y, needs_matrices, need_values, need_x0, *_rest = ctx.needs_input_grad
    grad = grad_x if ctx.keep else grad_last
    of_y, of_values, of_x0, *of_matrices = _gradients(ctx, grad, [need_y, need_values, need_x0], needs_matrices)
    return of_y, of_matrices, of_values, of_x0, None, None, None, None


differentiate(_adaptive, _backward, _set_up)


class _Adaptive(torch.autograd.Function):
    """The operator and its gradient for calls that nothing watches: with less around it than what torch registers."""

    @staticmethod
    def forward(
        ctx: Any, f: AdaptiveSpec, keep: bool, y: Tensor, values: Tensor, x0: Tensor | None, *matrices: Tensor
    ) -> Tensor:
        form = f.encode()
        with below_autograd():
            out = _adaptive(y, list(matrices), values, x0, form, keep, True, False)
        _set_up(ctx, (y, matrices, values, x0, form, keep, True, False), out)
        last: Tensor = out[0] if keep else out[1]
        return last

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
        needs = ctx.needs_input_grad
        return None, None, *_gradients(ctx, grad, needs[2:5], needs[5:])


def adaptive(
    f: AdaptiveSpec, y: Tensor, matrices: Sequence[Tensor], values: Tensor, x0: Tensor | None, keep: bool
) -> Tensor:
    """The last layer, (batch, n), or with ``keep`` all, (K, batch, n). No gradient but those of y, x0, values and W."""
    arguments = y, list(matrices), values, x0, f.encode(), keep
    if is_jit_tracing():  # for programs that run with gradients and without
        x, last, _ = _adaptive(*arguments, True, True)
    elif not differentiable(y, values, x0, *matrices):
        with below_autograd():
            x, last, _ = _adaptive(*arguments, False, True)
    elif is_tracing():
        x, last, _ = _adaptive(*arguments, True, False)
    else:
        out: Tensor = _Adaptive.apply(f, keep, y, values, x0, *matrices)
        return out
    return x if keep else last


class AdaptiveNetworkCache:
    """What a module keeps between calls without gradients: its matrices, packed, and its values."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: Kept[_Described | None] | None = None

    def run(
        self, tensors: list[Tensor], describe: Callable[[], _Network], y: Tensor, m: int, x0: Tensor | None, keep: bool,
        bfloat16: bool,
    ) -> Tensor | None:  # fmt: skip
        """All layers; None where the operator has to be asked, which also says what is wrong."""
        if not is_plain(y) or not (x0 is None or is_plain(x0)):
            return None
        if is_tracing() or has_tangents() or differentiable(y, x0, *tensors):
            return None
        kept = self._kept  # which another thread may replace meanwhile
        if kept is None or not kept.is_current(tensors):
            kept = self._kept = None  # its memory can serve again
            if not all(is_plain(t) and is_supported_on_cpu(t) and t.is_contiguous() for t in tensors):
                return None
            if any(t.is_inference() for t in tensors):
                return None
            kept = self._kept = Kept(tensors, lambda: _described(describe))
        net = kept.value
        if net is None:
            return None
        lead, n = y.shape[:-1], _sizes(net.form, net.matrices)[1]
        if y.dtype is not net.values.dtype or y.dim() == 0 or y.shape[-1] != m or not y.is_cpu or not y.numel():
            return None
        if x0 is not None and (x0.dtype is not y.dtype or not x0.is_cpu or x0.shape != (*lead, n)):
            return None
        y, x0 = y.contiguous(), None if x0 is None else x0.contiguous()
        (x,) = empty([(net.form.layers, *lead, n) if keep else (*lead, n)], y.dtype)
        out = (x.data_ptr(), 0, 0) if keep else (0, x.data_ptr(), 0)
        arrays = net.arrays(bfloat16)
        _fastunroll.adaptive_forward(*_call(net.form, y, net.matrices, arrays, net.values, x0), out)
        return x

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a module prepares itself."""
        return AdaptiveNetworkCache, ()


_Network = tuple[AdaptiveSpec, list[Tensor], Tensor]


class _Described:
    """A network, and its matrices as the kernels of an instruction set read them."""

    def __init__(self, form: AdaptiveSpec, matrices: list[Tensor], values: Tensor) -> None:
        self.form, self.matrices, self.values = form, matrices, values.contiguous()
        self.packed: dict[tuple[bool, str], list[Matrix]] = {}

    def arrays(self, bfloat16: bool) -> list[Matrix]:
        key = bfloat16, _fastunroll.instruction_set()
        found = self.packed.get(key)
        if found is None:
            found = self.packed[key] = _arrays(self.form, self.matrices, True, True, bfloat16)
        return found


def _described(describe: Callable[[], _Network]) -> _Described | None:
    """None where the kernels cannot take it as it is."""
    with torch.no_grad():
        form, matrices, values = describe()
    m = _sizes(form, matrices)[0]
    return _Described(form, matrices, values) if _fits(form, values.new_empty(0, m), matrices, values, None) else None
