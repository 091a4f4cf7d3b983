"""One loop for all schedules: seeded, checked against held-out samples, resumable, data-parallel under torchrun."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from .. import _checks
from ..data import Problem, Samples
from ..nn import UnrolledNetwork
from . import arguments, parallel
from . import checkpoint as checkpoints
from .history import History, Record
from .losses import Loss, supervised
from .parameters import groups, inherit, rates_of
from .samples import drawn, to_train_and_to_check
from .schedule import Stage


class TrainingError(RuntimeError):
    """Training cannot go on. The network has the last weights that were good."""


@dataclass
class _State:
    """Where training stands: all that a later process needs to go on to the same bits."""

    stage: int = 0
    step: int = 0  # in the stage
    best: float = math.inf
    without_gain: int = 0  # checks
    records: list[dict[str, Any]] = field(default_factory=list)

    @staticmethod
    def of(found: object, schedule: Sequence[Stage]) -> _State:
        """The state that a checkpoint holds.

        Raises:
            checkpoints.Mismatch: it is no state of a training on this schedule.
        """
        kinds = {"stage": (int,), "step": (int,), "best": (float,), "without_gain": (int,), "records": (list,)}
        checkpoints.record("state", found, kinds)
        state = _State(**found)  # type: ignore[arg-type]  # its kinds have just been compared
        if math.isnan(state.best):
            raise checkpoints.Mismatch("is damaged, since its best loss is not a number")
        checkpoints.number("stage", state.stage, 0, len(schedule))
        steps = 1 if state.stage == len(schedule) else schedule[state.stage].steps
        checkpoints.number("step", state.step, 0, steps - 1)
        checkpoints.number("checks without gain", state.without_gain, 0)
        counts, numbers = ("stage", "depth", "step"), ("loss", "held_out", "rate")
        for entry in state.records:
            checkpoints.record(
                "records", entry, {name: (int,) if name in counts else (float,) for name in counts + numbers}
            )
            checkpoints.number("stage of a record", entry["stage"], 0, len(schedule) - 1)
            checkpoints.number("depth of a record", entry["depth"], 1)
            checkpoints.number("step of a record", entry["step"], 1, schedule[entry["stage"]].steps)
        return state


class Trainer:
    """The state of one :func:`train`."""

    def __init__(
        self, model: UnrolledNetwork, problem: Problem, schedule: Sequence[Stage], loss: Loss, held_out: Samples,
        rates: Mapping[str, float], batch: int, clip: float, seed: int, check_every: int, patience: int | None,
        path: Path | None,
    ) -> None:  # fmt: skip
        self.model, self.problem, self.schedule, self.loss, self.held_out = model, problem, schedule, loss, held_out
        self.rates, self.batch, self.clip, self.check_every = rates, batch, clip, check_every
        self.seed, self.patience, self.checkpoint = seed, patience, path
        self.state = _State()
        self.generator = torch.Generator().manual_seed(2 * (seed + 1_000_003 * parallel.rank()))
        self.optimizer: torch.optim.Adam | None = None
        self.best_weights = copy.deepcopy(model.state_dict())
        self.start = perf_counter()

    @property
    def finished(self) -> bool:
        return self.state.stage >= len(self.schedule)

    # --- what is kept on disk ---

    def _facts(self) -> dict[str, Any]:
        """What has to be the same for a later process to go on."""
        return {
            "schedule": [asdict(stage) for stage in self.schedule], "batch": self.batch, "rates": dict(self.rates),
            "clip": self.clip, "seed": self.seed, "check_every": self.check_every, "patience": self.patience,
            "processes": parallel.processes(),
        }  # fmt: skip

    def _content(self) -> dict[str, Any]:
        """The entries of a checkpoint."""
        return {
            "facts": self._facts(), "state": asdict(self.state), "model": self.model.state_dict(),
            "best": self.best_weights, "generators": parallel.gathered(self.generator.get_state()),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
        }  # fmt: skip

    def save(self) -> None:
        if self.checkpoint is None:
            return
        content = self._content()  # every process takes part in this
        if parallel.rank() == 0:
            checkpoints.write(self.checkpoint, content)

    def resume(self) -> None:
        """Goes on from the checkpoint, if there is one; a file that does not fit leaves everything as it is."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        content = checkpoints.read(self.checkpoint)
        if not checkpoints.equal(content["facts"], self._facts()):
            raise ValueError(
                f"{self.checkpoint} is of another schedule, seed or other arguments: delete it, or give another file"
            )
        try:
            self._restore(content)
        except checkpoints.Mismatch as error:
            raise checkpoints.refusal(self.checkpoint, error) from None

    def _restore(self, content: dict[str, Any]) -> None:
        own = self.model.state_dict()
        model, best = (checkpoints.tensors(name, content[name], own, "network") for name in ("model", "best"))
        state = _State.of(content["state"], self.schedule)
        stage = None if state.stage == len(self.schedule) else self.schedule[state.stage]
        optimizer = None
        if (content["optimizer"] is None) != (state.step == 0):
            raise checkpoints.Mismatch("is damaged, since it has an optimiser between stages or none within one")
        if stage is not None and content["optimizer"] is not None:
            optimizer = self._optimizer(stage)
            optimizer.load_state_dict(checkpoints.adam_state(content["optimizer"], optimizer))
        generator = checkpoints.generator(content["generators"], parallel.processes(), parallel.rank())
        self.model.load_state_dict(model)
        self.best_weights, self.state, self.optimizer, self.generator = best, state, optimizer, generator

    # --- training ---

    def _optimizer(self, stage: Stage) -> torch.optim.Adam:
        found = groups(self.model, stage, self.rates)
        if not found:
            raise ValueError("nothing is left to train: every parameter of this stage is frozen")
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for g in found for p in g["params"])
        return torch.optim.Adam(found, betas=(0.9, 0.99), fused=fused)

    @torch.no_grad()
    def check(self) -> float:
        """The loss of the stage on held-out samples; keeps weights that are the best so far."""
        state, stage = self.state, self.schedule[self.state.stage]
        y, x = self.held_out
        loss = arguments.loss_value(self.loss(self.model(y, depth=stage.depth), y, x))
        value = parallel.mean(float(loss))
        if value < state.best:
            state.best, state.without_gain = value, 0
            self.best_weights = copy.deepcopy(self.model.state_dict())
        else:
            state.without_gain += 1
        return value

    def _begin_stage(self) -> None:
        inherit(self.model, self.schedule[self.state.stage])
        self.optimizer = self._optimizer(self.schedule[self.state.stage])
        self.state.best, self.state.without_gain = math.inf, 0
        if not math.isfinite(self.check()):
            raise self._diverged("before the first step of a stage")

    def _end_stage(self) -> None:
        self.model.load_state_dict(self.best_weights)
        self.optimizer = None
        self.state.stage, self.state.step = self.state.stage + 1, 0

    def step(self) -> float:
        """One step, and what belongs before and after it; the loss."""
        state = self.state
        stage = self.schedule[state.stage]
        if self.optimizer is None:
            self._begin_stage()
        optimizer = self.optimizer
        assert optimizer is not None
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * stage.rate_at(state.step)
        learning = [p for group in optimizer.param_groups for p in group["params"]]
        with _learning(self.model, learning):
            y, x = drawn(self.problem, self.batch, self.generator)
            loss = arguments.loss_value(self.loss(self.model(y, depth=stage.depth), y, x))
            norm = math.nan
            if parallel.all_finite(loss.item()):
                optimizer.zero_grad()
                loss.backward()
                parallel.average_gradients(learning)
                norm = torch.nn.utils.clip_grad_norm_(learning, self.clip).item()
        if not math.isfinite(norm):
            raise self._diverged(f"in step {state.step + 1} of stage {state.stage + 1}", y)
        optimizer.step()
        state.step += 1
        self._after_step(stage, loss.item())
        return loss.item()

    def _after_step(self, stage: Stage, loss: float) -> None:
        state, ends = self.state, self.state.step == stage.steps
        if not (ends or state.step % self.check_every == 0):
            return
        held_out = self.check()
        record = Record(
            state.stage, stage.depth or self.model.layers, state.step, loss, held_out, stage.rate_at(state.step - 1)
        )
        state.records.append(asdict(record))
        if ends or (self.patience is not None and state.without_gain >= self.patience):
            self._end_stage()
        self.save()

    def _diverged(self, when: str, y: Tensor | None = None) -> TrainingError:
        y = self.held_out.y if y is None else y
        with torch.no_grad():
            layers = self.model(y, return_layers=True, depth=self.schedule[self.state.stage].depth)
            broken = [k for k in range(len(layers)) if not layers[k].isfinite().all()]
        where = f"the output of layer {broken[0] + 1} is the first that is not finite" if broken else "its gradient"
        self.model.load_state_dict(self.best_weights)
        return TrainingError(
            f"the loss is not finite {when}: {where}. The network has its last good weights; use lower rates, or clip "
            "gradients more"
        )


@contextmanager
def _learning(model: UnrolledNetwork, parameters: Sequence[Tensor]) -> Iterator[None]:
    """Only these parameters ask for gradients: layers before them are then run without."""
    chosen = set(map(id, parameters))
    still = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    try:
        for p in still:
            p.requires_grad_(False)
        yield
    finally:
        for p in still:
            p.requires_grad_()


def train(
    model: UnrolledNetwork,
    data: Problem | Samples | tuple[Tensor, Tensor | None],
    schedule: Sequence[Stage],
    *,
    loss: Loss = supervised,
    batch: int = 128,
    rates: Mapping[str, float] | None = None,
    clip: float = 1.0,
    seed: int = 0,
    held_out: int | Samples | tuple[Tensor, Tensor | None] = 1024,
    check_every: int = 25,
    patience: int | None = None,
    checkpoint: Path | str | None = None,
    progress: bool | Callable[[int], object] = True,
) -> History:
    """Trains a network in place, stage after stage, and leaves the best weights of the last.

    Each stage is Adam with rates that decay. Every ``check_every`` steps, and when a stage ends, the loss of held-out
    samples is measured; a stage ends with the weights that were best there, at worst those it began with. The same
    arguments and seed give the same bits. Ctrl-C ends training with the best weights so far.

    Under ``torchrun`` every process draws batches of its own, and gradients are averaged over all of them.

    Args:
        model: what is trained. Parameters that ask for no gradient stay as they are.
        data: where samples come from: :class:`fastunroll.data.SparseRecovery`, say, drawn anew without end; or fixed
            samples (y, x) or (y, None), of which batches are drawn, but for those held out.
        schedule: stages: ``end_to_end(1000)``, ``layerwise(16)``, or any list of :class:`Stage`, such as their sum.
        loss: see :mod:`fastunroll.training`; any function of x̂, y and x or None.
        batch: samples of a step, in each process.
        rates: Adam's rate for parameters, by name: ``{"W": 1e-4, "log_theta": 1e-2}``. By default 1e-3 for matrices,
            1e-2 for all else.
        clip: the largest norm of a gradient; larger ones are scaled down.
        seed: of what is drawn.
        held_out: how many samples to check on, at most a fifth of fixed ones; or these samples themselves.
        check_every: steps.
        patience: a stage ends early after so many checks without gain.
        checkpoint: a file that is written at every check. If it exists, training goes on from there, to the same bits.
        progress: show a bar; or a function that is told, after each step, how many are done.

    Returns:
        What was measured on the way.

    Raises:
        TrainingError: a loss or gradient is not finite. The network has its last good weights.
        ValueError: a set smaller than a batch, rates of unknown parameters, stages deeper than the network, or a
            checkpoint of something else.
    """
    arguments.network(model, UnrolledNetwork)
    batch, check_every = _checks.count("batch", batch), _checks.count("check_every", check_every)
    clip, seed = _checks.positive("clip", clip), _checks.seed(seed)
    patience = None if patience is None else _checks.count("patience", patience)
    arguments.function("loss", loss)
    if not callable(progress):
        progress = _checks.flag("progress", progress)
    if not isinstance(schedule, (list, tuple)) or not all(isinstance(stage, Stage) for stage in schedule):
        raise TypeError(f"schedule must be a list of stages, end_to_end(1000), say, got {_checks.shown(schedule)}")
    if not schedule:
        raise ValueError("schedule must have at least one stage: end_to_end(1000), say")
    for stage in schedule:
        if stage.depth is not None and not 1 <= stage.depth <= model.layers:
            raise ValueError(f"a stage of depth {stage.depth} needs a network of as many layers, it has {model.layers}")
    problem, checked = to_train_and_to_check(data, held_out, batch, seed)
    path = checkpoints.checked_path(checkpoint)
    every = rates_of(model, rates)
    parallel.start(model)
    trainer = Trainer(model, problem, schedule, loss, checked, every, batch, clip, seed, check_every, patience, path)
    trainer.resume()
    total = sum(stage.steps for stage in schedule)
    interrupted = False
    with parallel.bar(total, type(model).__name__, progress is True) as bar:
        try:
            while not trainer.finished:
                trainer.step()
                state = trainer.state
                done = sum(s.steps for s in schedule[: state.stage]) + state.step
                bar.update(done - bar.n)
                if callable(progress):
                    progress(done)
                if state.records:
                    bar.set_postfix_str(f"loss {state.records[-1]['held_out']:.4g}", refresh=False)
        except KeyboardInterrupt:
            interrupted = True
            model.load_state_dict(trainer.best_weights)
    records = [Record(**record) for record in trainer.state.records]
    return History(records, perf_counter() - trainer.start, finished=not interrupted)
