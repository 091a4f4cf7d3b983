"""The unrolled networks of the imaging demos, and their weights that ship with the package."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle

from ..._files import read_tensors, write_whole
from ...nn import DnCNN, Unrolled
from ...operators import LinearOperator
from ...prox import Denoiser, Proximal, TotalVariation
from ...prox.picture_channels import as_channels, from_channels
from ...schemes import FISTA

LAYERS = 16
FEATURES, DEPTH = 32, 4  # of the convolutional networks
NOISE_LEVEL = 0.02  # that the denoiser of each layer starts with
INNER = 10  # iterations of total variation
FIRST, LAST = 0.1, 0.01  # thresholds of total variation that the first and the last layer start with


class HalfSize(nn.Module):
    """A DnCNN on the four pictures of half the size that each picture (N, C, H, W) consists of.

    The convolutions cost a quarter of those at full size, and see twice as far. Sides that are odd are continued by
    one pixel.

    Reference: Zhang, Zuo and Zhang, *FFDNet: toward a fast and flexible solution for CNN based image denoising*, 2018.
    """

    def __init__(self, channels: int, features: int, depth: int) -> None:
        super().__init__()
        self.denoiser = DnCNN(4 * channels, features, depth, noise_level=True)

    def forward(self, z: Tensor, sigma: Tensor) -> Tensor:
        H, W = z.shape[-2:]
        even = pad(z, (0, W % 2, 0, H % 2), mode="replicate") if H % 2 or W % 2 else z
        return pixel_shuffle(self.denoiser(pixel_unshuffle(even, 2), sigma), 2)[..., :H, :W]


class RefinedTotalVariation(Proximal):
    """prox_θ(z) = D(T_θ(z), z, √θ) for complex pictures, with T_θ the proximal operator of total variation.

    The network D refines T_θ(z), with z beside it. It starts as D(t, z, σ) = t, so that a network of these operators
    starts as a classical algorithm for total variation.
    """

    def __init__(self, inner_iterations: int, features: int, depth: int) -> None:
        super().__init__()
        self.total_variation = TotalVariation(inner_iterations)
        self.refine = HalfSize(4, features, depth)

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        smooth = self.total_variation(z, theta)
        both = torch.cat([as_channels(smooth, 2), as_channels(z, 2)], 1)
        return from_channels(self.refine(both, theta.sqrt())[:, :2], z)


def denoising_network(A: LinearOperator, seed: int) -> Unrolled:
    """Returns FISTA with 16 layers and a learned denoiser of real pictures.

    All layers share the weights of the denoiser. Each layer learns a step, a momentum and a noise level, which the
    denoiser takes. The denoiser starts as the identity, so the network starts as a gradient method with momentum.
    """
    with seeded(seed):
        denoiser = HalfSize(1, FEATURES, DEPTH)
    return Unrolled(FISTA(), A, Denoiser(denoiser, NOISE_LEVEL, channels=1), LAYERS, step=1.0)


def refining_network(A: LinearOperator, seed: int) -> Unrolled:
    """Returns FISTA with 16 layers and total variation that a learned network refines, for complex pictures.

    All layers share the weights of the network. Each layer learns a step, a momentum and a threshold. The thresholds
    start as a geometric sequence that falls from layer to layer, with which 16 iterations come farther than with one
    threshold for all.
    """
    with seeded(seed):
        prior = RefinedTotalVariation(INNER, FEATURES, DEPTH)
    net = Unrolled(FISTA(), A, prior, LAYERS, step=1.0)
    thresholds: Any = net.log_theta
    with torch.no_grad():
        for k, theta in enumerate(thresholds):
            theta.fill_(math.log(FIRST) + k / (LAYERS - 1) * math.log(LAST / FIRST))
    return net


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Weights are drawn from this seed, and random numbers of the caller are the same afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def save(net: Unrolled, path: Path) -> None:
    """Writes the weights of a network, without its operator."""
    weights = {name: value for name, value in net.state_dict().items() if not name.startswith("operator.")}
    write_whole(path, lambda file: torch.save(weights, file))


def load_shipped(net: Unrolled, name: str) -> bool:
    """Loads the weights that ship with the package into a network. Returns whether there are any."""
    path = Path(str(files(__package__))) / "weights" / f"{name}.pt"
    if not path.is_file():
        return False
    weights = read_tensors(path, "is not a file of weights", "install the package again")
    missing, unexpected = net.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(key.startswith("operator.") for key in missing)
    return True
