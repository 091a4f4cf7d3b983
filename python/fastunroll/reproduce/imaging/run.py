"""Trains each network for the same time, measures all of them on the same photographs, and writes the page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from ..._files import read_json, write_json
from ...demo.timing import milliseconds
from ...metrics import psnr, ssim
from ...training.loop import Trained, train_within
from ..machine import machine
from ..stored import ReproduceError, read_weights, write_weights
from .networks import Contestant, Solve, contestants
from .report import page
from .settings import HeldOutPhotograph, Settings, TrainingBlocks, linear_start, sensing

CHECKED, CHECK_EVERY = 64, 25  # blocks of a check, and steps between checks
CLIP = 1.0
SAMPLES = 2000  # training blocks from which the linear start is computed
LINEAR = "linear start Q y"


@dataclass(frozen=True)
class Row:
    """What is measured of a network.

    Attributes:
        name: the name of the network.
        psnr: the mean PSNR of the photographs in dB.
        ssim: the mean SSIM.
        ms: the time for the first photograph in milliseconds.
        parameters: the number of parameters, or None for the linear start.
        steps: the number of training steps.
        step_ms: the time of a training step in milliseconds.
    """

    name: str
    psnr: float
    ssim: float
    ms: float
    parameters: int | None = None
    steps: int | None = None
    step_ms: float | None = None


class Comparison:
    """The measurements, the networks, and the photographs of a comparison."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.A, self.blocks = sensing(settings), TrainingBlocks(settings)
        self.Q = linear_start(self.A, self.blocks.draw(SAMPLES, torch.Generator().manual_seed(2 * settings.seed + 1)))
        self.photographs = [HeldOutPhotograph(name, settings.side) for name in settings.tested]
        self.contestants = contestants(self.A, settings)

    def start(self, y: Tensor) -> Tensor:
        """Returns the linear start of networks from measurements."""
        return (y @ self.Q.mT).unflatten(-1, (self.settings.side, self.settings.side))

    def measured(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the measurements of blocks, and the linear start from them."""
        y = self.A(x)
        return y, self.start(y)

    def train(self, contestant: Contestant) -> Trained:
        """Trains a network for the time of the settings, and leaves its best weights."""
        settings = self.settings
        generator = torch.Generator().manual_seed(2 * settings.seed)
        checked = self.blocks.draw(CHECKED, torch.Generator().manual_seed(2 * settings.seed + 1))
        parameters = [p for p in contestant.net.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "lr": settings.rate},
            {"params": [p for p in parameters if p.dim() <= 1], "lr": 3 * settings.rate},
        ]
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)

        def loss(_: float) -> Tensor:
            x = self.blocks.draw(settings.batch, generator)
            return contestant.loss(*self.measured(x), x)

        def check() -> Tensor:
            error = contestant.solve(*self.measured(checked)) - checked
            return -10 * error.square().mean((-2, -1)).log10().mean()

        return train_within(
            settings.budget, contestant.net, optimizer, loss, lambda: -check(), title=contestant.name,
            check_every=CHECK_EVERY, clip=CLIP, shown=lambda loss: f"{-loss:.2f} dB",
        )  # fmt: skip

    @torch.no_grad()
    def quality(self, solve: Solve) -> tuple[float, float]:
        """Returns the mean PSNR and SSIM of a method on the photographs."""
        pictures = [p.assemble(solve(*self.measured(p.blocks()))) for p in self.photographs]
        pairs = [(x[None], p.x[None]) for x, p in zip(pictures, self.photographs, strict=True)]
        return mean(float(psnr(*pair)) for pair in pairs), mean(float(ssim(*pair)) for pair in pairs)

    def rows(self, steps: dict[str, int]) -> list[Row]:
        """Returns the measurements of the trained networks. Networks take turns where they are timed."""
        y = self.A(self.photographs[0].blocks())
        x = self.blocks.draw(self.settings.batch, torch.Generator().manual_seed(2 * self.settings.seed + 1))

        @torch.no_grad()
        def reconstruct(solve: Solve) -> Tensor:
            return solve(y, self.start(y))

        solves: list[Solve] = [lambda y, x0: x0, *(c.solve for c in self.contestants)]
        times = milliseconds([partial(reconstruct, solve) for solve in solves], 0.0)
        step_times = milliseconds([partial(self._step, c, x) for c in self.contestants], 0.0)
        found = [Row(LINEAR, *self.quality(solves[0]), times[0])]
        for contestant, ms, step_ms in zip(self.contestants, times[1:], step_times, strict=True):
            count = sum(p.numel() for p in contestant.net.parameters() if p.requires_grad)
            quality = self.quality(contestant.solve)
            found.append(Row(contestant.name, *quality, ms, count, steps[contestant.name], step_ms))
        return found

    def _step(self, contestant: Contestant, x: Tensor) -> None:
        contestant.loss(*self.measured(x), x).backward()
        contestant.net.zero_grad()


def reproduce_imaging(out: Path, settings: Settings) -> str:
    """Trains and measures the networks, and returns the page with their table.

    It writes ``imaging.json`` and ``imaging.md`` into the folder ``out``, and the weights of each network. Networks
    whose weights the folder already holds are not trained again.

    Raises:
        ReproduceError: the folder cannot be used.
        PictureError: a photograph cannot be used.
    """
    path = out / "imaging.json"
    try:
        (out / "weights").mkdir(parents=True, exist_ok=True)
        trained = _read_steps(path)
    except OSError as error:
        raise ReproduceError(f"cannot write to {out}: {error.strerror or error}") from None
    comparison = Comparison(settings)
    for contestant in comparison.contestants:
        weights = out / "weights" / f"{_key(contestant, settings)}.pt"
        if weights.exists() and weights.stem in trained:
            read_weights(contestant.net, weights)
            continue
        done = comparison.train(contestant)
        if done.interrupted:
            raise KeyboardInterrupt
        write_weights(contestant.net, weights)
        trained[weights.stem] = done.iterations
        write_json(path, {"steps": trained})
    rows = comparison.rows({c.name: trained[_key(c, settings)] for c in comparison.contestants})
    text = page(rows, settings, machine())
    write_json(path, {"steps": trained, "rows": [asdict(row) for row in rows], "machine": machine()})
    (out / "imaging.md").write_text(text, encoding="utf-8")
    return text


def _key(contestant: Contestant, settings: Settings) -> str:
    """The name of the weights of a network: another setting has other weights."""
    budget = settings.budget
    parts = (
        contestant.name, f"seed {settings.seed}", f"{settings.layers} layers", f"{settings.side}x{settings.side}",
        f"{settings.measurements} measurements", f"{settings.features} features", f"batch {settings.batch}",
        f"rate {settings.rate:g}", f"{budget.iterations} steps", f"{budget.seconds:g} s",
    )  # fmt: skip
    return "-".join("".join(c if c.isalnum() and c.isascii() else "_" for c in part) for part in parts)


def _read_steps(path: Path) -> dict[str, int]:
    """Returns the numbers of steps of the trainings that an earlier run has stored."""
    wrong, fix = "is not a result of fastunroll reproduce --imaging", "give another --out"
    if not path.exists():
        return {}
    try:
        content = read_json(path, wrong, fix)
    except ValueError as error:
        raise ReproduceError(str(error)) from None
    steps = content.get("steps") if isinstance(content, dict) else None
    if not isinstance(steps, dict) or not all(type(count) is int and count > 0 for count in steps.values()):
        raise ReproduceError(f"{path} {wrong}: {fix}")
    return steps
