"""All layers over pictures in one native call, against the same layers in PyTorch."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from fastunroll import ops
from fastunroll.operators.wavelet_filters import SCALING_FILTERS
from fastunroll.ops import PictureLayers, pictures
from forks import printed
from forms import build
from forms.pictures import EVERY, LEARNED, REAL_PRIORS, ROWS, SCHEMES, WAVELETS, Form, Problem
from torch import Tensor

# Sides grow to multiples of 2 for each level of a wavelet.
SHAPES = (1, 1, 1), (2, 1, 7), (2, 9, 1), (2, 3, 2), (3, 7, 10), (2, 18, 13), (1, 33, 35)


def of_shape(form: Form, batch: int, *size: int, **changes: Any) -> Problem:
    return build(replace(form, batch=batch, size=size, **changes))


def layers(operator: str, prior: str, shape: tuple[int, int, int] = (2, 5, 6), scheme: str = "fista") -> PictureLayers:
    return of_shape(Form(operator, prior, scheme), *shape).given


def gradients(x: Tensor, p: Problem) -> dict[str, Tensor]:
    weights = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    loss = (x * weights.conj()).real.sum()
    found = torch.autograd.grad(loss, p.leaves, allow_unused=True, materialize_grads=True)
    return dict(zip(p.named_leaves, found, strict=True))


def assert_same_gradients(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    for name, a in found.items():
        scale = max(float(wanted[name].abs().max()), 1.0)
        torch.testing.assert_close(
            a, wanted[name], rtol=0, atol=tolerance * scale, msg=lambda text, name=name: f"{name}: {text}"
        )


def check_values_and_gradients(p: Problem, native: Any, sets: Sequence[str]) -> None:
    """Of the kernels of each instruction set."""
    assert ops.fits_pictures(p.given)
    plain = p.learning()
    (wanted,) = plain.plain()
    right = gradients(wanted, plain)
    for name in sets:
        native.use_instruction_set(name)
        given = p.learning()
        (x,) = given.native()
        torch.testing.assert_close(x, wanted, rtol=1e-11, atol=1e-12)
        assert_same_gradients(gradients(x, given), right)


@pytest.mark.parametrize("form", EVERY, ids=str)
def test_values_and_gradients(form: Form, native: Any) -> None:
    """Of every row, at one size."""
    check_values_and_gradients(of_shape(form, 3, 7, 10), native, [native.instruction_set()])


@pytest.mark.parametrize("form", ROWS, ids=str)
def test_values_and_gradients_of_every_size_and_instruction_set(
    form: Form, native: Any, instruction_sets: list[str]
) -> None:
    """One row has every other size, the next one the others."""
    shapes = SHAPES[ROWS.index(form) % 2 :: 2]
    for shape, starts in [*((shape, True) for shape in shapes), (SHAPES[4], False)]:
        check_values_and_gradients(of_shape(form, *shape, starts=starts), native, instruction_sets)


@pytest.mark.parametrize("form", ROWS, ids=str)
def test_what_is_kept_for_gradients(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of the last layer have the same bits, if layers are kept of all pictures, of one or of none."""
    p = of_shape(form, 3, 7, 10)
    plain = p.learning()
    wanted = gradients(plain.plain()[0][-1:], plain)
    found = []
    for keeps in (3, 1, 0):
        size = keeps * math.prod(p.given.saved_shape) * p.given.z.element_size()
        monkeypatch.setattr("fastunroll.ops.pictures._SAVED_BYTES", size)
        native = p.learning()
        found.append(gradients(ops.picture_layers(native.given), native))
    assert_same_gradients(found[0], wanted)
    for name, gradient in found[0].items():
        assert all(torch.equal(gradient, other[name]) for other in found[1:]), name


@pytest.mark.parametrize("starts", [True, False])
@pytest.mark.parametrize("form", ROWS, ids=str)
def test_a_given_state(form: Form, starts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of ADMM after the last layer is a result, with a gradient, where layers are kept and where they are not."""
    p = of_shape(form, 3, 7, 10, state=True, starts=starts)
    of_a_picture = math.prod(p.given.saved_shape) * p.given.z.element_size()
    monkeypatch.setattr("fastunroll.ops.pictures._SAVED_BYTES", of_a_picture)
    returns_state = p.given.scheme == "admm"
    for of_state in ("both", "alone") if returns_state else ("none",):
        native, plain = p.learning(), p.learning()
        x, s = pictures.plain_layers_and_state(plain.given)
        if of_state == "none":
            found, wanted = ops.picture_layers(native.given, 2), x[-2:]
        else:
            x_native, s_native = ops.picture_layers_and_state(native.given, 2)
            found, wanted = torch.cat([x_native, s_native[None]]), torch.cat([x[-2:], s[None]])
            found, wanted = (t if of_state == "both" else t[2:] for t in (found, wanted))
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
        assert_same_gradients(gradients(found, native), gradients(wanted, plain))


@pytest.mark.parametrize("form", [form for form in ROWS if form.scheme == "primal dual"], ids=str)
def test_the_dual_variable_of_the_primal_dual_scheme(form: Form) -> None:
    """That after the last layer is a result too, from which another call goes on to the same bits; without gradient."""
    p = of_shape(form, 3, 7, 10, layers=4).given
    wanted, wanted_d = pictures.plain_layers_and_state(p)
    x, d = ops.picture_layers_and_state(p, 4)
    torch.testing.assert_close(x, wanted, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(d, wanted_d, rtol=1e-11, atol=1e-12)
    assert torch.equal(x, ops.picture_layers(p, 4))
    at: dict[str, Any] = {}
    for layers in (slice(0, 3), slice(3, 4)):
        parts = {
            name: t[layers] for name in ("step", "theta", "numbers", "filters") if (t := getattr(p, name)) is not None
        }
        moves = p.moves[2 * layers.start : 2 * layers.stop]
        last, after = ops.picture_layers_and_state(p._replace(**parts, moves=moves, **at))
        at = {"x0": last[0], "s0": after}
    assert torch.equal(at["x0"], x[-1])
    assert torch.equal(at["s0"], d)
    learned = p._replace(z=p.z.clone().requires_grad_())
    x, d = ops.picture_layers_and_state(learned)
    for loss in (d.abs().sum(), x.abs().sum() + d.abs().sum()):
        with pytest.raises(RuntimeError, match="with a gradient of d of primal_dual"):
            torch.autograd.grad(loss, learned.z, retain_graph=True)
    found, right = (torch.autograd.grad(t.abs().sum(), learned.z) for t in (x, ops.picture_layers(learned)))
    assert torch.equal(found[0], right[0])


@pytest.mark.parametrize("name", SCALING_FILTERS)
def test_every_wavelet(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on sides that are shorter than the filter."""
    for levels, normal, shape in product((1, 3), ("weights", "complex weights"), [(1, 1, 1), (1, 3, 40)]):
        monkeypatch.setitem(WAVELETS, "named", (name, levels))
        p = of_shape(Form(normal, "named"), *shape, layers=2)
        native, plain = p.learning(), p.learning()
        x, wanted = ops.picture_layers(native.given), plain.plain()[0][-1:]
        torch.testing.assert_close(x, wanted, rtol=1e-11, atol=1e-12)
        assert_same_gradients(gradients(x, native), gradients(wanted, plain))


@pytest.mark.parametrize("form", ROWS, ids=str)
def test_single_precision(form: Form) -> None:
    native = of_shape(form, 2, 18, 13, dtype=torch.float32).learning()
    plain = of_shape(form, 2, 18, 13).learning()
    x, wanted = ops.picture_layers(native.given), plain.plain()[0][-1:]
    torch.testing.assert_close(x.to(wanted.dtype), wanted, rtol=2e-6, atol=2e-5)
    weights = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1)).to(wanted.dtype)
    expected = torch.autograd.grad((wanted * weights.conj()).real.sum(), plain.leaves, materialize_grads=True)
    of_plain = dict(zip(plain.named_leaves, expected, strict=True))
    found = {name: t.to(of_plain[name].dtype) for name, t in gradients(x, native).items()}
    assert_same_gradients(found, of_plain, 2e-4)


OF_WEIGHTS = [f for f in EVERY if f.operator == "weights" and (f.scheme == "fista" or f.prox == "soft")]


@pytest.mark.parametrize("where", LEARNED)
@pytest.mark.parametrize("form", OF_WEIGHTS, ids=str)
def test_what_is_not_finite_shows(where: str, form: Form) -> None:
    """Where pixels do not mix but by the prior, results are those of PyTorch to the last NaN."""
    p = of_shape(form, 3, 6, 21, state=where == "s0")
    if where not in p.named_leaves:
        return
    for value in (torch.nan, torch.inf, -torch.inf):
        broken = p.changed(**{where: p.named_leaves[where].clone()})
        broken.named_leaves[where].view(-1)[1] = value
        found, wanted = broken.learning().native()[0], broken.plain()[0]
        if where == "filters":  # beside its last patch, zeros times an infinite filter are NaN
            found = torch.where(found.isnan() & broken.given.filters.isinf().any(), wanted, found)
            assert not found.isfinite().all()
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12, equal_nan=True)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("normal", ["rows", "columns", "coils, columns for each picture"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_start_that_is_not_finite_goes_as_far_as_in_pytorch(scheme: str, normal: str, value: float) -> None:
    """H of columns keeps it in its row. The primal-dual scheme starts from A x0, which mixes the rows."""
    p = of_shape(Form(normal, "soft", scheme), 3, 7, 10, dtype=torch.float32).given
    assert p.x0 is not None
    x0 = p.x0.clone()
    x0[1, 2, 3] = value
    found, wanted = ops.picture_layers(p._replace(x0=x0), 3), ops.plain_picture_layers(p._replace(x0=x0))
    assert torch.equal(found.isfinite(), wanted.isfinite())
    assert torch.equal(found[:, ::2], ops.picture_layers(p, 3)[:, ::2])
    if scheme == "primal dual":
        assert not found[:, 1].isfinite().any()


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("form", ROWS, ids=str)
def test_what_is_not_finite_stays_in_its_picture(form: Form) -> None:
    torch.set_num_threads(1)  # the workspace of the broken picture goes to the next one
    p = of_shape(form, 3, 7, 10)

    def results(p: Problem) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The last layer, and gradients that the second picture has no part in."""
        p = p.learning()
        x = ops.picture_layers(p.given)
        return x, torch.autograd.grad(x[:, ::2].abs().sum(), p.of_each_sample)

    wanted, expected = results(p)
    for where, value in product(("z", "x0"), (torch.nan, torch.inf, -torch.inf)):
        broken = p.changed(**{where: p.named_leaves[where].clone()})
        broken.named_leaves[where][1, 2, 3] = value
        x, found = results(broken)
        assert torch.equal(x[:, ::2], wanted[:, ::2]), (where, value)
        assert form.prox in REAL_PRIORS or not x[:, 1].isfinite().all()  # which make finite what is infinite
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a[::2], b[::2]), (where, value)


@pytest.mark.parametrize("form", ROWS, ids=str)
def test_layers_go_on_from_two_states(form: Form) -> None:
    whole = build(replace(form, layers=5)).given
    first, then = (
        whole._replace(
            step=whole.step[part],
            theta=None if whole.theta is None else whole.theta[part],
            numbers=None if whole.numbers is None else whole.numbers[part],
            filters=None if whole.filters is None else whole.filters[part],
            moves=whole.moves[2 * part.start : 2 * part.stop],
        )
        for part in (slice(0, 3), slice(3, 5))
    )
    xs, s = pictures.plain_layers_and_state(first)
    x = xs[-1]
    wanted = ops.plain_picture_layers(whole)[-2:]
    found = ops.picture_layers(then._replace(x0=x, s0=s), 2)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
    learned = then._replace(x0=x, s0=s, step=then.step.clone().requires_grad_())
    torch.testing.assert_close(ops.picture_layers(learned, 2), wanted, rtol=1e-11, atol=1e-12)
    if form.scheme == "fista":
        before, x = ops.picture_layers(first, 2)
        assert torch.equal(ops.picture_layers(then._replace(x0=x, s0=before)), ops.picture_layers(whole))


def test_the_inverse_is_as_exact_as_its_spectrum() -> None:
    """Where h is small in the one and large in the other of two columns that are transformed together."""
    p = of_shape(Form("blur", "identity", "hqs"), 1, 16, 12, layers=1, dtype=torch.float32).given
    h = torch.full((16, 7), 1e-6)
    h[:, 0] = 1.0
    p = p._replace(h=h, step=torch.full((1,), 1e-6))
    wide = p._replace(**{name: getattr(p, name).double() for name in ("z", "x0", "h", "step")})
    x, wanted = ops.picture_layers(p), ops.plain_picture_layers(wide)
    torch.testing.assert_close(x.double() / wanted.abs().max(), wanted / wanted.abs().max(), rtol=0, atol=1e-6)


def test_strides_and_postponed_signs() -> None:
    p = layers("coils", "total_variation", (4, 9, 13))
    moved = p._replace(
        z=p.z.mT.contiguous().mT,
        x0=p.x0.conj().clone().conj(),
        maps=torch._neg_view(-p.maps),
        step=p.step.flip(0).flip(0),
    )
    wanted = ops.plain_picture_layers(p)[-1:]
    torch.testing.assert_close(ops.picture_layers(moved), wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("prior", ["total_variation", "db4"])
@pytest.mark.parametrize("normal", ["blur", "coils", "weights"])
def test_an_empty_batch(normal: str, prior: str) -> None:
    p = of_shape(Form(normal, prior), 0, 4, 8).learning()
    x = ops.picture_layers(p.given, 2)
    assert x.shape == (2, 0, 4, 8)
    assert all(not g.any() for g in torch.autograd.grad(x.abs().sum(), p.leaves))


def test_wrong_tensors_are_refused() -> None:
    p = layers("blur", "total_variation")
    bank = layers("blur", "filter_bank")
    wrong = [
        bank._replace(filters=None), bank._replace(theta=bank.theta[:, 1:]), bank._replace(filters=bank.filters[1:]),
        bank._replace(filters=bank.filters[..., 1:]), bank._replace(filters=bank.filters.float()),
        bank._replace(filters=torch.ones(3, 5, 6, 6, dtype=torch.float64)), p._replace(filters=bank.filters),
        p._replace(h=p.h[:, 1:]), p._replace(h=p.h.cfloat()), p._replace(x0=p.x0[:1]), p._replace(step=p.step[1:]),
        p._replace(theta=None), p._replace(numbers=p.numbers.float()), p._replace(prior="other"),
        p._replace(iterations=0), p._replace(normal="weights"), p._replace(z=p.z.half()),
    ]  # fmt: skip
    wavelet = layers("weights", "db4", (2, 8, 12))
    assert ops.fits_pictures(wavelet)
    wrong += [
        wavelet._replace(theta=wavelet.theta[:, 1:]), wavelet._replace(levels=3), wavelet._replace(levels=0),
        wavelet._replace(moves=[*wavelet.moves, 0]), wavelet._replace(moves=[4] * 6), wavelet._replace(low_pass=[1.0]),
        wavelet._replace(low_pass=[]), wavelet._replace(low_pass=[0.1] * 34), wavelet._replace(moves=[-1] * 6),
    ]  # fmt: skip
    continued = layers("reflect", "soft")
    assert ops.fits_pictures(continued)
    wrong += [
        continued._replace(copied=[0, 0, 0]), continued._replace(copied=[-1, 1, 2, 2]),
        continued._replace(copied=[1, 2, 2, 2]), continued._replace(around=[0] * 4), continued._replace(factor=2),
        continued._replace(around=[2, 1, 2, 2]), continued._replace(margins=[12, 1, 3, 4]),
        continued._replace(copied=[1, 1, 6, 2], around=[2, 1, 6, 4]), continued._replace(margins=[0, 0, 0]),
        continued._replace(h=continued.h[1:]), continued._replace(h=continued.h[:, 1:]), p._replace(margins=[1] * 4),
        p._replace(around=[1, 0, 0, 0]), p._replace(copied=[1, 0, 0, 0]),
    ]  # fmt: skip
    admm, dual = layers("blur", "soft", scheme="admm"), layers("coils", "soft", scheme="primal dual")
    for scheme in SCHEMES:
        assert ops.fits_pictures(layers("blur", "soft", scheme=scheme))
    wrong += [
        admm._replace(numbers=None), admm._replace(numbers=admm.numbers[:, 0]), admm._replace(scheme="other"),
        admm._replace(numbers=admm.numbers[1:]), admm._replace(linear="other"), admm._replace(scheme="primal_dual"),
        admm._replace(scheme="proximal_gradient"), dual._replace(s0=dual.z[:1]), dual._replace(linear="solve"),
    ]  # fmt: skip
    for given in wrong:
        assert not ops.fits_pictures(given)
        with pytest.raises(RuntimeError, match=r"fastunroll\.picture_layers: the shapes or dtypes"):
            ops.picture_layers(given)
    with pytest.raises(RuntimeError, match="picture_layers"):
        ops.picture_layers(p, 4)
    with pytest.raises(RuntimeError, match="picture_layers"):
        ops.picture_layers_and_state(p)


MEMORY = """
import fastunroll as fu, torch
scheme, prior, blur = fu.schemes.{}(), fu.prox.{}, fu.operators.Blur(torch.rand(5, 5) / 20, "{}")
def peak(batch, layers):
    net = fu.nn.Unrolled(scheme, blur, prior, layers, step=0.5)
    net(torch.rand(batch, 96, 96)).square().mean().backward()
    return int(next(line for line in open("/proc/self/status") if "VmHWM" in line).split()[1])
torch.set_num_threads(1)
first = peak(8, 2)
print(peak(8, 64) / first)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("scheme", "prior", "boundary"),
    [
        *product(["FISTA", "HQS", "ADMM", "PrimalDual"], ["TotalVariation(6)", "WaveletL1('db4')"], ["circular"]),
        ("HQS", "L1()", "valid"),  # conjugate gradients
    ],
)
def test_memory_does_not_grow_with_the_layers(scheme: str, prior: str, boundary: str, tmp_path: Path) -> None:
    """The peak of a whole process that trains 2 layers and then 64. One by one, they would keep GB."""
    assert float(printed(tmp_path, MEMORY.format(scheme, prior, boundary))) < 1.2
