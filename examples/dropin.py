"""A drop-in: a training script with a LISTA in plain PyTorch, and the same with the class imported from fastunroll.

Run it as it stands: ``python examples/dropin.py``; it takes some seconds. The import is all that differs: weights, data
and optimiser are the same, and so are the losses, but for rounding. Steps of both alternate, so that their times
compare.
"""

import argparse
import time
from statistics import median

import fastunroll as fu
import torch
from torch import nn


class LISTA(nn.Module):
    """LISTA as people write it: W1 y + W2 x, then a soft threshold, in a loop."""

    def __init__(self, A, layers=16, lam=0.1):
        super().__init__()
        L = torch.linalg.matrix_norm(A, 2) ** 2
        eye = torch.eye(A.shape[1])
        self.W1 = nn.ParameterList(nn.Parameter(A.T / L) for _ in range(layers))
        self.W2 = nn.ParameterList(nn.Parameter(eye - A.T @ A / L) for _ in range(layers))
        self.theta = nn.ParameterList(nn.Parameter(lam / L) for _ in range(layers))

    def forward(self, y):
        x = torch.zeros(y.shape[0], self.W2[0].shape[0])
        for k in range(len(self.theta)):
            z = y @ self.W1[k].T + x @ self.W2[k].T
            x = torch.sign(z) * torch.relu(torch.abs(z) - self.theta[k])
        return x


def training(cls, A, batches, layers):
    """The script: it yields the loss of each step and the time that it took, in seconds."""
    net = cls(A, layers=layers, lam=0.1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    for x, y in batches:
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = (net(y) - x).square().sum() / x.square().sum()
        loss.backward()
        optimizer.step()
        yield loss.item(), time.perf_counter() - start


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=60, help="training steps; default: %(default)s")
parser.add_argument("-m", type=int, default=250, help="measurements; default: %(default)s")
parser.add_argument("-n", type=int, default=500, help="unknowns; default: %(default)s")
parser.add_argument("--layers", type=int, default=16, help="default: %(default)s")
parser.add_argument("--batch", type=int, default=64, help="samples in a step; default: %(default)s")
args = parser.parse_args()

torch.manual_seed(0)
A = torch.randn(args.m, args.n)
A /= A.norm(dim=0)
signals = torch.randn(args.steps, args.batch, args.n) * (torch.rand(args.steps, args.batch, args.n) < 0.1)
batches = [(x, x @ A.T) for x in signals]

plain = training(LISTA, A, batches, args.layers)
fused = training(fu.nn.LISTA, A, batches, args.layers)  # the only change
print("step   PyTorch     fastunroll  difference")
times = []
for step, ((loss, seconds), (fused_loss, fused_seconds)) in enumerate(zip(plain, fused, strict=True)):
    times.append((seconds, fused_seconds))
    if step % max(1, args.steps // 8) == 0 or step == args.steps - 1:
        print(f"{step:4}   {loss:.7f}   {fused_loss:.7f}   {abs(loss - fused_loss) / loss:.1e}")
slow, fast = (1e3 * median(t) for t in zip(*times, strict=True))
print(f"a step takes {slow:.2f} ms, and {fast:.2f} ms with fastunroll: {slow / fast:.1f} times faster")
