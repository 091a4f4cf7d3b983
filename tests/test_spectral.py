"""Products that are diagonal in Fourier space: the native kernels against torch.fft in double precision."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch
from fastunroll import _fastunroll, ops
from fastunroll.ops import spectral
from fastunroll.ops.cpu.spectral import is_fft_length, repetition
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

DOUBLE = {torch.float32: torch.float64, torch.complex64: torch.complex128}


class Case(NamedTuple):
    """A product of images (rows, columns) with a spectrum; of coils where ``coils`` is not 0."""

    rows: int
    columns: int
    is_real: bool = False
    complex_d: bool = False
    of_rows: bool = False
    coils: int = 0
    lead: tuple[int, ...] = (2,)
    lead_d: tuple[int, ...] = ()

    def arguments(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
        """x, d and z, or x, maps, h and z."""
        complex_dtype = dtype.to_complex()
        own = dtype if self.is_real else complex_dtype
        x, z = torch.randn(2, *self.lead, self.rows, self.columns, dtype=own).unbind()
        width = self.columns // 2 + 1 if self.is_real else self.columns
        d_dtype = complex_dtype if self.complex_d else dtype
        d = torch.randn(*self.lead_d, 1 if self.of_rows else self.rows, width, dtype=d_dtype)
        if not self.coils:
            return x, d, z
        return x, torch.randn(self.coils, self.rows, self.columns, dtype=complex_dtype), d, z

    def run(self, *arguments: Tensor) -> Tensor:
        return ops.coil_normal(*arguments) if self.coils else ops.fourier_normal(*arguments)


KINDS = [
    Case(0, 0, is_real=is_real, complex_d=complex_d, of_rows=of_rows)
    for is_real, complex_d, of_rows in itertools.product((False, True), repeat=3)
] + [Case(0, 0, coils=3), Case(0, 0, coils=1, of_rows=True)]
SIZES = [(n, 1 + (7 * n) % 64) for n in range(1, 65)]  # each length once for rows, and once for columns
LARGE = [(80, 96), (93, 125), (128, 128), (155, 8), (8, 253), (256, 250), (368, 32), (33, 640), (319, 20), (12, 513)]


def plain(case: Case, arguments: Sequence[Tensor]) -> Tensor:
    """The same by torch.fft, in double precision."""
    with ops.plain():
        return case.run(*(t.to(DOUBLE.get(t.dtype, t.dtype)) for t in arguments))


def distance(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def is_native(case: Case, arguments: Sequence[Tensor]) -> bool:
    if not case.coils:
        return spectral.fits(*arguments)
    x, maps, h, z = arguments
    return spectral.fits(x, h, z, maps)


@pytest.fixture(params=_fastunroll.compiled_instruction_sets())
def instruction_set(request: pytest.FixtureRequest, native: Any) -> str:
    try:
        native.use_instruction_set(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    return str(request.param)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_size(kind: Case, dtype: torch.dtype) -> None:
    """Errors are those of torch.fft itself, up to a factor."""
    tolerance = 3e-6 if dtype == torch.float32 else 6e-15
    for rows, columns in SIZES + LARGE:
        case = kind._replace(rows=rows, columns=columns)
        arguments = case.arguments(dtype)
        assert is_native(case, arguments) == (is_fft_length(rows) and is_fft_length(columns))
        wanted = plain(case, arguments)
        found = case.run(*arguments)
        assert found.dtype == arguments[0].dtype
        assert distance(found, wanted) < tolerance, (rows, columns)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_errors_are_no_larger_than_those_of_torch(kind: Case) -> None:
    ours, theirs = [], []
    for rows, columns in [(64, 96), (100, 60), (128, 81), (256, 250), (184, 144), (49, 121)]:
        case = kind._replace(rows=rows, columns=columns)
        arguments = case.arguments(torch.float32)
        wanted = plain(case, arguments)
        ours.append(distance(case.run(*arguments), wanted))
        with ops.plain():
            theirs.append(distance(case.run(*arguments), wanted))
    assert sum(ours) < 1.1 * sum(theirs)


@pytest.mark.parametrize(
    ("lead", "lead_d"),
    [
        ((), ()), ((4,), (4,)), ((4,), (1,)), ((2, 3), (2, 3)), ((2, 3), (2, 1)), ((2, 3), (3,)), ((2, 3), (1, 3)),
        ((2, 3, 2), (2, 1, 2)), ((2, 3, 2), (3, 1)), ((1, 1), (1,)), ((2,), (3, 1)), ((), (3,)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rows", [6, 37])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_spectrum_for_each_image(kind: Case, rows: int, lead: tuple[int, ...], lead_d: tuple[int, ...]) -> None:
    case = kind._replace(rows=rows, columns=9, lead=lead, lead_d=lead_d)
    *arguments, z = case.arguments()
    z = torch.randn((*torch.broadcast_shapes(lead, lead_d), rows, 9), dtype=z.dtype)
    assert distance(case.run(*arguments, z), plain(case, [*arguments, z])) < 1e-13
    assert distance(case.run(*arguments, None), plain(case, [*arguments, torch.zeros_like(z)])) < 1e-13


@pytest.mark.parametrize("rows", [6, 37])
def test_maps_for_each_image(rows: int) -> None:
    for lead in ((2, 1), (3,), (2, 3), (1, 1)):
        x, z = torch.randn(2, 2, 3, rows, 9, dtype=torch.complex128).unbind()
        maps, h = torch.randn(*lead, 4, rows, 9, dtype=torch.complex128), torch.randn(2, 1, rows, 9).double()
        wanted = plain(Case(rows, 9, coils=4), (x, maps, h, z))
        assert distance(ops.coil_normal(x, maps, h, z), wanted) < 1e-13


def test_repetition() -> None:
    assert repetition((), (2, 3)) == (1, 6)
    assert repetition((2, 1), (2, 3)) == (2, 3)
    assert repetition((1, 3), (2, 3)) == (3, 1)
    assert repetition((2, 3), (2, 3)) == (6, 1)
    assert repetition((2, 1, 4), (2, 3, 4)) is None


def test_lengths() -> None:
    def largest_prime(n: int) -> int:
        return max((p for p in range(2, n + 1) if n % p == 0 and all(p % q for q in range(2, p))), default=1)

    assert [n for n in range(1, 400) if is_fft_length(n)] == [n for n in range(1, 400) if largest_prime(n) <= 31]
    assert is_fft_length(2**30)
    assert is_fft_length(31**6)
    assert not is_fft_length(37 * 2**20)
    assert not is_fft_length(0)
    assert not is_fft_length(2**31)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_views(kind: Case) -> None:
    """Strides, and conjugations and negations that torch has put off."""
    case = kind._replace(rows=10, columns=14)
    arguments = case.arguments()
    wanted = plain(case, arguments)
    for view in (
        lambda t: t.mT.contiguous().mT,
        lambda t: torch.stack([t, t], -1)[..., 0],
        lambda t: t.conj().resolve_conj().conj(),
        lambda t: (-t).resolve_neg()._neg_view(),
    ):
        assert distance(case.run(*map(view, arguments)), wanted) < 1e-13
    x, *others = arguments
    repeated = case.run(x[:1].expand(5, -1, -1), *others[:-1])
    assert all(torch.equal(y, repeated[0]) for y in repeated)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_empty_batches(kind: Case) -> None:
    for columns in (9, 37):
        case = kind._replace(rows=6, columns=columns, lead=(0, 3))
        arguments = [t.requires_grad_() for t in case.arguments()]
        found = case.run(*arguments)
        assert found.shape == arguments[0].shape
        for grad in torch.autograd.grad(found.abs().sum(), arguments):
            assert not grad.any()


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("size", [(17, 20), (96, 90), (37, 12), (9, 41)], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_bits_do_not_depend_on_batch_place_or_threads(kind: Case, size: tuple[int, int], native: Any) -> None:
    case = kind._replace(rows=size[0], columns=size[1], lead=(7,))
    x, *others, z = case.arguments(torch.float32)
    torch.set_num_threads(1)
    whole = case.run(x, *others, z)
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        for rows in ([0], [6], [3, 3, 1], [6, 5, 4, 3, 2, 1, 0], list(range(7))):
            assert torch.equal(case.run(x[rows], *others, z[rows]), whole[rows])


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("rows", [18, 37])
def test_what_is_not_finite_stays_in_its_image(rows: int, kind: Case, value: float) -> None:
    case = kind._replace(rows=rows, columns=21, lead=(5,), lead_d=(5,))
    for index in range(3):
        arguments = case.arguments(torch.float32)
        clean = case.run(*arguments)
        changed = [t.clone() for t in arguments]
        if index == 1 and case.coils:
            continue  # all images have the same maps
        changed[index][2, 0, 3] = value
        found = case.run(*changed)
        assert torch.equal(found[[0, 1, 3, 4]], clean[[0, 1, 3, 4]])
        assert not torch.isfinite(found[2]).all()


@pytest.mark.parametrize("size", [(3, 4), (4, 5), (1, 6), (5, 1), (2, 2)], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gradients(kind: Case, size: tuple[int, int]) -> None:
    case = kind._replace(rows=size[0], columns=size[1])
    leaves = tuple(t.requires_grad_() for t in case.arguments())
    assert gradcheck(case.run, leaves, fast_mode=True)
    assert gradgradcheck(case.run, leaves, fast_mode=True)
    grad = torch.randn_like(leaves[0])
    found = torch.autograd.grad(case.run(*leaves), leaves, grad)
    with ops.plain():
        wanted = torch.autograd.grad(case.run(*leaves), leaves, grad)
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gradients_of_what_all_images_share(kind: Case) -> None:
    """One at a time, so that no other argument is saved or differentiated; where spectra repeat."""
    for lead_d in ((), (2, 1), (3,)):
        case = kind._replace(rows=5, columns=6, lead=(2, 3), lead_d=lead_d)
        arguments = case.arguments()
        for i, t in enumerate(arguments):
            t.requires_grad_()
            (found,) = torch.autograd.grad(case.run(*arguments).abs().square().sum(), t)
            with ops.plain():
                (wanted,) = torch.autograd.grad(case.run(*arguments).abs().square().sum(), t)
            t.requires_grad_(False)
            assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-10), i


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_transforms(kind: Case) -> None:
    """vmap, batches of gradients, torch.func and forward-mode differentiation."""
    case = kind._replace(rows=4, columns=6)
    x, *others = case.arguments()
    wanted = plain(case, [x, *others])
    vmapped = torch.vmap(lambda a, b: case.run(a, *others[:-1], b))(x, others[-1])
    assert torch.allclose(vmapped, wanted, rtol=1e-10, atol=1e-12)
    leaf = x.clone().requires_grad_()
    out = case.run(leaf, *others)
    directions = torch.randn(3, *out.shape, dtype=out.dtype)
    (batched,) = torch.autograd.grad(out, leaf, directions, is_grads_batched=True, retain_graph=True)
    for one, direction in zip(batched, directions, strict=True):
        assert torch.allclose(one, torch.autograd.grad(out, leaf, direction, retain_graph=True)[0])
    tangent = torch.randn_like(x)
    _, moved = torch.func.jvp(lambda a: case.run(a, *others), (x,), (tangent,))
    assert torch.allclose(moved, case.run(tangent, *others[:-1]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_operators_are_sound(kind: Case) -> None:
    case = kind._replace(rows=4, columns=6)
    x, *others = case.arguments()
    for leaf in (False, True):
        arguments = [t.clone().requires_grad_(leaf) for t in (x, *others)]
        overload = spectral._coil_normal if case.coils else spectral._fourier_filter
        torch.library.opcheck(overload, (*arguments,) if case.coils else (*arguments, False))


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize("kind", KINDS[:1] + KINDS[-1:], ids=str)
def test_compiled(kind: Case) -> None:
    case = kind._replace(rows=6, columns=9)
    arguments = [t.requires_grad_() for t in case.arguments()]
    compiled = torch.compile(case.run, fullgraph=True, backend="aot_eager")
    found, wanted = compiled(*arguments), case.run(*arguments)
    assert torch.equal(found, wanted)
    for a, b in zip(*(torch.autograd.grad(y.abs().sum(), arguments) for y in (found, wanted)), strict=True):
        assert torch.allclose(a, b)


def test_autocast_leaves_precision_alone() -> None:
    for kind in KINDS:
        case = kind._replace(rows=6, columns=37 if kind.is_real else 9)  # a length for torch.fft, and one for kernels
        arguments = case.arguments(torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = case.run(*arguments)
        assert torch.equal(found, case.run(*arguments))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_spectra_are_packed_once(kind: Case, native: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    packed = native.PackedSpectrum

    def counted(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        return packed(*arguments)

    monkeypatch.setattr(native, "PackedSpectrum", counted)
    case = kind._replace(rows=6, columns=9)
    x, *maps, d, z = case.arguments()
    for _ in range(3):
        case.run(x.requires_grad_(), *maps, d, z).abs().sum().backward()
    assert count == 1
    before = case.run(x, *maps, d, z).detach()
    d.mul_(2)
    after = case.run(x, *maps, d, z).detach()
    assert count == 2
    assert distance(after + z, 2 * (before + z)) < 1e-14
    sets = native.compiled_instruction_sets()
    if len(sets) > 1:
        native.use_instruction_set(sets[-1])
        assert distance(case.run(x, *maps, d, z).detach(), after) < 1e-13
        assert count == 3


def test_what_the_kernels_do_not_take() -> None:
    """Lengths with a large prime go by larger grids; mixed dtypes and real images of coils by torch.fft."""
    for rows, columns in [(37, 4), (4, 41), (74, 74)]:
        for kind in KINDS:
            case = kind._replace(rows=rows, columns=columns)
            arguments = case.arguments()
            assert not is_native(case, arguments)
            assert distance(case.run(*arguments), plain(case, arguments)) < 1e-14
    x, d = torch.randn(2, 6, 8), torch.randn(6, 5, dtype=torch.float64)
    assert ops.fourier_diagonal(x, d).dtype == torch.float64
    with pytest.raises(RuntimeError, match="do not fit"):
        torch.ops.fastunroll.fourier_filter(x, d, None, False)
    with pytest.raises(RuntimeError, match="do not fit"):
        torch.ops.fastunroll.fourier_filter(torch.randn(2, 37, 8), torch.randn(37, 5), None, False)
    with pytest.raises(RuntimeError):
        ops.fourier_diagonal(x, torch.randn(7, 5))


def test_fourier_diagonal_is_the_adjoint_pair() -> None:
    """⟨A x, y⟩ = ⟨x, Aᴴ y⟩, where Aᴴ has conj(d)."""
    for kind in KINDS[:8]:
        x, d, y = kind._replace(rows=12, columns=15, lead=()).arguments()
        left = torch.vdot(ops.fourier_diagonal(x, d).flatten(), y.flatten())
        right = torch.vdot(x.flatten(), ops.fourier_diagonal(y, d.conj()).flatten())
        assert abs(left - right) < 1e-12 * x.norm() * y.norm() * d.abs().max()
