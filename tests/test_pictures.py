"""All layers over pictures in one native call, against the same layers in PyTorch."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import product

import pytest
import torch
from fastunroll import ops
from fastunroll.operators.wavelet_filters import SCALING_FILTERS
from fastunroll.ops import pictures
from picture_layers import (
    ALL,
    CASES,
    LEARNED,
    PRIORS,
    REAL_PRIORS,
    SCHEMES,
    SHAPES,
    WAVELETS,
    gradients,
    layers,
    learning,
    leaves,
)
from torch import Tensor


def assert_same_gradients(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    for name, a in found.items():
        scale = max(float(wanted[name].abs().max()), 1.0)
        torch.testing.assert_close(
            a, wanted[name], rtol=0, atol=tolerance * scale, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize(("scheme", "normal", "prior"), ALL)
def test_values_and_gradients(scheme: str, normal: str, prior: str) -> None:
    shapes = SHAPES[::3] if prior in WAVELETS else SHAPES if scheme == "fista" else SHAPES[:6:2]
    for shape, start in [*((shape, True) for shape in shapes), (SHAPES[4], False)]:
        p = layers(normal, prior, shape, scheme=scheme, start=start)
        assert ops.fits_pictures(p)
        native, plain = learning(p), learning(p)
        x, wanted = ops.picture_layers(native, 3), ops.plain_picture_layers(plain)
        torch.testing.assert_close(x, wanted, rtol=1e-11, atol=1e-12)
        assert_same_gradients(gradients(x, native), gradients(wanted, plain))


@pytest.mark.parametrize("keeps", [0, 1, 3], ids=["all again", "one picture is kept", "all are kept"])
@pytest.mark.parametrize(("scheme", "normal", "prior"), CASES)
def test_what_is_kept_for_gradients(
    scheme: str, normal: str, prior: str, keeps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients of the last layer have the same bits, of however many pictures the layers are kept."""
    p = layers(normal, prior, (3, 7, 10), scheme=scheme)
    plain = learning(p)
    wanted = gradients(ops.plain_picture_layers(plain)[-1:], plain)
    found = []
    for budget in (keeps, 3):
        size = budget * math.prod(p.saved_shape) * p.z.element_size()
        monkeypatch.setattr("fastunroll.ops.pictures._SAVED_BYTES", size)
        native = learning(p)
        found.append(gradients(ops.picture_layers(native), native))
    assert_same_gradients(found[0], wanted)
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name])


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize(("scheme", "normal", "prior"), CASES)
def test_a_given_state(scheme: str, normal: str, prior: str, start: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of ADMM after the last layer is a result, with a gradient, where layers are kept and where they are not."""
    p = layers(normal, prior, (3, 7, 10), scheme=scheme, state=True, start=start)
    monkeypatch.setattr("fastunroll.ops.pictures._SAVED_BYTES", math.prod(p.saved_shape) * p.z.element_size())
    for of_state in ("both", "alone") if p.scheme == "admm" else ("none",):
        native, plain = learning(p), learning(p)
        x, s = pictures.plain_layers_and_state(plain)
        if of_state == "none":
            found, wanted = ops.picture_layers(native, 2), x[-2:]
        else:
            x_native, s_native = ops.picture_layers_and_state(native, 2)
            found, wanted = torch.cat([x_native, s_native[None]]), torch.cat([x[-2:], s[None]])
            found, wanted = (t if of_state == "both" else t[2:] for t in (found, wanted))
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
        assert_same_gradients(gradients(found, native), gradients(wanted, plain))


@pytest.mark.parametrize("name", SCALING_FILTERS)
def test_every_wavelet(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on sides that are shorter than the filter."""
    for levels, normal, shape in product((1, 3), ("weights", "complex weights"), [(1, 1, 1), (1, 3, 40)]):
        monkeypatch.setitem(WAVELETS, "named", (name, levels))
        p = layers(normal, "named", shape, 2)
        native, plain = learning(p), learning(p)
        x, wanted = ops.picture_layers(native), ops.plain_picture_layers(plain)[-1:]
        torch.testing.assert_close(x, wanted, rtol=1e-11, atol=1e-12)
        assert_same_gradients(gradients(x, native), gradients(wanted, plain))


@pytest.mark.parametrize(("scheme", "normal", "prior"), CASES)
def test_single_precision(scheme: str, normal: str, prior: str) -> None:
    p = layers(normal, prior, (2, 18, 13), scheme=scheme, dtype=torch.float32)
    wide = layers(normal, prior, (2, 18, 13), scheme=scheme)
    native, plain = learning(p), learning(wide)
    x, wanted = ops.picture_layers(native), ops.plain_picture_layers(plain)[-1:]
    torch.testing.assert_close(x.to(wanted.dtype), wanted, rtol=0, atol=2e-5)
    found = {name: t.to(getattr(wide, name).dtype) for name, t in gradients(x, native).items()}
    weights = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1)).to(wanted.dtype)
    of = leaves(plain)
    expected = torch.autograd.grad((wanted * weights.conj()).real.sum(), [*of.values()], materialize_grads=True)
    assert_same_gradients(found, dict(zip(of, expected, strict=True)), 2e-4)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("normal", "prior"),
    [("a blur for each picture", "total_variation"), ("columns", "filter_bank"), ("weights", "box"), ("coils", "soft")],
)
def test_numerical_gradients(scheme: str, normal: str, prior: str) -> None:
    p = learning(layers(normal, prior, (1, 2, 3), 2, scheme=scheme, state=True, iterations=3))
    names = [*leaves(p)]

    def run(*tensors: Tensor) -> Tensor:
        return ops.picture_layers(p._replace(**dict(zip(names, tensors, strict=True))), 2)

    inputs = [getattr(p, name) for name in names]
    assert torch.autograd.gradcheck(run, inputs)
    if prior not in ("identity", *WAVELETS):
        assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("scheme", "normal", "prior"), CASES)
def test_a_picture_keeps_its_bits_in_every_batch(scheme: str, normal: str, prior: str, dtype: torch.dtype) -> None:
    p = layers(
        normal, prior, (5, 99, 100), scheme=scheme, dtype=dtype
    )  # large enough for several threads to share a picture
    threads, results = torch.get_num_threads(), []
    each = p.h.dim() == 3
    weights = torch.randn(2, *p.z.shape, dtype=p.z.dtype)
    try:
        for count, rows in ((1, slice(0, 5)), (3, slice(0, 5)), (2, slice(2, 3))):
            torch.set_num_threads(count)
            part = p._replace(z=p.z[rows], x0=p.x0[rows], h=p.h[rows] if each else p.h)
            part = learning(part)
            x = ops.picture_layers(part, 2)
            results.append((x.detach(), *torch.autograd.grad(x, [part.z, part.x0], weights[:, rows])))
    finally:
        torch.set_num_threads(threads)
    first, again, alone = results
    for a, b, c in zip(first, again, alone, strict=True):
        assert torch.equal(a, b)
        here = a[:, 2:3] if a.dim() == 4 else a[2:3]
        assert torch.equal(here, c)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", LEARNED)
@pytest.mark.parametrize(("scheme", "prior"), [("fista", prior) for prior in PRIORS] + [(s, "soft") for s in SCHEMES])
def test_what_is_not_finite_shows(where: str, value: float, scheme: str, prior: str) -> None:
    """Where pixels do not mix but by the prior, results are those of PyTorch to the last NaN."""
    p = layers("weights", prior, (3, 6, 21), scheme=scheme, state=where == "s0")
    if getattr(p, where) is None:
        return
    broken = p._replace(**{where: getattr(p, where).clone()})
    getattr(broken, where).view(-1)[1] = value
    found, wanted = ops.picture_layers(learning(broken), 3), ops.plain_picture_layers(broken)
    if where == "filters":  # beside its last patch, zeros times an infinite filter are NaN
        found = torch.where(found.isnan() & broken.filters.isinf().any(), wanted, found)
        assert not found.isfinite().all()
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12, equal_nan=True)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("normal", ["rows", "columns", "coils, columns for each picture"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_start_that_is_not_finite_goes_as_far_as_in_pytorch(scheme: str, normal: str, value: float) -> None:
    """H of columns keeps it in its row. The primal-dual scheme starts from A x0, which mixes the rows."""
    if SCHEMES[scheme][1] == "solve" and "coils" in normal:
        return
    p = layers(normal, "soft", (3, 7, 10), scheme=scheme, dtype=torch.float32)
    assert p.x0 is not None
    x0 = p.x0.clone()
    x0[1, 2, 3] = value
    found, wanted = ops.picture_layers(p._replace(x0=x0), 3), ops.plain_picture_layers(p._replace(x0=x0))
    assert torch.equal(found.isfinite(), wanted.isfinite())
    assert torch.equal(found[:, ::2], ops.picture_layers(p, 3)[:, ::2])
    if scheme == "primal dual":
        assert not found[:, 1].isfinite().any()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["z", "x0"])
@pytest.mark.parametrize(("scheme", "normal", "prior"), CASES)
def test_what_is_not_finite_stays_in_its_picture(
    scheme: str, normal: str, prior: str, where: str, value: float
) -> None:
    p = layers(normal, prior, (3, 7, 10), scheme=scheme)
    broken = p._replace(**{where: getattr(p, where).clone()})
    getattr(broken, where)[1, 2, 3] = value
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # the workspace of the broken picture goes to the next one
        native, sound = learning(broken), learning(p)
        x, wanted = ops.picture_layers(native), ops.picture_layers(sound)
        found = torch.autograd.grad(x[:, ::2].abs().sum(), [native.z, native.x0])
        expected = torch.autograd.grad(wanted[:, ::2].abs().sum(), [sound.z, sound.x0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(x[:, ::2], wanted[:, ::2])
    assert prior in REAL_PRIORS or not x[:, 1].isfinite().all()  # which make finite what is infinite
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a[::2], b[::2])


@pytest.mark.parametrize(("scheme", "normal", "prior"), CASES)
def test_layers_go_on_from_two_states(scheme: str, normal: str, prior: str) -> None:
    whole = layers(normal, prior, (2, 5, 6), 5, scheme=scheme)
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
    if scheme == "fista":
        before, x = ops.picture_layers(first, 2)
        assert torch.equal(ops.picture_layers(then._replace(x0=x, s0=before)), ops.picture_layers(whole))


def test_the_inverse_is_as_exact_as_its_spectrum() -> None:
    """Where h is small in the one and large in the other of two columns that are transformed together."""
    p = layers("blur", "identity", (1, 16, 12), 1, scheme="hqs", dtype=torch.float32)
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
    p = learning(layers(normal, prior, (0, 4, 8)))
    x = ops.picture_layers(p, 2)
    assert x.shape == (2, 0, 4, 8)
    assert all(not g.any() for g in torch.autograd.grad(x.abs().sum(), [*leaves(p).values()]))


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize(
    ("normal", "prior"), [("blur", "filter_bank"), ("columns", "total_variation"), ("coils", "filter_bank"),
                          ("weights", "total_variation"), ("blur", "db4"), ("coils", "db4")],
)  # fmt: skip
def test_compiled_and_batched(normal: str, prior: str) -> None:
    p = learning(layers(normal, prior))
    wanted = ops.plain_picture_layers(p)[-2:]
    names, values = [*leaves(p)], [*leaves(p).values()]

    def run(*tensors: Tensor) -> Tensor:
        return ops.picture_layers(p._replace(**dict(zip(names, tensors, strict=True))), 2)

    x = torch.compile(run, fullgraph=True, backend="aot_eager")(*values)
    torch.testing.assert_close(x, wanted)
    assert_same_gradients(gradients(x, p), gradients(wanted, p))
    q = p._replace(**{name: t.detach() for name, t in leaves(p).items()})
    many = torch.vmap(lambda z: ops.picture_layers(q._replace(z=z)))(torch.stack([q.z, 2 * q.z]))
    torch.testing.assert_close(many[1], ops.plain_picture_layers(q._replace(z=2 * q.z))[-1:])
    rows = torch.randn(2, *x.shape, dtype=x.dtype)
    x = ops.picture_layers(p, 2)
    (batched,) = torch.autograd.grad(x, [p.step], rows, is_grads_batched=True, retain_graph=True)
    for row, found in zip(rows, batched, strict=True):
        torch.testing.assert_close(found, torch.autograd.grad(x, [p.step], row, retain_graph=True)[0])


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
import sys, fastunroll as fu, torch
blur = fu.operators.Blur(torch.rand(5, 5) / 20, sys.argv[3])
scheme, prior = (eval("fu." + name) for name in sys.argv[1:3])
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
def test_memory_does_not_grow_with_the_layers(scheme: str, prior: str, boundary: str) -> None:
    """The peak of a whole process that trains 2 layers and then 64. One by one, they would keep GB."""
    command = [sys.executable, "-c", MEMORY, f"schemes.{scheme}()", f"prox.{prior}", boundary]
    ratio = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert float(ratio) < 1.2
