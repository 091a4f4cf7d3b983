"""The kernels of devices through operators and autograd: what CUDA tensors get, here emulated or on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from devices import DEVICES, NO_GPU, on
from fastunroll.ops import backends
from fastunroll.ops.self_test import self_test
from forms import ROWS, build
from forms.dense import COMPLEX, Form, Problem
from torch import Tensor

_SIZES = [{"m": 1, "n": 6, "batch": 1}, {"m": 20, "n": 30, "batch": 0}]
OF_DEVICES = [f for f in ROWS if f.has_device_kernels]
_QUICK = [f for f in OF_DEVICES if not f.selects]  # emulated, choosing the largest takes a second
FORMS = [
    *OF_DEVICES,
    *(replace(f, **size) for size in _SIZES for f in OF_DEVICES),
    *(replace(f, m=33, n=132, batch=4, layers=2) for f in _QUICK),
    *(f for f in COMPLEX if not f.selects),
]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    with on(request.param) as found:
        yield found


def _on(p: Problem, device: torch.device) -> Problem:
    return p.with_leaves([t.detach().to(device).requires_grad_(t.requires_grad) for t in p.leaves])


def test_there_is_a_gpu() -> None:
    if NO_GPU:
        pytest.skip(f"all that follows ran emulated only: {NO_GPU}")
    assert fu.backend().cuda_devices > 0


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_values(form: Form, device: torch.device) -> None:
    p = build(form)
    wanted, state = p.reference()
    p = _on(p, device)
    found = p.run(return_layers=True)
    assert relative_error(found.cpu(), wanted) <= 1e-12
    if form.has_state:
        last, s = p.run(return_state=True)
        assert relative_error(last.cpu(), wanted[-1]) <= 1e-12
        assert relative_error(s.cpu(), state) <= 1e-12
    else:
        assert relative_error(p.run().cpu(), wanted[-1]) <= 1e-12


def _gradients(p: Problem, x: Tensor, s: Tensor | None) -> list[Tensor]:
    g = torch.Generator().manual_seed(3)
    weights = torch.randn(x.shape, generator=g, dtype=torch.float64).to(x.device)
    loss = (weights * x.abs().square()).sum() + (weights * x.real).sum()
    if s is not None:
        loss = loss + (torch.randn(s.shape, generator=g, dtype=torch.float64).to(x.device) * s.real).sum()
    return [*torch.autograd.grad(loss, p.leaves, allow_unused=True, materialize_grads=True)]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_gradients(form: Form, device: torch.device) -> None:
    p = build(form, requires_grad=True)
    state = form.has_state
    x, s = p.reference()
    wanted = _gradients(p, x, s if state else None)
    p = _on(p, device)
    out = p.run(return_layers=True, return_state=state)
    found = _gradients(p, *(out if state else (out, None)))
    for a, b in zip(found, wanted, strict=True):
        assert relative_error(a.cpu(), b) <= 1e-9


@pytest.mark.parametrize("form", OF_DEVICES, ids=str)
def test_gradients_of_the_last_layer_alone(form: Form, device: torch.device) -> None:
    p = build(form, requires_grad=True)
    wanted = _gradients(p, p.reference()[0][-1], None)
    p = _on(p, device)
    for a, b in zip(_gradients(p, p.run(), None), wanted, strict=True):
        assert relative_error(a.cpu(), b) <= 1e-9


@pytest.mark.parametrize("form", _QUICK, ids=str)
def test_each_gradient_alone_is_the_same(form: Form, device: torch.device) -> None:
    whole = _on(build(form, requires_grad=True), device)
    wanted = torch.autograd.grad(whole.run().sum(), whole.leaves, allow_unused=True, materialize_grads=True)
    for i in range(len(wanted)):
        alone = _on(build(form), device)
        alone.leaves[i].requires_grad_()
        (found,) = torch.autograd.grad(alone.run().sum(), [alone.leaves[i]], allow_unused=True, materialize_grads=True)
        assert relative_error(found, wanted[i]) <= 1e-12


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 24), (torch.float16, 11), (torch.bfloat16, 8)])
@pytest.mark.parametrize("form", _QUICK, ids=str)
def test_lower_precision_is_as_good_as_plain_operations(
    form: Form, dtype: torch.dtype, bits: int, device: torch.device
) -> None:
    p = build(replace(form, m=21, n=30, batch=3), requires_grad=True)
    rounded = p.with_leaves([t.detach().to(dtype).requires_grad_() for t in p.leaves])
    exact = rounded.with_leaves([t.detach().double().requires_grad_() for t in rounded.leaves])

    def outcome(p: Problem, x: Tensor) -> list[Tensor]:
        found = torch.autograd.grad(x.sum(), p.leaves, allow_unused=True, materialize_grads=True)
        assert {t.dtype for t in found} == {x.dtype}
        return [t.detach().cpu().double() for t in (x, *found)]

    wanted = outcome(exact, exact.reference()[0][-1])
    plain = outcome(rounded, rounded.reference()[0][-1])
    moved = _on(rounded, device)
    found = outcome(moved, moved.run())
    for a, b, exactly in zip(found, plain, wanted, strict=True):
        assert relative_error(a, exactly) <= 3 * relative_error(b, exactly) + 40 * 2.0**-bits


def test_checkpoints(device: torch.device) -> None:
    p = _on(build(Form("gradient", scheme="fista", layers=5), requires_grad=True), device)
    x = p.run()
    wanted = torch.autograd.grad(x.square().sum(), p.leaves, allow_unused=True, materialize_grads=True)
    again = p.run(keep_every=2)
    assert relative_error(again, x) <= 1e-12
    found = torch.autograd.grad(again.square().sum(), p.leaves, allow_unused=True, materialize_grads=True)
    for a, b in zip(found, wanted, strict=True):
        assert relative_error(a, b) <= 1e-12


def test_a_nan_stays_in_its_sample(device: torch.device) -> None:
    p = build(Form("affine", batch=4))
    p.y[2, 3] = float("nan")
    p = _on(p, device)
    x = p.run()
    assert x[2].isnan().all()
    assert not x[[0, 1, 3]].isnan().any()


def test_modules(device: torch.device) -> None:
    torch.manual_seed(1)
    A, y = torch.randn(20, 33, dtype=torch.float64), torch.randn(2, 3, 20, dtype=torch.float64)
    for tied in (False, True):
        net = fu.nn.LISTA(A, layers=3, tied=tied)
        lists = [list(group) for group in (net.W1, net.W2, net.theta)]
        wanted = fu.reference.lista(y, *lists, y.new_zeros(2, 3, 33), 3)
        net = net.to(device)
        with torch.no_grad():
            assert relative_error(net(y.to(device)).cpu(), wanted[-1]) <= 1e-12
            assert relative_error(net(y.to(device), return_layers=True).cpu(), wanted) <= 1e-12
        expected = torch.autograd.grad(wanted[-1].square().sum(), [t for group in lists for t in group])
        found = torch.autograd.grad(net(y.to(device)).square().sum(), list(net.parameters()))
        for a, b in zip(found, expected, strict=True):
            assert relative_error(a.cpu(), b) <= 1e-9
    x = fu.solvers.fista(A.to(device), y.to(device), 0.1, iterations=20)
    assert relative_error(x.cpu(), fu.solvers.fista(A, y, 0.1, iterations=20)) <= 1e-12


@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 300), (2, 5, 3)])
@pytest.mark.parametrize("theta", ["number", "vector", "every"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_soft_threshold(shape: tuple[int, ...], theta: str, dtype: torch.dtype, device: torch.device) -> None:
    x = torch.randn(shape, dtype=dtype).to(device).requires_grad_()
    of: tuple[int, ...] = {"number": (), "vector": shape[-1:], "every": shape}[theta]
    t = torch.rand(of, dtype=torch.float64).to(device).requires_grad_()
    out, wanted = fu.soft_threshold(x, t), fu.reference.soft_threshold(x, t)
    assert relative_error(out.detach(), wanted.detach()) <= 1e-14
    g = torch.randn_like(out)
    found, expected = (torch.autograd.grad(o, (x, t), g) for o in (out, wanted))
    for a, b in zip(found, expected, strict=True):
        assert relative_error(a, b) <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_soft_threshold_of_lower_precision(dtype: torch.dtype, device: torch.device) -> None:
    x = torch.randn(500).to(device, dtype)
    theta = torch.tensor(0.3, dtype=dtype).to(device)
    wanted = fu.reference.soft_threshold(x.double(), theta.double())
    assert relative_error(fu.soft_threshold(x, theta).double(), wanted) <= 2 * torch.finfo(dtype).eps


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize("form", {f.scheme: f for f in _QUICK}.values(), ids=str)
def test_compile(form: Form, device: torch.device) -> None:
    """A row of each scheme: test_compile.py has all that torch traces, which is the same on every device."""
    p = _on(build(form, requires_grad=True), device)
    compiled = torch.compile(lambda *leaves: p.with_leaves(list(leaves)).run(), backend="aot_eager", fullgraph=True)
    out = compiled(*p.leaves)
    assert torch.equal(out, p.run())
    found, wanted = (torch.autograd.grad(o.square().sum(), p.leaves, allow_unused=True) for o in (out, p.run()))
    assert all(a is b or torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


class _Broken:
    """A device of which one kernel does not do what it should."""

    def __init__(self, kernel: str, instead: Any) -> None:
        self.module, self.kernel, self.instead = import_module("fastunroll._emulated"), kernel, instead

    def __getattr__(self, name: str) -> Any:
        return self.instead if name == self.kernel else getattr(self.module, name)


@pytest.mark.skipif(find_spec("fastunroll._emulated") is None, reason="built without -DFASTUNROLL_EMULATED=ON")
@pytest.mark.parametrize("kernel", ["fused_network", "fused_gradient", "end_layer", "prox_gradient"])
def test_the_self_test_finds_a_kernel_that_errs(kernel: str) -> None:
    with backends.emulated(_Broken(kernel, lambda *arguments, **arrays: None)):
        why = self_test(torch.device("cpu"))
    assert why is not None
    assert "disagree with plain PyTorch" in why


def test_the_self_test_passes(device: torch.device) -> None:
    """In inference mode too; and it leaves the generator as it was."""
    torch.manual_seed(5)
    with torch.inference_mode():
        assert self_test(device) is None
    assert torch.initial_seed() == 5


@pytest.mark.skipif(find_spec("fastunroll._emulated") is None, reason="built without -DFASTUNROLL_EMULATED=ON")
def test_questions_about_kernels_run_none() -> None:
    def refuse(*arguments: Any, **arrays: Any) -> None:
        raise AssertionError("a kernel ran")

    with backends.emulated(_Broken("end_layer", refuse)):
        assert backends.problem(torch.device("cpu")) is None
        assert fu.ops.is_supported(torch.ones(3))


@pytest.mark.skipif(find_spec("fastunroll._emulated") is None, reason="built without -DFASTUNROLL_EMULATED=ON")
def test_a_refused_launch_is_an_error() -> None:
    def refuse(*arguments: Any) -> None:
        raise RuntimeError("CUDA refused to launch a kernel: too many resources requested for launch")

    broken = _Broken("", None)
    with backends.emulated(broken):
        assert fu.soft_threshold(torch.ones(3), 0.1).sum() > 0
        broken.kernel, broken.instead = "soft_threshold", refuse
        with pytest.raises(RuntimeError, match="refused to launch"):
            fu.soft_threshold(torch.ones(3), 0.1)
    assert fu.soft_threshold(torch.ones(3), 0.1).sum() > 0  # and afterwards all is as before


def test_backend_says_which_networks_get_which_kernels() -> None:
    assert "one launch" not in str(fu.backend())
    text = str(fu.backend(verbose=True))
    for word in ("one launch", "layer by layer", "plain PyTorch", "allow_tf32"):
        assert word in text
