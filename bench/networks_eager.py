"""Every network as people write it in PyTorch, as a module that shares the parameters of the network of fastunroll.

All are written with care. The first layer starts from zero, so it leaves out the product with x; the last layer leaves
out what no layer needs any more. What depends on A alone is computed once, in ``__init__``.
"""

from __future__ import annotations

from typing import Any

import fastunroll as fu
import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAST_VARIANCE = 1e-9


def shrink(z: Tensor, theta: Tensor) -> Tensor:
    return torch.sign(z) * F.relu(z.abs() - theta)


def select(z: Tensor, theta: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Shrinks all but the ``count`` largest magnitudes above θ, and also returns the mask of these."""
    size = z.abs()
    least = size.topk(count, dim=-1).values[..., -1:]
    passes = (size >= least) & (size > theta)
    return torch.where(passes, z, shrink(z, theta)), passes


def counts(selection: tuple[float, float], layers: int, n: int) -> list[int]:
    percent, most = selection
    return [round(min(percent * (k + 1), most) / 100 * n) for k in range(layers)]


class LISTA(nn.Module):
    def __init__(self, net: fu.nn.LISTA) -> None:
        super().__init__()
        self.layers = net.layers
        self.W1, self.W2, self.theta = net.W1, net.W2, net.theta

    def forward(self, y: Tensor) -> Tensor:
        x = shrink(F.linear(y, self.W1[0]), self.theta[0])
        for k in range(1, self.layers):
            x = shrink(F.linear(y, self.W1[k]) + F.linear(x, self.W2[k]), self.theta[k])
        return x


class LISTASS(nn.Module):
    def __init__(self, net: fu.nn.LISTASS) -> None:
        super().__init__()
        assert net.selection is not None
        self.layers, self.counts = net.layers, counts(net.selection, net.layers, net.n)
        self.W1, self.W2, self.log_theta = net.W1, net.W2, net.log_theta

    def forward(self, y: Tensor) -> Tensor:
        x, _ = select(F.linear(y, self.W1[0]), self.log_theta[0].exp(), self.counts[0])
        for k in range(1, self.layers):
            z = F.linear(y, self.W1[k]) + F.linear(x, self.W2[k])
            x, _ = select(z, self.log_theta[k].exp(), self.counts[k])
        return x


class LFISTA(nn.Module):
    def __init__(self, net: fu.nn.LFISTA) -> None:
        super().__init__()
        self.layers = net.layers
        self.W1, self.W2, self.log_theta, self.beta = net.W1, net.W2, net.log_theta, net.beta

    def forward(self, y: Tensor) -> Tensor:
        x = shrink(F.linear(y, self.W1[0]), self.log_theta[0].exp())
        before = torch.zeros_like(x)
        for k in range(1, self.layers):
            v = x + self.beta[k] * (x - before)
            before = x
            x = shrink(F.linear(y, self.W1[k]) + F.linear(v, self.W2[k]), self.log_theta[k].exp())
        return x


class LISTACP(nn.Module):
    A: Tensor

    def __init__(self, net: fu.nn.LISTACP) -> None:
        super().__init__()
        self.layers = net.layers
        self.register_buffer("A", net.A)
        self.W, self.log_theta = net.W, net.log_theta

    def forward(self, y: Tensor) -> Tensor:
        x = shrink(y @ self.W[0], self.log_theta[0].exp())
        for k in range(1, self.layers):
            x = shrink(x + (y - F.linear(x, self.A)) @ self.W[k], self.log_theta[k].exp())
        return x


class LISTACPSS(nn.Module):
    A: Tensor

    def __init__(self, net: fu.nn.LISTACPSS) -> None:
        super().__init__()
        assert net.selection is not None
        self.layers, self.counts = net.layers, counts(net.selection, net.layers, net.n)
        self.register_buffer("A", net.A)
        self.W, self.log_theta = net.W, net.log_theta

    def forward(self, y: Tensor) -> Tensor:
        x, _ = select(y @ self.W[0], self.log_theta[0].exp(), self.counts[0])
        for k in range(1, self.layers):
            z = x + (y - F.linear(x, self.A)) @ self.W[k]
            x, _ = select(z, self.log_theta[k].exp(), self.counts[k])
        return x


class StepLISTA(nn.Module):
    A: Tensor

    def __init__(self, net: fu.nn.StepLISTA) -> None:
        super().__init__()
        self.layers, self.lam = net.layers, net.lam
        self.register_buffer("A", net.A)
        self.log_step = net.log_step

    def forward(self, y: Tensor) -> Tensor:
        t = self.log_step[0].exp()
        x = shrink(t * (y @ self.A), self.lam * t)
        for k in range(1, self.layers):
            t = self.log_step[k].exp()
            x = shrink(x + t * ((y - F.linear(x, self.A)) @ self.A), self.lam * t)
        return x


class OneMatrix(nn.Module):
    """TiLISTA and ALISTA. The W of ALISTA does not learn."""

    A: Tensor
    W: Tensor

    def __init__(self, net: fu.nn.TiLISTA | fu.nn.ALISTA) -> None:
        super().__init__()
        assert net.selection is not None
        self.layers, self.counts = net.layers, counts(net.selection, net.layers, net.n)
        self.register_buffer("A", net.A)
        if isinstance(net, fu.nn.TiLISTA):
            self.W = net.W
        else:
            self.register_buffer("W", net.W)
        self.log_step, self.log_theta = net.log_step, net.log_theta

    def forward(self, y: Tensor) -> Tensor:
        x, _ = select(self.log_step[0].exp() * (y @ self.W), self.log_theta[0].exp(), self.counts[0])
        for k in range(1, self.layers):
            z = x + self.log_step[k].exp() * ((y - F.linear(x, self.A)) @ self.W)
            x, _ = select(z, self.log_theta[k].exp(), self.counts[k])
        return x


class GLISTA(nn.Module):
    """GLISTA with the gain relu(1 − D|x|)."""

    A: Tensor

    def __init__(self, net: fu.nn.GLISTA) -> None:
        super().__init__()
        assert net.selection is not None
        self.layers, self.counts = net.layers, counts(net.selection, net.layers, net.n)
        self.register_buffer("A", net.A)
        self.W, self.log_theta, self.log_D = net.W, net.log_theta, net.log_D
        self.kappa, self.overshoot = net.kappa, net.overshoot

    def forward(self, y: Tensor) -> Tensor:
        z = y @ self.W[0]
        x = torch.zeros_like(z)
        for k in range(self.layers):
            theta = self.log_theta[k].exp()
            if k > 0:
                larger = x * (1 + self.kappa[k] * F.relu(1 - self.log_D[k].exp() * x.abs()))
                z = larger + (y - F.linear(larger, self.A)) @ self.W[k]
            found, passes = select(z, theta, self.counts[k])
            o = 1 - self.overshoot[k] * theta * ~passes / ((found - x).abs() + 0.1)
            x = o * found + (1 - o) * x
        return x


class HyperLISTA(nn.Module):
    A: Tensor
    W: Tensor
    pinv: Tensor
    coherence: Tensor

    def __init__(self, net: fu.nn.HyperLISTA) -> None:
        super().__init__()
        self.layers, self.n = net.layers, net.n
        self.c = net.c
        for name in ("A", "W", "pinv", "coherence"):
            self.register_buffer(name, getattr(net, name))

    def forward(self, y: Tensor) -> Tensor:
        c1, c2, c3 = self.c.abs()
        error = at_start = F.linear(y, self.pinv).abs().sum(-1, keepdim=True)
        z = y @ self.W
        x = before = torch.zeros_like(z)
        for k in range(self.layers):
            if k > 0:
                r = F.linear(x, self.A) - y
                error = F.linear(r, self.pinv).abs().sum(-1, keepdim=True)
                beta = c2 * self.coherence * (x != 0).sum(-1, keepdim=True)
                z = x - r @ self.W + beta * (x - before)
            count = (c3 * torch.log(at_start / error)).clamp(0, self.n).long()
            x, before = self.select(z, c1 * self.coherence * error, count), x
        return x

    def select(self, z: Tensor, theta: Tensor, count: Tensor) -> Tensor:
        """As :func:`select`, with a number of each sample's own."""
        size = z.abs()
        # As many as any sample needs, which a compiled program cannot know.
        most = self.n if torch.compiler.is_compiling() else max(1, int(count.max()))
        ordered = size.topk(most, dim=-1).values
        least = torch.where(count > 0, ordered.gather(-1, (count - 1).clamp(min=0)), torch.inf)
        return torch.where((size >= least) & (size > theta), z, shrink(z, theta))


class SoftShrinkage(nn.Module):
    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.log_alpha, self.log_scale = ours.log_alpha, ours.log_scale

    def forward(self, k: int, r: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """The estimate from r = x + N(0, deviation²), and its derivative in r."""
        theta, scale = self.log_alpha[k].exp() * deviation, self.log_scale[k].exp()
        return scale * shrink(r, theta), scale * (r.abs() > theta)


class BernoulliGaussianShrinkage(nn.Module):
    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.log_power, self.logit = ours.log_power, ours.logit

    def forward(self, k: int, r: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        variance = deviation.square().clamp(min=LEAST_VARIANCE)
        power = self.log_power[k].exp()
        beta = power / (power + variance)
        q = beta * r.square() / variance
        present = torch.sigmoid(self.logit[k] + 0.5 * torch.log(variance / (power + variance)) + 0.5 * q)
        return present * beta * r, beta * (present + present * (1 - present) * q)


def shrinkage(ours: Any) -> nn.Module:
    return SoftShrinkage(ours) if hasattr(ours, "log_alpha") else BernoulliGaussianShrinkage(ours)


class LAMP(nn.Module):
    A: Tensor

    def __init__(self, net: fu.nn.LAMP) -> None:
        super().__init__()
        self.layers, self.m = net.layers, net.m
        self.register_buffer("A", net.A)
        self.W, self.shrinkage = net.W, shrinkage(net.shrinkage)

    def forward(self, y: Tensor) -> Tensor:
        v = y
        x, slope = self.shrinkage(0, y @ self.W[0], self.deviation(v))
        for k in range(1, self.layers):
            v = y - F.linear(x, self.A) + slope.sum(-1, keepdim=True) / self.m * v
            x, slope = self.shrinkage(k, x + v @ self.W[k], self.deviation(v))
        return x

    def deviation(self, v: Tensor) -> Tensor:
        return v.norm(dim=-1, keepdim=True) / self.m**0.5


class LVAMP(nn.Module):
    Ut: Tensor
    Vt: Tensor
    s: Tensor
    power: Tensor

    def __init__(self, net: fu.nn.LVAMP) -> None:
        super().__init__()
        self.layers, self.n = net.layers, net.n
        self.log_noise, self.shrinkage = net.log_noise, shrinkage(net.shrinkage)
        for name in ("Ut", "Vt", "s"):
            self.register_buffer(name, getattr(net, name))
        self.register_buffer("power", net.s.square())

    def forward(self, y: Tensor) -> Tensor:
        least, most = 0.5 / self.n, 1 - 0.5 / self.n
        seen = F.linear(y, self.Ut)
        v2 = y.square().sum(-1, keepdim=True) / self.power.sum()
        c, share = self.gains(0, v2)
        r1, v1 = (c * seen / share) @ self.Vt, v2 * (1 - share) / share
        x, slope = self.shrinkage(0, r1, v1.sqrt())
        for k in range(1, self.layers):
            alpha = slope.mean(-1, keepdim=True).clamp(least, most)
            r2 = (x - alpha * r1) / (1 - alpha)
            v2 = (v1 * alpha / (1 - alpha)).clamp(min=LEAST_VARIANCE)
            c, share = self.gains(k, v2)
            r1 = r2 + (c * (seen - self.s * F.linear(r2, self.Vt)) / share) @ self.Vt
            v1 = (v2 * (1 - share) / share).clamp(min=LEAST_VARIANCE)
            x, slope = self.shrinkage(k, r1, v1.sqrt())
        return x

    def gains(self, k: int, v2: Tensor) -> tuple[Tensor, Tensor]:
        """Of the linear estimate: for each singular value, and their share 1 − α₂."""
        c = self.s * v2 / (self.power * v2 + self.log_noise[k].exp())
        return c, ((self.s * c).sum(-1, keepdim=True) / self.n).clamp(0.5 / self.n, 1 - 0.5 / self.n)


class ADMMNet(nn.Module):
    """The base class of the three methods to solve v = q + Wᵀ(y − A q). Subclasses solve it for k > 0 and for q = 0."""

    A: Tensor

    def __init__(self, net: fu.nn.ADMMNet) -> None:
        super().__init__()
        self.layers = net.layers
        self.register_buffer("A", net.A)
        self.log_eta, self.log_theta = net.log_eta, net.log_theta

    def measured(self, y: Tensor) -> Tensor:
        return y

    def residual(self, y: Tensor, q: Tensor) -> Tensor:
        return y - F.linear(q, self.A)

    def solve(self, k: int, residual: Tensor) -> Tensor:
        """Wᵀ residual."""
        raise NotImplementedError

    def forward(self, y: Tensor) -> Tensor:
        y = self.measured(y)
        v = self.solve(0, y)
        x = shrink(v, self.log_theta[0].exp())
        u = self.log_eta[0].exp() * (v - x)
        for k in range(1, self.layers):
            q = x - u
            v = q + self.solve(k, self.residual(y, q))
            x = shrink(v + u, self.log_theta[k].exp())
            if k + 1 < self.layers:
                u = u + self.log_eta[k].exp() * (v - x)
        return x


class LearnedADMMNet(ADMMNet):
    def __init__(self, net: fu.nn.ADMMNet) -> None:
        super().__init__(net)
        self.W = net.W

    def solve(self, k: int, residual: Tensor) -> Tensor:
        return residual @ self.W[k]


class FactorisedADMMNet(ADMMNet):
    """Solves for the residuals of the samples with a Cholesky factorisation in each layer."""

    eye: Tensor
    gram: Tensor

    def __init__(self, net: fu.nn.ADMMNet) -> None:
        super().__init__(net)
        self.log_rho = net.log_rho
        self.register_buffer("eye", torch.eye(net.m, dtype=net.A.dtype))
        self.register_buffer("gram", net.A @ net.A.mT)

    def solve(self, k: int, residual: Tensor) -> Tensor:
        factor = torch.linalg.cholesky(self.gram + self.log_rho[k].exp() * self.eye)
        return torch.cholesky_solve(residual.mT, factor).mT @ self.A


class ExactADMMNet(ADMMNet):
    """Solves with A = U diag(s) Vᵀ. y and the residuals are coordinates with respect to the columns of U."""

    U: Tensor
    s: Tensor
    Vh: Tensor
    sVh: Tensor
    power: Tensor

    def __init__(self, net: fu.nn.ADMMNet) -> None:
        super().__init__(net)
        self.log_rho = net.log_rho
        for name in ("U", "s", "Vh"):
            self.register_buffer(name, getattr(net, name))
        self.register_buffer("sVh", net.s[:, None] * net.Vh)
        self.register_buffer("power", net.s.square())

    def measured(self, y: Tensor) -> Tensor:
        return y @ self.U

    def residual(self, y: Tensor, q: Tensor) -> Tensor:
        return y - F.linear(q, self.sVh)

    def solve(self, k: int, residual: Tensor) -> Tensor:
        return (self.s / (self.power + self.log_rho[k].exp()) * residual) @ self.Vh


def admm_net(net: fu.nn.ADMMNet) -> nn.Module:
    kinds = {"exact": ExactADMMNet, "factorised": FactorisedADMMNet, "learned": LearnedADMMNet}
    return kinds[net.solve](net)
