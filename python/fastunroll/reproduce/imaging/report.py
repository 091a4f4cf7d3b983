"""The page of the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...demo.imaging.rivals import is_installed
from ...table import Table
from .settings import SECONDS, Settings

if TYPE_CHECKING:
    from .run import Row


def page(rows: Sequence[Row], settings: Settings, machine: Mapping[str, Any]) -> str:
    """Returns the page in Markdown."""
    lines = [
        "# Compressed sensing of photographs",
        "",
        f"Blocks of {settings.side}×{settings.side} pixels have {settings.measurements} random measurements each, "
        f"{settings.share:.0%}. Each network has {settings.layers} layers, a learned transform with "
        f"{settings.features} maps for each layer, and starts from the linear start. Each is trained for "
        f"{settings.budget.seconds:g} seconds with Adam and the same rates, in batches of {settings.batch} blocks of "
        f"the training photographs of scikit-image. The test photographs are {', '.join(settings.tested)}, which no "
        "network was trained on.",
        "",
        f"- {machine['processor']}, {machine['threads']} threads; Python {machine['python']}, "
        f"torch {machine['torch']}, fastunroll {machine['fastunroll']}; seed {settings.seed}",
        f"- *ms a step*: forward and backward of a batch; *ms an image*: all blocks of {settings.tested[0]}; medians "
        "of turns",
    ]
    if not is_installed():
        lines.append("- DeepInverse is not installed, so its networks are left out: pip install deepinv")
    if settings.budget.seconds < SECONDS:
        lines.append(f"- quick: {settings.budget.seconds:g} s of training; not a record")
    cells = [
        {
            "method": row.name, "PSNR dB": round(row.psnr, 2), "SSIM": round(row.ssim, 3), "parameters": row.parameters,
            "steps": row.steps, "ms a step": None if row.step_ms is None else round(row.step_ms, 1),
            "ms an image": round(row.ms, 1),
        }
        for row in rows
    ]  # fmt: skip
    return "\n".join([*lines, "", Table(cells).markdown()]) + "\n"
