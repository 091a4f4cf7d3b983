"""All layers over pictures in one native call, against the same layers in PyTorch."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import product
from typing import Any

import pytest
import torch
from fastunroll import ops
from fastunroll.operators.wavelet_filters import SCALING_FILTERS
from fastunroll.ops import PictureLayers
from torch import Tensor

LEARNED = "z", "x0", "step", "theta", "beta", "filters"
WAVELETS = {"db4": ("db4", 2)}  # the prior "wavelet" with these names and levels
PRIORS = "identity", "soft", "nonnegative", "box", "total_variation", "filter_bank", *WAVELETS
REAL_PRIORS = "nonnegative", "box"
# The normal operators of real and of complex pictures: the shape of h for pictures (B, H, W), and the number of coils.
NORMALS: dict[str, tuple[bool, Any, int]] = {
    "blur": (False, lambda B, H, W: (H, W // 2 + 1), 0),
    "a blur for each picture": (False, lambda B, H, W: (B, H, W // 2 + 1), 0),
    "rows": (False, lambda B, H, W: (1, W // 2 + 1), 0),
    "weights": (False, lambda B, H, W: (H, W), 0),
    "weights for each picture": (False, lambda B, H, W: (B, 1, W), 0),
    "scan": (True, lambda B, H, W: (H, W), 0),
    "a scan for each picture": (True, lambda B, H, W: (B, H, W), 0),
    "columns": (True, lambda B, H, W: (1, W), 0),
    "complex weights": (True, lambda B, H, W: (H, 1), 0),
    "coils": (True, lambda B, H, W: (H, W), 3),
    "coils, columns for each picture": (True, lambda B, H, W: (B, 1, W), 2),
}
CASES = [
    (normal, prior) for normal, prior in product(NORMALS, PRIORS) if not (NORMALS[normal][0] and prior in REAL_PRIORS)
]
# Sides grow to multiples of 2 for each level of a wavelet.
SHAPES = (1, 1, 1), (2, 1, 7), (2, 9, 1), (2, 3, 2), (3, 7, 10), (2, 18, 13), (1, 33, 35)
BANKS = (5, 3), (3, 7), (9, 4)  # how many filters of which size, of the shapes in turn


def layers(
    normal: str, prior: str, shape: tuple[int, int, int] = (2, 5, 6), count: int = 3, *, momentum: bool = True,
    start: bool = True, iterations: int = 4, dtype: torch.dtype = torch.float64, seed: int = 0,
) -> PictureLayers:  # fmt: skip
    is_complex, of_h, coils = NORMALS[normal]
    wavelet, levels = WAVELETS.get(prior, (prior, 0))
    shape = shape[0], *(-(-n >> levels << levels) for n in shape[1:])
    random = torch.Generator().manual_seed(seed)

    def draw(*size: int, kind: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(*size, dtype=kind, generator=random)

    count_of_bank, size = BANKS[sum(shape) % len(BANKS)]
    size = min(size, *shape[1:])
    is_bank = prior == "filter_bank"
    pictures = torch.complex128 if is_complex else torch.float64
    z, x0 = draw(*shape, kind=pictures), draw(*shape, kind=pictures)
    h, maps = draw(*of_h(*shape)).abs(), draw(coils, *shape[1:], kind=pictures) / coils**0.5 if coils else None
    of_bands = (count, 3 * levels) if levels else (count, count_of_bank) if is_bank else (count,)
    numbers = 0.2 + 0.1 * draw(count).abs(), 0.3 + 0.1 * draw(*of_bands).abs(), draw(count) / 4
    filters = draw(count, count_of_bank, size, size) / size / count_of_bank**0.5 if is_bank else None
    moves = torch.randint(2**levels, (2 * count,), generator=random).tolist()
    step, theta, beta, filters = (None if t is None else t.to(dtype) for t in (*numbers, filters))
    z, x0, maps = (None if t is None else t.to(dtype.to_complex() if is_complex else dtype) for t in (z, x0, maps))
    return PictureLayers(
        z, x0 if start else None, h.to(dtype), maps, step, None if prior in ("identity", "box") else theta,
        beta if momentum else None, filters, "weights" if "weights" in normal else "fourier",
        "wavelet" if levels else prior, -0.4, 0.9, iterations, SCALING_FILTERS.get(wavelet, ()) if levels else (),
        levels, moves,
    )  # fmt: skip


def learning(p: PictureLayers) -> PictureLayers:
    found = {name: getattr(p, name) for name in LEARNED}
    return p._replace(**{name: None if t is None else t.clone().requires_grad_() for name, t in found.items()})


def leaves(p: PictureLayers) -> dict[str, Tensor]:
    return {name: t for name in LEARNED if (t := getattr(p, name)) is not None}


def gradients(x: Tensor, p: PictureLayers) -> dict[str, Tensor]:
    weights = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    found = leaves(p)
    loss = (x * weights.conj()).real.sum()
    zero_without = {"allow_unused": True, "materialize_grads": True}
    return dict(zip(found, torch.autograd.grad(loss, [*found.values()], **zero_without), strict=True))


def assert_same_gradients(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    for name, a in found.items():
        scale = max(float(wanted[name].abs().max()), 1.0)
        torch.testing.assert_close(
            a, wanted[name], rtol=0, atol=tolerance * scale, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize(("normal", "prior"), CASES)
def test_values_and_gradients(normal: str, prior: str) -> None:
    shapes = SHAPES[::3] if prior in WAVELETS else SHAPES  # the convolutions of the reference are slow
    whole = [(shape, True, True) for shape in shapes]
    for shape, momentum, start in [*whole, (SHAPES[4], True, False), (SHAPES[4], False, True)]:
        p = layers(normal, prior, shape, momentum=momentum, start=start)
        assert ops.fits_pictures(p)
        native, plain = learning(p), learning(p)
        x, wanted = ops.picture_layers(native, 3), ops.plain_picture_layers(plain)
        torch.testing.assert_close(x, wanted, rtol=1e-11, atol=1e-12)
        assert_same_gradients(gradients(x, native), gradients(wanted, plain))


@pytest.mark.parametrize("keeps", [0, 1, 3], ids=["all again", "one picture is kept", "all are kept"])
@pytest.mark.parametrize(("normal", "prior"), CASES)
def test_what_is_kept_for_gradients(normal: str, prior: str, keeps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of the last layer have the same bits, of however many pictures the layers are kept."""
    p = layers(normal, prior, (3, 7, 10))
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


@pytest.mark.parametrize(("normal", "prior"), CASES)
def test_single_precision(normal: str, prior: str) -> None:
    p = layers(normal, prior, (2, 18, 13), dtype=torch.float32)
    wide = layers(normal, prior, (2, 18, 13))
    native, plain = learning(p), learning(wide)
    x, wanted = ops.picture_layers(native), ops.plain_picture_layers(plain)[-1:]
    torch.testing.assert_close(x.to(wanted.dtype), wanted, rtol=0, atol=2e-5)
    found = {name: t.to(getattr(wide, name).dtype) for name, t in gradients(x, native).items()}
    weights = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1)).to(wanted.dtype)
    of = leaves(plain)
    expected = torch.autograd.grad((wanted * weights.conj()).real.sum(), [*of.values()], materialize_grads=True)
    assert_same_gradients(found, dict(zip(of, expected, strict=True)), 2e-4)


@pytest.mark.parametrize(
    ("normal", "prior"),
    [("a blur for each picture", "total_variation"), ("columns", "filter_bank"), ("weights", "box"), ("coils", "soft")],
)
def test_numerical_gradients(normal: str, prior: str) -> None:
    p = learning(layers(normal, prior, (1, 2, 3), 2, iterations=3))
    names = [*leaves(p)]

    def run(*tensors: Tensor) -> Tensor:
        return ops.picture_layers(p._replace(**dict(zip(names, tensors, strict=True))), 2)

    inputs = [getattr(p, name) for name in names]
    assert torch.autograd.gradcheck(run, inputs)
    if prior not in ("identity", *WAVELETS):
        assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("normal", "prior"), CASES)
def test_a_picture_keeps_its_bits_in_every_batch(normal: str, prior: str, dtype: torch.dtype) -> None:
    p = layers(normal, prior, (5, 99, 100), dtype=dtype)  # large enough for several threads to share a picture
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
@pytest.mark.parametrize("prior", PRIORS)
def test_what_is_not_finite_shows(where: str, value: float, prior: str) -> None:
    """Where pixels do not mix but by the prior, results are those of PyTorch to the last NaN."""
    p = layers("weights", prior, (3, 6, 21))
    if getattr(p, where) is None:
        return
    broken = p._replace(**{where: getattr(p, where).clone()})
    getattr(broken, where).view(-1)[1] = value
    found, wanted = ops.picture_layers(learning(broken), 3), ops.plain_picture_layers(broken)
    if where == "filters":  # beside its last patch, zeros times an infinite filter are NaN
        found = torch.where(found.isnan() & broken.filters.isinf().any(), wanted, found)
        assert not found.isfinite().all()
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["z", "x0"])
@pytest.mark.parametrize(("normal", "prior"), CASES)
def test_what_is_not_finite_stays_in_its_picture(normal: str, prior: str, where: str, value: float) -> None:
    p = layers(normal, prior, (3, 7, 10))
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


@pytest.mark.parametrize(("normal", "prior"), CASES)
def test_layers_go_on_from_two_iterates(normal: str, prior: str) -> None:
    whole = layers(normal, prior, (2, 5, 6), 5)
    first, then = (
        whole._replace(
            step=whole.step[part],
            theta=None if whole.theta is None else whole.theta[part],
            beta=None if whole.beta is None else whole.beta[part],
            filters=None if whole.filters is None else whole.filters[part],
            moves=whole.moves[2 * part.start : 2 * part.stop],
        )
        for part in (slice(0, 3), slice(3, 5))
    )
    before, x0 = ops.picture_layers(first, 2)
    wanted = ops.picture_layers(whole)
    found = ops.picture_layers(then._replace(x0=x0, before=before))
    assert torch.equal(found, wanted)
    learned = then._replace(x0=x0, before=before, step=then.step.clone().requires_grad_())
    torch.testing.assert_close(ops.picture_layers(learned), wanted, rtol=1e-11, atol=1e-12)


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
        p._replace(theta=None), p._replace(beta=p.beta.float()), p._replace(prior="other"), p._replace(iterations=0),
        p._replace(normal="weights"), p._replace(z=p.z.half()),
    ]  # fmt: skip
    wavelet = layers("weights", "db4", (2, 8, 12))
    assert ops.fits_pictures(wavelet)
    wrong += [
        wavelet._replace(theta=wavelet.theta[:, 1:]), wavelet._replace(levels=3), wavelet._replace(levels=0),
        wavelet._replace(moves=[*wavelet.moves, 0]), wavelet._replace(moves=[4] * 6), wavelet._replace(low_pass=[1.0]),
        wavelet._replace(low_pass=[]), wavelet._replace(low_pass=[0.1] * 34), wavelet._replace(moves=[-1] * 6),
    ]  # fmt: skip
    for given in wrong:
        assert not ops.fits_pictures(given)
        with pytest.raises(RuntimeError, match=r"fastunroll\.picture_layers: the shapes or dtypes"):
            ops.picture_layers(given)
    with pytest.raises(RuntimeError, match="picture_layers"):
        ops.picture_layers(p, 4)


MEMORY = """
import sys, fastunroll as fu, torch
blur = fu.operators.Blur(torch.rand(5, 5) / 20)
def peak(batch, layers):
    net = fu.nn.Unrolled(fu.schemes.FISTA(), blur, eval("fu.prox." + sys.argv[1]), layers, step=0.5)
    net(torch.rand(batch, 96, 96)).square().mean().backward()
    return int(next(line for line in open("/proc/self/status") if "VmHWM" in line).split()[1])
torch.set_num_threads(1)
first = peak(8, 2)
print(peak(8, 64) / first)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("prior", ["TotalVariation(6)", "WaveletL1('db4')"])
def test_memory_does_not_grow_with_the_layers(prior: str) -> None:
    """The peak of a whole process that trains 2 layers and then 64. One by one, they would keep GB."""
    ratio = subprocess.run([sys.executable, "-c", MEMORY, prior], capture_output=True, text=True, check=True).stdout
    assert float(ratio) < 1.2
