"""Replaces layers within a module by fused layers, after a check that both compute the same output."""

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
_MIN_DENSITY = 0.2  # smallest share of nonzeros in an output that is compared
_TOLERANCE = 1000  # largest relative difference of two outputs, in units of the machine epsilon


def accelerate(module: nn.Module, verbose: bool = True) -> nn.Module:
    """Replaces hand-written LISTA networks and soft thresholds within ``module`` by fused modules.

    Two kinds of modules are replaced:

    - the widely copied LISTA. It has linear layers ``_W`` and ``_S`` without bias and a threshold (a parameter, an
      ``nn.Softshrink`` or a number), and runs x = S_θ(_W y + _S x) several times;
    - soft thresholds. The only parameter of the module is θ, and it computes sign(x)·max(|x| − θ, 0), where θ may be
      clamped at 0.

    A replaced module keeps its name, attributes, hooks and parameters, but not the methods of its class. The
    parameters are the same objects, so optimisers and state dicts stay valid.

    Before it replaces a module, ``accelerate`` compares the outputs of both on random samples, with the weights of the
    module and with random weights. If the outputs differ by more than rounding, the module stays as it is. The
    comparison also finds the number of layers of a LISTA, and whether it returns the last output or a list of all
    outputs. A LISTA is compared at thresholds ≥ 0, so keep learned thresholds ≥ 0.

    ``nn.Softshrink`` stays as it is. It is already a single kernel, and faster than the fused soft threshold on small
    arrays.

    Args:
        module: the module, which is changed in place. If ``module`` itself is replaced, use the return value.
        verbose: whether to print a line for each module that was replaced, or was compared and kept.

    Returns:
        ``module``, or the fused module that replaces it.

    Raises:
        TypeError: ``module`` is not an ``nn.Module``, or ``verbose`` is not a bool.

    Example::

        model = fu.convert.accelerate(model)
        # encoder (LISTA): 31 layers in one call
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    verbose = _checks.flag("verbose", verbose)
    replacements: dict[nn.Module, nn.Module] = {}
    for name, old in _candidates(module):
        if old in replacements:
            continue
        new, why = _fused(old)
        if new is not None:
            replacements[old] = new
        if verbose:
            print(f"{name or 'the module'} ({type(old).__name__}): {why}")
    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if child in replacements:
                parent._modules[name] = replacements[child]
    return replacements.get(module, module)


def _candidates(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yields the modules that may be replaced, with their names. It does not look inside a candidate."""
    if is_copied_lista(module) or is_soft_threshold(module):
        yield prefix, module
        return
    for name, child in module.named_children():
        yield from _candidates(child, f"{prefix}.{name}" if prefix else name)


def _fused(old: nn.Module) -> tuple[nn.Module | None, str]:
    """Returns the fused module that replaces a module, or None, and a text that tells the user what happened."""
    if any(p.is_meta for p in old.parameters()):
        return None, "kept, because its weights are on the meta device and outputs cannot be compared"
    try:
        with torch.no_grad():
            return _fused_lista(old) if is_copied_lista(old) else _fused_threshold(old)
    except Exception as error:  # foreign code may raise anything when it is called with unexpected samples
        return None, f"kept, because it refuses a batch of samples: {type(error).__name__}: {first_line(error)}"


def _fused_lista(old: Any) -> tuple[nn.Module | None, str]:
    weight = old._W.weight
    generator = torch.Generator().manual_seed(0)
    twin = copy.deepcopy(old)
    for p in twin.parameters():
        p.copy_(torch.rand(p.shape, generator=generator) * 0.3 + 0.05)  # thresholds
    for linear in (twin._W, twin._S):  # iterates do not converge with these weights, so each depth has another output
        linear.weight.copy_(torch.randn(linear.weight.shape, generator=generator) / linear.in_features**0.5)
    y = torch.randn(_SAMPLES, weight.shape[1], generator=generator).to(weight)
    random_pair, actual_pair = (_samples_and_output(module, y) for module in (twin, old))
    if random_pair is None or actual_pair is None:
        return None, "kept, because its output is zero for all samples"
    for threshold, layers, return_layers in lista_candidates(old, actual_pair[1]):
        if _equal(FusedLISTA.of(twin, threshold, layers, return_layers).forward(random_pair[0]), random_pair[1]):
            new = FusedLISTA.of(old, threshold, layers, return_layers)
            if _equal(new.forward(actual_pair[0]), actual_pair[1]):
                return new, f"{layers} layers in one call"
    return None, "kept, because none of its thresholds and numbers of layers gives the same output"


def _samples_and_output(module: nn.Module, y: Tensor) -> tuple[Tensor, object] | None:
    """Returns samples and their output, or None. It scales y until the thresholds no longer make the output zero."""
    for exponent in range(-6, 7):
        output = module.forward(10.0**exponent * y)
        last = output[-1] if isinstance(output, (list, tuple)) else output
        if float((last != 0).double().mean()) > _MIN_DENSITY:
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
    return None, "kept, because it is not the soft threshold of its parameter"


def _equal(found: object, wanted: object) -> bool:
    """Returns whether two outputs, or two lists of outputs, are equal up to rounding."""
    if isinstance(wanted, Tensor) and isinstance(found, Tensor):
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            return False
        scale = float(wanted.double().norm())
        return float((found.double() - wanted.double()).norm()) <= _TOLERANCE * torch.finfo(wanted.dtype).eps * scale
    if isinstance(wanted, (list, tuple)) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(_equal, found, wanted))
    return False
