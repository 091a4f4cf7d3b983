"""The table of an imaging demo, and its numbers as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ..report import markdown
from .evaluation import Result


def table(results: Sequence[Result]) -> str:
    """Returns a Markdown table with the PSNR and the SSIM of each method on each scene, and its time on the first."""
    scenes = list(dict.fromkeys(r.scene for r in results))
    methods = list(dict.fromkeys(r.method for r in results))
    found = {(r.method, r.scene): r for r in results}
    head = [f"{scene}: PSNR dB / SSIM" if len(scenes) > 1 else "PSNR dB / SSIM" for scene in scenes]
    rows = [("method", *head, "ms an image")]
    for method in methods:
        of_method = [found[method, scene] for scene in scenes]
        ms = of_method[0].ms
        rows.append((method, *(f"{r.psnr:.2f} / {r.ssim:.3f}" for r in of_method), "–" if ms is None else f"{ms:.0f}"))
    return markdown(rows)


def record(result: Result) -> dict[str, Any]:
    """Returns a result as plain data, without its picture."""
    return {
        f.name: getattr(result, f.name) for f in fields(result) if f.name not in ("x", "color", "is_network", "drawn")
    }
