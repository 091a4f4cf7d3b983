"""The forms of a layer, each with random parameters, for the tests of every form."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import fastunroll as fu
import torch
from fastunroll.prox import L1, GroupL1, Identity, NonNegativeL1, Proximal, SupportSelection
from fastunroll.schemes import ADMM, AMP, FISTA, ProximalGradient, Scheme
from fastunroll.steps import AffineStep, GradientStep
from torch import Tensor


@dataclass(frozen=True)
class Form:
    """What a layer computes, and at which size."""

    name: str
    linear: str  # affine, affine-tied; gradient (W = A), gradient-own, gradient-shared; gram (W = A), gram-shared
    scheme: str = "proximal_gradient"
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

_KINDS = [
    Form("lista", "affine"),
    Form("tied", "affine-tied", vector=True),
    Form("selection", "affine", prox={"support_sizes": (1, 3, 5)}),
    Form("lfista", "affine", "fista"),
    Form("admm-dense", "affine", "admm"),
    Form("admm-shared", "affine-tied", "admm", starts=True),
    Form("ista", "gradient"),
    Form("step-lista", "gradient", vector=True, starts=True),
    Form("lista-cp", "gradient-own"),
    Form("cpss", "gradient-own", prox={"support_sizes": (2, 2, 20)}),
    Form("alista", "gradient-shared", prox={"support_sizes": (1, 2, 3)}, starts=True),
    Form("fista", "gradient", "fista"),
    Form("fista-from", "gradient-own", "fista", starts=True),
    Form("lamp", "gradient-own", "amp"),
    Form("amp", "gradient", "amp", starts=True),
    Form("lamp-gain", "gradient-shared", "amp", prox={"gain": True}, vector=True),
    Form("admm", "gradient-own", "admm"),
    Form("admm-svd", "gradient-shared", "admm", vector=True, starts=True),
    Form("nonnegative", "gradient", prox={"kind": "nonnegative"}),
    Form("nonnegative-selection", "affine", prox={"kind": "nonnegative", "support_sizes": (2, 0, 4)}),
    Form("elastic-net", "gradient", prox={"gain": True}),
    Form("group", "affine", prox={"group": 3}, vector=True),
    Form("group-selection", "gradient", prox={"group": 2, "support_sizes": (1, 2, 4), "gain": True}),
    Form("gram", "gram"),
    Form("gram-alista", "gram-shared", prox={"support_sizes": (1, 2, 3)}, starts=True),
    Form("gram-fista", "gram", "fista", prox={"group": 2}),
    Form("gram-admm", "gram-shared", "admm", starts=True),
    Form("gradient", "gradient", prox={"kind": "identity"}),
    Form("gradient-momentum", "gradient-shared", "fista", prox={"kind": "identity", "gain": True}),
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


@dataclass
class Problem:
    """Arguments of one call."""

    form: Form
    y: Tensor
    linear: Any
    theta: Any
    gain: Any
    scheme: Scheme
    x0: Tensor | None
    s0: Tensor | None

    @property
    def prox(self) -> Proximal:
        return prox_of(self.form.prox)

    @property
    def numbers(self) -> Any:
        """The numbers of the scheme."""
        return [getattr(self.scheme, name) for name in self.scheme.numbers]

    @property
    def has_state(self) -> bool:
        return self.scheme.has_state

    @property
    def _values(self) -> list[Any]:
        return [self.y, self.x0, self.s0, *_given(self.linear).values(), self.theta, self.gain, *self.numbers]

    @property
    def leaves(self) -> list[Tensor]:
        """Everything a gradient can be asked for."""
        each = [v for value in self._values for v in (value if isinstance(value, list) else [value])]
        return [t for t in each if isinstance(t, Tensor)]

    def mapped(self, change: Any, layers: slice | None = None) -> Problem:
        """The same call of other tensors; of some of its ``layers``, if they are given."""

        def swap(value: Any) -> Any:
            if isinstance(value, list):
                return [swap(v) for v in (value if layers is None else value[layers])]
            return change(value) if isinstance(value, Tensor) else value

        y, x0, s0 = swap(self.y), swap(self.x0), swap(self.s0)
        linear = type(self.linear)(**{k: swap(v) for k, v in _given(self.linear).items()})
        theta, gain = swap(self.theta), swap(self.gain)
        scheme = replace(self.scheme, **{name: swap(getattr(self.scheme, name)) for name in self.scheme.numbers})
        return Problem(self.form, y, linear, theta, gain, scheme, x0, s0)

    def with_leaves(self, leaves: list[Tensor]) -> Problem:
        """The same call of other tensors, in the order of ``leaves``."""
        left = iter(leaves)
        return self.mapped(lambda _: next(left))

    def run(self, **options: Any) -> Any:
        given = {"layers": self.form.layers, "x0": self.x0, "s0": self.s0, "prox": self.prox, **options}
        return fu.unrolled(self.y, self.linear, theta=self.theta, gain=self.gain, scheme=self.scheme, **given)

    def reference(self) -> tuple[Tensor, Tensor]:
        """Every layer, and the second state, by the reference."""
        f, linear = self.form, self.linear

        def several(value: Any) -> list[Tensor]:
            return [] if value is None else value if isinstance(value, list) else [value]

        is_affine = isinstance(linear, AffineStep)
        W1, W2 = (linear.W1, linear.W2) if is_affine else (linear.A, linear.W)
        y, kind = self.y, "affine" if is_affine else "gradient"
        if not is_affine and linear.via == "gram":  # of G = WᴴA and Wᴴy
            W = linear.A if linear.W is None else linear.W
            y, W1, W2, kind = y @ W.conj(), W.mH @ linear.A, None, "gram"
        x0 = self.y.new_zeros(f.batch, f.n) if self.x0 is None else self.x0
        return fu.reference.network(
            y, several(W1), several(W2), [] if is_affine else several(linear.step), several(self.theta),
            several(self.gain), several(self.numbers[0] if self.numbers else None), x0, self.s0, layers=f.layers,
            linear=kind, scheme=f.scheme, prox=f.prox.get("kind", "soft"), group=f.prox.get("group", 1),
            support_sizes=f.prox.get("support_sizes", ()),
        )  # fmt: skip


def _given(piece: Any) -> dict[str, Any]:
    return {f.name: getattr(piece, f.name) for f in fields(piece) if f.init}


def prox_of(options: dict[str, Any]) -> Proximal:
    """The proximal operator of a form."""
    kinds = {"soft": L1, "nonnegative": NonNegativeL1, "identity": Identity}
    prox: Proximal = GroupL1(options["group"]) if options.get("group", 1) > 1 else kinds[options.get("kind", "soft")]()
    return SupportSelection(options["support_sizes"], prox) if options.get("support_sizes") else prox


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
    if form.linear.startswith("affine"):
        count = 1 if form.linear == "affine-tied" else K
        linear = AffineStep(each(count, lambda: draw(n, m) / m**0.5), each(count, lambda: draw(n, n) / n**0.5))
    else:
        A = draw(m, n) / (m + n) ** 0.5
        own = [draw(m, n) / n**0.5 for _ in range(K)]
        W = {"gradient": None, "gradient-shared": own[0], "gram": None, "gram-shared": own[0]}.get(form.linear, own)
        via = "gram" if form.linear.startswith("gram") else "residual"
        step = None if form.scheme == "amp" else each(K, lambda: positive(n if via == "gram" else m, 0.4))
        linear = GradientStep(A, W, step, via)
    gain = None
    if form.prox.get("gain"):
        gain = each(K, lambda: (0.6 + torch.rand((), generator=g, dtype=torch.float64)).to(real))
    group = form.prox.get("group", 1)
    low = 0.5 if form.dtype.is_complex else 0.3
    theta = None
    if form.prox.get("kind") != "identity":
        theta = each(K, lambda: positive(n // group, low * group**0.5))
    numbers = each(K, lambda: torch.rand((), generator=g, dtype=torch.float64).to(real))
    schemes = {"fista": FISTA(numbers), "admm": ADMM(numbers), "amp": AMP(), "proximal_gradient": ProximalGradient()}
    y = draw(form.batch, m) * 2
    x0 = s0 = None
    if form.starts:
        x0 = draw(form.batch, n)
        x0 = x0 * (x0.abs() > 1)
        s0 = draw(form.batch, m if form.scheme == "amp" else n) / 2 if form.scheme != "proximal_gradient" else None
    p = Problem(form, y, linear, theta, gain, schemes[form.scheme], x0, s0)
    if requires_grad:
        for t in p.leaves:
            t.requires_grad_()
    return p
