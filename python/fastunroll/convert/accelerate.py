"""Puts fused layers in the place of a module's own, where they are seen to compute the same."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks
from .._files import first_line
from .fused import FusedLISTA, FusedSoftThreshold, is_copied_lista, is_soft_threshold, lista_candidates

_SAMPLES = 32
_SEEN = 0.2  # the share of an output that must not be zero, to compare it
_ROUNDING = 1000  # units of rounding that two ways of summing may differ by


def accelerate(module: nn.Module, verbose: bool = True) -> nn.Module:
    """Replaces, within ``module``, the LISTA that is widely copied, and soft thresholds written by hand, by fused ones.

    What is replaced: modules with ``_W`` and ``_S``, linear layers without bias, and a threshold (a parameter, an
    ``nn.Softshrink`` or a number) that run x = S_θ(_W y + _S x) some number of times; and modules whose one parameter
    is the threshold of sign(x)·max(|x| − θ, 0), clamped at 0 or not. They keep their names, their parameters (the same
    objects: optimisers and state dicts stay valid), their hooks and attributes, but not the methods of their class.

    Each is compared before: as it is, and with random weights, on random samples. It is left as it is if outputs
    differ by more than rounding. How many layers a LISTA runs is found the same way, so is whether it returns the last
    output or a list of all. Comparison is at thresholds ≥ 0 for a LISTA: where they are learned, keep them so.

    ``nn.Softshrink`` is left as it is: it is one kernel already, and for small arrays faster than the general one here.

    Args:
        module: changed in place, but for a ``module`` that is itself replaced.
        verbose: print a line for each module that was replaced, or looked alike and was left.

    Returns:
        ``module``, or what replaces it.

    Raises:
        TypeError: ``module`` is not an ``nn.Module``, or ``verbose`` not True or False.

    Example::

        model = fu.convert.accelerate(model)
        # encoder (LISTA): 31 layers in one call
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    verbose = _checks.flag("verbose", verbose)
    made: dict[nn.Module, nn.Module] = {}
    for name, old in _alike(module):
        if old in made:
            continue
        new, why = _fused(old)
        if new is not None:
            made[old] = new
        if verbose:
            print(f"{name or 'the module'} ({type(old).__name__}): {why}")
    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if child in made:
                parent._modules[name] = made[child]
    return made.get(module, module)


def _alike(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Modules that look as if they could be replaced, with their names; nothing within these."""
    if is_copied_lista(module) or is_soft_threshold(module):
        yield prefix, module
        return
    for name, child in module.named_children():
        yield from _alike(child, f"{prefix}.{name}" if prefix else name)


def _fused(old: nn.Module) -> tuple[nn.Module | None, str]:
    """What can replace a module, and what to say of it."""
    if any(p.is_meta for p in old.parameters()):
        return None, "left as it is, since its weights are on the meta device, where nothing can be compared"
    try:
        with torch.no_grad():
            return _fused_lista(old) if is_copied_lista(old) else _fused_threshold(old)
    except Exception as error:  # of foreign code, called with what it may not expect
        return None, f"left as it is, since it refuses a batch of samples: {type(error).__name__}: {first_line(error)}"


def _fused_lista(old: Any) -> tuple[nn.Module | None, str]:
    weight = old._W.weight
    generator = torch.Generator().manual_seed(0)
    twin = copy.deepcopy(old)
    for p in twin.parameters():
        p.copy_(torch.rand(p.shape, generator=generator) * 0.3 + 0.05)  # thresholds
    for linear in (twin._W, twin._S):  # with which layers do not converge, so that their number shows
        linear.weight.copy_(torch.randn(linear.weight.shape, generator=generator) / linear.in_features**0.5)
    y = torch.randn(_SAMPLES, weight.shape[1], generator=generator).to(weight)
    wanted, actual = (_telling(module, y) for module in (twin, old))
    if wanted is None or actual is None:
        return None, "left as it is, since all it gives is zero"
    for threshold, layers, every in lista_candidates(old, actual[1]):
        if _equal(FusedLISTA.of(twin, threshold, layers, every).forward(wanted[0]), wanted[1]):
            new = FusedLISTA.of(old, threshold, layers, every)
            if _equal(new.forward(actual[0]), actual[1]):
                return new, f"{layers} layers in one call"
    return None, "left as it is, since no threshold and number of layers that it holds give the same output"


def _telling(module: nn.Module, y: Tensor) -> tuple[Tensor, object] | None:
    """Samples, of such a size that thresholds matter but do not make all zero, and the output for them."""
    for exponent in range(-6, 7):
        output = module.forward(10.0**exponent * y)
        last = output[-1] if isinstance(output, (list, tuple)) else output
        if float((last != 0).double().mean()) > _SEEN:
            return 10.0**exponent * y, output
    return None


def _fused_threshold(old: nn.Module) -> tuple[nn.Module | None, str]:
    ((name, theta),) = old.named_parameters()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_SAMPLES, *(theta.shape or (8,)), generator=generator).to(theta)
    size = torch.rand(theta.shape, generator=generator).to(theta) + 0.1
    twin = copy.deepcopy(old)
    for clamped in (False, True):
        new = FusedSoftThreshold.of(old, name, clamped)
        same = _equal(new.forward(x), old.forward(x))
        for value in (size, -size):
            twin.get_parameter(name).copy_(value)
            same = same and _equal(FusedSoftThreshold.of(twin, name, clamped).forward(x), twin.forward(x))
        if same:
            return new, f"a fused soft threshold{', clamped at 0' if clamped else ''}"
    return None, "left as it is, since it is not the soft threshold of its parameter"


def _equal(found: object, wanted: object) -> bool:
    """Whether two outputs, or two lists of them, are equal but for rounding."""
    if isinstance(wanted, Tensor) and isinstance(found, Tensor):
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            return False
        scale = float(wanted.double().norm())
        return float((found.double() - wanted.double()).norm()) <= _ROUNDING * torch.finfo(wanted.dtype).eps * scale
    if isinstance(wanted, (list, tuple)) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(_equal, found, wanted))
    return False
