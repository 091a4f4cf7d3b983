"""Options, counts and tensors of a wrong type: every network, layer, loss and report says it in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from networks import ALL, K, M, N, Network, matrix
from refusals import Refused, check_refused
from torch import Tensor

A = matrix(dtype=torch.float32)
X, Y = torch.randn(3, N), torch.randn(3, M)
CLASSES = sorted({name.split("-")[0] for name in ALL})


def quantised(t: Tensor) -> Tensor:
    return torch._empty_affine_quantized(t.shape, scale=0.1, zero_point=0, dtype=torch.qint8)


TENSORS: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "list": (lambda t: t.tolist(), "{} must be a torch.Tensor, got list: use torch.as_tensor({})"),
    "array of whole numbers": (
        lambda t: t.numpy().astype(int), "{} must be floating point, got torch.int64: use {}.float()",
    ),
    "None": (lambda _: None, "{} must be a torch.Tensor, got NoneType: use torch.as_tensor({})"),
    "text": (lambda _: "y", "{} must be a torch.Tensor, got str: use torch.as_tensor({})"),
    "nested": (
        lambda t: torch.nested.nested_tensor([t[0], t[1]]),
        "{} must be one dense tensor, got a nested one: use {}.to_padded_tensor(0.0)",
    ),
    "jagged": (
        lambda t: torch.nested.nested_tensor([t[0], t[1]], layout=torch.jagged),
        "{} must be one dense tensor, got a nested one: use {}.to_padded_tensor(0.0)",
    ),
    "sparse": (
        lambda t: t.to_sparse(), "{} must be dense, got layout torch.sparse_coo: use {}.to_dense()",
    ),
    "sparse rows": (
        lambda t: t.to_sparse_csr(), "{} must be dense, got layout torch.sparse_csr: use {}.to_dense()",
    ),
    "quantised": (quantised, "{} must be floating point, got torch.qint8: use {}.dequantize()"),
    "whole numbers": (lambda t: t.long(), "{} must be floating point, got torch.int64: use {}.float()"),
    "bits": (lambda t: t > 0, "{} must be floating point, got torch.bool: use {}.float()"),
    "8 bits": (
        lambda t: t.to(torch.float8_e5m2), "{} must have 16, 32 or 64 bits, got torch.float8_e5m2: use {}.float()",
    ),
    "half complex": (
        lambda t: t.to(torch.complex32), "{} must be complex64 or complex128, got torch.complex32: use {}.cfloat()",
    ),
}  # fmt: skip


def network(name: str = "ALISTA", **options: Any) -> Network:
    found: Network = getattr(fu.nn, name)(A, layers=K, **options)
    return found


NETWORKS = {name: network(name) for name in CLASSES}


TAKERS: dict[str, tuple[str, Tensor, Callable[[Any], object]]] = {
    **{f"{name}'s A": ("A", A, getattr(fu.nn, name)) for name in CLASSES if name != "LISTA"},
    **{f"{name}'s y": ("y", Y, NETWORKS[name]) for name in CLASSES},  # type: ignore[misc]
    **{f"{name}'s x0": ("x0", X, lambda bad, name=name: NETWORKS[name](Y, bad)) for name in CLASSES},  # type: ignore[misc]
    "ALISTA's W": ("W", A, lambda bad: fu.nn.ALISTA(A, W=bad)),
    "ISTALayer's A": ("A", A, fu.nn.ISTALayer),
    "ISTALayer's x": ("x", X, lambda bad: fu.nn.ISTALayer(A)(bad, Y)),
    "ISTALayer's y": ("y", Y, lambda bad: fu.nn.ISTALayer(A)(X, bad)),
    "SoftThreshold": ("x", X, fu.nn.SoftThreshold(0.1)),
    "soft_threshold": ("x", X, lambda bad: fu.soft_threshold(bad, 0.1)),
    "ista_step's x": ("x", X, lambda bad: fu.ista_step(bad, Y, A, 0.1, 0.1)),
    "ista_step's y": ("y", Y, lambda bad: fu.ista_step(X, bad, A, 0.1, 0.1)),
    "kkt_residual": ("x", X, lambda bad: fu.losses.kkt_residual(bad, Y, A, 0.1)),
    "lasso_objective": ("y", Y, lambda bad: fu.losses.lasso_objective(X, bad, A, 0.1)),
    "nmse_db": ("x", X, lambda bad: fu.losses.nmse_db(bad, X)),
    "nmse_db's truth": ("x_true", X, lambda bad: fu.losses.nmse_db(X, bad)),
    "report's y": ("y", Y, lambda bad: fu.diagnostics.report(network(), bad)),
    "report's truth": ("x_true", X, lambda bad: fu.diagnostics.report(network(), Y, bad)),
    "Dense": ("A", A, fu.operators.Dense),
    "Dense's x": ("x", X, fu.operators.Dense(A)),
    "unrolled's y": ("y", Y, lambda bad: fu.unrolled(bad, fu.GradientStep(A), fu.prox.L1(), 0.1, layers=2)),
    "unrolled's A": ("A", A, lambda bad: fu.unrolled(Y, fu.GradientStep([bad]), fu.prox.L1(), 0.1, layers=2)),
    "unrolled's x0": ("x0", X, lambda bad: fu.unrolled(Y, fu.GradientStep(A), fu.prox.L1(), 0.1, layers=2, x0=bad)),
}
OPTIONAL = ("'s x0", "W", "truth")  # None leaves them out


@pytest.mark.filterwarnings("ignore:.*(prototype|beta state|deprecated|ComplexHalf).*")
@pytest.mark.parametrize("taker", TAKERS)
def test_tensors(taker: str) -> None:
    name, right, take = TAKERS[taker]
    for kind, (make, message) in TENSORS.items():
        if kind == "None" and taker.endswith(OPTIONAL):
            continue
        with pytest.raises(TypeError) as caught:
            take(make(right))
        wanted = message.replace("{}", name)
        assert str(caught.value) in (wanted, wanted.replace(name, f"{name}[0]")), kind


@pytest.mark.parametrize("name", CLASSES)
def test_tensors_without_values(name: str) -> None:
    net = NETWORKS[name]
    for call in (lambda: net(Y.to("meta")), lambda: net(Y, X.to("meta"))):
        check_refused((call, ValueError, "all tensors must be on one device, but "))


FLAG = "{} must be True or False, got {}: use bool({}) if it holds one"
COUNT = "{} must be a whole number ≥ 1, got {}"
FITS = "{} must be a whole number that fits 64 bits, at most 9223372036854775807, got {}"
A_TENSOR = torch.ones(2)


def option(**options: Any) -> Callable[[str], Callable[[], object]]:
    """A call with these options, of the network of a name."""
    return lambda name: lambda: network(name, **options)


def call(**options: Any) -> Callable[[str], Callable[[], object]]:
    return lambda name: lambda: NETWORKS[name](Y, **options)


def made(**options: Any) -> Callable[[str], Callable[[], object]]:
    return lambda name: lambda: getattr(fu.nn, name)(A, **options)


TIED = ("GLISTA", "LAMP", "LFISTA", "LISTA", "LISTACP", "LISTACPSS", "LISTASS")
THRESHOLD = ("GLISTA", "LFISTA", "LISTA", "LISTACP", "LISTACPSS", "LISTASS")
SELECTION = ("ALISTA", "GLISTA", "LISTACPSS", "LISTASS", "TiLISTA")
SHRINKAGE = ("LAMP", "LVAMP")
LAM = ("ADMMNet", "ALISTA", "GLISTA", "LFISTA", "LISTA", "LISTACP", "LISTACPSS", "LISTASS", "StepLISTA", "TiLISTA")

Row = tuple[tuple[str, ...], Callable[[str], Callable[[], object]], type[Exception], str]
OPTIONS: dict[str, Row] = {
    "layers": (tuple(CLASSES), made(layers="4"), ValueError, COUNT.format("layers", "'4'")),
    "layers, None": (tuple(CLASSES), made(layers=None), ValueError, COUNT.format("layers", "None")),
    "layers, a flag": (tuple(CLASSES), made(layers=True), ValueError, COUNT.format("layers", "True")),
    "layers, a tensor": (
        tuple(CLASSES), made(layers=A_TENSOR), ValueError, COUNT.format("layers", "a tensor of shape (2,)"),
    ),
    "layers, 2^63": (tuple(CLASSES), made(layers=2**63), ValueError, FITS.format("layers", 2**63)),
    "layers, digits": (
        tuple(CLASSES), made(layers=10**5000), ValueError, FITS.format("layers", "a whole number of 16610 bits"),
    ),
    "depth": (tuple(CLASSES), call(depth="2"), ValueError, COUNT.format("depth", "'2'")),
    "depth, half": (tuple(CLASSES), call(depth=1.5), ValueError, COUNT.format("depth", "1.5")),
    "depth, a tensor": (
        tuple(CLASSES), call(depth=A_TENSOR), ValueError, COUNT.format("depth", "a tensor of shape (2,)"),
    ),
    "depth, 2^63": (tuple(CLASSES), call(depth=2**63), ValueError, FITS.format("depth", 2**63)),
    "return_layers": (
        tuple(CLASSES), call(return_layers=A_TENSOR), TypeError,
        FLAG.format("return_layers", "a tensor of shape (2,)", "return_layers"),
    ),
    "return_layers, a word": (
        tuple(CLASSES), call(return_layers="yes"), TypeError, FLAG.format("return_layers", "'yes'", "return_layers"),
    ),
    "tied": (TIED, option(tied=A_TENSOR), TypeError, FLAG.format("tied", "a tensor of shape (2,)", "tied")),
    "tied, a word": (TIED, option(tied="no"), TypeError, FLAG.format("tied", "'no'", "tied")),
    "threshold": (
        THRESHOLD, option(threshold=0.1), ValueError, 'threshold must be "scalar" or "vector", got 0.1',
    ),
    "threshold, a tensor": (
        THRESHOLD, option(threshold=A_TENSOR), ValueError,
        'threshold must be "scalar" or "vector", got a tensor of shape (2,)',
    ),
    "threshold, an array": (
        THRESHOLD, option(threshold=np.ones(2)), ValueError,
        'threshold must be "scalar" or "vector", got array([1., 1.])',
    ),
    "selection": (
        SELECTION, option(selection=1.2), ValueError,
        "selection must be two percentages, (growth per layer, maximum), or None, got 1.2: the literature uses "
        "(1.2, 13.0)",
    ),
    "selection, a word": (
        SELECTION, option(selection="ss"), ValueError,
        "selection must be two percentages, (growth per layer, maximum), or None, got 'ss': the literature uses "
        "(1.2, 13.0)",
    ),
    "selection, a tensor": (
        SELECTION, option(selection=A_TENSOR), ValueError,
        "selection must be two percentages, (growth per layer, maximum), or None, got a tensor of shape (2,): the "
        "literature uses (1.2, 13.0)",
    ),
    "shrinkage": (
        SHRINKAGE, option(shrinkage=["soft"]), ValueError,
        'shrinkage must be "soft" or "bernoulli-gaussian", got [\'soft\']',
    ),
    "lam": (LAM, option(lam="0.1"), TypeError, "lam must be a number, got str: use float(lam) if it holds one"),
    "lam, a tensor": (
        LAM, option(lam=A_TENSOR), TypeError, "lam must be a number, got Tensor: use float(lam) if it holds one",
    ),
    "lam, digits": (
        LAM, option(lam=10**400), ValueError, "lam must be a finite number ≥ 0, got a whole number of 1329 bits",
    ),
    "dtype": (
        tuple(CLASSES), option(dtype="float32"), TypeError,
        "dtype must be real floating point, got 'float32': use torch.float32 or torch.float64",
    ),
    "dtype, whole": (
        tuple(CLASSES), option(dtype=torch.int8), TypeError,
        "dtype must be real floating point, got torch.int8: use torch.float32 or torch.float64",
    ),
    "dtype, 8 bits": (
        tuple(CLASSES), option(dtype=torch.float8_e4m3fn), TypeError,
        "dtype must be real floating point, got torch.float8_e4m3fn: use torch.float32 or torch.float64",
    ),
    "device": (
        tuple(CLASSES), option(device="gpu"), ValueError, "device must be one that torch can use here, got 'gpu': ",
    ),
    "device, a number": (
        tuple(CLASSES), option(device=0.5), TypeError,
        'device must be a torch.device or its name, such as "cpu", got 0.5',
    ),
}  # fmt: skip
ROWS = [(row, name) for row, (names, *_) in OPTIONS.items() for name in names]


@pytest.mark.parametrize(("row", "name"), ROWS, ids=lambda value: str(value))
def test_options_of_networks(row: str, name: str) -> None:
    _, build, kind, message = OPTIONS[row]
    check_refused((build(name), kind, message))


def report(**options: Any) -> Callable[[], object]:
    return lambda: fu.diagnostics.report(**{"model": network(), "y": Y, **options})


OTHERS: dict[str, Refused] = {
    "gain": (
        lambda: network("GLISTA", gain=["relu"]), ValueError,
        'gain must be "relu", "inverse", "exponential" or "sigmoid", got [\'relu\']',
    ),
    "solve": (
        lambda: network("ADMMNet", solve=1), ValueError,
        'solve must be "exact", "factorised" or "learned", got 1',
    ),
    "start": (lambda: network("LAMP", start=None), ValueError, 'start must be "adjoint" or "analytic", got None'),
    "density": (
        lambda: network("LAMP", shrinkage="bernoulli-gaussian", density="0.1"), TypeError,
        "density must be a number, got str: use float(density) if it holds one",
    ),
    "decay": (
        lambda: network("ALISTA", decay="0.8"), TypeError,
        "decay must be a number, got str: use float(decay) if it holds one",
    ),
    "c1": (lambda: network("HyperLISTA", c1=None), TypeError, "c1 must be a number, got NoneType"),
    "weights": (
        lambda: network("LISTA", weights=["bf16"]), ValueError, "weights must be \"full\" or \"bf16\", got ['bf16']",
    ),
    "LISTA's A": (lambda: fu.nn.LISTA(A.tolist()), TypeError, "A must be a torch.Tensor, got list"),  # type: ignore[arg-type]
    "LISTA's m": (lambda: fu.nn.LISTA(m="3", n=4), ValueError, COUNT.format("m", "'3'")),  # type: ignore[arg-type]
    "LISTA's n": (lambda: fu.nn.LISTA(m=3, n=2**63), ValueError, FITS.format("n", 2**63)),
    "ISTALayer's dtype": (
        lambda: fu.nn.ISTALayer(A, dtype=torch.complex64), TypeError, "dtype must be real floating point, got",
    ),
    "ISTALayer's device": (
        lambda: fu.nn.ISTALayer(A, device="gpu"), ValueError, "device must be one that torch can use here, got 'gpu'",
    ),
    "ISTALayer's λ": (lambda: fu.nn.ISTALayer(A, "0.1"), TypeError, "lam must be a number, got str"),  # type: ignore[arg-type]
    "SoftThreshold's θ": (lambda: fu.nn.SoftThreshold(A_TENSOR), TypeError, "theta must be a number, got Tensor"),  # type: ignore[arg-type]
    "SoftThreshold's large θ": (
        lambda: fu.nn.SoftThreshold(1e300), ValueError, "theta must be at most 3.403e+38, the largest torch.float32",
    ),
    "SoftThreshold's shape": (
        lambda: fu.nn.SoftThreshold(0.1, -1), ValueError, "shape must be a tuple of whole numbers ≥ 0, got -1",
    ),
    "SoftThreshold's shape, a word": (
        lambda: fu.nn.SoftThreshold(0.1, "n"), ValueError,  # type: ignore[arg-type]
        "shape must be a tuple of whole numbers ≥ 0, got 'n'",
    ),
    "SoftThreshold's shape, half": (
        lambda: fu.nn.SoftThreshold(0.1, (2.5,)), ValueError,  # type: ignore[arg-type]
        "shape must be a tuple of whole numbers ≥ 0, got (2.5,)",
    ),
    "SoftThreshold's shape, 2^63": (
        lambda: fu.nn.SoftThreshold(0.1, 2**63), ValueError, "shape must be a tuple of whole numbers ≥ 0, got",
    ),
    "SoftThreshold's dtype": (
        lambda: fu.nn.SoftThreshold(dtype="half"), TypeError, "dtype must be real floating point, got 'half'",  # type: ignore[arg-type]
    ),
    "SoftThreshold's device": (
        lambda: fu.nn.SoftThreshold(device=1.5), TypeError, "device must be a torch.device or its name",  # type: ignore[arg-type]
    ),
    "θ, a word": (
        lambda: fu.soft_threshold(X, "0.1"), TypeError, "theta must be a number or a torch.Tensor, got str",  # type: ignore[arg-type]
    ),
    "θ, too large": (
        lambda: fu.soft_threshold(X.half(), 1e5), ValueError, "theta must be at most 6.55e+04, the largest",
    ),
    "θ, sparse": (
        lambda: fu.soft_threshold(X, X[0].to_sparse()), TypeError, "theta must be dense, got layout torch.sparse_coo",
    ),
    "θ, whole": (
        lambda: fu.soft_threshold(X, torch.ones(N, dtype=torch.int64)), TypeError, "theta must be floating point",
    ),
    "pooled": (lambda: fu.losses.nmse_db(X, X, A_TENSOR), TypeError, "pooled must be True or False, got a tensor"),  # type: ignore[arg-type]
    "nmse_db's devices": (
        lambda: fu.losses.nmse_db(X, X.to("meta")), ValueError,
        "all tensors must be on one device, but x_true is on meta and the data on cpu",
    ),
    "kkt_residual's λ": (
        lambda: fu.losses.kkt_residual(X, Y, A, None), TypeError, "lam must be a number or a torch.Tensor",  # type: ignore[arg-type]
    ),
    "lasso_objective's λ": (
        lambda: fu.losses.lasso_objective(X, Y, A, [0.1]), TypeError, "lam must be a number or a torch.Tensor",  # type: ignore[arg-type]
    ),
    "an operator for a matrix": (
        lambda: fu.nn.LISTA(fu.operators.Mask(torch.ones(3, 3)), layers=2), TypeError,  # type: ignore[arg-type]
        "A must be a torch.Tensor, got Mask: give the measurements after the operator, and use fu.nn.Unrolled",
    ),
    "an operator for measurements": (
        lambda: fu.solvers.fista(Y, fu.operators.Mask(torch.ones(3, 3)), 0.1), TypeError,  # type: ignore[arg-type]
        "y must be a torch.Tensor, got Mask: give the measurements after the operator",
    ),
    "report's model": (report(model=3), TypeError, "model must be a network or a function, got 3"),
    "report's ideal": (report(ideal=3, x_true=X), TypeError, "ideal must be a function of x and y, or None, got 3"),
    "report's λ": (report(lam="0.1"), TypeError, "lam must be a number or a torch.Tensor, got str"),
    "report's path": (report(plot=3), TypeError, "plot must be a path or None, got 3"),
    "data's seed": (
        lambda: fu.data.sensing_matrix(3, 4, seed="x"), ValueError, "seed must be a whole number from",  # type: ignore[arg-type]
    ),
    "data's condition": (
        lambda: fu.data.sensing_matrix(3, 4, condition="x"), TypeError, "condition must be a number, got str",  # type: ignore[arg-type]
    ),
    "data's snr": (lambda: fu.data.SparseRecovery(A, snr="x"), TypeError, "snr must be a number, got str"),  # type: ignore[arg-type]
    "data's generator": (
        lambda: fu.data.SparseRecovery(A).sample(3, None), TypeError, "generator must be a torch.Generator, got None",  # type: ignore[arg-type]
    ),
    "data's count": (
        lambda: fu.data.fixed(fu.data.SparseRecovery(A), 2**63), ValueError, FITS.format("count", 2**63),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_refused(name: str) -> None:
    check_refused(OTHERS[name])
