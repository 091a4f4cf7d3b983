"""The tables and the figure of the demo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from .evaluation import Result, Speed
from .photographs import SIDE, Photograph


def table(results: Sequence[Result], speeds: Sequence[Speed]) -> str:
    """Returns two Markdown tables: the quality of each method, and the speedup of the native calls."""
    rows = [
        ("method", "PSNR dB", "SSIM", "KKT residual", "objective", "ms an image"),
        *(
            (r.method, f"{r.psnr:.2f}", f"{r.ssim:.3f}", f"{r.kkt:.1e}", f"{r.objective:.4f}", f"{r.ms_per_image:.2f}")
            for r in results
        ),
    ]
    speed = [
        ("LISTA, all 16 layers", "native ms", "eager PyTorch ms", "times faster"),
        *((s.task, f"{s.native_ms:.2f}", f"{s.eager_ms:.2f}", f"{s.ratio:.1f}") for s in speeds),
    ]
    return markdown(rows) + "\n\n" + markdown(speed)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table with a line for each row. The first row is the head."""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, strict=True)
        return (
            "| " + " | ".join(f"{cell:<{w}}" if c == 0 else f"{cell:>{w}}" for c, (cell, w) in enumerate(cells)) + " |"
        )

    rule = "|" + "|".join("-" * (w + 2) if c == 0 else "-" * (w + 1) + ":" for c, w in enumerate(widths)) + "|"
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


def figure(images: Sequence[Photograph], results: Sequence[Result], path: Path) -> None:
    """Writes a figure of the first photograph by each method, with a detail, and of the quality after each layer."""
    first = images[0]
    panels = [("original", first.pixels)]
    panels += [(f"{r.method}\n{r.picture_psnr[0]:.2f} dB", r.pictures[0]) for r in results]
    page = Figure(figsize=(2.6 * len(panels), 8.6), layout="constrained")
    grid = page.add_gridspec(3, 2 * len(panels), height_ratios=[1, 1, 1.3])
    h, w = first.pixels.shape
    side = max(SIDE, min(h, w) // 3)
    top, left = h // 5, (w - side) // 2
    for i, (title, pixels) in enumerate(panels):
        for row, part in enumerate((pixels, pixels[top : top + side, left : left + side])):
            axes = page.add_subplot(grid[row, 2 * i : 2 * i + 2])
            axes.imshow(part, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_axis_off()
            if row == 0:
                axes.set_title(title, fontsize=11)
    for column, (label, curve) in enumerate((("PSNR, dB", "layer_psnr"), ("KKT residual", "layer_kkt"))):
        axes = page.add_subplot(grid[2, column * len(panels) : (column + 1) * len(panels)])
        for r in results:
            values = getattr(r, curve)
            if values:
                axes.plot(range(1, len(values) + 1), values, marker="o", markersize=3, label=r.method)
            elif "converged" in r.method and curve == "layer_psnr":
                axes.axhline(r.psnr, color="0.4", linestyle="--", label=r.method)
        axes.set_yscale("log" if curve == "layer_kkt" else "linear")
        axes.set_xlabel("layers or iterations")
        axes.set_ylabel(f"{label}, mean of {len(images)} photograph{'s' if len(images) > 1 else ''}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    page.suptitle("Compressed sensing of photographs from a quarter of the measurements: 16×16 blocks, 16 layers")
    page.savefig(path, dpi=100)
