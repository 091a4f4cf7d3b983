"""Random networks of ``fastunroll.nn``, each with a history of events."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import fastunroll as fu
import torch
from torch import Tensor, nn
from twins import twin

from .compare import compare
from .draw import Draw
from .events import COPIES, EVENTS, convert
from .subject import Leaves, Subject, widened, widened_copy
from .tensors import expanded, spoil

SELECTED = ["ALISTA", "GLISTA", "LISTACPSS", "LISTASS", "TiLISTA"]
TIED = ["GLISTA", "LAMP", "LFISTA", "LISTA", "LISTACP", "LISTACPSS", "LISTASS"]
VECTORS = ["GLISTA", "LFISTA", "LISTA", "LISTACP", "LISTACPSS", "LISTASS"]
REAL = ["GLISTA", "HyperLISTA", "LISTA", "LVAMP"]
PLAIN = ["GLISTA", "HyperLISTA", "LVAMP"]  # layers in PyTorch, products native
NAMES = sorted(n for n, c in vars(fu.nn).items() if isinstance(c, type) and issubclass(c, fu.nn.UnrolledNetwork)
               and c is not fu.nn.UnrolledNetwork)  # fmt: skip
DTYPES = [torch.float64, torch.float32, torch.complex128, torch.complex64, torch.bfloat16, torch.float16]


class Twin(nn.Module):
    """A network of double precision, run in plain PyTorch."""

    def __init__(self, net: fu.nn.UnrolledNetwork) -> None:
        super().__init__()
        self.net = widened_copy(net)

    def forward(self, y: Tensor, x0: Tensor | None) -> Tensor:
        return twin(self.net, y, x0)


def _options(d: Draw, name: str) -> dict[str, Any]:
    options: dict[str, Any] = {"layers": d.pick("layers", [1, 2, 3, 5, 16], [3, 3, 3, 2, 0.5])}
    if name in SELECTED:
        options["selection"] = d.pick("selection", [None, (10.0, 30.0), (1.2, 13.0), (0.0, 0.0), (50.0, 100.0)])
    if name in TIED:
        options["tied"] = d.pick("tied", [False, True])
    if name in VECTORS:
        options["threshold"] = d.pick("threshold", ["scalar", "vector"])
    if name in ("LAMP", "LVAMP"):
        options["shrinkage"] = d.pick("shrinkage", ["soft", "bernoulli-gaussian"], [3, 1])
    if name == "LAMP":
        options["start"] = d.pick("start", ["adjoint", "analytic"])
    if name == "GLISTA":
        options["gain"] = d.pick("gain", ["relu", "inverse", "exponential", "sigmoid"])
    if name == "ADMMNet":
        options["solve"] = d.pick("solve", ["exact", "factorised", "learned"])
        options["rho"] = d.uniform(0.3, 2)
    if name == "HyperLISTA":
        options |= {"c1": d.uniform(0, 0.1), "c2": d.uniform(0, 0.1), "c3": d.pick("c3", [0.0, 3.0, 30.0])}
    elif name not in ("LAMP", "LVAMP", "ALISTA"):
        options["lam"] = d.pick("lam", [0.1, 0.4, 0.0], [4, 4, 1])
    return options


def build(d: Draw) -> fu.nn.UnrolledNetwork:
    """A network whose parameters are nobody's start, and differ between layers."""
    name = d.pick("network", NAMES)
    options = _options(d, name)
    dtypes = [t for t in DTYPES if not (t.is_complex and (name in REAL or options.get("shrinkage", "soft") != "soft"))]
    dtype = d.pick(
        "dtype", dtypes, [{torch.float64: 10, torch.float32: 5}.get(t, 2 if t.is_complex else 1) for t in dtypes]
    )
    sizes = [1, 2, 3, 5, 8, 11, 16, 17, 31, 33, 64, 65, 130]
    m, n = d.size("m", sizes), d.size("n", sizes)
    if name in PLAIN:  # a pseudo-inverse and singular values of a square matrix are badly conditioned
        m, n = max(2, min(m, n)), max(m, n) * 2 + 1
    if dtype.itemsize < 4 and options.get("lam") == 0:  # z rounds to zero, where the derivative under θ = 0 is zero
        options["lam"] = 0.1
    A = torch.randn(m, n, dtype=torch.complex128 if dtype.is_complex else torch.float64)
    A = A / A.norm(dim=0) * (0.7 + 0.6 * torch.rand(n))  # else magnitudes are equal where there is one measurement
    net = getattr(fu.nn, name)(A, **options)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    convert(net, dtype)
    if name == "LISTA" and dtype == torch.float32 and d.chance("weights=bf16", 0.05):
        net.weights = "bf16"
    return net


def _lived(d: Draw, net: Any, y: Tensor) -> Any:
    """The network after some events, each of which a call without gradients precedes, and sometimes another follows."""
    for _ in range(d.pick("events", [0, 1, 2, 4], [3, 3, 2, 1])):
        EVENTS["call"](d, net, y)
        event = d.pick("event", [*EVENTS, *COPIES])
        parametrized = any(map(nn.utils.parametrize.is_parametrized, net.modules()))
        if event in COPIES:
            net = COPIES[event](net) if event == "deepcopy" or not parametrized else net
        elif not parametrized or event in ("call", "recorded call", "in place", "frozen", "optimizer"):
            EVENTS[event](d, net, y)
        _now_right(net, y, event)
    return net


def _now_right(net: Any, y: Tensor, event: str) -> None:
    """What one call sees of what has just happened; bfloat16 weights are seen rounded."""
    if getattr(net, "weights", "full") != "full":
        return
    with torch.no_grad():
        exact = Twin(net)
        count = y.shape[:-1].numel()
        # Parameters too are rounded, and what is made of them: a parametrization is computed in their precision.
        theirs = {name: t.detach() for name, t in exact.named_parameters()}

        def evaluate(leaves: Leaves) -> list[Tensor]:
            own = {name: t for name, t in leaves.items() if name != "y"}
            return [torch.func.functional_call(exact, own, (leaves["y"], None))[-1]]

        compare(
            f"after {event}, values", [net(y)], evaluate, {"y": widened(y), **theirs},
            [lambda t: t.reshape(count, net.n)], y.dtype,
        )  # fmt: skip


def network(d: Draw) -> Subject:
    net = build(d)
    name = type(net).__name__
    matrix = net._matrix()
    dtype = matrix.dtype
    lead = d.lead()
    y = expanded(d, d.normal(*lead, net.m, dtype=dtype))
    net = _lived(d, net, y)
    halved = getattr(net, "weights", "full") != "full"
    inputs = {"y": y}
    starts = name not in ("LVAMP",) and d.chance("x0", 0.3)
    if starts:
        inputs["x0"] = d.normal(*lead, net.n, dtype=dtype) * (d.normal(*lead, net.n, dtype=dtype).abs() > 0.7)
    if d.chance("not finite", 0.12) and not halved:
        _spoil_one(d, net, inputs)
    layers = d.chance("return_layers", 0.3)
    depth = d.random.randint(1, net.layers) if d.chance("depth", 0.15) else None
    bernoulli = hasattr(getattr(net, "shrinkage", None), "logit")
    exact = Twin(net)
    own = dict(net.named_parameters())
    constants = {f"net.{k}": widened(t) for k, t in net.named_buffers()}

    def run(leaves: Leaves) -> Tensor:
        theirs = {k: leaves[k] for k in own if leaves[k] is not own[k]}
        arguments = (leaves["y"], leaves.get("x0"), layers)
        if not theirs:
            return net(*arguments, depth=depth)
        return torch.func.functional_call(net, theirs, arguments, {"depth": depth})

    def oracle(leaves: Leaves) -> Tensor:
        if halved:
            leaves = {k: t.bfloat16().double() if k[0] == "W" else t for k, t in leaves.items()}
        theirs = {k if k in constants else f"net.{k}": t for k, t in leaves.items() if k not in inputs}
        out = torch.func.functional_call(exact, theirs, (leaves["y"], leaves.get("x0")))[: depth or net.layers]
        return out if layers else out[-1]

    # Where a gradient is recorded, weights are not rounded.
    without = ["jvp", "per_sample_gradient", "second", "vmap", "grad", "python_threads", "compiled"] if halved else []
    without += ["trace"] if halved else []  # whose parameters require a gradient
    shared = len(own) < len(list(net.named_parameters(remove_duplicate=False)))
    if layers or depth or starts or shared or any(map(nn.utils.parametrize.is_parametrized, net.modules())):
        without.append("trace")  # which PyTorch does of modules with y alone, and with nothing shared
    if bernoulli or name in ("HyperLISTA", "LVAMP"):
        without.append("jvp")  # of the oracle
    return Subject(
        name, {**inputs, **own}, run, oracle, lead, tuple(inputs), (depth or net.layers) if layers else 0,
        native=name not in PLAIN and not bernoulli and dtype.to_real().itemsize >= 4
        and not (name == "ADMMNet" and dtype.is_complex),
        module=net, constants=constants, options={"without": without, "beyond": _beyond(own, depth)},
    )  # fmt: skip


def _beyond(names: Iterable[str], depth: int | None) -> list[str]:
    """The parameters of layers that are not run: the first number in a name is that of a layer."""
    layers = {name: int(n) for name in names for n in re.findall(r"\.(\d+)", name)[:1]}
    return [] if depth is None else [name for name, layer in layers.items() if layer >= depth]


def _spoil_one(d: Draw, net: fu.nn.UnrolledNetwork, inputs: dict[str, Tensor]) -> None:
    parameters = dict(net.named_parameters())
    names = [name for name in inputs if inputs[name].numel()] + list(parameters)
    name = d.random.choice(names)
    d.say(f"not finite in {name.rstrip('0123456789.')}")
    if name in inputs:
        inputs[name] = spoil(d, inputs[name])
    else:
        values: tuple[float, ...] = (math.nan, math.inf, -math.inf)
        # What infinite parameters of a statistical model mean is its own affair.
        if name.startswith(("c", "log_noise", "shrinkage.log_power", "shrinkage.logit")):
            values = (math.nan,)
        if name.startswith("log_rho") and net.m > net.n:
            values = (math.nan, math.inf)  # without rho there is no inverse of A Aᴴ to compare with
        parameters[name].data = spoil(d, parameters[name].data, values)
