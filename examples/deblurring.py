"""Deblurring: train an unrolled network on patches of photographs, and sharpen another photograph with it.

Run it as it stands: ``python examples/deblurring.py``; it takes about a minute on two cores. It needs scikit-image.
"""

import argparse

import fastunroll as fu
import torch

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=600, help="training steps; default: %(default)s")
parser.add_argument("--side", type=int, default=512, help="of the photograph; default: %(default)s")
args = parser.parse_args()

torch.manual_seed(0)
r = torch.arange(9) - 4.0
kernel = torch.exp(-(r[:, None] ** 2 + r**2) / (2 * 1.6**2))
blur = fu.operators.Blur(kernel / kernel.sum(), "valid")  # a camera measures no pixel whose blur it sees in part
noise, edge = 0.01, 4  # pixels that "valid" leaves out on each side
photographs = fu.data.Photographs(blur, 64, noise=noise)  # draws patches (64, 64) of photographs, and blurs them

first, last = 256 - args.side // 2, 256 + args.side // 2
x = fu.data.photograph("camera")[first:last, first:last]  # its middle; training never draws this photograph
y = blur(x)
y = y + noise * torch.randn(y.shape)


def inside(picture):
    """The pixels that the camera has measured."""
    return picture[..., edge:-edge, edge:-edge]


def quality(found, truth):
    return fu.metrics.psnr(inside(found), inside(truth)).mean().item()


def loss(found, measured, truth):
    """The mean PSNR of pictures, in other units."""
    return (inside(found) - inside(truth)).square().mean((-2, -1)).log().mean()


def classical(measured, iterations, lam):
    return fu.solvers.fista(blur, measured, lam, prox=fu.prox.TotalVariation(), iterations=iterations)


y_train, x_train = fu.data.fixed(photographs, 16)
results = {"blurred": fu.metrics.psnr(y, inside(x)).item()}
for iterations in (10, 100):  # with the weight λ that is best for training patches
    lam = max((3e-4, 1e-3, 3e-3), key=lambda lam: quality(classical(y_train, iterations, lam), x_train))
    results[f"total variation, {iterations} iterations"] = quality(classical(y, iterations, lam), x)

prior = fu.prox.PerLayer(fu.prox.FilterBank(count=24, size=5), layers=10)  # each layer learns filters of its own
net = fu.nn.Unrolled(fu.schemes.FISTA(), blur, prior, layers=10, lam=1e-3)
print(net.explain(y))
fu.training.train(net, photographs, fu.training.end_to_end(args.steps), loss=loss, batch=8, held_out=32)
with torch.no_grad():
    results["unrolled, 10 layers"] = quality(net(y), x)
for name, decibels in results.items():
    print(f"{name:<32} {decibels:6.2f} dB")
