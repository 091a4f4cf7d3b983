"""Runs the imaging examples of docs/operators.md, and writes the pictures of that page to docs/pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

HERE = Path(__file__).parent
SHADES = 64  # of grey, which keep the files small
Panel = tuple[str, Tensor]


def examples() -> dict[str, Any]:
    """What the blocks of Python in the section on imaging define."""
    page = (HERE / "operators.md").read_text(encoding="utf-8")
    section = page[page.index("## Imaging") : page.index("## Your own operator")]
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL):
        exec(block, names)
    return names


def save(name: str, panels: Sequence[Panel]) -> None:
    """Writes pictures side by side, each in grey from its least to its largest value."""
    figure = Figure(figsize=(2.2 * len(panels), 2.5), layout="constrained")
    for i, (title, picture) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        values = (picture.abs() if picture.is_complex() else picture).detach()
        axes.imshow(values, cmap="gray", interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    path = HERE / "pictures" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100)
    with Image.open(path) as picture:
        grey = picture.convert("L").quantize(SHADES)
    grey.save(path, optimize=True)


def contrast(details: Tensor) -> Tensor:
    """Numbers of both signs so that small ones are seen."""
    return details.sign() * (details.abs() / details.abs().max()).sqrt()


def tiled(pictures: Tensor, columns: int) -> Tensor:
    """Pictures (count, H, W) in rows of some columns, each with a border."""
    framed = torch.nn.functional.pad(pictures, (0, 1, 0, 1), value=float(pictures.max()))
    return torch.cat([torch.cat(list(row), -1) for row in framed.split(columns)], -2)


def main() -> None:
    e = examples()
    photograph = e["photograph"]
    save("blur", [("x", photograph), ("blurred, with noise", e["blurred"]), ("deblurred", e["deblurred"])])
    save(
        "fourier",
        [
            ("sampled frequencies", (e["samples"].abs() + 1e-3).log()),
            ("zero-filled", e["zero_filled"]),
            ("reconstructed", e["reconstructed"]),
        ],
    )
    coils = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(e["coils"], (-2, -1))), (-2, -1)).abs()
    save("multi_coil", [("what four coils see", tiled(coils, 2)), ("reconstructed", e["combined"])])
    save(
        "mask",
        [
            ("40 % of the pixels", e["known"] * photograph),
            ("inpainted", e["inpainted"]),
            ("every second pixel", e["small"]),
            ("twice the size", e["larger"]),
        ],
    )
    save(
        "transforms",
        [
            ("wavelet coefficients", contrast(e["coefficients"])),
            ("logarithm of cosine coefficients", (e["frequencies"].abs() + 1e-2).log()),
            ("the same of blocks", (e["in_place"].abs() + 1e-2).log()),
            ("differences downwards", contrast(e["edges"][0])),
            ("deblurred by wavelets", e["from_wavelets"]),
        ],
    )
    save("stack", [("along rows", e["both"][0]), ("along columns", e["both"][1]), ("from both", e["sharp"])])
    codes = e["codes"].detach()
    save(
        "convolution",
        [
            ("25 filters", tiled(e["filters"], 5)),
            ("codes of the second filter", contrast(codes[1])),
            ("picture of the codes", e["approximation"]),
        ],
    )


if __name__ == "__main__":
    main()
