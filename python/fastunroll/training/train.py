"""The training loop. It is seeded, measures held-out samples, resumes from checkpoints, and runs under torchrun."""

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
from ..data import Batch, OperatorProblem, Problem, Samples
from ..nn import Unrolled, UnrolledNetwork
from . import arguments, parallel
from . import checkpoint as checkpoints
from .history import History, Record
from .losses import Loss, supervised
from .parameters import inherit, learning_rates, parameter_groups
from .samples import Drawn, draw_samples, split_data
from .schedule import Stage


class TrainingError(RuntimeError):
    """A loss or gradient is not finite, so training cannot go on. The network has its last good weights."""


@dataclass
class _State:
    """The progress of a training. A later process that starts from it computes the same bits.

    Attributes:
        stage: the index of the current stage, counted from 0.
        step: the number of steps done in the stage.
        best: the smallest loss of held-out samples in the stage.
        without_gain: the number of checks since ``best``.
        records: the fields of all :class:`Record`.
    """

    stage: int = 0
    step: int = 0
    best: float = math.inf
    without_gain: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)

    @staticmethod
    def of(found: object, schedule: Sequence[Stage]) -> _State:
        """Returns the state that a checkpoint holds.

        Raises:
            checkpoints.Mismatch: ``found`` is not a state of a training on this schedule.
        """
        kinds = {"stage": (int,), "step": (int,), "best": (float,), "without_gain": (int,), "records": (list,)}
        checkpoints.require_fields("state", found, kinds)
        state = _State(**found)  # type: ignore[arg-type]  # require_fields has checked the types
        if math.isnan(state.best):
            raise checkpoints.Mismatch("is damaged, since its best loss is not a number")
        checkpoints.require_integer("stage", state.stage, 0, len(schedule))
        steps = 1 if state.stage == len(schedule) else schedule[state.stage].steps
        checkpoints.require_integer("step", state.step, 0, steps - 1)
        checkpoints.require_integer("checks without gain", state.without_gain, 0)
        counts, numbers = ("stage", "depth", "step"), ("loss", "held_out", "rate")
        for entry in state.records:
            checkpoints.require_fields(
                "records", entry, {name: (int,) if name in counts else (float,) for name in counts + numbers}
            )
            checkpoints.require_integer("stage of a record", entry["stage"], 0, len(schedule) - 1)
            checkpoints.require_integer("depth of a record", entry["depth"], 1)
            checkpoints.require_integer("step of a record", entry["step"], 1, schedule[entry["stage"]].steps)
        return state


class Trainer:
    """Everything that one call of :func:`train` works with."""

    def __init__(
        self, model: UnrolledNetwork | Unrolled, problem: Problem | OperatorProblem, schedule: Sequence[Stage],
        loss: Loss, held_out: Drawn, rates: Mapping[str, float], batch: int, clip: float, seed: int, check_every: int,
        patience: int | None, path: Path | None,
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

    # --- checkpoints ---

    def _settings(self) -> dict[str, Any]:
        """Returns the settings that must be the same when a later process resumes the training."""
        return {
            "schedule": [asdict(stage) for stage in self.schedule], "batch": self.batch, "rates": dict(self.rates),
            "clip": self.clip, "seed": self.seed, "check_every": self.check_every, "patience": self.patience,
            "processes": parallel.processes(),
        }  # fmt: skip

    def _content(self) -> dict[str, Any]:
        """Returns the entries of a checkpoint."""
        return {
            "settings": self._settings(), "state": asdict(self.state), "model": self.model.state_dict(),
            "best": self.best_weights, "generators": parallel.gather(self.generator.get_state()),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
        }  # fmt: skip

    def save(self) -> None:
        if self.checkpoint is None:
            return
        content = self._content()  # gathers the generators of all processes, so every process calls it
        if parallel.rank() == 0:
            checkpoints.write(self.checkpoint, content)

    def resume(self) -> None:
        """Restores the state of the checkpoint, if there is one. A file that does not fit changes nothing."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        content = checkpoints.read(self.checkpoint)
        if not checkpoints.equal(content["settings"], self._settings()):
            raise ValueError(
                f"{self.checkpoint} is of another schedule, seed or other arguments: delete it, or give another file"
            )
        try:
            self._restore(content)
        except checkpoints.Mismatch as error:
            raise checkpoints.refusal(self.checkpoint, error) from None

    def _restore(self, content: dict[str, Any]) -> None:
        own = self.model.state_dict()
        model, best = (checkpoints.checked_tensors(name, content[name], own, "network") for name in ("model", "best"))
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
        groups = parameter_groups(self.model, stage, self.rates)
        if not groups:
            raise ValueError("nothing is left to train: every parameter of this stage is frozen")
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for g in groups for p in g["params"])
        return torch.optim.Adam(groups, betas=(0.9, 0.99), fused=fused)

    def _reconstruct(self, samples: Drawn, **options: Any) -> Tensor:
        """Returns the output of the network for samples, with the operator that has measured them."""
        if samples.operator is not None:
            if not isinstance(self.model, Unrolled):
                raise TypeError(
                    f"samples with an operator need a fastunroll.nn.Unrolled, but the layers of "
                    f"{type(self.model).__name__} have a matrix: draw samples (y, x)"
                )
            options["operator"] = samples.operator
        found: Tensor = self.model(samples.y, depth=self.schedule[self.state.stage].depth, **options)
        return found

    def _loss(self, samples: Drawn) -> Tensor:
        return arguments.loss_value(self.loss(self._reconstruct(samples), samples.y, samples.x))

    @torch.no_grad()
    def check(self) -> float:
        """Returns the loss on held-out samples, and stores the weights if this loss is the smallest of the stage."""
        state = self.state
        value = parallel.mean(float(self._loss(self.held_out)))
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
        """Does one step of Adam, begins or ends a stage where that is due, and returns the loss of the batch."""
        state = self.state
        stage = self.schedule[state.stage]
        if self.optimizer is None:
            self._begin_stage()
        optimizer = self.optimizer
        assert optimizer is not None
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * stage.rate_at(state.step)
        learning = [p for group in optimizer.param_groups for p in group["params"]]
        with _gradients_only_for(learning, self.model):
            samples = draw_samples(self.problem, self.batch, self.generator)
            loss = self._loss(samples)
            norm = math.nan
            if parallel.all_finite(loss.item()):
                optimizer.zero_grad()
                loss.backward()
                parallel.average_gradients(learning)
                norm = torch.nn.utils.clip_grad_norm_(learning, self.clip).item()
        if not math.isfinite(norm):
            raise self._diverged(f"in step {state.step + 1} of stage {state.stage + 1}", samples)
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

    def _diverged(self, when: str, samples: Drawn | None = None) -> TrainingError:
        keeps_layers = not (isinstance(self.model, Unrolled) and self.model.is_equilibrium)
        with torch.no_grad():
            layers = self._reconstruct(samples or self.held_out, return_layers=keeps_layers)
            layers = layers if keeps_layers else layers[None]
            broken = [k for k in range(len(layers)) if not layers[k].isfinite().all()]
        where = f"the output of layer {broken[0] + 1} is the first that is not finite" if broken else "its gradient"
        self.model.load_state_dict(self.best_weights)
        return TrainingError(
            f"the loss is not finite {when}: {where}. The network has its last good weights; use lower rates, or clip "
            "gradients more"
        )


@contextmanager
def _gradients_only_for(parameters: Sequence[Tensor], model: UnrolledNetwork | Unrolled) -> Iterator[None]:
    """Freezes all other parameters of the model, so that the layers before ``parameters`` compute no gradients."""
    chosen = set(map(id, parameters))
    frozen = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    try:
        for p in frozen:
            p.requires_grad_(False)
        yield
    finally:
        for p in frozen:
            p.requires_grad_()


def train(
    model: UnrolledNetwork | Unrolled,
    data: Problem | OperatorProblem | Samples | tuple[Tensor, Tensor | None],
    schedule: Sequence[Stage],
    *,
    loss: Loss = supervised,
    batch: int = 128,
    rates: Mapping[str, float] | None = None,
    clip: float = 1.0,
    seed: int = 0,
    held_out: int | Samples | Batch | tuple[Tensor, Tensor | None] = 1024,
    check_every: int = 25,
    patience: int | None = None,
    checkpoint: Path | str | None = None,
    progress: bool | Callable[[int], object] = True,
) -> History:
    """Trains a network in place, stage after stage.

    Each stage runs Adam with rates that decay. Every ``check_every`` steps, and at the end of a stage, it measures the
    loss of the held-out samples. At its end a stage restores the weights with the smallest of these losses, which may
    be the weights that it began with. The same arguments and seed give the same bits. Ctrl-C ends training with the
    best weights so far.

    Under ``torchrun`` every process draws different batches, and gradients are averaged over processes.

    Args:
        model: the network, such as :class:`fastunroll.nn.LISTA` or a :class:`fastunroll.nn.Unrolled` for pictures.
            Parameters that do not require a gradient stay as they are.
        data: a problem that draws new samples for every batch, such as :class:`fastunroll.data.SparseRecovery` or
            :class:`fastunroll.data.Photographs`; or a fixed set of samples (y, x) or (y, None), from which batches are
            drawn after the held-out samples are set aside. For a :class:`fastunroll.nn.Unrolled` a problem may draw
            (y, x, operator), with the operator that has measured the batch, such as a scan with other masks.
        schedule: a list of :class:`Stage`, for example ``end_to_end(1000)``, ``layerwise(16)`` or the sum of both.
        loss: a function of x̂, y and x, where x may be None. See :mod:`fastunroll.training` for the losses it has.
        batch: the number of samples of a step, in each process.
        rates: Adam's learning rates by the name of the parameters or of a module that holds them,
            ``{"W": 1e-4, "log_theta": 1e-2}`` or ``{"prox": 2e-3, "filters": 1e-3}``. The name that is nearest to the
            parameter decides. The default is 1e-3 for matrices, filters, and all parameters of operators and of
            proximal operators, and 1e-2 for all other parameters.
        clip: the largest norm of the gradient. A larger gradient is scaled down to it.
        seed: the seed of all random draws.
        held_out: the number of held-out samples, at most a fifth of a fixed set; or the held-out samples themselves.
            A few pictures are enough, since each has many pixels.
        check_every: the number of steps between checks.
        patience: the number of checks without a smaller loss after which a stage ends early.
        checkpoint: a file that is written at every check. If the file exists, training resumes from it and computes
            the same bits.
        progress: whether to show a progress bar; or a function that is called after each step with the number of steps
            done.

    Returns:
        The losses over steps, as a :class:`History`.

    Raises:
        TrainingError: a loss or gradient is not finite. The network has its last good weights.
        TypeError: samples have an operator, and the network is no :class:`fastunroll.nn.Unrolled`.
        ValueError: the training set is smaller than a batch, ``rates`` names an unknown parameter, a stage is deeper
            than the network, or the checkpoint belongs to another training.
    """
    arguments.require_network(model, UnrolledNetwork, Unrolled)
    batch, check_every = _checks.count("batch", batch), _checks.count("check_every", check_every)
    clip, seed = _checks.positive("clip", clip), _checks.seed(seed)
    patience = None if patience is None else _checks.count("patience", patience)
    arguments.require_loss(loss)
    if not callable(progress):
        progress = _checks.flag("progress", progress)
    if not isinstance(schedule, (list, tuple)) or not all(isinstance(stage, Stage) for stage in schedule):
        is_stage = isinstance(schedule, Stage)
        fix = "one stage: use [stage]" if is_stage else f"{_checks.shown(schedule)}: use end_to_end(1000), for example"
        raise TypeError(f"schedule must be a list of stages, got {fix}")
    if not schedule:
        raise ValueError("schedule must have at least one stage: use end_to_end(1000), for example")
    for stage in schedule:
        if stage.depth is not None and not 1 <= stage.depth <= model.layers:
            raise ValueError(
                f"depth of a stage must be at most {model.layers}, the number of layers of the network, got "
                f"{stage.depth}: give the network more layers"
            )
    problem, held_out_set = split_data(data, held_out, batch, seed)
    path = checkpoints.checked_path(checkpoint)
    all_rates = learning_rates(model, rates)
    parallel.start(model)
    trainer = Trainer(
        model, problem, schedule, loss, held_out_set, all_rates, batch, clip, seed, check_every, patience, path
    )
    trainer.resume()
    total = sum(stage.steps for stage in schedule)
    interrupted = False
    with parallel.progress_bar(total, type(model).__name__, progress is True) as bar:
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
