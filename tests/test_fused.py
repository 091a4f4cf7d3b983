"""Networks in one launch, emulated or on a GPU, against the reference and the path that goes layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from devices import DEVICE_FACTS, DEVICES, on
from fastunroll.ops.cuda import fused, kernel_choice
from forms import build, covering
from forms.dense import ROWS, Form
from torch import Tensor

# Precisions, and what a result may be off by: of float, and of rounding each iterate to 11 or 8 bits.
_OFF = {"single": 3e-6, "tf32": 4e-3, "bfloat16": 3e-2}
_FORMS = [
    replace(f, dtype=torch.float32)
    for f in ROWS
    if not f.operator.startswith("gram") and not f.selects and f.group <= 2
]


Choose = Callable[..., list[kernel_choice.Plan]]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    with on(request.param) as found:
        yield found


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Makes plans of a precision and shape; the list holds those that were used."""

    def set_plan(precision: str, row_tiles: int, blocks: int, in_smem: bool = False) -> list[kernel_choice.Plan]:
        if blocks > 1 and DEVICE_FACTS and not DEVICE_FACTS[1]:
            pytest.skip("blocks cannot share memory on this device")
        used: list[kernel_choice.Plan] = []
        usual = kernel_choice.plan

        def plan(module: Any, f: Any, p: Any, y: Tensor, gradient: bool = False) -> kernel_choice.Plan | None:
            if usual(module, f, p, y, gradient) is None:
                return None
            used.append(kernel_choice.Plan(precision, row_tiles, blocks, in_smem))
            return used[-1]

        monkeypatch.setattr(kernel_choice, "plan", plan)
        return used

    return set_plan


def _moved(p: Any, device: torch.device, dtype: torch.dtype) -> Any:
    return p.with_leaves([t.detach().to(device, dtype).requires_grad_(t.requires_grad) for t in p.leaves])


def _exact(p: Any) -> Any:
    return p.with_leaves([t.detach().double().requires_grad_(t.requires_grad) for t in p.leaves])


@pytest.mark.parametrize("precision", list(_OFF))
@pytest.mark.parametrize("form", _FORMS, ids=str)
def test_values(form: Form, precision: str, device: torch.device, choose: Choose) -> None:
    p = build(form)
    p = _moved(p, torch.device("cpu"), torch.bfloat16 if precision == "bfloat16" else torch.float32)
    wanted, state = _exact(p).reference()
    p = _moved(p, device, p.y.dtype)
    used = choose(precision, 1, 2)
    found = p.run(return_layers=True)
    assert used
    assert relative_error(found.cpu().double(), wanted) <= _OFF[precision]
    assert torch.equal(p.run(), found[-1])
    if form.has_state:
        last, s = p.run(return_state=True)
        assert torch.equal(last, found[-1])
        # How many elements of an iterate are not zero is what Onsager's correction jumps with.
        jumps = 10 if form.scheme == "amp" and precision != "single" else 2
        assert relative_error(s.cpu().double(), state) <= jumps * _OFF[precision]


_SHAPES = [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4)]
_FORWARD_SHAPES = [*_SHAPES, (1, 16)]


@pytest.mark.parametrize(("row_tiles", "blocks"), _FORWARD_SHAPES)
@pytest.mark.parametrize(
    "form",
    [Form("affine"), Form("affine-tied", scheme="fista", vector=True, starts=True), Form("gradient", scheme="fista"),
     Form("gradient-own", scheme="amp"), Form("affine-tied", scheme="admm", starts=True)],
    ids=str,
)  # fmt: skip
def test_every_shape_is_the_same(form: Form, row_tiles: int, blocks: int, device: torch.device, choose: Choose) -> None:
    wide = min(100 * blocks, 500)
    m, n = (37, wide - 3) if form.operator.startswith("affine") else (wide - 10, wide - 3)
    p = build(replace(form, m=m, n=n, batch=16 * row_tiles + 3, layers=2, dtype=torch.float32))
    wanted, state = _exact(p).reference()
    p = _moved(p, device, torch.float32)
    used = choose("single", row_tiles, blocks)
    x, s = p.run(return_state=True) if form.has_state else (p.run(), state)
    assert used
    assert relative_error(x.cpu().double(), wanted[-1]) <= _OFF["single"]
    assert relative_error(s.cpu().double(), state) <= 2 * _OFF["single"]


_SHARED = [f for f in _FORMS if f.operator in ("affine-tied", "gradient", "gradient-shared")]


@pytest.mark.parametrize(("form", "blocks", "precision"), covering([*product(_SHARED, (8, 16), _OFF)], 2), ids=str)
def test_matrices_that_all_layers_share_are_kept(
    form: Form, blocks: int, precision: str, device: torch.device, choose: Choose
) -> None:
    wide = blocks * 12 - 6  # some blocks have less of it than others, some nothing
    p = build(replace(form, m=wide // 2 - 1, n=wide, batch=18, layers=3))
    p = _moved(p, torch.device("cpu"), torch.bfloat16 if precision == "bfloat16" else torch.float32)
    wanted, state = _exact(p).reference()
    p = _moved(p, device, p.y.dtype)
    used = choose(precision, 1, blocks, True)
    x, s = p.run(return_state=True) if form.has_state else (p.run(), state)
    assert used
    assert relative_error(x.cpu().double(), wanted[-1]) <= _OFF[precision]
    assert relative_error(s.cpu().double(), state) <= 10 * _OFF[precision]


def test_the_largest_matrices_are_kept_too(device: torch.device, choose: Choose) -> None:
    for form in (Form("gradient", scheme="fista"), Form("affine-tied")):
        p = build(replace(form, m=250, n=500, batch=2, layers=2, dtype=torch.float32))
        wanted = _exact(p).reference()[0][-1]
        p = _moved(p, device, torch.float32)
        assert choose("single", 1, 8, True) == []
        assert relative_error(p.run().cpu().double(), wanted) <= _OFF["single"]


def _gradients(p: Any) -> list[Tensor]:
    x = p.run(return_layers=True)
    weights = torch.linspace(-1, 1, x.numel(), dtype=torch.float64).reshape(x.shape).to(x.device, x.dtype)
    return [*torch.autograd.grad((weights * x).sum(), p.leaves, allow_unused=True, materialize_grads=True)]


_LEARNED = [
    *_FORMS,
    Form("affine", scheme="fista", group=2, gain=True, dtype=torch.float32),
    Form("gradient", scheme="amp", group=2, gain=True, dtype=torch.float32),
]


@pytest.mark.parametrize("precision", list(_OFF))
@pytest.mark.parametrize("form", _LEARNED, ids=str)
def test_gradients(form: Form, precision: str, device: torch.device, choose: Choose) -> None:
    p = build(form)
    p.s0 = None  # with it gradients go layer by layer
    p = _moved(p, torch.device("cpu"), torch.bfloat16 if precision == "bfloat16" else torch.float32)
    for t in p.leaves:
        t.requires_grad_()
    wanted = _gradients(_exact(p))
    p = _moved(p, device, p.y.dtype)
    used = choose(precision, 1, 1)
    found = _gradients(p)
    assert len(used) == 2
    # Taken together: an element near its threshold may round to its other side.
    together, exactly = (torch.cat([t.detach().cpu().double().flatten() for t in ts]) for ts in (found, wanted))
    assert relative_error(together, exactly) <= {"single": 1e-4, "tf32": 2e-2, "bfloat16": 0.3}[precision]


@pytest.mark.parametrize(("row_tiles", "blocks"), _SHAPES)
@pytest.mark.parametrize(
    "form",
    [Form("affine", vector=True), Form("affine-tied", scheme="fista"), Form("gradient-own", scheme="fista"),
     Form("gradient", group=2)],
    ids=str,
)  # fmt: skip
def test_gradients_of_every_shape(
    form: Form, row_tiles: int, blocks: int, device: torch.device, choose: Choose
) -> None:
    size = {"m": 37, "n": 100 * blocks - 4, "batch": 16 * row_tiles + 3, "layers": 2}
    p = build(replace(form, **size, dtype=torch.float32), requires_grad=True)
    wanted = _gradients(_exact(p))
    used = choose("single", row_tiles, blocks)
    found = _gradients(_moved(p, device, torch.float32))
    assert len(used) == 2
    for a, b in zip(found, wanted, strict=True):
        assert relative_error(a.cpu().double(), b) <= 3e-4  # of sums that nearly cancel, too


@pytest.mark.parametrize("form", [Form("affine", vector=True, starts=True), Form("gradient")], ids=str)
def test_layers_some_at_a_time(form: Form, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    p = _moved(build(replace(form, layers=7, dtype=torch.float32), requires_grad=True), device, torch.float32)

    def of_last() -> list[Tensor]:
        return [*torch.autograd.grad(p.run().square().sum(), p.leaves, allow_unused=True, materialize_grads=True)]

    wanted = [*_gradients(p), *of_last()]
    monkeypatch.setattr(fused, "_SEGMENT_FROM", 0)
    for a, b in zip([*_gradients(p), *of_last()], wanted, strict=True):
        assert relative_error(a, b) <= 1e-5


def test_weights_are_laid_out_again_when_they_change(device: torch.device) -> None:
    net = fu.nn.LISTA(torch.randn(20, 33), layers=3).to(device)
    y = torch.randn(5, 20).to(device)
    with torch.no_grad():
        before = net(y)
        assert torch.equal(net(y), before)
        for p in net.parameters():
            kept = p.clone()
            p.mul_(1.1)
            fresh = fu.nn.LISTA(torch.ones(20, 33), layers=3).to(device)
            fresh.load_state_dict(net.state_dict())
            assert torch.equal(net(y), fresh(y))
            p.copy_(kept)
        assert torch.equal(net(y), before)
    for fused_step in (False, True):  # fused steps do not move version counters
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, fused=fused_step)
        net(y).square().sum().backward()
        with torch.no_grad():
            net(y)
            optimizer.step()
            fresh.load_state_dict(net.state_dict())
            assert torch.equal(net(y), fresh(y))
        optimizer.zero_grad()


def test_a_sample_is_the_same_wherever_it_is(device: torch.device, choose: Choose) -> None:
    p = _moved(build(Form("gradient", scheme="fista", batch=40, dtype=torch.float32)), device, torch.float32)
    choose("single", 2, 1)
    whole = p.run()
    p.y = p.y[7:8]
    assert torch.equal(p.run(), whole[7:8])


def test_a_nan_stays_in_its_sample(device: torch.device, choose: Choose) -> None:
    for precision in ("single", "tf32"):
        p = build(Form("affine", batch=4, dtype=torch.float32))
        p.y[2, 3] = torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(torch.float32)  # as devices make it
        p = _moved(p, device, torch.float32)
        choose(precision, 1, 1)
        x = p.run()
        assert x[2].isnan().all()
        assert not x[[0, 1, 3]].isnan().any()


def test_addresses_that_are_not_aligned(device: torch.device) -> None:
    p = build(Form("gradient", n=20, dtype=torch.float32, starts=True), requires_grad=True)
    wanted = _gradients(_exact(p))
    shifted = [torch.cat([t.new_zeros(1), t.detach().flatten()])[1:].view(t.shape).to(device) for t in p.leaves]
    found = _gradients(p.with_leaves([t.requires_grad_() for t in shifted]))
    for a, b in zip(found, wanted, strict=True):
        assert relative_error(a.cpu().double(), b) <= 1e-4
