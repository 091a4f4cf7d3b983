"""The ways in which PyTorch calls a function, each compared with the oracle."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from fastunroll import _fastunroll
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .compare import GRADIENTS, Finding, compare, equal
from .draw import Draw
from .subject import Leaves, Subject
from .tensors import clothe

Run = Callable[[Leaves], Tensor]


def _clothed(d: Draw, s: Subject, run: Run | None = None) -> Run:
    """The call with some arguments in other clothes."""
    run = run or s.run
    own = s.module is not None  # whose parameters stay where they are
    worn = clothe(d, [name for name in s.leaves if name in s.of_samples or not own])
    return lambda leaves: run({name: worn.get(name, lambda t: t)(t) for name, t in leaves.items()})


def _values(what: str, s: Subject, found: Tensor, leaves: Leaves | None = None) -> None:
    if found.dtype.to_real() != s.dtype.to_real():
        raise Finding(f"{what}: dtype {found.dtype} where {s.dtype} is right")
    wide = s.widened() if leaves is None else leaves

    def evaluate(leaves: Leaves) -> list[Tensor]:
        with torch.no_grad():
            return [s.exact(leaves)]

    compare(what, [found], evaluate, wide, [s.rows], s.dtype, strict=s.strict, poisoned=s.poisoned, slack=s.slack)


def no_grad(d: Draw, s: Subject) -> None:
    with torch.no_grad():
        _values("values", s, _clothed(d, s)(s.leaves))


def inference(d: Draw, s: Subject) -> None:
    with torch.inference_mode():
        born_here = d.chance("inference tensors", 0.5)
        leaves = {k: t.clone() if born_here and k in s.of_samples else t for k, t in s.leaves.items()}
        found = _clothed(d, s)(leaves)
    _values("values in inference mode", s, found)


def autocast(d: Draw, s: Subject) -> None:
    def within(leaves: Leaves) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return s.run(leaves)

    with torch.no_grad():
        found = _clothed(d, s, within)(s.leaves)
    _values("values under autocast", s, found)


class Loss:
    """A random real function of the rows of a result, and how its gradients are compared."""

    def __init__(self, s: Subject) -> None:
        self.s = s
        with torch.no_grad():
            wide = s.exact(s.widened())
            rows = s.rows(wide)
        self.sound = rows.isfinite().all(1) & ~(s.poisoned & torch.tensor(s.spreads))
        self.weight, self.square = torch.randn(rows.shape, dtype=torch.float64), torch.rand(rows.shape).double()

    def __call__(self, out: Tensor) -> Tensor:
        rows = self.s.rows(out)[self.sound]
        wide = rows.to(torch.complex128 if rows.is_complex() else torch.float64)
        linear = self.weight[self.sound] * (wide.real + wide.imag if wide.is_complex() else wide)
        power = wide.real.square() + wide.imag.square() if wide.is_complex() else wide.square()
        return linear.sum() + (self.square[self.sound] * power).sum() / 2

    def gradient_rows(self, name: str) -> Callable[[Tensor], Tensor]:
        lead = self.s.lead
        if lead is None or name not in self.s.of_samples:
            return lambda g: g.reshape(1, -1)
        return lambda g: g.reshape(len(self.sound), -1) if g.numel() else g.reshape(len(self.sound), 0)

    def compare(self, what: str, names: list[str], found: list[Tensor], of: Callable[[Run, Leaves], Any]) -> None:
        """Gradients by name; ``of(run, leaves)`` computes those of the oracle."""
        s = self.s
        if not bool(self.sound.all()):  # a sum over samples is not finite, or says nothing
            kept = [(n, g) for n, g in zip(names, found, strict=True) if n in s.of_samples and s.lead is not None]
            names, found = [n for n, _ in kept], [g for _, g in kept]
        # In another order of summation no decision changes where sums are exact; gradients are sums of others.
        compare(
            f"{what} of {', '.join(names)}:", found, lambda leaves: of(s.exact, leaves)(names), s.widened(),
            [self.gradient_rows(name) for name in names], s.dtype,
            tolerances=GRADIENTS, strict=s.strict, only=self.sound, hides=True, cancels=what.startswith("second"),
            slack=s.slack,
        )  # fmt: skip


def _oracle_gradients(loss: Loss, run: Run, leaves: Leaves) -> Callable[[list[str]], list[Tensor]]:
    def of(names: list[str]) -> list[Tensor]:
        asked = {k: t.detach().clone().requires_grad_(k in names) for k, t in leaves.items()}
        with torch.enable_grad():
            return _gradients(loss(run(asked)), [asked[name] for name in names])

    return of


def _gradients(total: Tensor, targets: list[Tensor], **options: Any) -> list[Tensor]:
    if not total.requires_grad:
        return [torch.zeros_like(t) for t in targets]
    return list(torch.autograd.grad(total, targets, allow_unused=True, materialize_grads=True, **options))


def _asked(d: Draw, s: Subject) -> tuple[list[str], dict[str, Tensor]]:
    """Some leaves that require a gradient; parameters of a module do or do not, as they are."""
    own = set() if s.module is None else set(s.leaves) - set(s.of_samples)
    learns = [name for name in own if s.leaves[name].requires_grad]
    free = sorted(set(s.leaves) - own)
    names = [name for name in free if d.random.random() < 0.6] + sorted(learns)
    if all(name in s.options.get("beyond", ()) for name in names):
        names += d.some([name for name in free if name not in names])
    return names, {k: t if k in own else t.detach().clone().requires_grad_(k in names) for k, t in s.leaves.items()}


@contextmanager
def _saved_elsewhere() -> Iterator[None]:
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t.clone()):
        yield


def _depends(s: Subject, loss: Loss, names: list[str]) -> bool:
    """Returns whether the result depends on a parameter. ADMM's last eta changes only the second state."""
    with torch.enable_grad():
        asked = {k: t.clone().requires_grad_(k in names) for k, t in s.widened().items()}
        return loss(s.exact(asked)).requires_grad


def grad(d: Draw, s: Subject) -> None:
    loss = Loss(s)
    names, leaves = _asked(d, s)
    run = _clothed(d, s)
    how = d.pick("backward", ["plain", "checkpoint", "reentrant", "saved elsewhere", "twice"], [8, 1, 1, 1, 1])
    if how == "reentrant" and not _depends(s, loss, names):
        how = "plain"  # PyTorch refuses to go back where nothing requires a gradient
    if how in ("checkpoint", "reentrant"):
        keys = list(leaves)
        out = checkpoint(
            lambda *ts: run(dict(zip(keys, ts, strict=True))), *leaves.values(), use_reentrant=how == "reentrant"
        )
    elif how == "saved elsewhere":
        with _saved_elsewhere():
            out = run(leaves)
    else:
        out = run(leaves)
    _values("values with gradients", s, out)
    if not out.requires_grad and _depends(s, loss, names):
        raise Finding("a result without a gradient, of arguments that require one")
    targets = [leaves[name] for name in names]
    if how == "reentrant":  # which knows .backward() alone
        for t in targets:
            t.grad = None
        total = loss(out)
        if total.requires_grad:
            total.backward()
        found = [torch.zeros_like(t) if t.grad is None else t.grad for t in targets]
        for t in targets:
            t.grad = None
    else:
        found = _gradients(loss(out), targets, retain_graph=True)
        if how == "twice":
            for a, b in zip(found, _gradients(loss(out), targets), strict=True):
                equal("the same gradient once more", a, b)
    loss.compare("gradient", names, found, lambda run, leaves: _oracle_gradients(loss, run, leaves))


def second(d: Draw, s: Subject) -> None:
    """The gradient of a function of a gradient."""
    loss = Loss(s)
    names, leaves = _asked(d, s)
    along: dict[str, Tensor] = {name: torch.randn_like(s.leaves[name]) for name in names}

    def of(run: Run, leaves: Leaves, asked: list[str]) -> list[Tensor]:
        inner = [leaves[name] for name in names]
        first = _gradients(loss(run(leaves)), inner, create_graph=True)
        total = sum(((g * along[n].to(g)).real.sum() for g, n in zip(first, names, strict=True)), torch.zeros(()))
        return _gradients(total, [leaves[name] for name in asked])

    found = of(_clothed(d, s), leaves, names)

    def oracle(run: Run, wide: Leaves) -> Callable[[list[str]], list[Tensor]]:
        return lambda asked: of(run, {k: t.detach().clone().requires_grad_(k in names) for k, t in wide.items()}, asked)

    loss.compare("second derivative", names, found, oracle)


def _of_samples(s: Subject, f: Callable[[Tensor], Any]) -> tuple[Callable[..., Any], list[Tensor]]:
    """A function of the leaves of samples alone."""
    names = [name for name in s.leaves if name in s.of_samples]
    rest = {name: t for name, t in s.leaves.items() if name not in names}
    return lambda *ts: f(s.run({**rest, **dict(zip(names, ts, strict=True))})), [s.leaves[n].detach() for n in names]


def _refused(s: Subject, call: Callable[[], object]) -> None:
    """What cannot be done says so in one sentence."""
    try:
        call()
    except ValueError as e:
        if s.options["refuses vmap"] in str(e):
            return
        raise
    raise Finding("a solver that reads values runs under vmap, which hides them")


def vmap(d: Draw, s: Subject) -> None:
    function, inputs = _of_samples(s, lambda out: out)
    mapped = torch.func.vmap(function, out_dims=1 if s.layers else 0, randomness="error")
    if "refuses vmap" in s.options:
        return _refused(s, lambda: mapped(*inputs))
    _values("values under vmap", s, mapped(*inputs))


def per_sample_gradient(d: Draw, s: Subject) -> None:
    """vmap of grad: the gradient of each sample."""
    loss = Loss(s)

    def total(out: Tensor, weight: Tensor, square: Tensor) -> Tensor:
        wide = out.reshape(weight.shape)
        real = wide.real + wide.imag if wide.is_complex() else wide
        power = wide.real.square() + wide.imag.square() if wide.is_complex() else wide.square()
        return (weight.to(real) * real).sum() + (square.to(real) * power).sum() / 2

    names = [name for name in s.leaves if name in s.of_samples]
    rest = {name: t.detach() for name, t in s.leaves.items() if name not in names}

    def of(*ts: Tensor) -> Tensor:
        *given, weight, square = ts
        return total(s.run({**rest, **dict(zip(names, given, strict=True))}), weight, square)

    inputs = [s.leaves[n].detach() for n in names]
    mapped = torch.func.vmap(torch.func.grad(of))
    if "refuses vmap" in s.options:
        return _refused(s, lambda: mapped(*inputs, loss.weight, loss.square))
    found = mapped(*inputs, loss.weight, loss.square)
    loss.compare("gradient per sample", names[:1], [found], lambda run, leaves: _oracle_gradients(loss, run, leaves))


def jvp(d: Draw, s: Subject) -> None:
    """Forward mode, along random directions of the samples."""
    function, inputs = _of_samples(s, lambda out: out)
    inputs = [t.contiguous() for t in inputs]
    along = [torch.randn_like(t) for t in inputs]
    if d.chance("dual numbers", 0.5):
        with torch.autograd.forward_ad.dual_level():
            out = function(*map(torch.autograd.forward_ad.make_dual, inputs, along))
            value, tangent = torch.autograd.forward_ad.unpack_dual(out)
            tangent = torch.zeros_like(value) if tangent is None else tangent
    else:
        value, tangent = torch.func.jvp(function, tuple(inputs), tuple(along))
    _values("values under jvp", s, value.detach())
    names = [name for name in s.leaves if name in s.of_samples]

    def evaluate(leaves: Leaves) -> list[Tensor]:
        def run(*ts: Tensor) -> Tensor:
            return s.exact({**leaves, **dict(zip(names, ts, strict=True))})

        wide = tuple(t.to(leaves[n].dtype) for n, t in zip(names, along, strict=True))
        # Twice backward is forward: the oracle has no forward mode everywhere.
        return [torch.autograd.functional.jvp(run, tuple(leaves[n] for n in names), wide)[1]]

    sound = Loss(s).sound
    compare("tangent", [tangent.detach()], evaluate, s.widened(), [s.rows], s.dtype, tolerances=GRADIENTS,
            strict=s.strict, only=sound, hides=True)  # fmt: skip


def bits(d: Draw, s: Subject) -> None:
    """The same bits with other threads, another instruction set, and in part of the batch."""
    has_fma = [name for name in _fastunroll.compiled_instruction_sets() if name != "baseline"]
    if _fastunroll.instruction_set() == "baseline":
        return
    with torch.no_grad():
        a = s.run(s.leaves)
        torch.set_num_threads(d.pick("other threads", [1, 2, 3]))
        if "same set" not in s.options:
            _fastunroll.use_instruction_set(d.pick("other set", has_fma))
        equal("another number of threads or instruction set", a, s.run(s.leaves))
        if s.lead and s.lead[0] > 1:
            i = d.random.randrange(s.lead[0])
            part = s.run({k: t[i : i + 1] if k in s.of_samples else t for k, t in s.leaves.items()})
            equal("a sample by itself", a[:, i : i + 1] if s.layers else a[i : i + 1], part)


def python_threads(d: Draw, s: Subject) -> None:
    def work(i: int) -> Tensor:
        with torch.set_grad_enabled(i % 2 == 0):
            return s.run(s.leaves).detach()

    wanted = work(0), work(1)  # layers over an operator that learns are native without gradients alone
    with ThreadPoolExecutor(3) as pool:
        # All are awaited first: PyTorch 2.13 deadlocks now and then where one thread applies a Function to parameters
        # while another calls operators on them.
        for i, found in enumerate(list(pool.map(work, range(6)))):
            (equal if s.native else lambda *_: None)("in several threads", wanted[i % 2], found)
            _values("values in several threads", s, found)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def trace(d: Draw, s: Subject) -> None:
    function, inputs = _of_samples(s, lambda out: out)
    with _quiet():
        traced = torch.jit.trace(function if s.module is None else s.module, tuple(inputs), check_trace=False)
        _values("values of a trace", s, traced(*inputs).detach())


def compiled(d: Draw, s: Subject) -> None:
    function, inputs = _of_samples(s, lambda out: out)
    torch._dynamo.reset()
    with _quiet():
        inputs = [t.requires_grad_() for t in inputs]
        out = torch.compile(function, backend="aot_eager")(*inputs)
        _values("values of a compiled call", s, out.detach())
        loss = Loss(s)
        names = [name for name in s.leaves if name in s.of_samples]
        found = _gradients(loss(out), inputs)
    loss.compare("compiled gradient", names, found, lambda run, leaves: _oracle_gradients(loss, run, leaves))


def check(d: Draw, s: Subject) -> None:
    """In one way that this subject allows."""
    ways: dict[Callable[[Draw, Subject], None], float] = {no_grad: 20, grad: 30, inference: 4, autocast: 3}
    batched = s.lead is not None and len(s.lead) > 0 and s.lead[0] > 0 and bool(s.of_samples)
    if s.dtype.to_real() in (torch.float32, torch.float64):
        ways |= {second: 3, python_threads: 1}
        if s.native:
            ways[bits] = 6
    if s.of_samples:
        ways |= {jvp: 3, compiled: 0.02, trace: 0.3 if s.module is not None else 0.0}
    if batched:
        ways |= {vmap: 3}
        if len(s.lead or ()) == 1 and not s.layers:
            ways[per_sample_gradient] = 3
    for refused in s.options.get("without", ()):
        ways.pop(WAYS[refused], None)
    name = d.pick("way", [way.__name__ for way in ways], list(ways.values()))
    WAYS[name](d, s)


WAYS: dict[str, Callable[[Draw, Subject], None]] = {
    way.__name__: way
    for way in (no_grad, grad, inference, autocast, second, python_threads, bits, jvp, compiled, trace, vmap,
                per_sample_gradient)
}  # fmt: skip
