"""The figure of an imaging demo: pictures, details and errors by each method, and the quality after each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import StrMethodFormatter
from torch import Tensor
from torch.nn.functional import avg_pool2d

from .evaluation import Result
from .scene import Scene

WIDTH = 2.3  # of a panel, in inches
CURVES = 1.2  # the height of curves, in widths of a panel
Box = tuple[int, int, int]  # top, left, side


def draw(
    title: str, scenes: Sequence[Scene], results: Sequence[Result], zooms: Mapping[str, Box], gamma: float
) -> Figure:
    """Draws the first scene and the first of another picture, and a panel with the curves of both."""
    drawn = list({scene.name.split(",")[0]: scene for scene in reversed(scenes)}.values())[::-1]
    shown = {scene.name: [r for r in results if r.scene == scene.name and r.drawn] for scene in drawn}
    columns = 1 + max(map(len, shown.values()))
    heights = [height for scene in drawn for height in (_ratio(scene), 1.0, 1.0)]
    page = Figure(figsize=(WIDTH * columns, WIDTH * (sum(heights) + CURVES) + 0.9), layout="constrained")
    parts: Any = page.subfigures(2, 1, height_ratios=[sum(heights), CURVES])
    above, below = parts
    grid = above.add_gridspec(len(heights), columns, height_ratios=heights)
    for row, scene in enumerate(drawn):
        box = zooms.get(scene.name) or _detail(scene)
        _scene(above, grid, 3 * row, scene, shown[scene.name], box, gamma)
    for axes, scene in zip(below.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        _curves(axes, scene, [r for r in results if r.scene == scene.name])
    above.suptitle(title, fontsize=14)
    return page


def _ratio(scene: Scene) -> float:
    """The height of a picture over its width."""
    h, w = scene.inside(scene.x).shape[-2:]
    return float(h / w)


def _detail(scene: Scene) -> Box:
    """The square with the most edges."""
    x = scene.inside(scene.x).mean(0)
    side = max(8, min(x.shape) // 4)
    edges = (x[1:, :-1] - x[:-1, :-1]).abs() + (x[:-1, 1:] - x[:-1, :-1]).abs()
    score = avg_pool2d(edges[None, None].clamp(max=0.2), side, stride=4)[0, 0]
    place = int(score.argmax())
    return 4 * (place // score.shape[1]), 4 * (place % score.shape[1]), side


def _pixels(x: Tensor, gamma: float) -> Any:
    x = x.clamp(0, 1) ** gamma
    return (x.permute(1, 2, 0) if len(x) == 3 else x.mean(0)).numpy()


def _scene(page: Any, grid: Any, row: int, scene: Scene, results: Sequence[Result], box: Box, gamma: float) -> None:
    """Draws the rows of a scene: whole pictures, details, and errors of details."""
    top, left, side = box
    truth = scene.inside(scene.x)
    scale = float(truth.max()) if scene.x.is_complex() else 1.0
    panels = [("truth", truth)] + [(f"{r.method}\n{r.psnr:.2f} dB", scene.inside(r.x)) for r in results]
    errors = [(x - truth).abs().mean(0)[top : top + side, left : left + side] for _, x in panels]
    largest = float(torch.stack(errors[2:] or errors[1:]).flatten(1).quantile(0.99, 1).max())
    for i, ((name, x), error) in enumerate(zip(panels, errors, strict=True)):
        axes = page.add_subplot(grid[row, i])
        axes.imshow(_pixels(x / scale, gamma), cmap="gray", vmin=0, vmax=1)
        axes.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor="yellow", linewidth=1))
        axes.set_title(f"{scene.name}\n{name}" if i == 0 else name, fontsize=9)
        axes.set_axis_off()
        axes = page.add_subplot(grid[row + 1, i])
        detail = x[:, top : top + side, left : left + side] / scale
        axes.imshow(_pixels(detail, gamma), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        axes = page.add_subplot(grid[row + 2, i])
        if i == 0:
            axes.text(0.5, 0.5, f"errors, 0 to {largest:.2g}", ha="center", va="center", fontsize=10)
        else:
            axes.imshow(error.numpy(), cmap="inferno", vmin=0, vmax=largest, interpolation="nearest")
        axes.set_axis_off()


def _curves(axes: Any, scene: Scene, results: Sequence[Result]) -> None:
    """Draws the PSNR after each layer or iteration."""
    for r in results:
        if r.curve and r.color is not None:
            steps, psnr = zip(*r.curve, strict=True)
            long = steps[-1] > 20
            style = "-" if r.is_network or long else "--"
            axes.plot(steps, psnr, style, color=r.color, linewidth=2.5 if r.is_network else 1.5, label=r.method)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axes.set_xlabel("layers or iterations")
    axes.set_ylabel("PSNR, dB")
    axes.set_title(scene.name, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
