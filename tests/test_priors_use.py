"""What priors of pictures are by themselves: how they start, what they take, and what they refuse."""

from __future__ import annotations

from typing import Any

import fastunroll as fu
import pytest
import pywt
import torch
from closeness import relative_error
from fastunroll import prox
from refusals import Refused, check_refused
from torch import Tensor

DOUBLE = torch.float64
SCHEME = fu.schemes.ProximalGradient()


def random(*shape: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.filterwarnings("ignore:Level value")
@pytest.mark.parametrize(("name", "levels", "size"), [("haar", 1, (6, 10)), ("db4", 2, (12, 20)), ("sym3", 3, (24, 8))])
def test_the_wavelet_is_that_of_pywavelets(name: str, levels: int, size: tuple[int, int]) -> None:
    """Bands in the order of the levels, the finest first: horizontal, vertical and diagonal details."""
    z, theta = random(*size), torch.rand(3 * levels, dtype=DOUBLE)
    approximation, *details = pywt.wavedec2(z.numpy(), name, "periodization", levels)
    for bands, level in zip(details, range(levels - 1, -1, -1), strict=True):
        for band, number in zip(bands, theta[3 * level : 3 * level + 3], strict=True):
            band[:] = pywt.threshold(band, number.item(), "soft")
    wanted = pywt.waverec2([approximation, *details], name, "periodization")
    assert relative_error(prox.WaveletL1(name, levels).prox(z, theta), torch.from_numpy(wanted)) < 1e-12


def test_moves_of_the_wavelet_are_a_sequence_of_the_seed() -> None:
    prior, again, other = (prox.WaveletL1("db2", 2, seed=seed) for seed in (1, 1, 2))
    assert prior.moves == again.moves
    assert prior.moves != other.moves
    assert {n for move in prior.moves for n in move} == set(range(4))
    z = random(2, 8, 12)
    layers = [prior.at_layer(k)(z, 0.3) for k in range(6)]
    assert len({round(float(x.sum() + x[0, 0, 0]), 12) for x in layers}) > 1
    for k, x in enumerate(layers):
        assert torch.equal(prior.at_iteration(k)(z, 0.3), x)
        assert torch.equal(prior.at_layer(k + 1024)(z, 0.3), x)
    fixed = prox.WaveletL1("db2", 2, shift=False)
    assert torch.equal(fixed.at_layer(3)(z, 0.3), prior.prox(z, torch.tensor(0.3, dtype=DOUBLE)))


def test_a_moving_grid_is_better() -> None:
    """Wavelets that average over grids come nearer to a picture with an edge."""
    truth = (torch.arange(48.0)[:, None] + 0.37 * torch.arange(48.0) > 31).float()
    blur = fu.operators.Blur(torch.ones(3, 3) / 9)
    y = blur(truth) + 0.05 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    errors = [
        (fu.solvers.fista(blur, y, 0.02, prox=prox.WaveletL1("haar", 3, shift=shift), iterations=60) - truth).norm()
        for shift in (False, True)
    ]
    assert errors[1] < 0.95 * errors[0]


@pytest.mark.parametrize("size", [2, 3, 5])
def test_filters_start_as_a_tight_frame(size: int) -> None:
    """Clipped to nothing, all filters of a size take away what differs from the mean of patches."""
    bank, z = prox.FilterBank(size**2 - 1, size, dtype=DOUBLE), random(3, 17, 19)
    assert torch.equal(bank.prox(z, torch.zeros(size**2 - 1, dtype=DOUBLE)), z)
    mean = torch.nn.functional.avg_pool2d(z, size, 1)
    back = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(mean, (size - 1,) * 4), size, 1)
    inside = slice(size - 1, -(size - 1))
    found = bank.prox(z, torch.tensor(100.0, dtype=DOUBLE))
    assert torch.allclose(found[:, inside, inside], back[:, inside, inside], atol=1e-12)


@pytest.mark.parametrize("z", [random(2, 7, 9), random(2, 7, 9, dtype=torch.complex128)], ids=["real", "complex"])
def test_dncnn_is_homogeneous(z: Tensor) -> None:
    net = fu.nn.DnCNN(2 if z.is_complex() else 1, 4, 4, noise_level=True, dtype=DOUBLE)
    assert torch.equal(net(z, 0.3), z)
    with torch.no_grad():
        net.convolutions[-1].weight.normal_()  # type: ignore[operator,union-attr]
    x = net(z, 0.3)
    assert not torch.allclose(x, z)
    assert torch.allclose(net(3 * z, 0.9), 3 * x)
    levels = torch.tensor([0.3, 0.5], dtype=DOUBLE)
    assert torch.allclose(net(z, levels), torch.stack([x[0], net(z[1], 0.5)]))


def test_networks_take_channels() -> None:
    net = fu.nn.DnCNN(3, 4, 3)
    assert net(torch.randn(5, 3, 8, 9)).shape == (5, 3, 8, 9)
    assert fu.nn.DnCNN(1)(torch.randn(5, 1, 8, 9)).shape == (5, 1, 8, 9)
    pair, z = fu.nn.DnCNN(2, 4, 2), torch.randn(5, 8, 9, dtype=torch.complex64)
    with torch.no_grad():
        pair.convolutions[-1].weight.normal_()  # type: ignore[operator,union-attr]
    found = pair(torch.view_as_real(z).movedim(-1, 1))
    assert torch.allclose(pair(z), torch.complex(found[:, 0], found[:, 1]))
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in net.parameters())


def test_a_variational_network_is_the_varnet_of_k_space() -> None:
    """With one coil, layers of pictures are the updates of k-space of the End-to-End VarNet."""
    mask = (random(11) > -0.5).double()
    A, F = fu.operators.Fourier(mask), fu.operators.Fourier(torch.ones(11, dtype=DOUBLE))
    y = mask * random(2, 9, 11, dtype=torch.complex128)
    network = fu.nn.DnCNN(2, 3, 3, dtype=DOUBLE)
    with torch.no_grad():
        network.convolutions[-1].weight.normal_()  # type: ignore[operator,union-attr]
    net = fu.nn.Unrolled(fu.schemes.VariationalNetwork(), A, prox.Denoiser(network), 3, step=0.7, dtype=DOUBLE)
    k = y
    for _ in range(3):
        x = F.adjoint(k)
        k = k - 0.7 * mask * (k - y) - F(x - network(x))
    assert relative_error(net(y, x0=A.adjoint(y)), F.adjoint(k)) < 1e-12


def test_several_coils_are_the_varnet_of_k_space_in_two_ways() -> None:
    """Over pictures, layers are those of VarNet with k projected on what a picture explains; over k-space, VarNet."""
    mask, maps = (random(11) > -0.5).double(), random(3, 9, 11, dtype=torch.complex128)
    maps = maps / maps.abs().square().sum(0).sqrt()
    A, E = (fu.operators.MultiCoilFourier(m, maps) for m in (mask, torch.ones(11, dtype=DOUBLE)))
    y = mask * random(2, 3, 9, 11, dtype=torch.complex128)
    network, layers = fu.nn.DnCNN(2, 3, 3, dtype=DOUBLE), 3
    with torch.no_grad():
        network.convolutions[-1].weight.normal_()  # type: ignore[operator,union-attr]

    def varnet(project: Any) -> Tensor:
        k = project(y)
        for _ in range(layers):
            x = E.adjoint(k)
            k = project(k - 0.7 * mask * (k - y)) - E(x - network(x))
        return E.adjoint(k)

    scheme = fu.schemes.VariationalNetwork()
    net = fu.nn.Unrolled(scheme, A, prox.Denoiser(network), layers, step=0.7, dtype=DOUBLE)
    lifted = prox.Denoiser(lambda k: k - E((x := E.adjoint(k)) - network(x)))
    of_k = fu.nn.Unrolled(scheme, fu.operators.Mask(mask.expand(9, 11)), lifted, layers, step=0.7, dtype=DOUBLE)
    of_pictures, of_coils = net(y, x0=A.adjoint(y)), E.adjoint(of_k(y, x0=y))
    assert relative_error(of_pictures, varnet(lambda k: E(E.adjoint(k)))) < 1e-12
    assert relative_error(of_coils, varnet(lambda k: k)) < 1e-12
    assert relative_error(of_pictures, of_coils) > 0.01


@pytest.mark.parametrize("residual", [True, False])
def test_symmetry_loss(residual: bool) -> None:
    """It is the distance of F̃(F(u)) from u, and training on it makes F̃ the inverse of F."""
    torch.manual_seed(0)
    prior, z = prox.LearnedTransform(1, 8, residual=residual), torch.randn(4, 8, 8)
    u = prior.extract(z[:, None])
    assert torch.allclose(prior.symmetry_loss(z), (prior.inverse(prior.transform(u)) - u).square().mean())
    optimizer = torch.optim.Adam([*prior.transform.parameters(), *prior.inverse.parameters()], lr=0.01)
    start = prior.symmetry_loss(z).item()
    for _ in range(30):
        optimizer.zero_grad()
        loss = prior.symmetry_loss(z)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.7 * start


def test_each_layer_has_its_own() -> None:
    bank = prox.FilterBank(3, 3)
    prior = prox.PerLayer(bank, 4)
    assert len([*prior.parameters()]) == 4
    assert all(torch.equal(copy.filters, bank.filters) for copy in prior.copies)
    with torch.no_grad():
        prior.copies[2].filters.zero_()  # type: ignore[operator,union-attr]
    assert bank.filters.any()
    z = torch.randn(2, 8, 8)
    assert torch.equal(prior.at_layer(2)(z, 0.1), z)
    assert torch.equal(prior.at_layer(1)(z, 0.1), bank(z, 0.1))


def test_denoisers_get_a_level_for_each_picture() -> None:
    seen: list[Any] = []

    def denoise(z: Tensor, sigma: Tensor) -> Tensor:
        seen.append((z.shape, sigma))
        return z

    z = torch.randn(2, 3, 6, 7)
    for channels, theta, shape, sigma in (
        (1, torch.tensor([0.25]), (6, 1, 6, 7), torch.tensor(0.5)),
        (1, torch.tensor([1.0, 4.0]).reshape(2, 1, 1, 1), (6, 1, 6, 7), torch.tensor([1.0, 1, 1, 2, 2, 2])),
        (3, torch.tensor([1.0, 4.0]).reshape(2, 1, 1, 1), (2, 3, 6, 7), torch.tensor([1.0, 2])),
        (None, torch.tensor([0.25]), (2, 3, 6, 7), torch.tensor(0.5)),
    ):
        assert torch.equal(prox.Denoiser(denoise, True, channels=channels)(z, theta), z)
        assert seen[-1][0] == shape
        assert torch.equal(seen[-1][1], sigma)


BLUR, Z, THETA = fu.operators.Blur(torch.ones(3, 3) / 9), torch.randn(2, 12, 18), torch.tensor(0.1)
COMPLEX = torch.randn(2, 12, 18, dtype=torch.complex64)
REFUSED: dict[str, Refused] = {
    "wavelet": (lambda: prox.WaveletL1("db99"), ValueError, "name must be that of an orthogonal wavelet"),
    "levels": (lambda: prox.WaveletL1("db2", 0), ValueError, "levels must be a whole number ≥ 1, got 0"),
    "per": (lambda: prox.WaveletL1(per="bands"), ValueError, 'per must be "band", "level" or "all", got \'bands\''),
    "shift": (lambda: prox.WaveletL1(shift=1), TypeError, "shift must be True or False"),  # type: ignore[arg-type]
    "seed": (lambda: prox.WaveletL1(seed=0.5), ValueError, "seed must be a whole number"),  # type: ignore[arg-type]
    "sides": (
        lambda: prox.WaveletL1("db2", 3)(Z, THETA), ValueError,
        "the sides of pictures must be multiples of 8 for 3 levels, got (12, 18): crop or pad them, or use fewer",
    ),
    "a small picture": (lambda: prox.WaveletL1("db2", 3)(torch.zeros(4, 4), THETA), ValueError, "multiples of 8"),
    "a vector": (lambda: prox.WaveletL1("db2", 1)(torch.zeros(4), THETA), ValueError, "takes pictures (..., H, W)"),
    "thresholds": (
        lambda: prox.WaveletL1("db2", 1)(Z, torch.ones(4)), ValueError,
        'theta must be one number or 3, for 1 levels and per="band", got shape (4,)',
    ),
    "filters": (lambda: prox.FilterBank(9, 3), ValueError, "count < size², got size = 3 and count = 9"),
    "count": (lambda: prox.FilterBank(0), ValueError, "count must be a whole number ≥ 1"),
    "a picture that is too small": (
        lambda: prox.FilterBank()(torch.zeros(2, 4, 9), THETA), ValueError,
        "a bank of filters takes pictures (..., H, W) with sides of at least 5, got (2, 4, 9)",
    ),
    "thresholds of filters": (
        lambda: prox.FilterBank()(Z, torch.ones(4)), ValueError,
        "theta must be one number or 24, one for each filter, got 4",
    ),
    "double pictures": (lambda: prox.FilterBank()(Z.double(), THETA), TypeError, "all tensors must have one dtype"),
    "depth": (lambda: fu.nn.DnCNN(depth=1), ValueError, "depth must be a whole number ≥ 2"),
    "features": (lambda: fu.nn.DnCNN(features=0), ValueError, "features must be a whole number ≥ 1"),
    "complex pictures": (
        lambda: fu.nn.DnCNN()(COMPLEX), ValueError,
        "a network of 1 channel takes real pictures (..., H, W), got torch.complex64 of shape (2, 12, 18): complex "
        "pictures need channels=2",
    ),
    "colours": (
        lambda: fu.nn.DnCNN(3)(Z), ValueError,
        "a network of 3 channels takes real pictures (..., 3, H, W), got torch.float32 of shape (2, 12, 18)",
    ),
    "one part": (
        lambda: fu.nn.DnCNN(2)(torch.zeros(3, 3)), ValueError,
        "takes real pictures (..., 2, H, W) or complex pictures (..., H, W), got torch.float32 of shape (3, 3)",
    ),
    "double for DnCNN": (lambda: fu.nn.DnCNN()(Z.double()), TypeError, "but weight is torch.float32 and z is"),
    "integers": (lambda: fu.nn.DnCNN()(Z.long()), TypeError, "z must be floating point"),
    "no sigma": (lambda: fu.nn.DnCNN(noise_level=True)(Z), TypeError, "takes sigma: give it"),
    "sigma": (lambda: fu.nn.DnCNN()(Z, 0.1), TypeError, "takes no sigma: make it with noise_level=True"),
    "sigmas": (
        lambda: fu.nn.DnCNN(noise_level=True)(Z, torch.ones(3)), ValueError,
        "sigma must be one number, or one for each of 2 pictures, got 3",
    ),
    "even filters": (lambda: prox.LearnedTransform(size=4), ValueError, "size must be an odd number"),
    "level": (lambda: prox.Denoiser(torch.tanh, -0.1), ValueError, "noise_level must be a finite number > 0"),
    "level of words": (lambda: prox.Denoiser(torch.tanh, "high"), TypeError, "noise_level must be a number"),  # type: ignore[arg-type]
    "channels": (lambda: prox.Denoiser(torch.tanh, channels=0), ValueError, "channels must be a whole number ≥ 1"),
    "channels of a picture": (
        lambda: prox.Denoiser(torch.tanh, channels=3)(Z, THETA), ValueError, "a network of 3 channels takes",
    ),
    "levels of pictures": (
        lambda: prox.Denoiser(torch.tanh, True, channels=1)(Z, torch.ones(3, 1, 1)), ValueError,
        "theta must be one number, or one for each picture of (2, 12, 18), got shape (3, 1, 1)",
    ),
    "a denoiser that crops": (
        lambda: fu.nn.Unrolled(SCHEME, BLUR, prox.Denoiser(torch.nn.Conv2d(1, 1, 3), channels=1), 2)(Z), ValueError,
        "a denoiser must return the shape of its pictures, (2, 1, 12, 18), got (2, 1, 10, 16): pad its convolutions",
    ),
    "a denoiser of another type": (
        lambda: fu.nn.Unrolled(SCHEME, BLUR, prox.Denoiser(lambda z: z.double(), channels=1), 2)(Z), TypeError,
        "a denoiser must return the dtype of its pictures, torch.float32, got torch.float64: convert it with .to()",
    ),
    "a denoiser of lists": (
        lambda: prox.Denoiser(lambda z: [z], channels=1)(Z, THETA), TypeError,  # type: ignore[arg-type,return-value]
        "a denoiser must return a tensor, got list",
    ),
    "a convolution without channels": (
        lambda: prox.Denoiser(torch.nn.Conv2d(1, 1, 3, padding=1))(Z, THETA), ValueError,
        "the convolutions of this denoiser take real batches (N, C, H, W), but without channels they get pictures as "
        "they are, torch.float32 of shape (2, 12, 18): give channels=1",
    ),
    "a convolution for one picture": (
        lambda: prox.Denoiser(torch.nn.Conv2d(1, 1, 3, padding=1))(Z[0], THETA), ValueError, "give channels=1",
    ),
    "a convolution for colours": (
        lambda: prox.Denoiser(torch.nn.Conv2d(1, 1, 3, padding=1))(Z.expand(4, 3, 2, 12, 18)[:, :, 0], THETA),
        ValueError, "of shape (4, 3, 12, 18): give channels=1",
    ),
    "a convolution beside a noise map": (
        lambda: prox.Denoiser(torch.nn.Conv2d(2, 1, 3, padding=1))(Z[:1], THETA), ValueError,
        "give channels, the number C of the batches",
    ),
    "a convolution for complex pictures": (
        lambda: prox.Denoiser(torch.nn.Conv2d(1, 1, 3, padding=1))(COMPLEX[None], THETA), ValueError,
        "give channels=2 and a module of two channels, the real and the imaginary part",
    ),
    "a convolution with a level": (
        lambda: prox.Denoiser(torch.nn.Conv2d(1, 1, 3, padding=1), 0.1, channels=1)(Z, THETA), TypeError,
        "with noise_level a denoiser gives its module the pictures and σ, but Conv2d takes other arguments: leave "
        "noise_level out",
    ),
    "no level for a function that takes it": (
        lambda: prox.Denoiser(lambda z, sigma: z, channels=1)(Z, THETA), TypeError,  # type: ignore[misc,arg-type]
        "without noise_level a denoiser gives its module the pictures alone, but function takes other arguments: give "
        "noise_level",
    ),
    "a class of denoisers": (
        lambda: prox.Denoiser(fu.nn.DnCNN), TypeError,
        "a denoiser must be a module or a function of a batch, got the class DnCNN: call it",
    ),
    "a module in the place of a prior": (
        lambda: fu.nn.Unrolled(SCHEME, BLUR, torch.nn.Conv2d(1, 1, 3), 3), TypeError,  # type: ignore[arg-type]
        "such as fu.prox.L1(), got Conv2d: make it with fu.prox.Denoiser(module)",
    ),
    "copies of nothing": (lambda: prox.PerLayer(3, 2), TypeError, "prox must be a fu.prox.Proximal"),  # type: ignore[arg-type]
    "no copies": (lambda: prox.PerLayer(prox.L1(), 0), ValueError, "layers must be a whole number ≥ 1"),
    "too few copies": (
        lambda: fu.nn.Unrolled(SCHEME, BLUR, prox.PerLayer(prox.FilterBank(), 2), 3), ValueError,
        "PerLayer has 2 operators, but the network has more layers: make it with the layers of the network",
    ),
    "copies outside of a network": (
        lambda: prox.PerLayer(prox.FilterBank(), 2)(Z, THETA), ValueError, "use prox.at_layer(k).prox(z, theta)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    check_refused(REFUSED[name])


class Wrong(torch.nn.Module):
    """A module with channels of its own whose convolution fails for another reason."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        if z.is_complex():
            raise RuntimeError("a type of its own")
        return self.convolution(z[:, None].double())[:, 0]


def test_errors_of_a_denoiser_stay_in_sight() -> None:
    """An error of the module itself is what the caller sees, and the cause of the sentence on channels."""
    with pytest.raises(RuntimeError, match="type"):
        prox.Denoiser(Wrong())(Z, THETA)
    with pytest.raises(RuntimeError, match="a type of its own"):
        prox.Denoiser(Wrong())(Z + 0j, THETA)
    with pytest.raises(RuntimeError, match="type"):
        prox.Denoiser(torch.nn.Conv2d(1, 1, 3, padding=1))(Z[:, None].double(), THETA)
    with pytest.raises(ValueError, match="give channels=1") as raised:
        prox.Denoiser(torch.nn.Conv2d(1, 1, 3, padding=1))(Z, THETA)
    assert "to have 1 channels, but got 2" in str(raised.value.__cause__)
