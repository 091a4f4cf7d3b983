"""Random products of operators of imaging: A x, Aᴴ y, AᴴA x, gradients and solutions, against dense matrices."""

from __future__ import annotations

from typing import Any

import fastunroll as fu
import torch
from torch import Tensor, nn

from . import imaging, matrices
from .compare import Finding, compare
from .draw import Draw
from .events import COPIES, EVENTS
from .imaging import Operator, Pictures
from .imaging_compositions import operator
from .subject import Leaves, Subject, widened, widened_copy
from .tensors import expanded, spoil

METHODS = {
    "forward": ("x",), "adjoint": ("y",), "normal": ("x",), "gradient": ("x", "y"), "collapsed_gradient": ("x", "z"),
    "solve": ("x", "rho"), "adjoint_solve": ("y", "rho"), "data_step": ("x", "z", "rho"),
}  # fmt: skip
# What may happen between two calls to an operator that holds its tensors.
HISTORY = [
    "call", "recorded call", "in place", "element", "data whole", "numpy", "new data", "other strides", "optimizer",
    "load_state_dict", "saved", "there and back", "frozen", *COPIES,
]  # fmt: skip
HALVES = [torch.bfloat16, torch.float16]


class Call(nn.Module):
    """A method of an operator as a module."""

    def __init__(self, op: Any, method: str) -> None:
        super().__init__()
        self.operator, self.method = op, method

    def forward(self, *arguments: Tensor) -> Tensor:
        found: Tensor = getattr(self.operator, "__call__" if self.method == "forward" else self.method)(*arguments)
        return found


class Exact(nn.Module):
    """The same by a dense matrix, of the tensors that the operator holds."""

    def __init__(self, o: Operator, op: Any, method: str) -> None:
        super().__init__()
        self.o, self.operator, self.method = o, op, method

    def forward(self, *arguments: Tensor) -> Tensor:
        o, A, first = self.o, self.o.matrix(self.operator), arguments[0]
        if "rho" in METHODS[self.method]:
            of_rows, rho = self.method == "adjoint_solve", arguments[-1]
            first = arguments[1] + rho * first if self.method == "data_step" else first
            shape = o.shape_out if of_rows else o.shape_in
            return matrices.regularised_inverse(A, o.is_real, rho, first, shape, of_rows=of_rows)
        shapes = o.shape_in, o.shape_out
        if self.method == "adjoint":
            return matrices.adjoint(A, o.is_real, first, *shapes)
        if self.method == "forward":
            return matrices.product(A, first, *shapes)
        found = matrices.gradient(A, o.is_real, first, arguments[1] if self.method == "gradient" else None, *shapes)
        return found - arguments[1] if self.method == "collapsed_gradient" else found


def held(d: Draw, o: Operator) -> str:
    """How an operator holds its tensors: as buffers, as parameters, or as the tensors of the call."""
    ways = ["buffers", "tensors", *(["parameters"] if o.learns else [])]
    return d.pick("held as", ways) if o.leaves else "buffers"


def lived(d: Draw, op: Any, x: Tensor, right: Any) -> Any:
    """The operator after some events, each of which calls precede that may keep what they computed.

    x: pictures that it takes. right: compares what it computes, and is told after what.
    """
    tensors = [*op.parameters(), *op.buffers()]
    for _ in range(d.pick("events", [0, 1, 2], [3, 2, 1]) if tensors else 0):
        right(op, "nothing")
        event = d.pick("event", HISTORY)
        if event in COPIES:
            op = COPIES[event](op)
        elif event != "optimizer" or [*op.parameters()]:
            EVENTS[event](d, op, x)
        right(op, event)
    return op


def product(d: Draw) -> Subject:
    p = imaging.pictures(d)
    o = operator(d, p)
    method = d.pick("method", list(METHODS), [5, 4, 4, 4, 3, 3, 1, 2])
    names = METHODS[method]
    inputs = {
        "x": d.normal(*p.lead, *o.shape_in, dtype=p.dtype),
        "y": d.normal(*p.lead, *o.shape_out, dtype=o.measured(p)),
        "z": d.normal(*p.lead, *o.shape_in, dtype=p.dtype),
    }
    inputs = {name: expanded(d, inputs[name]) for name in names if name != "rho"}
    if p.is_complex and method in ("forward", "normal") and d.chance("real pictures", 0.1):
        inputs["x"] = inputs["x"].real.contiguous()
        # These take complex pictures alone; and of real ones, |c|² AᴴA is real where a product with c A is not.
        if any(t.is_complex() for t in o.leaves.values()) or "factor of=complex number" in d.said:
            inputs["x"] = inputs["x"].to(p.dtype)
    solves = "rho" in names
    halved = not p.is_complex and not o.is_real and p.real == torch.float32 and d.chance("half precision", 0.15)
    if halved:
        kind = d.pick("half", HALVES)
        inputs = {name: t.to(kind) for name, t in inputs.items()}
    if not solves and d.chance("not finite", 0.1):
        name = d.random.choice([name for name in inputs if inputs[name].numel()] or [""])
        inputs |= {name: spoil(d, inputs[name])} if name else {}
    of_samples = tuple(inputs)
    if solves:
        inputs["rho"] = torch.tensor(d.uniform(0.3, 2), dtype=p.real)
    if held(d, o) == "tensors":
        return _of_tensors(o, p, method, inputs, of_samples)
    return _of_module(d, o, p, method, inputs, of_samples, learns="held as=parameters" in d.said)


def _options(o: Operator, p: Pictures, inputs: dict[str, Tensor], together: bool) -> dict[str, Any]:
    """together: whether a slice of the batch has a slice of the operator."""
    without = [] if together else ["vmap", "per_sample_gradient"]
    without += ["trace"] if "rho" in inputs else []  # of which PyTorch makes a function of samples alone
    if next(iter(inputs.values())).dtype in HALVES:  # whose gradients are rounded as they are
        without += ["grad", "second", "jvp", "compiled", "vmap", "per_sample_gradient", "python_threads", "trace"]
    return {"options": {"without": without}, "precision": p.dtype, "spreads": True}


def _of_tensors(o: Operator, p: Pictures, method: str, inputs: dict[str, Tensor], of_samples: Any) -> Subject:
    """The operator is made in each call, of tensors that may require a gradient."""
    names = list(inputs)

    def run(v: Leaves) -> Tensor:
        return Call(o.make(v, False), method)(*(v[name] for name in names))

    def exact(v: Leaves) -> Tensor:
        return Exact(o, o.make(v, False), method)(*(v[name] for name in names))

    together = not o.is_each or all(o.leaves[k].shape[: len(p.lead)] == p.lead for k in o.leaves)
    return Subject(
        f"A.{method}", {**inputs, **o.leaves}, run, exact, p.lead, (*of_samples, *o.of_samples),
        **_options(o, p, inputs, together and set(o.of_samples) == set(o.leaves)),
    )  # fmt: skip


def _of_module(
    d: Draw, o: Operator, p: Pictures, method: str, inputs: dict[str, Tensor], of_samples: Any, *, learns: bool
) -> Subject:
    """The operator is a module, which has lived."""
    names = list(inputs)
    arguments = [inputs[name] for name in names]

    def right(op: Any, event: str) -> None:
        with torch.no_grad():
            found, exact = Call(op, method)(*arguments), Exact(o, widened_copy(op), method)
            wide = {name: widened(t) for name, t in inputs.items()}
            poisoned = Subject("", inputs, Call(op, method), exact, p.lead, of_samples, spreads=True).poisoned
            samples = len(poisoned)
            compare(
                f"after {event}, values", [found], lambda v: [exact(*(v[name] for name in names))], wide,
                [lambda t: t.reshape(samples, -1) if t.numel() else t.reshape(samples, 0)], p.dtype, poisoned=poisoned,
            )  # fmt: skip

    op = lived(d, o.make(o.leaves, learns), d.normal(*p.lead, *o.shape_in, dtype=p.dtype), right)
    module, exact = Call(op, method), Exact(o, widened_copy(op), method)
    own = dict(module.named_parameters())
    constants = {name: widened(t) for name, t in module.named_buffers()}

    def run(v: Leaves) -> Tensor:
        theirs = {name: v[name] for name in own if v[name] is not own[name]}
        return torch.func.functional_call(module, theirs, tuple(v[name] for name in names))

    def oracle(v: Leaves) -> Tensor:
        theirs = {name: v[name] for name in (*own, *constants)}
        return torch.func.functional_call(exact, theirs, tuple(v[name] for name in names))

    return Subject(
        f"A.{method}", {**inputs, **own}, run, oracle, p.lead, of_samples, module=module, constants=constants,
        **_options(o, p, inputs, not o.is_each),
    )  # fmt: skip


def norm(d: Draw) -> None:
    """‖A‖ is at least the largest singular value of any sample, and a stated norm is the same."""
    p = imaging.pictures(d)
    o = operator(d, p)
    op = o.make(o.leaves, False)
    if op.shape_in is None and op.stated_norm() is None:
        return
    A = o.matrix(widened_copy(op))
    if not A.numel():
        return
    pairs = torch.cat([A.real, A.imag], -2) if o.is_real and A.is_complex() else A
    largest = float(torch.linalg.matrix_norm(pairs, 2).max())
    if largest == 0:
        return
    found = op.norm()
    rounding = 1e-9 if p.real == torch.float64 else 1e-5
    if not largest * (1 - rounding) <= found <= 30 * largest:
        raise Finding(f"norm of {type(op).__name__}: {found:.9g} where ‖A‖ is {largest:.9g}")
    stated = op.stated_norm()
    if stated is not None and abs(stated - found) > 1e-6 * found:
        raise Finding(f"stated_norm of {type(op).__name__}: {stated:.9g} where norm() is {found:.9g}")


def checked(d: Draw) -> None:
    """fu.operators.check finds nothing wrong with an operator that is right."""
    p = imaging.pictures(d)
    p = Pictures(torch.float64, p.is_complex, p.size, (d.random.randint(2, 3),))
    o = operator(d, p)
    found = fu.operators.check(o.make(o.leaves, False), d.normal(*p.lead, *o.shape_in, dtype=p.dtype))
    problems = [problem for problem in found.problems if not (o.is_each and "batch" in problem)]
    if problems:
        raise Finding(f"check: {problems[0].splitlines()[0]}")
