"""Networks whose layers follow statistics of each sample: the kernels against plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll.ops.network_call import encode
from networks import REAL, matrix, moved
from torch import Tensor

KINDS: dict[str, Callable[[Tensor], Any]] = {name: make for name, make in REAL.items() if not name.startswith("LISTA")}
KINDS["GLISTA, every layer's support"] = lambda A: fu.nn.GLISTA(A, layers=3, selection=(40.0, 100.0), lam=0.3)
KINDS["HyperLISTA, nothing selected"] = lambda A: fu.nn.HyperLISTA(A, layers=3, c3=0.0)
KINDS["LAMP, tied"] = lambda A: fu.nn.LAMP(A, layers=3, shrinkage="bernoulli-gaussian", tied=True, density=0.3)
KINDS["LAMP, one layer"] = lambda A: fu.nn.LAMP(A, layers=1, shrinkage="bernoulli-gaussian")
SIZES = [(11, 17, 6), (40, 70, 1), (40, 70, 150), (1, 1, 3), (20, 21, 5), (70, 130, 0)]


def network(name: str, m: int, n: int) -> Any:
    return moved(KINDS[name](matrix(m, n)))


def both(net: Any, y: Tensor, x0: Tensor | None, every: bool, grad: Tensor) -> list[list[Tensor]]:
    """What comes out, and all gradients: of the kernels, then of plain PyTorch."""
    leaves = [*net.parameters(), y, *([] if x0 is None else [x0])]

    def run() -> list[Tensor]:
        out = net(y, x0, return_layers=every)
        return [out.detach(), *torch.autograd.grad(out, leaves, grad, allow_unused=True, materialize_grads=True)]

    native = run()
    with fu.ops.plain():
        return [native, run()]


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_values_and_gradients(name: str, size: tuple[int, int, int], starts: bool, every: bool) -> None:
    m, n, batch = size
    net, y = network(name, m, n), torch.randn(batch, m, dtype=torch.float64, requires_grad=True)
    x0 = (0.1 * torch.randn(batch, n, dtype=torch.float64)).requires_grad_() if starts else None
    shape = (net.layers, batch, n) if every else (batch, n)
    for a, b in zip(*both(net, y, x0, every, torch.randn(*shape, dtype=torch.float64)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9 * float(b.abs().max()) if b.numel() else 0)


@pytest.mark.parametrize("sets", ["threads", "instruction sets"])
@pytest.mark.parametrize("name", KINDS)
def test_bits(name: str, sets: str, native: Any) -> None:
    """They depend on neither threads nor instruction sets, and those of a sample not on its batch."""
    net = network(name, 40, 70).float()
    y, grad = torch.randn(37, 40, requires_grad=True), torch.randn(37, 70)
    leaves = [*net.parameters(), y]
    results = []
    for setting in (1, 2, 3, 7) if sets == "threads" else native.compiled_instruction_sets():
        if sets == "threads":
            torch.set_num_threads(setting)
        elif setting == "baseline":
            continue  # which has no fused multiply-add
        else:
            try:
                native.use_instruction_set(setting)
            except ValueError:
                continue
        out = net(y)
        results.append([out.detach(), *torch.autograd.grad(out, leaves, grad)])
        with torch.no_grad():
            assert torch.equal(net(y), out)
            assert torch.equal(torch.stack([net(sample) for sample in y]), out)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["y", "x0", "a matrix", "a number"])
@pytest.mark.parametrize("name", KINDS)
def test_what_is_not_finite_shows(name: str, where: str, bad: float) -> None:
    """Wherever plain PyTorch says that a value is not finite, the kernels say so too, and nowhere else."""
    net, y, x0 = network(name, 11, 17), torch.randn(5, 11).double(), 0.1 * torch.randn(5, 17).double()
    matrices = [t for t in (*net.parameters(), *net.buffers()) if t.dim() > 1]
    target = {"y": y, "x0": x0, "a matrix": matrices[-1], "a number": next(p for p in net.parameters() if p.dim() < 2)}
    with torch.no_grad():
        target[where].view(-1)[3 % target[where].numel()] = bad
        found = net(y, x0, return_layers=True)
        with fu.ops.plain():
            wanted = net(y, x0, return_layers=True)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("name", KINDS)
def test_second_derivatives(name: str) -> None:
    net, y = network(name, 4, 6), torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(net, y, atol=1e-4, fast_mode=True)


@pytest.mark.parametrize("name", KINDS)
def test_frozen_parts(name: str) -> None:
    """Gradients of what is asked for alone, and the same as all together."""
    net, y = network(name, 11, 17), torch.randn(6, 11, dtype=torch.float64, requires_grad=True)
    parameters = [*net.parameters(), y]
    wanted = torch.autograd.grad(net(y).square().sum(), parameters)
    for p, g in zip(parameters, wanted, strict=True):
        for other in parameters:
            other.requires_grad_(other is p)
        (found,) = torch.autograd.grad(net(y).square().sum(), p)
        torch.testing.assert_close(found, g, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", [name for name in KINDS if "tied" not in name])
def test_layers_that_are_not_run_have_no_gradient(name: str) -> None:
    """None, not zero, which an optimiser with momentum would follow."""
    net, y = network(name, 11, 17), torch.randn(6, 11, dtype=torch.float64)
    net(y, depth=1).square().sum().backward()
    for key, p in net.named_parameters():
        if key.rpartition(".")[2] not in ("0", "c"):
            assert p.grad is None, key


def test_a_matrix_that_is_made_to_learn() -> None:
    """What the kernels have no gradient of goes through plain PyTorch."""
    net, y = network("LVAMP", 11, 17), torch.randn(6, 11, dtype=torch.float64)
    net.Vt.requires_grad_()
    (found,) = torch.autograd.grad(net(y).square().sum(), net.Vt)
    assert found.abs().sum() > 0


def test_direct_calls_of_the_operator_stay_within_their_memory() -> None:
    A, values, glista = torch.randn(4, 6), torch.rand(2, 4), fu.ops.AdaptiveSpec(2, "glista")
    for y, spec, (fixed, W), numbers in (
        (torch.randn(3, 5), glista, ([A], [A]), values),
        (torch.randn(3, 4), glista, ([A], [A.mT]), values),
        (torch.randn(3, 4), glista, ([A], [A]), values[:1]),
        (torch.randn(3, 4), glista, ([A], []), values),
        (torch.randn(3, 4), glista, ([], [A]), values),
        (torch.randn(3, 4), glista, ([A], [A, A.double()]), values),
        (torch.randn(3, 4), fu.ops.AdaptiveSpec(2, "glista", support_sizes=(7, 1)), ([A], [A]), values),
        (torch.randn(3, 4), fu.ops.AdaptiveSpec(2, "hyperlista"), ([A, A], []), values[:, :3]),
        (torch.randn(3, 4), fu.ops.AdaptiveSpec(2, "lvamp"), ([A, A, A], []), values[:, :3]),
    ):
        parameters = [*fixed, *W, numbers]
        with pytest.raises(RuntimeError, match="do not fit"):
            torch.ops.fastunroll.network(
                y, None, None, parameters, encode(spec, [len(fixed), len(W), 1]), True, True, False
            )
