"""The forms of a layer, each with random parameters, for the tests of every form."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import fastunroll as fu
import torch
from fastunroll.layers import Coupled, Direct, Gram, Momentum, Onsager, Prox, Splitting
from torch import Tensor


@dataclass(frozen=True)
class Form:
    """What a layer computes, and at which size."""

    name: str
    linear: str  # direct, direct-tied; coupled (W = A), coupled-own, coupled-shared; gram (W = A), gram-shared
    state: str = "none"
    prox: dict[str, Any] = field(default_factory=dict)
    m: int = 11
    n: int = 18
    layers: int = 3
    batch: int = 5
    vector: bool = False  # a threshold for each element or group, a step for each row
    starts: bool = False
    dtype: torch.dtype = torch.float64

    def __str__(self) -> str:
        size = f"{self.m}x{self.n}-K{self.layers}-B{self.batch}"
        options = "-vector" * self.vector + "-starts" * self.starts
        return f"{self.name}-{self.linear}-{size}{options}-{str(self.dtype)[6:]}"


# The names of the reference for a form's state, and for kinds of Prox that have another name there.
SCHEMES = {"none": "proximal_gradient", "momentum": "fista", "splitting": "admm", "onsager": "amp"}
PROXES = {"none": "identity"}

SOFT: dict[str, Any] = {}
_KINDS = [
    Form("lista", "direct"),
    Form("tied", "direct-tied", vector=True),
    Form("selection", "direct", prox={"passing": (1, 3, 5)}),
    Form("lfista", "direct", "momentum"),
    Form("admm-dense", "direct", "splitting"),
    Form("admm-shared", "direct-tied", "splitting", starts=True),
    Form("ista", "coupled"),
    Form("step-lista", "coupled", vector=True, starts=True),
    Form("lista-cp", "coupled-own"),
    Form("cpss", "coupled-own", prox={"passing": (2, 2, 20)}),
    Form("alista", "coupled-shared", prox={"passing": (1, 2, 3)}, starts=True),
    Form("fista", "coupled", "momentum"),
    Form("fista-from", "coupled-own", "momentum", starts=True),
    Form("lamp", "coupled-own", "onsager"),
    Form("amp", "coupled", "onsager", starts=True),
    Form("lamp-gain", "coupled-shared", "onsager", prox={"gain": True}, vector=True),
    Form("admm", "coupled-own", "splitting"),
    Form("admm-svd", "coupled-shared", "splitting", vector=True, starts=True),
    Form("nonnegative", "coupled", prox={"kind": "nonnegative"}),
    Form("nonnegative-selection", "direct", prox={"kind": "nonnegative", "passing": (2, 0, 4)}),
    Form("elastic-net", "coupled", prox={"gain": True}),
    Form("group", "direct", prox={"group": 3}, vector=True),
    Form("group-selection", "coupled", prox={"group": 2, "passing": (1, 2, 4), "gain": True}),
    Form("gram", "gram"),
    Form("gram-alista", "gram-shared", prox={"passing": (1, 2, 3)}, starts=True),
    Form("gram-fista", "gram", "momentum", prox={"group": 2}),
    Form("gram-admm", "gram-shared", "splitting", starts=True),
    Form("gradient", "coupled", prox={"kind": "none"}),
    Form("gradient-momentum", "coupled-shared", "momentum", prox={"kind": "none", "gain": True}),
]
_SIZES = [
    {"m": 1, "n": 6, "layers": 3, "batch": 1},
    {"m": 16, "n": 192, "layers": 3, "batch": 17},
    {"m": 33, "n": 132, "layers": 3, "batch": 70},
    {"m": 20, "n": 30, "layers": 3, "batch": 0},
]
FORMS = _KINDS + [replace(f, **size) for f in _KINDS for size in _SIZES]
SMALL = _KINDS
COMPLEX = [replace(f, dtype=torch.complex128) for f in _KINDS if f.prox.get("kind") != "nonnegative"]


def given(piece: Any) -> dict[str, Any]:
    return {f.name: getattr(piece, f.name) for f in fields(piece) if f.init}


@dataclass
class Problem:
    """Arguments of one call."""

    form: Form
    y: Tensor
    linear: Any
    prox: Prox
    state: Any
    x0: Tensor | None
    s0: Tensor | None

    @property
    def leaves(self) -> list[Tensor]:
        """Everything a gradient can be asked for."""
        pieces = [self.y, self.x0, self.s0]
        for piece in (self.linear, self.prox, self.state):
            for value in given(piece).values() if piece is not None else ():
                pieces += value if isinstance(value, list) else [value]
        return [t for t in pieces if isinstance(t, Tensor)]

    def with_leaves(self, leaves: list[Tensor]) -> Problem:
        """The same call of other tensors, in the order of ``leaves``."""
        left = iter(leaves)

        def swap(value: Any) -> Any:
            if isinstance(value, list):
                return [swap(v) for v in value]
            return next(left) if isinstance(value, Tensor) else value

        y, x0, s0 = swap(self.y), swap(self.x0), swap(self.s0)
        pieces = [
            piece if piece is None else type(piece)(**{k: swap(v) for k, v in given(piece).items()})
            for piece in (self.linear, self.prox, self.state)
        ]
        return Problem(self.form, y, *pieces, x0, s0)

    def run(self, **options: Any) -> Any:
        return fu.unrolled(
            self.y, self.linear, self.prox, layers=self.form.layers, state=self.state, x0=self.x0, s0=self.s0, **options
        )

    def reference(self) -> tuple[Tensor, Tensor]:
        """Every layer, and the second state, by the reference."""
        f, linear = self.form, self.linear

        def several(value: Any) -> list[Tensor]:
            return [] if value is None else value if isinstance(value, list) else [value]

        direct = isinstance(linear, Direct)
        first, second = (linear.W1, linear.W2) if direct else (linear.A, linear.W)
        y, kind = self.y, "affine" if direct else "gradient"
        if isinstance(linear, Gram):  # of G = WᴴA and Wᴴy
            W = linear.A if linear.W is None else linear.W
            y, first, second, kind = y @ W.conj(), W.mH @ linear.A, None, "gram"
        blend = self.state.beta if f.state == "momentum" else self.state.eta if f.state == "splitting" else None
        x0 = self.y.new_zeros(f.batch, f.n) if self.x0 is None else self.x0
        return fu.reference.network(
            y, several(first), several(second), [] if direct else several(linear.step),
            several(self.prox.theta), several(self.prox.gain), several(blend), x0, self.s0,
            layers=f.layers, linear=kind, scheme=SCHEMES[f.state], prox=PROXES.get(self.prox.kind, self.prox.kind),
            group=self.prox.group, support_sizes=self.prox.passing or (),
        )  # fmt: skip


def build(form: Form, *, requires_grad: bool = False, seed: int = 0) -> Problem:
    """Parameters and inputs at random, such that a good part of each iterate is zero."""
    g = torch.Generator().manual_seed(seed)
    m, n, K = form.m, form.n, form.layers
    real = form.dtype.to_real()

    def draw(*shape: int, dtype: torch.dtype = form.dtype) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.complex128 if dtype.is_complex else torch.float64).to(dtype)

    def each(count: int, make: Any) -> Any:
        return make() if count == 1 else [make() for _ in range(count)]

    def positive(size: int, low: float) -> Tensor:
        shape = (size,) if form.vector else ()
        return (low + 0.3 * torch.rand(shape, generator=g, dtype=torch.float64)).to(real)

    linear: Any
    if form.linear.startswith("direct"):
        count = 1 if form.linear == "direct-tied" else K
        linear = Direct(each(count, lambda: draw(n, m) / m**0.5), each(count, lambda: draw(n, n) / n**0.5))
    else:
        A = draw(m, n) / (m + n) ** 0.5
        own = [draw(m, n) / n**0.5 for _ in range(K)]
        W = {"coupled": None, "coupled-shared": own[0], "gram": None, "gram-shared": own[0]}.get(form.linear, own)
        gram = form.linear.startswith("gram")
        step = None if form.state == "onsager" else each(K, lambda: positive(n if gram else m, 0.4))
        linear = Gram(A, W, step) if gram else Coupled(A, W, step)
    options = dict(form.prox)
    if options.get("gain"):
        options["gain"] = each(K, lambda: (0.6 + torch.rand((), generator=g, dtype=torch.float64)).to(real))
    group = options.get("group", 1)
    low = 0.5 if form.dtype.is_complex else 0.3
    theta = None if options.get("kind") == "none" else each(K, lambda: positive(n // group, low * group**0.5))
    prox = Prox(theta, **options)
    blend = each(K, lambda: torch.rand((), generator=g, dtype=torch.float64).to(real))
    state = {"momentum": Momentum(blend), "splitting": Splitting(blend), "onsager": Onsager(), "none": None}[form.state]
    y = draw(form.batch, m) * 2
    x0 = s0 = None
    if form.starts:
        x0 = draw(form.batch, n)
        x0 = x0 * (x0.abs() > 1)
        s0 = None if form.state == "none" else draw(form.batch, m if form.state == "onsager" else n) / 2
    p = Problem(form, y, linear, prox, state, x0, s0)
    if requires_grad:
        for t in p.leaves:
            t.requires_grad_()
    return p
