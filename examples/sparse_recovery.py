"""Sparse recovery: train LISTA to solve y = A x + e, and compare it with the algorithm it comes from.

Run it as it stands: ``python examples/sparse_recovery.py``; it takes about ten seconds on two cores.
"""

import argparse

import fastunroll as fu
import torch

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=600, help="training steps; default: %(default)s")
steps = parser.parse_args().steps

torch.manual_seed(0)
m, n, layers = 100, 200, 12
A = torch.randn(m, n)
A /= A.norm(dim=0)


def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Signals with a tenth of their entries nonzero, and what is measured of them."""
    x = torch.randn(count, n) * (torch.rand(count, n) < 0.1)
    return x, x @ A.T


x_test, y_test = draw(1000)
net = fu.nn.LISTA(A, layers=layers, lam=0.1)
for name, solve in (("ISTA", fu.solvers.ista), ("FISTA", fu.solvers.fista)):
    x = solve(A, y_test, 0.1, iterations=layers)
    print(f"{f'{name}, {layers} iterations':<20} {fu.losses.nmse_db(x, x_test):6.2f} dB")
print(f"LISTA, untrained     {fu.losses.nmse_db(net(y_test), x_test):6.2f} dB")

matrices = [*net.W1, *net.W2]
optimizer = torch.optim.Adam([{"params": matrices, "lr": 1e-3}, {"params": list(net.theta), "lr": 1e-3}])
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
for _ in range(steps):
    x, y = draw(256)
    optimizer.zero_grad()
    (net(y) - x).square().sum().div(x.square().sum()).log().backward()
    optimizer.step()
    schedule.step()

print(f"LISTA, trained       {fu.losses.nmse_db(net(y_test), x_test):6.2f} dB")
