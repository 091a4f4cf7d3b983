"""The gradients of a linear operator: the backward pass of A is Aᴴ, that of Aᴴ is A, and that of AᴴA is AᴴA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, wraps
from inspect import signature
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.modules import module as modules

from .. import _checks, arrays
from .._checks import shape_text
from .._precision import own_precision
from ..computed_weights import compute_weights
from ..ops.tensors import has_tangents, is_dual
from .stated import refuse_other_shapes

if TYPE_CHECKING:
    from .linear_operator import LinearOperator

Method = Callable[["LinearOperator", Tensor], Tensor]

OTHER = {"forward": "adjoint", "adjoint": "forward", "normal": "normal"}
MADE_OF_PRODUCTS = ("gradient", "collapsed_gradient", "solve", "data_step", "adjoint_solve", "norm")


_USUAL = Tensor, torch.nn.Parameter, float  # types of arguments that are no arrays


def with_arrays(method: Callable[..., Any]) -> Callable[..., Any]:
    """Returns ``method`` of an operator, which also takes arrays and answers in the kind of the first argument.

    Weights that PyTorch computes before a call of the operator, such as a pruned kernel, are computed before it.
    """
    parameters = [*signature(method).parameters][1:]
    names = [name for name in parameters if name != "rho"]
    way = getattr(method, "way", None)  # of direct.py

    @wraps(method)
    def wrapper(self: LinearOperator, *given: Any, **options: Any) -> Any:
        if self._forward_pre_hooks:
            compute_weights(self)
        if way is not None and len(given) == len(parameters) and not torch.compiler.is_compiling():
            found = None if options else way(self, *given)
            if found is not None:
                return found
        for value in given:  # quickly: every iteration comes here
            if type(value) not in _USUAL:
                break
        else:
            if not options:
                return method(self, *given)
        if arrays.has_arrays(given) or arrays.has_arrays(options.values()):
            return arrays.answered(partial(method, self), *given, **options)
        for name, value in zip(names, given, strict=False):
            if not isinstance(value, Tensor):
                _checks.tensor(name, value)  # raises
        return method(self, *given, **options)

    wrapper.bare = getattr(method, "bare", method)  # type: ignore[attr-defined]
    return wrapper


_FIXES = {
    "NoneType": "a return is missing",
    "tuple": "return one of its entries",
    "list": "return one of its entries",
    "ndarray": "use torch.from_numpy",
}


def with_gradient(name: str, method: Method) -> Method:
    """Returns ``method``, a ``forward``, ``adjoint`` or ``normal`` of a user, with its adjoint as the backward pass.

    The method runs as it is where no gradient is recorded.

    Raises:
        ValueError: samples have another shape than the user's operator states, and its results have not.
    """
    looks_itself = method.__module__.startswith(f"{__package__}.")

    def computed(self: LinearOperator, x: Tensor) -> Tensor:
        if (x.requires_grad and torch.is_grad_enabled()) or has_tangents():
            return _recorded(self, name, method, x)
        found = method(self, x)
        return found if isinstance(found, Tensor) else _result(self, name, found)

    @wraps(method)
    def product(self: LinearOperator, x: Tensor) -> Tensor:
        if not (isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())):
            _checks.tensor("x", x)  # raises
        if _checks.autocasts(x):
            with own_precision(x):
                return product(self, x)
        if looks_itself or torch.compiler.is_compiling():
            return computed(self, x)
        try:
            found = computed(self, x)
        except Exception:  # in the words of whatever the product is made of
            refuse_other_shapes(self, name, x, None)
            raise
        refuse_other_shapes(self, name, x, found)
        return found

    product.bare = method  # type: ignore[attr-defined]
    return product


def bare(op: LinearOperator, name: str) -> Callable[[Tensor], Any]:
    """The ``forward`` or ``adjoint`` as its class has written it, for tensors that require no gradient.

    It is what users call where that does more: where the operator has hooks, is compiled, or has a method of its own.
    """
    called: Callable[[Tensor], Any] = op if name == "forward" else op.adjoint
    return op.written(name) if is_as_written(op, name) else called


def is_as_written(op: LinearOperator, *names: str) -> bool:
    """Whether calls of these methods do what the class has written, and nothing more."""
    kinds = "forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks"
    is_hooked = any(getattr(op, f"_{kind}") or getattr(modules, f"_global_{kind}") for kind in kinds)
    return not is_hooked and op._compiled_call_impl is None and vars(op).keys().isdisjoint(names)


def learns(op: LinearOperator) -> bool:
    """Whether a parameter, a buffer or a tensor that is an attribute of ``op`` or of its parts requires a gradient."""
    return any(t.requires_grad for t in _tensors(op))


def _moves(op: LinearOperator) -> bool:
    """Whether such a tensor is a dual number of forward-mode differentiation."""
    return has_tangents() and any(map(is_dual, _tensors(op)))


def _tensors(op: LinearOperator) -> Iterator[Tensor]:
    attributes = (value for part in op.modules() for value in vars(part).values() if isinstance(value, Tensor))
    return chain(op.parameters(), op.buffers(), attributes)


def _result(op: LinearOperator, name: str, found: object) -> Tensor:
    if not isinstance(found, Tensor):
        kind = type(found).__name__
        raise TypeError(
            f"{op.product_name(name)} must return a tensor, got {kind}: {_FIXES.get(kind, 'return a tensor')}"
        )
    return found


def _recorded(op: LinearOperator, name: str, method: Method, x: Tensor) -> Tensor:
    """The product with its gradient.

    An operator that learns, or holds dual numbers, is differentiated by PyTorch, in x too, as second derivatives mix
    both. Where PyTorch does not see how the product depends on x, which is detached or an array on the way, x has the
    gradient of the adjoint.
    """
    if learns(op) or _moves(op):
        found = _differentiated(op, name, method, x)
        if found is not None:
            return found
    constant = _result(op, name, method(op, x.detach()))
    if constant.requires_grad and not learns(op):  # by a tensor that is no attribute, such as one of a closure
        found = _differentiated(op, name, method, x)
        if found is not None:
            return found
    kind = _Product if torch.compiler.is_compiling() else _ProductWithTangents  # which cannot be compiled
    product: Tensor = kind.apply(x, constant, op, name)
    return product


def _differentiated(op: LinearOperator, name: str, method: Method, x: Tensor) -> Tensor | None:
    """The product as PyTorch differentiates it; None where PyTorch does not see x in it."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or has_tangents():
        return _result(op, name, method(op, x))
    entry = x.view_as(x)
    try:
        found = _result(op, name, method(op, entry))
    except RuntimeError as error:
        if "call numpy() on Tensor that requires grad" in str(error):
            return None
        raise
    return found if _depends_on(found, entry) else None


def _depends_on(result: Tensor, entry: Tensor) -> bool:
    """Whether the graph of ``result`` has the node that made ``entry``."""
    seen: set[Any] = set()
    nodes = [result.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is entry.grad_fn:
            return True
        if node is not None and node not in seen:
            seen.add(node)
            nodes += [following for following, _ in node.next_functions]
    return False


class _Product(torch.autograd.Function):
    """``product``, which was computed from ``x`` without its gradient, as a linear function of ``x``.

    The backward pass is the operator's own method, and so differentiable again. What made ``product`` depend on tensors
    that learn keeps its gradient.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, product: Tensor, op: LinearOperator, name: str) -> Tensor:
        return product.view_as(product)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, LinearOperator, str], output: Tensor) -> None:
        x, product, ctx.op, ctx.name = inputs
        ctx.shape, ctx.is_complex = x.shape, x.is_complex()
        ctx.learns = product.requires_grad

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        if ctx.learns and torch.is_grad_enabled():
            raise RuntimeError(
                f"second derivatives of an operator that learns need {ctx.op.product_name(ctx.name)} to consist of "
                "PyTorch's functions, but PyTorch does not see x in it: leave out create_graph=True"
            )
        found = getattr(ctx.op, OTHER[ctx.name])(gradient)
        if found.shape != ctx.shape:
            raise ValueError(
                f"{ctx.op.product_name(OTHER[ctx.name])} must return the shape of what "
                f"{ctx.op.product_name(ctx.name)} takes, {shape_text(ctx.shape)}, got {shape_text(found.shape)}"
            )
        real = found.is_complex() and not ctx.is_complex
        return (found.real if real else found), gradient if ctx.learns else None, None, None


class _ProductWithTangents(_Product):
    """The same, in forward-mode differentiation too."""

    generate_vmap_rule = True

    @staticmethod
    def jvp(ctx: Any, x: Tensor | None, product: Tensor | None, *_: None) -> Tensor | None:
        moved = None if x is None else getattr(ctx.op, ctx.name)(x)
        return moved if product is None else product if moved is None else moved + product
