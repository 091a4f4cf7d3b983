"""Magnetic resonance imaging: train an unrolled network for scans of eight coils that measure a quarter of k-space.

The network has the work of 10 iterations of a classical solver. It learns their steps, thresholds and momenta.
Run it as it stands: ``python examples/magnetic_resonance.py``; it takes half a minute on two cores.
"""

import argparse

import fastunroll as fu
import torch

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=200, help="training steps; default: %(default)s")
parser.add_argument("--side", type=int, default=96, help="of the pictures; default: %(default)s")
args = parser.parse_args()

torch.manual_seed(0)
side, noise = args.side, 0.005
grid = torch.linspace(-1, 1, side)
angle = (torch.arange(8) * torch.pi / 4)[:, None, None]
distance = (grid[:, None] - 1.2 * angle.sin()) ** 2 + (grid - 1.2 * angle.cos()) ** 2
maps = torch.polar(torch.exp(-distance), angle + grid)  # the sensitivities (8, H, W) of coils around the picture
maps = maps / maps.abs().square().sum(0).sqrt()


class Scans:
    """Draws pictures with a smooth phase, and scans each of them with columns of its own."""

    phantoms = fu.data.Phantoms(None, side, phase=1.0)  # random ellipses

    def sample(self, count, generator):
        return self.scanned(self.phantoms.sample(count, generator).x, generator)

    def scanned(self, x, generator):
        order = torch.rand(len(x), side, generator=generator)
        order[:, int(0.46 * side) : int(0.54 * side)] = -1  # the middle of k-space, and others at random
        mask = torch.zeros(len(x), side).scatter(1, order.argsort(1)[:, : side // 4], 1.0)[:, None]  # (B, 1, W)
        scan = fu.operators.MultiCoilFourier(mask, maps)
        y = scan(x)  # k-space (B, 8, H, W)
        return y + noise * mask[:, None] * torch.randn(y.shape, generator=generator, dtype=y.dtype), x, scan


scans = Scans()
x = fu.data.shepp_logan(side)[None].cfloat()
y, x, scan = scans.scanned(x, torch.Generator().manual_seed(1))

prior = fu.prox.TotalVariation()  # each layer of the network learns a step, a threshold and a momentum
net = fu.nn.Unrolled(fu.schemes.FISTA(), scan, prior, layers=10, step=1.0, lam=0.01)  # 1 is safe, since ‖A‖ ≤ 1
print(net.explain(y, operator=scan))
fu.training.train(net, scans, fu.training.end_to_end(args.steps), batch=4, held_out=16, rates={"log_theta": 0.1})
with torch.no_grad():
    learned = net(y, operator=scan)  # another scan is another operator of the call

results = {"zero-filled": scan.adjoint(y), "unrolled, 10 layers": learned}
for iterations, lam in ((10, 0.03), (100, 0.001)):  # the best weights λ for this scan of 0.1, 0.03, 0.01, ...
    found = fu.solvers.fista(scan, y, lam, prox=prior, iterations=iterations)
    results[f"total variation, {iterations} iterations"] = found
for name, found in results.items():
    print(f"{name:<32} {fu.metrics.psnr(found, x).item():6.2f} dB")
print(net.layers_summary())
