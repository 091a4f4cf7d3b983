"""Weights are packed once while they do not change, in every network that is one native call, and never stale."""

from __future__ import annotations

import copy
import gc
import math
import threading
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll import _fastunroll
from fastunroll.engine import run
from fastunroll.ops import cache
from forms import build
from forms.dense import ROWS, Form
from networks import ALL, COMPLEX, Network, matrix
from torch import Tensor

PACKED = ("PackedWeights", "PackedMatrix")  # what all matrices of a network, and what one alone become


class Counter:
    """Stands in the place of native classes or a function, and counts how often they are called."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, function: Any) -> Any:
        def counted(*args: Any) -> Any:
            self.count += 1
            return function(*args)

        return counted


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> Counter:
    counter = Counter()
    for name in PACKED:
        monkeypatch.setattr(_fastunroll, name, counter.of(getattr(_fastunroll, name)))
    return counter


def fresh(net: Network, y: Tensor) -> Tensor:
    """What a copy says that has packed nothing yet."""
    return copy.deepcopy(net)(y)


def test_the_family_is_here() -> None:
    """Every network is one native call, made of tensors that it names."""
    assert all(make(torch.eye(3)).tensors for make in ALL.values())


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)], ids=str)
@pytest.mark.parametrize("name", ALL)
def test_equal_calls_pack_once(name: str, batch: tuple[int, ...], packs: Counter) -> None:
    net, y = ALL[name](matrix()), torch.randn(*batch, 11, dtype=torch.float64)
    with torch.no_grad():
        wanted = net(y)
        once = packs.count
        assert 1 <= once <= len([t for t in (*net.parameters(), *net.buffers()) if t.dim() > 1]) + 1
        for _ in range(5):
            assert torch.equal(net(y), wanted)
            net(y, return_layers=True)
        assert packs.count == once
        for kind in (copy.deepcopy(net), net):
            assert torch.equal(kind(y), wanted)


@pytest.mark.parametrize("name", ALL)
def test_changed_matrices_are_packed_again(name: str, packs: Counter) -> None:
    net, y = ALL[name](matrix()), torch.randn(3, 11, dtype=torch.float64)
    with torch.no_grad():
        net(y)
        once = packs.count
        for tensor in [t for t in (*net.parameters(), *net.buffers()) if t.dim() > 1]:
            tensor.mul_(1.25)
        assert torch.equal(net(y), fresh(net, y))
        assert packs.count == 3 * once  # again the network's own, and those of its copy


@pytest.mark.parametrize("name", ALL)
def test_changed_numbers_leave_packed_weights_as_they_are(name: str, packs: Counter) -> None:
    net, y = ALL[name](matrix()), torch.randn(3, 11, dtype=torch.float64)
    numbers = [p for p in net.parameters() if p.dim() < 2]
    assert numbers
    with torch.no_grad():
        first = net(y)
        for p in numbers:
            p.add_(0.2)
        count = packs.count
        second = net(y)
        assert packs.count == count
        assert not torch.equal(second, first)
        assert torch.equal(second, fresh(net, y))
        for p in numbers:
            p.data.sub_(0.1)  # unseen by version counters
        assert torch.equal(net(y), fresh(net, y))


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_matrices_are_expanded_once(name: str, packs: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    expand = Counter()
    monkeypatch.setattr(run, "_as_pairs", expand.of(run._as_pairs))
    net, y = COMPLEX[name](matrix(dtype=torch.complex128)), torch.randn(2, 11, dtype=torch.complex128)
    with torch.no_grad():
        wanted = net(y)
        made = expand.count, packs.count
        for _ in range(5):
            assert torch.equal(net(y), wanted)
        assert (expand.count, packs.count) == made
        for tensor in [t for t in (*net.parameters(), *net.buffers()) if t.dim() > 1]:
            tensor.mul_(1.25)
        assert torch.equal(net(y), fresh(net, y))


@pytest.mark.parametrize("form", [f for f in ROWS if not f.vector], ids=str)
def test_forms_pack_once(form: Form, packs: Counter) -> None:
    p = build(form)
    with torch.no_grad():
        wanted = p.run()
        count = packs.count
        for _ in range(3):
            assert torch.equal(p.run(), wanted)
        assert packs.count == count


# In the middle and at the edges of squares of 16, of blocks of 64 and of panels of 128; a matrix is (100, 150).
PLACES = [(0, 0), (0, -1), (-1, 0), (-1, -1), (15, 16), (64, 63), (63, 127), (64, 128)]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_number_that_is_not_finite_is_found_at_every_place(
    place: tuple[int, int], bad: float, dtype: torch.dtype
) -> None:
    """Zeros meet it too: packing must see it, from rows and from columns."""
    A = torch.zeros(100, 150, dtype=dtype)
    A[place] = bad
    op = fu.operators.Dense.of(A)
    x, y = torch.zeros(40, 150, dtype=dtype), torch.zeros(40, 100, dtype=dtype)
    row, column = place[0] % 100, place[1] % 150
    for found, where in ((op(x), row), (op.adjoint(y), column)):
        wanted = torch.arange(found.shape[1]) == where
        assert torch.equal(found.isnan(), wanted.expand_as(found))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("records", [False, True])
def test_a_weight_that_is_not_finite_is_found_at_every_place(
    place: tuple[int, int], bad: float, tied: bool, records: bool
) -> None:
    """Whether weights are packed for many calls, for one, or block by block."""
    net = fu.nn.LISTA(matrix(50, 150, torch.float32), layers=2, lam=0.1, tied=tied)
    with torch.no_grad():
        net.W2[-1][place] = bad
    with torch.set_grad_enabled(records):
        found = net(torch.zeros(40, 50))
    wanted = torch.zeros(40, 150) @ net.W2[0].T @ net.W2[-1].T  # the threshold of zero is zero, that of NaN is NaN
    assert torch.equal(found.isnan(), wanted.isnan())
    assert wanted.isnan().any()


@pytest.mark.parametrize("name", ALL)
def test_bf16_weights(name: str) -> None:
    """Every network rounds its matrices the same way, whether its call is the short one or not."""
    net, y = ALL[name](matrix().float()), torch.randn(5, 11)
    full = net(y).detach()
    net.weights = "bf16"
    with torch.no_grad():
        short, long = net(y), net(y, depth=net.layers)
    assert torch.equal(net(y).detach(), full)  # where a gradient is recorded nothing is rounded
    assert torch.equal(short, long)
    assert not torch.equal(short, full)
    assert (short - full).norm() < 0.3 * full.norm()
    with pytest.raises(ValueError, match="float32 network"):
        net.double()(y.double())


def test_bf16_is_refused_where_layers_run_alone() -> None:
    class Own(fu.nn.UnrolledNetwork):
        """A user's own, of which no tensors are known."""

    with pytest.raises(ValueError, match="one native call"):
        Own(3, 5, 7).weights = "bf16"


EDITS: dict[str, Callable[[Tensor], Any]] = {
    "scaled": lambda w: w.mul_(1.5),
    "all but a column": lambda w: w[:, 1:].mul_(1.5),
    "all but a row": lambda w: w[1:].mul_(1.5),
    "a quarter of the rows": lambda w: w[len(w) // 3 : len(w) // 3 + len(w) // 4 + 1].mul_(1.5),
    "the last quarter of the rows": lambda w: w[-(len(w) // 4) - 1 :].mul_(1.5),
    "a quarter of the columns": lambda w: w[:, w.shape[1] // 3 : w.shape[1] // 3 + w.shape[1] // 4 + 1].mul_(1.5),
    "the last quarter of the columns": lambda w: w[:, -(w.shape[1] // 4) - 1 :].mul_(1.5),
    "every second row": lambda w: w[::2].mul_(1.5),
    "every third row": lambda w: w[1::3].mul_(1.5),
    "every fourth row": lambda w: w[3::4].mul_(1.5),
    "every second column": lambda w: w[:, 1::2].mul_(1.5),
    "every third column": lambda w: w[:, 2::3].mul_(1.5),
    "every fourth column": lambda w: w[:, 3::4].mul_(1.5),
    "half pruned": lambda w: w.mul_(torch.rand_like(w) < 0.5),
    "rounded": lambda w: w.copy_(w.bfloat16()),
    "transposed": lambda w: w.copy_(w.mT.reshape(w.shape)),
    "rows exchanged": lambda w: w.copy_(w.flip(0)),
}


@pytest.mark.parametrize("shape", [(5, 7), (40, 70), (70, 300), (125, 250), (250, 125), (513, 1025)], ids=str)
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("through", ["data", "numpy"])
def test_edits_that_bypass_the_version_counter_are_noticed(
    edit: str, shape: tuple[int, int], through: str, packs: Counter
) -> None:
    """In each of several matrices alone, of many sizes."""
    weights = [torch.randn(*shape) for _ in range(3)]
    for w in weights:
        value = cache.cached("test", weights, object)
        assert cache.cached("test", weights, object) is value
        EDITS[edit](w.data if through == "data" else torch.from_numpy(w.numpy()))
        assert cache.cached("test", weights, object) is not value


def test_memory_that_means_something_else_is_noticed() -> None:
    """The same address, but other strides, or a negation or conjugation put off."""
    w, z = torch.randn(60, 60), torch.randn(60, 60, dtype=torch.complex64)
    for t, change in ((w, lambda t: t.mT), (w, torch._neg_view), (z, torch.conj), (w, lambda t: t[:, :30])):
        watched = cache.CacheEntry([t], object)
        assert watched.is_current([t])
        before = t.data
        t.data = change(t.data)
        assert t.data_ptr() == before.data_ptr()
        assert not watched.is_current([t])
        t.data = before


class ChangedMeanwhile:
    """Packs weights; another thread then changes them before the call that packs is over."""

    def __init__(self, of: Any, tensors: list[Tensor]) -> None:
        self.of, self.tensors, self.left = of, tensors, 1

    def __call__(self, *args: Any) -> Any:
        made = self.of(*args)
        if self.left:
            self.left = 0
            thread = threading.Thread(target=self.change)
            thread.start()
            thread.join()
        return made

    def change(self) -> None:
        with torch.no_grad():
            for t in self.tensors:
                t.mul_(1.25)


@pytest.mark.parametrize("name", ALL)
def test_weights_changed_while_they_are_packed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, y = ALL[name](matrix()), torch.randn(2, 11, dtype=torch.float64)
    tensors = [t for t in (*net.parameters(), *net.buffers()) if t.dim() > 1]
    for name in PACKED:
        monkeypatch.setattr(_fastunroll, name, ChangedMeanwhile(getattr(_fastunroll, name), tensors))
    with torch.no_grad():
        net(y)
        assert torch.equal(net(y), fresh(net, y))


def test_gram_matrix_of_factors_changed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    A = torch.randn(5, 9, dtype=torch.float64)
    step, product = fu.GradientStep(A, via="gram"), fu.steps.product

    def changing(*args: Any, **options: Any) -> Tensor:
        G = product(*args, **options)
        monkeypatch.setattr(fu.steps, "product", product)
        A.mul_(2)
        return G

    monkeypatch.setattr(fu.steps, "product", changing)
    _ = step.gram_matrix
    assert torch.allclose(step.gram_matrix, A.mT @ A)


def test_kept_values_go_with_their_tensors() -> None:
    gc.collect()
    before = len(cache._registry)
    nets = [make(matrix()) for make in ALL.values()]
    with torch.no_grad():
        for net in nets:
            net(torch.randn(3, 11, dtype=torch.float64))
    assert len(cache._registry) >= before + len(nets)
    del nets, net
    gc.collect()
    assert len(cache._registry) == before


def test_attributes_that_say_what_layers_compute() -> None:
    """A number of the network, changed by hand, is noticed as a tensor is."""
    y = torch.randn(3, 11, dtype=torch.float64)
    net = fu.nn.StepLISTA(matrix(), layers=3)
    with torch.no_grad():
        before = net(y)
        net.lam = 1.0
        assert not torch.equal(net(y), before)
        assert torch.equal(net(y), fresh(net, y))
