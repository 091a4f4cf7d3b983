"""``fu.training.train`` takes any ``nn.Unrolled``: one table of networks of pictures, matrices and equilibria."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll import prox, schemes, training
from fastunroll.training import Stage, end_to_end, layerwise, train
from fastunroll.training.loop import Budget, Trained, grown, train_within
from fastunroll.training.parameters import layer_of, learning_rates, parameter_groups
from refusals import Refused, check_refused
from torch import Tensor, nn

SIZE, LAYERS = (10, 9), 3
KERNEL = torch.tensor([[0.1, 0.2, 0.1], [0.0, 0.4, 0.2]])
QUIET: dict[str, Any] = {"progress": False, "batch": 4, "held_out": 6, "check_every": 3}


class Smooth:
    """Draws smooth pictures, real or complex, and their measurements by an operator, or by one for each sample."""

    def __init__(self, A: Any, *, is_complex: bool = False, draws_operators: bool = False, size: Any = SIZE) -> None:
        self.A, self.is_complex, self.draws_operators, self.size = A, is_complex, draws_operators, size

    def sample(self, count: int, generator: torch.Generator) -> Any:
        dtype = torch.complex64 if self.is_complex else torch.float32
        x = torch.randn(count, *self.size, generator=generator, dtype=dtype).cumsum(-1) / 3
        A = self.A
        if self.draws_operators:
            A = fu.operators.Fourier((torch.rand(count, 1, self.size[-1], generator=generator) < 0.6).float())
        y = A(x)
        y = y + 0.1 * torch.randn(y.shape, generator=generator, dtype=y.dtype)
        return (y, x, A) if self.draws_operators else (y, x)


def unrolled(A: Any, prior: prox.Proximal, scheme: schemes.Scheme | None = None, layers: int | None = LAYERS) -> Any:
    return fu.nn.Unrolled(scheme or schemes.FISTA(), A, prior, layers, lam=0.05, step=0.8)


def blur() -> Any:
    return fu.operators.Blur(KERNEL)


def scan() -> Any:
    return fu.operators.Fourier((torch.arange(SIZE[1]) % 3 != 1).float())


def matrix() -> Tensor:
    return fu.data.sensing_matrix(12, 20)


Made = tuple[Any, Any]  # a network and its problem


def of_blur(prior: Callable[[], prox.Proximal], scheme: schemes.Scheme | None = None, size: Any = SIZE) -> Made:
    return unrolled(blur(), prior(), scheme), Smooth(blur(), size=size)


NETWORKS: dict[str, Callable[[], Made]] = {
    "blur, total variation": lambda: of_blur(lambda: prox.TotalVariation(3)),
    "blur, ADMM": lambda: of_blur(prox.L1, schemes.ADMM()),
    "blur, wavelets": lambda: of_blur(lambda: prox.WaveletL1("haar", 1), size=(10, 6)),
    "blur, filters of each layer": lambda: of_blur(lambda: prox.PerLayer(prox.FilterBank(3, 2), LAYERS)),
    "blur, variational network": lambda: of_blur(lambda: prox.FilterBank(3, 2), schemes.VariationalNetwork()),
    "blur, denoiser": lambda: of_blur(lambda: prox.Denoiser(fu.nn.DnCNN(1, 3, 3))),
    "a blur that learns": lambda: (
        unrolled(fu.operators.Blur(KERNEL, learn=True), prox.TotalVariation(3)), Smooth(blur()),
    ),
    "scan, total variation": lambda: (
        unrolled(scan(), prox.TotalVariation(3)), Smooth(scan(), is_complex=True),
    ),
    "scans of each batch": lambda: (
        unrolled(scan(), prox.Denoiser(fu.nn.DnCNN(2, 3, 3))), Smooth(None, is_complex=True, draws_operators=True),
    ),
    "matrix": lambda: (unrolled(matrix(), prox.L1()), fu.data.SparseRecovery(matrix(), snr=30)),
    "equilibrium": lambda: (
        unrolled(matrix(), prox.L1(), schemes.ProximalGradient(), None), fu.data.SparseRecovery(matrix(), snr=30),
    ),
    "equilibrium of pictures": lambda: (
        unrolled(blur(), prox.L1(), schemes.ProximalGradient(), None), Smooth(blur()),
    ),
}  # fmt: skip


def make(name: str) -> Made:
    torch.manual_seed(0)
    return NETWORKS[name]()


def weights(net: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_it_learns_is_seeded_and_resumes(name: str, tmp_path: Path) -> None:
    net, problem = make(name)
    before = weights(net)
    history = train(net, problem, end_to_end(9), **QUIET)
    assert history.finished
    assert history.records[-1].held_out < history.records[0].held_out
    assert not same(before, weights(net))

    class Stop(Exception):
        pass

    def stop(done: int) -> None:
        if done == 7:
            raise Stop

    options = QUIET | {"checkpoint": tmp_path / "c.pt"}
    again, problem = make(name)
    with pytest.raises(Stop):
        train(again, problem, end_to_end(9), **(options | {"progress": stop}))
    again, problem = make(name)
    resumed = train(again, problem, end_to_end(9), **options)
    assert same(weights(again), weights(net))
    assert resumed.records == history.records


@pytest.mark.parametrize("name", [name for name in NETWORKS if "equilibrium" not in name])
def test_depth_runs_the_first_layers(name: str) -> None:
    """So does each stage of a layer-wise schedule, which changes the numbers of these layers alone."""
    net, problem = make(name)
    samples = problem.sample(4, torch.Generator().manual_seed(0))
    y, options = samples[0], ({"operator": samples[2]} if len(samples) == 3 else {})
    with torch.no_grad():
        layers = net(y, return_layers=True, **options)
        for depth in (1, 2, LAYERS):
            found = net(y, depth=depth, **options)
            torch.testing.assert_close(found, layers[depth - 1], rtol=1e-4, atol=1e-5)
        assert net(y, depth=2, return_layers=True, **options).shape == layers[:2].shape
        torch.testing.assert_close(net(y, depth=2, keep_every=1, **options), layers[1], rtol=1e-4, atol=1e-5)
    last = [p.detach().clone() for key, p in net.named_parameters() if layer_of(net, key) == 2]
    train(net, problem, [Stage(3, depth=1, alone=True), Stage(3, depth=2)], **QUIET)
    assert last
    assert same(last, [p.detach() for key, p in net.named_parameters() if layer_of(net, key) == 2])


def test_layerwise_schedules() -> None:
    net, problem = make("blur, total variation")
    schedule = layerwise(LAYERS, 3, 3, inherit={"log_theta": 0.8})
    history = train(net, problem, schedule, **QUIET)
    assert {r.depth for r in history.records} == {1, 2, 3}
    assert history.records[-1].held_out < history.records[0].held_out


def test_an_equilibrium_has_one_layer() -> None:
    net, problem = make("equilibrium")
    y = problem.sample(3, torch.Generator().manual_seed(0)).y
    assert torch.equal(net(y, depth=1), net(y))
    train(net, problem, [Stage(3, depth=1)], **QUIET)


def test_losses_without_truth() -> None:
    net, problem = make("blur, total variation")
    y = problem.sample(30, torch.Generator().manual_seed(0))[0]
    loss = training.total((1, training.sure(net, blur(), 0.1)), (0.1, training.equivariance(net, blur(), "shift")))
    history = train(net, (y, None), end_to_end(6), loss=loss, **QUIET)
    assert history.records[-1].held_out < history.records[0].held_out


def test_a_network_without_finite_numbers_names_its_layer() -> None:
    for name in ("blur, wavelets", "equilibrium"):
        net, problem = make(name)
        with torch.no_grad():
            net.log_step[-1].fill_(torch.nan)
        says = f"the output of layer {1 if name == 'equilibrium' else LAYERS} is the first that is not finite"
        with pytest.raises(training.TrainingError, match=says):
            train(net, problem, end_to_end(3), **QUIET)


def test_rates_of_modules_and_of_layers() -> None:
    net, _ = make("blur, filters of each layer")
    found = learning_rates(net, None)
    assert found["prox.copies.1.filters"] == 1e-3
    assert found["log_theta.1"] == found["log_step.0"] == found["beta.2"] == 1e-2
    assert learning_rates(net, {"prox": 0.5, "log_theta": 0.25}) == found | {
        **{f"prox.copies.{k}.filters": 0.5 for k in range(LAYERS)}, **{f"log_theta.{k}": 0.25 for k in range(LAYERS)},
    }  # fmt: skip
    assert learning_rates(net, {"prox": 0.5, "filters": 0.125})["prox.copies.0.filters"] == 0.125
    assert layer_of(net, "prox.copies.1.filters") == 1
    alone = {id(p) for g in parameter_groups(net, Stage(1, depth=2, alone=True), found) for p in g["params"]}
    numbers = [getattr(net, name)[1] for name in ("log_theta", "log_step", "beta")]
    assert alone == {id(p) for p in (net.prox.copies[1].filters, *numbers)}
    shared, _ = make("blur, denoiser")
    assert layer_of(shared, "prox.module.convolutions.1.weight") is None  # as many convolutions as layers
    assert learning_rates(shared, None)["prox.module.convolutions.1.weight"] == 1e-3


def test_the_page_trains_a_network_of_scans() -> None:
    page = (Path(__file__).parent.parent / "docs" / "training.md").read_text(encoding="utf-8")
    program = page[page.index("**Networks of pictures**") :].split("```python\n")[1].split("```")[0]
    shorter = program.replace("end_to_end(40)", "end_to_end(26)").replace("batch=4, held_out=8", "batch=2, held_out=2")
    assert shorter != program
    names: dict[str, Any] = {"fu": fu, "torch": torch}
    torch.manual_seed(0)
    exec(shorter, names)
    records = names["history"].records
    assert records[-1].held_out < records[0].held_out


def refused(name: str = "blur, total variation", **changed: Any) -> Callable[[], object]:
    def call() -> object:
        net, problem = make(name)
        arguments: dict[str, Any] = QUIET | {"schedule": end_to_end(3), "data": problem} | changed
        return train(net, arguments.pop("data"), arguments.pop("schedule"), **arguments)

    return call


PICTURES = torch.ones(5, *SIZE)
REFUSED: dict[str, Refused] = {
    "an operator for a network with a matrix": (
        lambda: train(fu.nn.ALISTA(matrix(), layers=2), Smooth(None, is_complex=True, draws_operators=True),
                      end_to_end(2), **QUIET),
        TypeError, "samples with an operator need a fastunroll.nn.Unrolled, but the layers of ALISTA have a matrix",
    ),
    "a matrix for an operator": (
        refused(held_out=(PICTURES, PICTURES, torch.eye(3))), TypeError,
        "the operator of held_out must be a fastunroll.operators.LinearOperator, got a tensor",
    ),
    "an operator of fixed samples": (
        refused(data=(PICTURES, PICTURES, blur())), TypeError, "data must be a pair (y, x), got ",
    ),
    "four of them": (
        refused(held_out=(PICTURES, PICTURES, blur(), 1)), TypeError,
        "held_out must be a pair (y, x) or (y, x, operator), got ",
    ),
    "depth": (
        refused(schedule=[Stage(3, depth=LAYERS + 1)]), ValueError, "depth of a stage must be at most 3",
    ),
    "depth of an equilibrium": (
        refused("equilibrium", schedule=[Stage(3, depth=2)]), ValueError, "depth of a stage must be at most 1",
    ),
    "depth of a call": (
        lambda: make("matrix")[0](torch.ones(2, 12), depth=4), ValueError,
        "depth must be from 1 to layers = 3, got 4",
    ),
    "no depth of a call": (
        lambda: make("matrix")[0](torch.ones(2, 12), depth=0), ValueError, "depth must be a whole number ≥ 1, got 0",
    ),
    "rates": (refused(rates={"W": 1.0}), ValueError, "rates names 'W', but Unrolled learns beta, log_step, log_theta"),
    "a module": (lambda: train(nn.Linear(2, 3), PICTURES, end_to_end(1)), TypeError,  # type: ignore[arg-type]
                 "model must be a fastunroll.nn.UnrolledNetwork or fastunroll.nn.Unrolled, got "),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    check_refused(REFUSED[name])


def fit(
    budget: Budget, check: Callable[[float], float] = abs, stop_at: int | None = None
) -> tuple[float, Trained, list[int]]:
    """Trains one number towards 1, and returns it, what became of the training, and the steps with a check."""
    module = nn.ParameterDict({"w": nn.Parameter(torch.zeros(()))})
    steps, checks, shares = [0], [], [0.0]

    def loss(spent: float) -> Tensor:
        assert shares[-1] <= spent <= 1
        shares.append(spent)
        steps[0] += 1
        if steps[0] == stop_at:
            raise KeyboardInterrupt
        return (module["w"] - 1).square()

    def checked() -> Tensor:
        checks.append(steps[0])
        return torch.tensor(check(float(module["w"].detach()) - 1))

    optimizer = torch.optim.Adam(module.parameters(), 0.1)
    done = train_within(budget, module, optimizer, loss, checked, title="test", check_every=4, warm_up=2)
    return float(module["w"].detach()), done, checks


def test_the_loop_within_a_budget(capfd: pytest.CaptureFixture[str]) -> None:
    value, done, checks = fit(Budget(18, 3600.0))
    assert done == Trained(18, False)
    assert checks == [4, 8, 12, 16, 18]
    assert abs(value - 1) < 0.2
    assert "loss=" in capfd.readouterr().err
    assert fit(Budget(18, 3600.0))[0] == value
    _, done, checks = fit(Budget(10**9, 0.05))
    assert 0 < done.iterations < 10**6
    assert checks[-1] == done.iterations


def test_half_of_the_layers_are_trained_first() -> None:
    assert [grown(16, spent, 0.4) for spent in (0.0, 0.39, 0.4, 1.0)] == [8, 8, 16, 16]
    assert [grown(layers, 0.0, 0.4) for layers in (1, 2, 5)] == [1, 1, 3]
    assert grown(16, 0.0, 0.0) == 16


def test_the_loop_leaves_the_best_weights() -> None:
    """Also after Ctrl-C; and where no check has a finite loss, those of the start."""
    best, done, checks = fit(Budget(18, 3600.0), check=lambda error: abs(error + 0.7))  # the smallest at w = 0.3
    last, _, _ = fit(Budget(18, 3600.0))
    assert abs(best - 0.3) < abs(last - 0.3)
    value, done, checks = fit(Budget(18, 3600.0), stop_at=11)
    assert done == Trained(10, True)
    assert checks == [4, 8]
    assert value == fit(Budget(18, 3600.0), stop_at=9)[0]
    assert fit(Budget(18, 3600.0), check=lambda error: float("nan"))[0] == 0
