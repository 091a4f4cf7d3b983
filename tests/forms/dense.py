"""Rows of the table whose operator is one matrix for all samples, or two."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import fastunroll as fu
import torch
from fastunroll.prox import L1, GroupL1, Identity, NonNegativeL1, Proximal, SupportSelection
from fastunroll.schemes import ADMM, AMP, FISTA, ProximalGradient, Scheme
from fastunroll.steps import AffineStep, GradientStep
from torch import Tensor

from .row import Problem as AnyProblem
from .row import Row

# Matrices are shared by all layers, but for "affine" and "gradient-own". W of "gradient" and "gram" is A.
OPERATORS = ("affine", "affine-tied", "gradient", "gradient-own", "gradient-shared", "gram", "gram-shared")
SCHEMES = ("proximal_gradient", "fista", "admm", "amp")


@dataclass(frozen=True)
class Form(Row):
    """Layers over matrices."""

    m: int = 11
    n: int = 18
    group: int = 1
    support_sizes: tuple[int, ...] = ()
    gain: bool = False
    vector: bool = False  # a threshold for each element or group, a step for each row

    has_device_kernels: ClassVar[bool] = True
    skips_zeros: ClassVar[bool] = True
    tiny: ClassVar[dict[str, Any]] = {"m": 3, "n": 6, "batch": 2}
    large: ClassVar[dict[str, Any]] = {"m": 45, "n": 150, "batch": 77}

    @property
    def columns(self) -> tuple[str, ...]:
        """The groups, the selection and the gain are the proximal operator's."""
        operator, prox, scheme, dtype = super().columns
        groups = f" in groups of {self.group}" * (self.group > 1)
        return operator, f"{prox}{groups}{', selected' * self.selects}{', gain' * self.gain}", scheme, dtype

    @property
    def selects(self) -> bool:
        return bool(self.support_sizes)

    @property
    def has_state(self) -> bool:
        return self.scheme != "proximal_gradient"

    @property
    def proximal(self) -> Proximal:
        kinds = {"soft": L1, "nonnegative": NonNegativeL1, "identity": Identity}
        prox: Proximal = GroupL1(self.group) if self.group > 1 else kinds[self.prox]()
        return SupportSelection(self.support_sizes, prox) if self.selects else prox

    def __str__(self) -> str:
        size = f"{self.m}x{self.n}-K{self.layers}-B{'x'.join(map(str, self.shape))}"
        options = "-vector" * self.vector + "-starts" * self.starts
        return f"{'-'.join(self.columns)}-{size}{options}"

    def draw(self, seed: int) -> Problem:
        return _draw(self, torch.Generator().manual_seed(seed))


ROWS = [
    Form("affine"),  # LISTA, in four of its forms
    Form("affine-tied", vector=True),
    Form("affine", vector=True, starts=True),
    Form("affine-tied", starts=True),
    Form("affine", support_sizes=(1, 3, 5)),
    Form("affine", scheme="fista"),
    Form("affine", scheme="admm"),
    Form("affine-tied", scheme="admm", starts=True),
    Form("gradient"),  # ISTA
    Form("gradient", vector=True, starts=True),
    Form("gradient-own"),  # LISTA-CP
    Form("gradient-own", support_sizes=(2, 2, 20)),  # LISTA-CPSS
    Form("gradient-shared", support_sizes=(1, 2, 3), starts=True),  # ALISTA
    Form("gradient", scheme="fista"),
    Form("gradient-own", scheme="fista", starts=True),
    Form("gradient-own", scheme="amp"),  # LAMP
    Form("gradient", scheme="amp", starts=True),
    Form("gradient-shared", scheme="amp", gain=True, vector=True),
    Form("gradient-own", scheme="admm"),
    Form("gradient-shared", scheme="admm", vector=True, starts=True),
    Form("gradient", "nonnegative"),
    Form("affine", "nonnegative", support_sizes=(2, 0, 4)),
    Form("gradient", gain=True),  # the elastic net
    Form("affine", group=3, vector=True),
    Form("gradient", group=2, support_sizes=(1, 2, 4), gain=True),
    Form("gram"),
    Form("gram-shared", support_sizes=(1, 2, 3), starts=True),
    Form("gram", scheme="fista", group=2),
    Form("gram-shared", scheme="admm", starts=True),
    Form("gradient", "identity"),
    Form("gradient-shared", "identity", "fista", gain=True),
]
_SIZES: list[dict[str, Any]] = [
    {"m": 1, "n": 6, "batch": 1},
    {"m": 16, "n": 192, "batch": 17},
    {"m": 33, "n": 132, "batch": 70},
    {"m": 20, "n": 30, "batch": 0},
]
OF_EVERY_SIZE = ROWS + [replace(f, **size) for f in ROWS for size in _SIZES]
COMPLEX = [replace(f, dtype=torch.complex128) for f in ROWS if f.prox != "nonnegative"]


@dataclass
class Problem(AnyProblem):
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
        return self.form.proximal

    @property
    def numbers(self) -> Any:
        """The numbers of the scheme."""
        return [getattr(self.scheme, name) for name in self.scheme.numbers]

    @property
    def _values(self) -> list[Any]:
        return [self.y, self.x0, self.s0, *_given(self.linear).values(), self.theta, self.gain, *self.numbers]

    @property
    def leaves(self) -> list[Tensor]:
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

    @property
    def of_each_sample(self) -> list[Tensor]:
        return [t for t in (self.y, self.x0, self.s0) if t is not None]

    def with_leaves(self, leaves: list[Tensor]) -> Problem:
        left = iter(leaves)
        return self.mapped(lambda _: next(left))

    def of_samples(self, samples: Any) -> Problem:
        y, x0, s0 = (None if t is None else t[samples] for t in (self.y, self.x0, self.s0))
        return replace(self, form=replace(self.form, batch=len(y)), y=y, x0=x0, s0=s0)

    def native(self) -> tuple[Tensor, ...]:
        out = self.run(return_layers=True, return_state=self.form.has_state)
        return out if self.form.has_state else (out,)

    def plain(self) -> tuple[Tensor, ...]:
        return self.reference()[: 1 + self.form.has_state]

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
        x0 = self.y.new_zeros(*f.shape, f.n) if self.x0 is None else self.x0
        return fu.reference.network(
            y, several(W1), several(W2), [] if is_affine else several(linear.step), several(self.theta),
            several(self.gain), several(self.numbers[0] if self.numbers else None), x0, self.s0, layers=f.layers,
            linear=kind, scheme=f.scheme, prox=f.prox, group=f.group, support_sizes=f.support_sizes,
        )  # fmt: skip


def _given(piece: Any) -> dict[str, Any]:
    return {f.name: getattr(piece, f.name) for f in fields(piece) if f.init}


def _draw(form: Form, g: torch.Generator) -> Problem:
    """Parameters and inputs at random, such that a good part of each iterate is zero."""
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
    if form.operator.startswith("affine"):
        count = 1 if form.operator == "affine-tied" else K
        linear = AffineStep(each(count, lambda: draw(n, m) / m**0.5), each(count, lambda: draw(n, n) / n**0.5))
    else:
        A = draw(m, n) / (m + n) ** 0.5
        own = [draw(m, n) / n**0.5 for _ in range(K)]
        W = {"gradient": None, "gradient-shared": own[0], "gram": None, "gram-shared": own[0]}.get(form.operator, own)
        via = "gram" if form.operator.startswith("gram") else "residual"
        step = None if form.scheme == "amp" else each(K, lambda: positive(n if via == "gram" else m, 0.4))
        linear = GradientStep(A, W, step, via)
    gain = None
    if form.gain:
        gain = each(K, lambda: (0.6 + torch.rand((), generator=g, dtype=torch.float64)).to(real))
    low = 0.5 if form.dtype.is_complex else 0.3
    theta = None
    if form.prox != "identity":
        theta = each(K, lambda: positive(n // form.group, low * form.group**0.5))
    numbers = each(K, lambda: torch.rand((), generator=g, dtype=torch.float64).to(real))
    schemes = {"fista": FISTA(numbers), "admm": ADMM(numbers), "amp": AMP(), "proximal_gradient": ProximalGradient()}
    y = draw(*form.shape, m) * 2
    x0 = s0 = None
    if form.starts:
        x0 = draw(*form.shape, n)
        x0 = x0 * (x0.abs() > 1)
        s0 = draw(*form.shape, m if form.scheme == "amp" else n) / 2 if form.scheme != "proximal_gradient" else None
    return Problem(form, y, linear, theta, gain, schemes[form.scheme], x0, s0)
