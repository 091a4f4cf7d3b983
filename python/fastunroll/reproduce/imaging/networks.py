"""The networks of the comparison: ISTA-Net⁺ in plain PyTorch, the same prior here, and in DeepInverse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, relu

from ...demo.imaging.network import seeded
from ...demo.imaging.rivals import is_installed, unfolded
from ...nn import Unrolled
from ...prox import LearnedTransform, PerLayer
from ...schemes import FISTA
from ...training.loop import faded_mean
from .settings import BlockSensing, Settings

STEP, THRESHOLD = 0.5, 0.01  # that ISTA-Net⁺ starts with
SYMMETRY = 0.01  # the weight of the symmetry loss of ISTA-Net⁺
FADE = 0.8  # the weight of the loss of a layer relative to that of the next one


Solve = Callable[[Tensor, Tensor], Tensor]  # maps measurements y and the linear start x0 to blocks


class ISTANetPlus(nn.Module):
    """ISTA-Net⁺ in plain PyTorch, as its authors publish it.

    Phase k computes r = x − λ_k Φᵀ(Φ x − y), and x = r + G(F̃(soft(F(D r), θ_k))) with convolutions 3×3 without biases.

    Reference: Zhang and Ghanem, *ISTA-Net: interpretable optimization-inspired deep network for image compressive
    sensing*, 2018.
    """

    def __init__(self, Phi: Tensor, side: int, phases: int, features: int) -> None:
        super().__init__()
        self.register_buffer("Phi", Phi)
        self.Phi: Tensor
        self.side = side
        self.steps = nn.ParameterList(torch.tensor([STEP]) for _ in range(phases))
        self.thresholds = nn.ParameterList(torch.tensor([THRESHOLD]) for _ in range(phases))
        shapes = (features, 1), *[(features, features)] * 4, (1, features)
        self.phases = nn.ModuleList(
            nn.ParameterList(nn.init.xavier_normal_(torch.empty(*shape, 3, 3)) for shape in shapes)
            for _ in range(phases)
        )

    def forward(self, y: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Returns x (B, side, side), and the symmetry loss."""
        gram, At_y, x = self.Phi.mT @ self.Phi, y @ self.Phi, x0.flatten(1)
        losses = []
        for step, theta, filters in zip(self.steps, self.thresholds, self.phases, strict=True):
            D, F1, F2, B1, B2, G = filters.parameters()
            r = (x - step * (x @ gram) + step * At_y).reshape(-1, 1, self.side, self.side)
            u = conv2d(r, D, padding=1)
            c = conv2d(relu(conv2d(u, F1, padding=1)), F2, padding=1)
            kept = torch.sign(c) * relu(c.abs() - theta)
            back = conv2d(relu(conv2d(kept, B1, padding=1)), B2, padding=1)
            x = (r + conv2d(back, G, padding=1)).flatten(1)
            losses.append((conv2d(relu(conv2d(c, B1, padding=1)), B2, padding=1) - u).square().mean())
        return x.reshape(-1, self.side, self.side), torch.stack(losses).sum()


class DeepInverse(nn.Module):
    """An algorithm of DeepInverse, unfolded, with a learned transform for each layer."""

    def __init__(self, algorithm: str, A: BlockSensing, prior: PerLayer, layers: int) -> None:
        super().__init__()
        from deepinv.optim import PnP

        self.physics = A.to_deepinv()
        priors = [PnP(_Transform(copy)) for copy in prior.copies]
        self.net = unfolded(algorithm, priors, [THRESHOLD] * layers)

    def forward(self, y: Tensor, x0: Tensor) -> Tensor:
        """Returns x (B, side, side)."""
        start = x0.unsqueeze(1)
        x: Tensor = self.net(y.unsqueeze(1), self.physics, init=(start, start))
        return x.squeeze(1)


class _Transform(nn.Module):
    """A learned transform as a denoiser of DeepInverse, whose noise level is the threshold."""

    def __init__(self, prior: Any) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        found: Tensor = self.prior.prox(x.squeeze(1), theta).unsqueeze(1)
        return found


@dataclass(frozen=True)
class Contestant:
    """A network of the comparison.

    Attributes:
        name: the name of the network in the table and in files.
        net: the network.
        solve: the function that reconstructs blocks from measurements y and the linear start x0.
        loss: the function of y, x0 and the true blocks that is trained.
    """

    name: str
    net: nn.Module
    solve: Solve
    loss: Callable[[Tensor, Tensor, Tensor], Tensor]


def _mean_square(x_hat: Tensor, x: Tensor) -> Tensor:
    return (x_hat - x).square().mean()


def _of_ours(net: Unrolled) -> Contestant:
    def loss(y: Tensor, x0: Tensor, x: Tensor) -> Tensor:
        layers = net(y, x0, return_layers=True)
        return faded_mean((layers - x).square().mean((-3, -2, -1)), FADE)

    return Contestant("fastunroll, FISTA", net, net, loss)


def _of_ista_net(net: ISTANetPlus) -> Contestant:
    def loss(y: Tensor, x0: Tensor, x: Tensor) -> Tensor:
        found, symmetry = net(y, x0)
        return _mean_square(found, x) + SYMMETRY * symmetry

    return Contestant("ISTA-Net⁺ in PyTorch", net, lambda y, x0: net(y, x0)[0], loss)


def _of_deepinverse(net: DeepInverse, algorithm: str) -> Contestant:
    return Contestant(f"DeepInverse, {algorithm}", net, net, lambda y, x0, x: _mean_square(net(y, x0), x))


def contestants(A: BlockSensing, settings: Settings) -> list[Contestant]:
    """Returns the networks, with weights drawn from the seed. Those of DeepInverse are there if it is installed."""
    layers, features = settings.layers, settings.features
    with seeded(settings.seed):
        prior = PerLayer(LearnedTransform(features=features), layers)
        ours = Unrolled(FISTA(), A, prior, layers, lam=THRESHOLD, step=1.0)
        found = [_of_ours(ours), _of_ista_net(ISTANetPlus(A.Phi, settings.side, layers, features))]
        for algorithm in ("PGD", "DRS") if is_installed() else ():
            prior = PerLayer(LearnedTransform(features=features), layers)
            found.append(_of_deepinverse(DeepInverse(algorithm, A, prior, layers), algorithm))
    return found
