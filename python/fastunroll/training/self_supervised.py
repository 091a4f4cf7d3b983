"""Training losses without ground truth, from the measurements and the operator alone.

Each function makes a loss of x̂, y and x, where x is not used. Random numbers of a loss are a sequence of its ``seed``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .. import _checks
from ..norms import squared_modulus
from ..operators import as_operator
from ..operators.convert import OperatorLike
from ..operators.restricted import restricted
from .arguments import require_callable
from .losses import Loss

Transform = Callable[[Tensor, torch.Generator], Tensor]


def measurement_error(A: OperatorLike) -> Loss:
    """Returns a loss, the mean of |A x̂ − y|² over all measurements.

    It says nothing of what A does not measure: add :func:`equivariance`.

    Args:
        A: any operator (:func:`fastunroll.operators.as_operator`).

    Raises:
        TypeError: A is no operator.

    Equivalent to::

        (A(x_hat) - y).abs().square().mean()
    """
    A = as_operator(A)

    def loss(x_hat: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
        return _mean_square(A(x_hat) - y)

    return loss


def sure(
    net: Callable[[Tensor], Tensor],
    A: OperatorLike,
    sigma: Tensor | float,
    *,
    step: float | None = None,
    seed: int = 0,
) -> Loss:
    """Returns Stein's unbiased risk estimate, a loss whose mean is that of |A x̂ − A x|² where y = A x + Gaussian noise.

    With m measurements, noise of standard deviation σ, random numbers b ~ N(0, I) and a small step τ it is

        1/m·‖A f(y) − y‖² − σ² + 2σ²/(mτ)·Re⟨b, A f(y + τb) − A f(y)⟩

    where the last term estimates the divergence of A f (Monte Carlo). It needs one more pass of the network.

    Args:
        net: the network f that made x̂ = f(y).
        A: any operator (:func:`fastunroll.operators.as_operator`).
        sigma: σ > 0, a number or a tensor that broadcasts with y, such as σ times the mask of a scan: measurements that
            are always zero have no noise. Complex noise has |e|² = σ² in the mean.
        step: τ; a tenth of the largest σ by default.
        seed: of b.

    Raises:
        TypeError: ``net`` cannot be called.
        ValueError: σ or τ is not positive and finite.

    Example::

        loss = fu.training.sure(net, A, sigma=0.01)
        loss(net(y), y, None).backward()

    Equivalent to::

        b = torch.randn_like(y)
        divergence = (b.conj() * (A(net(y + step * b)) - A(x_hat))).real.mean() / step
        (A(x_hat) - y).abs().square().mean() - sigma**2 + 2 * sigma**2 * divergence

    References: Stein, *Estimation of the mean of a multivariate normal distribution*, 1981; Ramani, Blu and Unser,
    *Monte-Carlo SURE: a black-box optimization of regularization parameters for general denoising algorithms*, 2008.
    """
    A, generator = as_operator(A), _generator(seed)
    require_callable("net", net)
    largest = float(sigma.detach().abs().max()) if isinstance(sigma, Tensor) else sigma
    tau = _checks.positive("sigma", largest) / 10 if step is None else _checks.positive("step", step)

    def loss(x_hat: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
        variance = _checks.threshold("sigma", sigma, y).square()
        b = torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device)
        found = A(x_hat)
        change = (b.conj() * (A(net(y + tau * b)) - found)).real
        return _mean_square(found - y) + (variance * (2 / tau * change - 1)).mean()

    return loss


def splitting(
    net: Callable[..., Tensor],
    A: OperatorLike,
    *,
    share: float = 0.4,
    together: Sequence[int] = (),
    seed: int = 0,
) -> Loss:
    """Returns a loss that predicts some measurements from the others: |A x̂ − y|² where y was hidden from the network.

    Each call holds out measurements at random. The network reconstructs from the others, by
    x̂ = net(kept · y, operator=diag(kept)·A). The loss is the mean of |A x̂ − y|² over the measurements that were held
    out. Nothing predicts noise that is independent from measurement to measurement, so the network does not learn it.
    The x̂ of the call is not used, and may be None.

    Args:
        net: the network, called with ``operator=``, such as :class:`fastunroll.nn.Unrolled`.
        A: any operator (:func:`fastunroll.operators.as_operator`).
        share: of measurements that are held out, between 0 and 1.
        together: dimensions of y along which all measurements are held out or none, such as (-3,) for the coils of a
            scan, (-3, -2) for whole columns and all coils.
        seed: of the choice.

    Raises:
        TypeError: ``net`` cannot be called.
        ValueError: ``share`` is not between 0 and 1, or y has no such dimension.

    Example::

        loss = fu.training.splitting(net, scan, together=(-2,))     # of columns
        loss(None, y, None).backward()

    Equivalent to::

        held = torch.rand_like(y) < share
        x_hat = net(~held * y, operator=diag(~held) @ A)
        (A(x_hat) - y)[held].abs().square().mean()

    References: Hendriksen, Pelt and Batenburg, *Noise2Inverse: self-supervised deep convolutional denoising for
    tomography*, 2020; Yaman, Hosseini, Moeller, Ellermann, Uğurbil and Akçakaya, *Self-supervised learning of
    physics-guided reconstruction neural networks without fully sampled reference data* (SSDU), 2020.
    """
    A, generator = as_operator(A), _generator(seed)
    require_callable("net", net)
    share = _checks.share("share", share, below_one=True)
    dims = tuple(together)

    def loss(x_hat: Tensor | None, y: Tensor, x: Tensor | None) -> Tensor:
        if any(not -y.dim() <= d < y.dim() for d in dims):
            raise ValueError(f"together must be dimensions of y, which has {y.dim()}, got {_checks.shown(dims)}")
        shape = [1 if d in dims or d - y.dim() in dims else n for d, n in enumerate(y.shape)]
        held = (torch.rand(shape, generator=generator) < share).to(y.device, y.dtype.to_real())
        found = net((1 - held) * y, operator=restricted(A, 1 - held))
        error = held * (A(found) - y)
        return squared_modulus(error).sum() / held.expand(y.shape).sum().clamp(min=1)

    return loss


def equivariance(
    net: Callable[[Tensor], Tensor], A: OperatorLike, transform: str | Transform = "rotate", *, seed: int = 0
) -> Loss:
    """Returns the loss of equivariant imaging: the mean of |T x̂ − net(A T x̂)|² for a random transform T of pictures.

    Pictures that are turned or moved are pictures too. A network that reconstructs all of them from y = A x learns what
    A does not measure, where A does not commute with T. Add it to :func:`measurement_error` or :func:`sure`.

    Args:
        net: the network that made x̂.
        A: any operator (:func:`fastunroll.operators.as_operator`).
        transform: "rotate" by quarter turns, "flip" along one axis or both, "shift" circularly; or a function of
            pictures and a ``torch.Generator`` that returns transformed pictures of the same shape. Each call draws one
            transform.
        seed: of the transforms.

    Raises:
        TypeError: ``net`` cannot be called.
        ValueError: ``transform`` is another word, or pictures that are not square are to be rotated.

    Example::

        loss = fu.training.total((1, fu.training.measurement_error(A)), (0.1, fu.training.equivariance(net, A)))
        loss(net(y), y, None).backward()

    Equivalent to::

        turned = torch.rot90(x_hat, k, (-2, -1))     # of random k
        (turned - net(A(turned))).abs().square().mean()

    Reference: Chen, Tachella and Davies, *Equivariant imaging: learning beyond the range space*, 2021.
    """
    A, generator = as_operator(A), _generator(seed)
    require_callable("net", net)
    if not callable(transform):
        _checks.choice("transform", transform, _TRANSFORMS)
        transform = _TRANSFORMS[transform]
    move = transform

    def loss(x_hat: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
        other = move(x_hat, generator)
        return _mean_square(other - net(A(other)))

    return loss


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(_checks.seed(seed))


def _mean_square(error: Tensor) -> Tensor:
    return squared_modulus(error).mean()


def _draw(generator: torch.Generator, low: int, high: int) -> int:
    """A whole number from low to high − 1."""
    return int(torch.randint(low, high, (), generator=generator))


def _rotated(x: Tensor, generator: torch.Generator) -> Tensor:
    if x.shape[-1] != x.shape[-2]:
        raise ValueError(
            f"quarter turns need square pictures, got {_checks.shape_text(x.shape[-2:])}: use "
            'transform="flip" or "shift"'
        )
    return torch.rot90(x, _draw(generator, 1, 4), (-2, -1))


def _flipped(x: Tensor, generator: torch.Generator) -> Tensor:
    return x.flip([(-1,), (-2,), (-2, -1)][_draw(generator, 0, 3)])


def _moved(x: Tensor, generator: torch.Generator) -> Tensor:
    return x.roll(tuple(_draw(generator, 0, n) for n in x.shape[-2:]), (-2, -1))


_TRANSFORMS: dict[str, Transform] = {"rotate": _rotated, "flip": _flipped, "shift": _moved}
