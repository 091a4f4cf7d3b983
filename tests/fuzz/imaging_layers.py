"""Random layers over pictures, which run in one native call or one by one, against dense matrices and formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import fastunroll as fu
import torch
from fastunroll import prox, schemes
from torch import Tensor, nn
from twins import of, rounded

from . import imaging, imaging_operators, imaging_priors, matrices
from .compare import compare
from .draw import Draw
from .events import COPIES, EVENTS
from .imaging import Operator, Pictures
from .imaging_compositions import operator
from .imaging_priors import Prior
from .subject import Leaves, Subject, widened, widened_copy
from .tensors import expanded, spoil

Shrink = Callable[[int, Tensor], Tensor]
Numbers = dict[str, Sequence[Tensor]]
# The schemes, and whether their linear step is a gradient step.
SCHEMES = {
    "ProximalGradient": True, "FISTA": True, "ADMM": True, "VariationalNetwork": True, "PrimalDual": True,
    "ADMM of data": False, "HQS": False,
}  # fmt: skip
WEIGHTS = [6, 6, 2, 2, 2, 2, 1]
LOGARITHMS = {"step", "theta", "rho", "tau", "sigma"}  # numbers of networks that stay positive


class Layers:
    """Layers over pictures by a dense matrix: the formulas of the schemes."""

    def __init__(self, o: Operator, A: Tensor, scheme: str, numbers: Numbers, shrink: Shrink) -> None:
        self.o, self.A, self.scheme, self.numbers, self.shrink = o, A, scheme, numbers, shrink

    def forward(self, x: Tensor) -> Tensor:
        return matrices.product(self.A, x, self.o.shape_in, self.o.shape_out)

    def adjoint(self, y: Tensor) -> Tensor:
        return matrices.adjoint(self.A, self.o.is_real, y, self.o.shape_in, self.o.shape_out)

    def number(self, name: str, k: int) -> Tensor:
        found: Tensor = of(self.numbers[name], k)
        return found

    def linear(self, k: int, v: Tensor, y: Tensor) -> Tensor:
        if SCHEMES[self.scheme]:
            shapes = self.o.shape_in, self.o.shape_out
            slope = matrices.gradient(self.A, self.o.is_real, v, y, *shapes)
            return rounded(v - self.number("step", k) * slope)
        rho = self.number("rho", k).reshape(())
        right = self.adjoint(y) + rho * v
        return rounded(matrices.regularised_inverse(self.A, self.o.is_real, rho, right, self.o.shape_in, of_rows=False))

    def run(self, y: Tensor, x0: Tensor | None, s0: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
        """The output of every layer, (K, ...), and the last second state."""
        x = torch.zeros_like(self.adjoint(y)) if x0 is None else x0
        s: Any = x if self.scheme == "FISTA" else torch.zeros_like(x)
        if self.scheme == "PrimalDual":
            sigma = self.number("sigma", 0)
            s = sigma / (1 + sigma) * (self.forward(x) - y)
        s, out = s if s0 is None else s0, []
        for k in range(count):
            x, s = self.layer(k, x, s, y)
            out.append(x)
        return torch.stack(out), s

    def layer(self, k: int, x: Tensor, s: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.scheme == "VariationalNetwork":
            return rounded(self.linear(k, x, y) + self.shrink(k, x) - x), s
        if self.scheme == "FISTA":
            v = x + self.number("beta", k) * (x - s)
            return rounded(self.shrink(k, self.linear(k, v, y))), x
        if self.scheme.startswith("ADMM"):
            z = self.linear(k, x - s, y)
            x = rounded(self.shrink(k, z + s))
            return x, s + self.number("eta", k) * (z - x)
        if self.scheme == "PrimalDual":
            sigma, before = self.number("sigma", k), x
            x = rounded(self.shrink(k, x - self.number("step", k) * self.adjoint(s)))
            ahead = x + self.number("omega", k) * (x - before)
            return x, rounded((s + sigma * (self.forward(ahead) - y)) / (1 + sigma))
        return rounded(self.shrink(k, self.linear(k, x, y))), s


def _pieces(d: Draw) -> tuple[Pictures, Operator, str]:
    """Pictures, an operator, and the name of a scheme: often those with compiled layers."""
    p = imaging.pictures(d)
    is_native = d.chance("native operator", 0.55)
    o = imaging.one(d, p, imaging.NATIVE) if is_native else operator(d, p)
    return p, o, d.pick("scheme", list(SCHEMES), [20, 20, 1, 1, 1, 1, 1] if is_native else WEIGHTS)


def _length(o: Operator, op: Any) -> float:
    """‖A‖², or one for A = 0."""
    A = o.matrix(widened_copy(op)).detach()
    square = float(torch.linalg.matrix_norm(A, 2).max() ** 2) if A.numel() else 1.0
    return square if square > 1e-12 else 1.0


def _is_native(o: Operator, p: Pictures, made: prox.Proximal, scheme: str, d: Draw) -> bool:
    """Whether the layers promise the same bits whatever the circumstances."""
    compiled = type(made) in (prox.TotalVariation, prox.L1, prox.NonNegativeL1, prox.Box, prox.Identity)
    compiled = compiled and "a threshold for each picture" not in d.said  # a picture by itself has one for all
    compiled = compiled and "complex mask" not in d.said  # by which PyTorch multiplies
    compiled = compiled and p.dims == 2 and 37 not in p.size
    return compiled and scheme in ("ProximalGradient", "FISTA") and "native operator" in d.said


def _inputs(d: Draw, p: Pictures, o: Operator, scheme: str) -> dict[str, Tensor]:
    inputs = {"y": expanded(d, d.normal(*p.lead, *o.shape_out, dtype=o.measured(p)))}
    if d.chance("x0", 0.35):
        inputs["x0"] = d.normal(*p.lead, *o.shape_in, dtype=p.dtype)
    if scheme in ("FISTA", "ADMM", "ADMM of data", "PrimalDual") and d.chance("s0", 0.2):
        shape, dtype = (o.shape_out, o.measured(p)) if scheme == "PrimalDual" else (o.shape_in, p.dtype)
        inputs["s0"] = d.normal(*p.lead, *shape, dtype=dtype)
    return inputs


def _spoiled(d: Draw, leaves: dict[str, Tensor], scheme: str, made: prox.Proximal) -> None:
    """Sometimes a value of a batch or a number that is not finite.

    Fourier transforms of infinities are infinities of any sign, which bounds make finite. PyTorch multiplies a complex
    infinity by a real number as by a complex one, which is NaN.
    """
    bounded = isinstance(made, (prox.NonNegativeL1, prox.Box))
    names = [name for name, t in leaves.items() if t.numel() and not name.startswith(("rho", "sigma"))]
    if names and SCHEMES[scheme] and d.chance("not finite", 0.1):
        name = d.random.choice(names)
        d.say(f"not finite in {name.rstrip('0123456789')}")
        values = {name.startswith("theta"): (math.nan, math.inf), bounded or leaves[name].is_complex(): (math.nan,)}
        leaves[name] = spoil(d, leaves[name], values.get(True, (math.nan, math.inf, -math.inf)))


def unrolled(d: Draw) -> Subject:
    """fu.unrolled over an operator of imaging."""
    p, o, scheme = _pieces(d)
    layers = d.pick("layers", [1, 2, 3, 5], [3, 3, 3, 1])
    prior, made = imaging_priors.prior(d, p, o.shape_in, layers)
    made.requires_grad_(False)
    length = _length(o, o.make(o.leaves, False))
    inputs = _inputs(d, p, o, scheme)
    numbers: dict[str, Tensor] = {}

    def each(key: str, low: float, high: float) -> list[str]:
        count = d.pick(f"{key} of", ["all layers", "each layer"])
        names = [f"{key}{k}" for k in range(layers if count == "each layer" else 1)]
        shape = d.pick("number", [(), (1,)])
        numbers.update({name: torch.full(shape, d.uniform(low, high)).double().to(p.real) for name in names})
        return names

    lists = {"step": each("step", 0.2 / length, 1.2 / length)} if SCHEMES[scheme] else {}
    lists |= {} if SCHEMES[scheme] else {"rho": each("rho", 0.3 * length, 2 * length)}
    for key in {"FISTA": ("beta",), "PrimalDual": ("sigma", "omega")}.get(scheme, ()):
        lists[key] = each(key, 0.1, 0.9)
    if scheme.startswith("ADMM"):
        lists["eta"] = each("eta", 0.3, 1)
    of_samples = list(inputs)
    if made.has_threshold:
        elementwise = type(made) in (prox.TotalVariation, prox.L1, prox.NonNegativeL1, prox.ElasticNet)
        if elementwise and d.chance("a threshold for each picture", 0.1):
            ones = [1] * len(o.shape_in)
            numbers["theta0"] = (0.02 + 0.2 * torch.rand(*p.lead, *ones, dtype=torch.float64)).to(p.real)
            lists["theta"] = ["theta0"]
            of_samples += ["theta0"] if p.lead else []
        else:
            lists["theta"] = each("theta", 0.01, 0.3)
    tensors = imaging_operators.held(d, o) == "tensors" and prior.takes_gradients_of(d)
    leaves = {**inputs, **numbers}
    _spoiled(d, leaves, scheme, made)
    leaves |= o.leaves if tensors else {}
    keep = d.chance("return_layers", 0.25)
    segment = d.random.randint(1, layers) if not keep and d.chance("keep_every", 0.2) else None
    state = scheme in ("FISTA", "ADMM", "ADMM of data") and not keep and d.chance("return_state", 0.2)
    kept = None if tensors else o.make(o.leaves, False)
    kept_matrix, wide = None if kept is None else o.matrix(widened_copy(kept)), widened_copy(made)

    def run(v: Leaves) -> Tensor:
        given: Any = {key: [v[name] for name in names] for key, names in lists.items()}
        A = o.make(v, False) if kept is None else kept
        linear = fu.GradientStep(A, step=given["step"]) if SCHEMES[scheme] else fu.DataStep(A, given["rho"])
        made_scheme: Any = {
            "FISTA": lambda: schemes.FISTA(given["beta"]),
            "PrimalDual": lambda: schemes.PrimalDual(given["sigma"], given["omega"]),
            "ADMM": lambda: schemes.ADMM(given["eta"]),
            "ADMM of data": lambda: schemes.ADMM(given["eta"]),
        }.get(scheme, getattr(schemes, scheme, None))()
        out: Any = fu.unrolled(
            v["y"], linear, made, given.get("theta"), layers=layers, scheme=made_scheme, x0=v.get("x0"),
            s0=v.get("s0"), return_layers=keep, return_state=state, keep_every=segment,
        )  # fmt: skip
        return torch.stack(out, -len(o.shape_in) - 1) if state else out

    def exact(v: Leaves) -> Tensor:
        A = o.matrix(o.make(v, False)) if kept_matrix is None else kept_matrix
        given = {key: [v[name] for name in names] for key, names in lists.items()}
        none = [v["y"].real.new_zeros(())]

        def shrink(k: int, z: Tensor) -> Tensor:
            return prior.formula(wide, k, z, of(given.get("theta", none), k))

        x, s = Layers(o, A, scheme, given, shrink).run(v["y"], v.get("x0"), v.get("s0"), layers)
        return torch.stack([x[-1], s], -len(o.shape_in) - 1) if state else x if keep else x[-1]

    together = not o.is_each or (tensors and set(o.of_samples) == set(o.leaves))
    without = [] if together else ["vmap", "per_sample_gradient"]
    without += ["autocast"] if made.takes_autocast else []  # whose convolutions are of its precision
    return Subject(
        "pictures", leaves, run, exact, p.lead, (*of_samples, *(o.of_samples if tensors else ())),
        layers if keep else 0, native=together and _is_native(o, p, made, scheme, d), precision=p.dtype, spreads=True,
        options={"same set": True, "without": without},
    )  # fmt: skip


class Exact(nn.Module):
    """A network over pictures in double precision, by a dense matrix and formulas."""

    def __init__(self, net: fu.nn.Unrolled, o: Operator, scheme: str, prior: Prior) -> None:
        super().__init__()
        self.net, self.o, self.scheme, self.prior = widened_copy(net), o, scheme, prior

    def forward(self, y: Tensor, x0: Tensor | None, op: Any, layers: int) -> Tensor:
        net = self.net
        numbers = {
            name: [t.exp() for t in getattr(net, f"log_{name}")] if name in LOGARITHMS else [*getattr(net, name)]
            for name in net.numbers
        }
        numbers |= {"step": numbers["tau"]} if "tau" in numbers else {}

        def shrink(k: int, z: Tensor) -> Tensor:
            theta = of(numbers["theta"], k) if "theta" in numbers else y.real.new_zeros(())
            return self.prior.formula(net.prox, k, z, theta)

        A = self.o.matrix(net.operator if op is None else op)
        return Layers(self.o, A, self.scheme, numbers, shrink).run(y, x0, None, layers)[0]


def _scheme(name: str) -> Any:
    return schemes.ADMM(0.9) if name == "ADMM of data" else getattr(schemes, name)()


HISTORY = [
    "call", "recorded call", "in place", "element", "data whole", "numpy", "new data", "other strides",
    "new parameter", "shared parameter", "optimizer", "load_state_dict", "saved", "there and back", "frozen", *COPIES,
]  # fmt: skip


def _lived(d: Draw, net: Any, y: Tensor, right: Callable[[Any, str], None]) -> Any:
    for _ in range(d.pick("events", [0, 1, 2], [4, 2, 1])):
        right(net, "nothing")
        event = d.pick("event", HISTORY)
        if event in COPIES:
            net = COPIES[event](net)
        else:
            EVENTS[event](d, net, y)
        right(net, event)
    return net


def network(d: Draw) -> Subject:
    """fu.nn.Unrolled over an operator of imaging, with a history."""
    p, o, scheme = _pieces(d)
    scheme = "ADMM of data" if scheme == "ADMM" else scheme  # which is that of networks
    layers = d.pick("layers", [1, 2, 3, 5], [3, 3, 3, 1])
    prior, made = imaging_priors.prior(d, p, o.shape_in, layers)
    learns = o.learns and bool(o.leaves) and prior.takes_gradients_of(d) and d.chance("operator learns", 0.4)
    op = o.make(o.leaves, learns)
    step = 1 / _length(o, op)
    net = fu.nn.Unrolled(
        _scheme(scheme), op, made, layers, lam=d.pick("lam", [0.1, 0.3]) / step, step=step, dtype=p.real
    )
    inputs = _inputs(d, p, o, "")
    with torch.no_grad():
        for t in net.parameters():
            t.add_(0.1 * torch.randn_like(t))

    def right(net: Any, event: str) -> None:
        exact = Exact(net, o, scheme, prior)
        theirs = {name: t.detach() for name, t in exact.named_parameters()}

        def evaluate(v: Leaves) -> list[Tensor]:
            own = {name: t for name, t in v.items() if name != "y"}
            return [torch.func.functional_call(exact, own, (v["y"], None, None, layers))[-1]]

        with torch.no_grad():
            count = torch.Size(p.lead).numel()
            rows = [lambda t: t.reshape(count, torch.Size(o.shape_in).numel())]
            leaves = {"y": widened(inputs["y"]), **theirs}
            compare(f"after {event}, values", [net(inputs["y"])], evaluate, leaves, rows, p.dtype)

    net = _lived(d, net, inputs["y"], right)
    _spoiled(d, inputs, scheme, made)
    numbers = {name: t for name, t in net.named_parameters() if name.split(".")[0] in ("log_theta", "log_step", "beta")}
    if numbers and d.chance("a number is not finite", 0.04):
        t = d.random.choice(list(numbers.values()))
        t.data = spoil(d, t.data, (math.nan,))
    other = o.make(_redrawn(d, o), False) if o.leaves and d.chance("operator of the call", 0.2) else None
    keep = d.chance("return_layers", 0.25)
    segment = d.random.randint(1, layers) if not keep and d.chance("keep_every", 0.2) else None
    exact, own = Exact(net, o, scheme, prior), dict(net.named_parameters())
    constants = {f"net.{name}": widened(t) for name, t in net.named_buffers()}
    wide = None if other is None else widened_copy(other)
    options = {"return_layers": keep, "operator": other, "keep_every": segment}

    def run(v: Leaves) -> Tensor:
        theirs = {name: v[name] for name in own if v[name] is not own[name]}
        found: Tensor = torch.func.functional_call(net, theirs, (v["y"], v.get("x0")), options)
        return found

    def evaluate(v: Leaves) -> Tensor:
        theirs = {name if name in constants else f"net.{name}": v[name] for name in (*own, *constants)}
        found = torch.func.functional_call(exact, theirs, (v["y"], v.get("x0"), wide, layers))
        return found if keep else found[-1]

    without = ["vmap", "per_sample_gradient"] if o.is_each else []
    without += ["autocast"] if made.takes_autocast else []
    without += ["trace"] if keep or segment or other is not None or "x0" in inputs or _shares(net) else []
    without += [] if SCHEMES[scheme] else ["trace"]  # which refuses steps of conjugate gradients
    return Subject(
        "Unrolled", {**inputs, **own}, run, evaluate, p.lead, tuple(inputs), layers if keep else 0,
        native=not o.is_each and _is_native(o, p, made, scheme, d), module=net, constants=constants,
        precision=p.dtype, spreads=True,
        options={"same set": True, "without": without, "beyond": _unused(own, other, made, layers)},
    )  # fmt: skip


def _redrawn(d: Draw, o: Operator) -> dict[str, Tensor]:
    """Other values, for another operator of the same kind."""
    return {name: (t * d.uniform(0.5, 1.2)).to(t.dtype) for name, t in o.leaves.items()}


def _shares(net: nn.Module) -> bool:
    return len(dict(net.named_parameters())) < len(list(net.named_parameters(remove_duplicate=False)))


def _unused(own: dict[str, Tensor], other: Any, made: prox.Proximal, layers: int) -> list[str]:
    """The parameters of an operator that the call replaces, and of the copies that no layer has."""
    ended = f"prox.copies.{layers}."
    return [name for name in own if name.startswith(ended) or (other is not None and name.startswith("operator."))]


def equilibrium(d: Draw) -> Subject:
    """A deep equilibrium network, whose layer contracts: its fixed point and the gradient of it."""
    p, o, scheme = _pieces(d)
    scheme = scheme if scheme in ("ProximalGradient", "HQS", "FISTA") else "ProximalGradient"
    op = o.make(o.leaves, o.learns and bool(o.leaves) and d.chance("operator learns", 0.4))
    prior = Prior(lambda d, p, layers: None, lambda prior, k, z, theta: imaging_priors.contraction(z))  # type: ignore[arg-type,return-value]
    step, tol = 0.9 / _length(o, op), 1e-11 if p.real == torch.float64 else 2e-6
    made = schemes.FISTA(0.1) if scheme == "FISTA" else _scheme(scheme)
    net = fu.nn.Unrolled(
        made, op, prox.Denoiser(imaging_priors.contraction), None, step=step, tol=tol, max_iter=200, dtype=p.real
    )
    inputs = _inputs(d, p, o, "")
    exact, own = Exact(net, o, scheme, prior), dict(net.named_parameters())
    constants = {f"net.{name}": widened(t) for name, t in net.named_buffers()}

    def run(v: Leaves) -> Tensor:
        theirs = {name: v[name] for name in own if v[name] is not own[name]}
        found: Tensor = torch.func.functional_call(net, theirs, (v["y"], v.get("x0")))
        return found

    def evaluate(v: Leaves) -> Tensor:
        theirs = {name if name in constants else f"net.{name}": v[name] for name in (*own, *constants)}
        found: Tensor = torch.func.functional_call(exact, theirs, (v["y"], None, None, 80))[-1]
        return found

    return Subject(
        "equilibrium", {**inputs, **own}, run, evaluate, p.lead, tuple(inputs), module=net, constants=constants,
        precision=p.dtype, spreads=True, slack=100 * tol,
        options={"without": ["second", "jvp", "vmap", "per_sample_gradient", "compiled", "trace"]},
    )  # fmt: skip
