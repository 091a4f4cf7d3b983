"""Training: that it learns, is seeded to the bit, resumes, stops in time, and says what is wrong."""

from __future__ import annotations

import math
import signal
from pathlib import Path

import fastunroll as fu
import numpy as np
import pytest
import torch
from fastunroll import training
from fastunroll.data import Samples, fixed
from fastunroll.training import Stage, end_to_end, layerwise, train
from fastunroll.training.parameters import inherit, layer_of, learning_rates, parameter_groups
from fastunroll.training.samples import split_data
from forks import launch
from small_training import PROBLEM, QUIET, A, alista, same, weights
from torch import Tensor


def error(net: torch.nn.Module) -> float:
    y, x = fixed(PROBLEM, 500, seed=9)
    assert x is not None
    with torch.no_grad():
        return float(fu.losses.nmse_db(net(y), x))


@pytest.mark.parametrize("schedule", [end_to_end(120), layerwise(4, 30, 15, inherit={"log_theta": 0.8})])
def test_learns(schedule: list[Stage]) -> None:
    net = alista()
    before = error(net)
    history = train(net, PROBLEM, schedule, rates={"log_step": 5e-2, "log_theta": 5e-2}, **QUIET)
    assert error(net) < before - 0.5
    assert history.finished
    assert history.records[-1].held_out < history.records[0].held_out
    assert {r.stage for r in history.records} == set(range(len(schedule)))


def test_every_network_learns() -> None:
    for name in fu.nn.__all__:
        kind = getattr(fu.nn, name)
        if not (isinstance(kind, type) and issubclass(kind, fu.nn.UnrolledNetwork)) or name == "UnrolledNetwork":
            continue
        net = kind(A, layers=3)
        before = weights(net)
        history = train(net, PROBLEM, end_to_end(20), **QUIET)
        assert history.records[-1].held_out <= history.records[0].held_out, name
        assert not same(before, weights(net)), name


def test_without_truth() -> None:
    y = fixed(PROBLEM, 200).y
    for loss in (training.kkt(A, 0.05), training.lasso(A, 0.05), training.total((1.0, training.lasso(A, 0.05)))):
        net = fu.nn.StepLISTA(A, layers=4, lam=0.05)
        history = train(net, (y, None), end_to_end(40), loss=loss, **QUIET)
        assert history.records[-1].held_out < history.records[0].held_out


def test_losses() -> None:
    y, x = fixed(PROBLEM, 30)
    assert x is not None
    found = x + 0.1 * torch.randn_like(x)
    nmse = float(fu.losses.nmse_db(found, x))
    assert 10 / math.log(10) * float(training.supervised(found, y, x)) == pytest.approx(nmse, rel=1e-5)
    assert float(training.mean_square(found, y, x)) == pytest.approx(float((found - x).square().sum() / 30), rel=1e-5)
    kkt, lasso = training.kkt(A, 0.1), training.lasso(A, 0.1)
    assert float(kkt(found, y, None)) == pytest.approx(float(fu.losses.kkt_residual(found, y, A, 0.1).mean()))
    assert float(lasso(found, y, None)) == pytest.approx(float(fu.losses.lasso_objective(found, y, A, 0.1).mean()))
    both = training.total((2.0, kkt), (0.5, lasso))
    assert float(both(found, y, None)) == pytest.approx(
        2 * float(kkt(found, y, None)) + 0.5 * float(lasso(found, y, None))
    )
    assert training.supervised(x, y, x).isfinite()
    assert training.supervised(0 * x, y, 0 * x).isfinite()


def test_seeds_decide_everything() -> None:
    nets = [alista() for _ in range(3)]
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        torch.randn(3)  # the global generator does not matter
        train(net, PROBLEM, layerwise(4, 6, 4), seed=seed, **QUIET)
    assert same(weights(nets[0]), weights(nets[1]))
    assert not same(weights(nets[0]), weights(nets[2]))


@pytest.mark.parametrize("after", [7, 10, 11, 23])
def test_resumes_to_the_same_bits(after: int, tmp_path: Path) -> None:
    schedule = [Stage(10, depth=2), *end_to_end(20)]
    whole = alista()
    history = train(whole, PROBLEM, schedule, **QUIET)

    class Stop(Exception):
        pass

    def stop(done: int) -> None:
        if done >= after:
            raise Stop

    options = QUIET | {"checkpoint": tmp_path / "c.pt"}
    with pytest.raises(Stop):
        train(alista(), PROBLEM, schedule, **(options | {"progress": stop}))
    again = alista()
    resumed = train(again, PROBLEM, schedule, **options)
    assert same(weights(again), weights(whole))
    assert resumed.records == history.records
    done = train(alista(), PROBLEM, schedule, **options)  # of what has ended, nothing is done
    assert done.records == history.records


def test_best_weights_are_kept() -> None:
    """Rates that are far too high: a stage still ends no worse than it began."""
    net = alista()
    before = training.supervised(net(fixed(PROBLEM, 64).y), *fixed(PROBLEM, 64)).item()
    history = train(net, PROBLEM, end_to_end(30, rate=100.0), clip=1e9, **QUIET)
    after = training.supervised(net(fixed(PROBLEM, 64).y), *fixed(PROBLEM, 64)).item()
    assert after <= before
    assert max(r.held_out for r in history.records) > before


def test_patience() -> None:
    history = train(alista(), PROBLEM, end_to_end(400, rate=1e-9), patience=2, **QUIET)
    assert history.records[-1].step < 400


def test_what_a_stage_trains() -> None:
    net = fu.nn.TiLISTA(A, layers=4)
    rates = learning_rates(net, {"log_theta": 2e-2})
    alone = parameter_groups(net, Stage(1, depth=3, alone=True), rates)
    found = {id(p): g["lr"] for g in alone for p in g["params"]}
    assert found == {id(net.W): 1e-3, id(net.log_step[2]): 1e-2, id(net.log_theta[2]): 2e-2}
    together = parameter_groups(net, Stage(1, depth=2, fade=0.3), rates)
    found = {id(p): g["lr"] for g in together for p in g["params"]}
    assert found[id(net.log_theta[0])] == pytest.approx(0.3 * 2e-2)
    assert found[id(net.log_theta[1])] == pytest.approx(2e-2)
    assert id(net.log_theta[2]) not in found
    net.log_theta[1].requires_grad_(False)
    assert "log_theta.1" not in learning_rates(net, None)
    assert layer_of(fu.nn.LAMP(A, layers=3), "shrinkage.log_alpha.2") == 2
    assert layer_of(fu.nn.LAMP(A, layers=3, tied=True), "W.0") is None


def test_frozen_layers_stay() -> None:
    net = alista()
    for p in (net.log_theta[0], net.log_step[0]):
        p.requires_grad_(False)
    before = net.log_theta[0].clone(), net.log_theta[1].clone()
    train(net, PROBLEM, end_to_end(20), **QUIET)
    assert torch.equal(net.log_theta[0], before[0])
    assert not torch.equal(net.log_theta[1], before[1])
    assert not net.log_theta[0].requires_grad
    assert net.log_theta[1].requires_grad


def test_inherit() -> None:
    net = alista()
    inherit(net, Stage(1, depth=3, inherit={"log_theta": 0.5}))
    torch.testing.assert_close(net.log_theta[2].exp(), 0.5 * net.log_theta[1].exp())


def test_rates_decay() -> None:
    stage = Stage(100, rate=2.0, final=0.1)
    rates = [stage.rate_at(i) for i in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == pytest.approx(2.0, rel=0.03)
    assert rates[-1] == pytest.approx(0.2, rel=0.05)
    assert Stage(1).rate_at(0) == 1.0


def test_what_is_held_out_is_not_trained_on() -> None:
    y, x = fixed(PROBLEM, 100)
    problem, checked = split_data((y, x), 1024, 32, 0)
    assert len(checked.y) == 20
    generator = torch.Generator().manual_seed(0)
    seen = torch.cat([problem.sample(32, generator).y for _ in range(40)])
    assert (seen[:, None] != checked.y).any(-1).all()
    given = split_data((y, x), (y[:3], None), 32, 0)[1]
    assert torch.equal(given.y, y[:3])
    with pytest.raises(TypeError, match="data must be a problem with sample"):
        train(alista(), y, end_to_end(1), **QUIET)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    schedule = [Stage(np.int64(10), depth=np.int64(2), inherit={"log_theta": np.float64(0.9)})]  # type: ignore[arg-type]
    options = QUIET | {"checkpoint": tmp_path / "deep" / "er" / "c.pt", "rates": {"log_theta": np.float64(1e-2)}}
    first, second = (train(alista(), PROBLEM, schedule, **options) for _ in range(2))
    assert first.records == second.records


def test_inherit_leaves_what_is_frozen() -> None:
    net = alista()
    net.log_theta[1].requires_grad_(False)
    before = net.log_theta[1].clone()
    inherit(net, Stage(1, depth=2, inherit={"log_theta": 0.5}))
    assert torch.equal(net.log_theta[1], before)
    with pytest.raises(ValueError, match="inherit starts a layer from the one before it, and the first has none"):
        Stage(1, depth=1, inherit={"log_theta": 0.5})


def test_search_that_is_ended_changes_nothing() -> None:
    net = fu.nn.HyperLISTA(A, layers=3)
    before = net.c.clone()
    calls = 0

    def loss(found: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return training.supervised(found, y, x)

    with pytest.raises(KeyboardInterrupt):
        training.search(net, fixed(PROBLEM, 20), loss=loss)
    assert torch.equal(net.c, before)


def test_history(tmp_path: Path) -> None:
    history = train(alista(), PROBLEM, layerwise(4, 5, 5), **QUIET)
    assert len(history.table()) == len(history.records)
    assert history.as_dict()["finished"]
    history.plot(tmp_path / "h.png")
    assert (tmp_path / "h.png").stat().st_size > 5000


def test_search_finds_good_numbers() -> None:
    net = fu.nn.HyperLISTA(A, layers=8, c1=0.5, c3=1.0)
    samples = fixed(PROBLEM, 200)
    with torch.no_grad():
        before = float(training.supervised(net(samples.y), *samples))
    grid = {"c1": (0.02, 0.05), "c2": (0.0, 0.01), "c3": (3.0, 8.0)}
    found = training.search(net, samples, grid=grid, steps=10)
    assert found < before - 1
    assert training.supervised(net(samples.y), *samples).item() == pytest.approx(found, rel=1e-4)
    with pytest.raises(ValueError, match="grid must have values of c1, c2 and c3, got c1"):
        training.search(net, samples, grid={"c1": (0.1,)})


def test_ctrl_c_keeps_the_best_weights() -> None:
    net = alista()

    def interrupt(done: int) -> None:
        if done == 12:
            signal.raise_signal(signal.SIGINT)

    history = train(net, PROBLEM, end_to_end(1000), **(QUIET | {"progress": interrupt}))
    assert not history.finished
    assert history.records[-1].step == 10
    assert all(p.isfinite().all() for p in net.parameters())


def train_with_others(folder: Path) -> None:
    """Trains a network that starts otherwise in each of two processes, and stores its weights."""
    torch.set_num_threads(1)
    net = fu.nn.LISTACP(A, layers=3)
    with torch.no_grad():
        net.W[0] += torch.distributed.is_initialized()
    train(net, PROBLEM, end_to_end(15), **(QUIET | {"batch": 16, "held_out": 32, "check_every": 5}))
    torch.save([p.detach() for p in net.parameters()], folder / f"{torch.distributed.get_rank()}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    """Both end with the same weights, which are those of one process that sees both batches."""
    process = launch(tmp_path, train_with_others, tmp_path)
    _, err = process.communicate()
    assert process.poll() == 0, err
    a, b = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert same(a, b)

    class Both:
        """The batches of the two processes, one after the other, from generators of their own."""

        def __init__(self) -> None:
            self.generators = [torch.Generator().manual_seed(2 * 1_000_003 * rank) for rank in (0, 1)]

        def sample(self, count: int, generator: torch.Generator) -> Samples:
            parts = [PROBLEM.sample(count // 2, g) for g in self.generators]
            return Samples(torch.cat([p.y for p in parts]), torch.cat([p.x for p in parts if p.x is not None]))

    def mean_of_two(found: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
        assert x is not None
        halves = zip(found.chunk(2), y.chunk(2), x.chunk(2), strict=True)
        return torch.stack([training.supervised(*half) for half in halves]).mean()

    net = fu.nn.LISTACP(A, layers=3)
    checked = fixed(PROBLEM, 32)
    train(net, Both(), end_to_end(15), loss=mean_of_two, **(QUIET | {"held_out": checked}))
    for p, q in zip(net.parameters(), a, strict=True):
        torch.testing.assert_close(p.detach(), q, rtol=1e-4, atol=1e-5)


def test_a_loop_of_ones_own_in_ddp(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        net = alista()
        model = torch.nn.parallel.DistributedDataParallel(net)
        y, x = fixed(PROBLEM, 32)
        training.supervised(model(y), y, x).backward()
        wanted = torch.autograd.grad(training.supervised(net(y), y, x), [*net.parameters()])
        for p, w in zip(net.parameters(), wanted, strict=True):
            assert p.grad is not None
            torch.testing.assert_close(p.grad, w)
    finally:
        torch.distributed.destroy_process_group()
