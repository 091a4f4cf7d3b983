"""Every argument of every solver, given what it must not be: one sentence, by a check of this package."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from problems import Opaque
from refusals import Refused, check_refused
from torch import Tensor

S = fu.solvers
HOME = str(Path(fu.__file__).parent)
MATRIX = torch.randn(6, 9, generator=torch.Generator().manual_seed(0)) / 3
TENSORS = {
    "A": MATRIX, "y": torch.ones(3, 6), "Y": torch.ones(3, 6), "x": torch.zeros(3, 9), "x0": torch.zeros(3, 9),
    "lam": torch.tensor(0.1), "weights": torch.ones(9),
}  # fmt: skip


def certified(A: Any, y: Any, lam: Any, tol: Any = 0.1, max_iter: Any = 100) -> Any:
    return S.certified(lambda y: torch.zeros(*y.shape[:-1], 9), A, lam, tol, max_iter=max_iter)(y)


SPLIT = ["iterations", "tol", "x0", "nonnegative", "callback", "progress", "history"]
SOLVERS: dict[str, tuple[Callable[..., Any], list[str], list[str]]] = {
    "ista": (S.ista, ["A", "y", "lam"], ["step", "return_iterates", *SPLIT]),
    "fista": (S.fista, ["A", "y", "lam"], ["step", "return_iterates", "restart", "monotone", *SPLIT]),
    "admm": (
        S.admm, ["A", "y", "lam"], ["rho", "relaxation", "adaptive", "solve", "inner_iterations", *SPLIT],
    ),
    "primal_dual": (S.primal_dual, ["A", "y", "lam"], ["tau", "sigma", "omega", *SPLIT]),
    "amp": (S.amp, ["A", "y"], ["alpha", "damping", *(name for name in SPLIT if name != "nonnegative")]),
    "duality_gap": (S.duality_gap, ["x", "y", "A", "lam"], ["nonnegative"]),
    "lasso": (S.lasso, ["A", "Y", "lam"], ["tol", "x0", "max_iter", "weights", "nonnegative", "ridge"]),
    "lambda_max": (S.lambda_max, ["A", "Y"], ["nonnegative"]),
    "lasso_path": (
        S.lasso_path, ["A", "Y"], ["lams", "count", "least", "tol", "max_iter", "weights", "nonnegative", "ridge"],
    ),
    "certified": (certified, ["A", "y", "lam"], ["tol", "max_iter"]),
}  # fmt: skip
OF_OPERATORS = {"ista", "fista", "admm", "primal_dual", "amp", "duality_gap", "lambda_max"}
CASES = [
    (name, argument, operator)
    for name, (_, needed, options) in SOLVERS.items()
    for argument in needed + options
    for operator in (False, True)
    if not operator or (name in OF_OPERATORS and argument != "A")
]


def nested() -> Tensor:
    return torch.nested.nested_tensor([torch.ones(6), torch.ones(5)])


def wrong(name: str) -> dict[str, Any]:
    """What an argument must not be."""
    things: dict[str, Any] = {"a word": "much", "a list": ["a"], "a thing": object(), "a nested tensor": nested()}
    words = {"an array of objects": np.array([None]), "an array of words": np.array(["a"])}
    if name in TENSORS:
        t = TENSORS[name]
        forms = {
            "nothing": None,
            "sparse": t.reshape(1, -1).to_sparse(),
            "whole": t.int(),
            "truth values": t.bool(),
            "elsewhere": t.to("meta"),
            "complex": t.cfloat(),
            "other precision": t.half(),
            "small": t.to(torch.float8_e4m3fn),
            "half complex": t.to(torch.complex32),
            "quantised": torch.quantize_per_tensor(t, 0.1, 0, torch.quint8),
            "another shape": torch.ones(0, 4),
            "too many dimensions": torch.ones(2, 1, 1, 4),
        }
        optional = {"nothing"} if name in ("x0", "weights") else set()
        # λ is a real number beside y, whatever its precision: it is converted.
        optional |= {"other precision"} if name == "lam" else set()
        return {key: v for key, v in {**things, **words, **forms}.items() if key not in optional}
    if name in ("iterations", "max_iter", "inner_iterations", "count"):
        numbers = {
            "nothing": None,
            "huge": 2**63,
            "zero": 0,
            "a tensor": torch.tensor(3),
            "a part": 1.5,
            "a truth": True,
        }
        return {**things, **numbers, "several": torch.ones(2), "an array": np.ones(2)}
    if name in ("tol", "damping", "relaxation", "ridge", "least", "step", "rho", "alpha", "tau", "sigma", "omega"):
        numbers = {"NaN": float("nan"), "negative": -1.0, "huge": 10**400, "complex": 1j, "several": torch.ones(2)}
        given = name in ("step", "rho", "alpha", "tau", "sigma")
        tensors = {"elsewhere": torch.ones((), device="meta"), "whole": torch.tensor(1), "complex": torch.tensor(1j)}
        return {**things, **numbers, **(tensors if given else {"nothing": None, "a tensor": torch.tensor(0.1)})}
    if name in ("restart", "monotone", "progress", "adaptive", "return_iterates", "nonnegative"):
        truths = {
            "nothing": None,
            "a tensor": torch.tensor(True),
            "several": torch.ones(2),
            "an array": np.ones(2),
            "two": 2,
        }
        return {**things, **truths}
    if name == "lams":
        return {"a number": 0.1, "a word in a list": ["a"], "negative": [-1.0]}
    return {**things, "a number": 3}  # callback, history, solve


@pytest.mark.parametrize(("name", "argument", "operator"), CASES)
def test_every_argument(name: str, argument: str, operator: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of torch, about its types that are new or old
        values = wrong(argument)
    solve, needed, _ = SOLVERS[name]
    given: dict[str, Any] = {key: TENSORS[key] for key in needed}
    if "lam" in given:
        given["lam"] = 0.1
    if operator:
        given["A"] = Opaque(MATRIX)
    for kind, value in values.items():
        with pytest.raises((TypeError, ValueError)) as raised:
            solve(**{**given, argument: value})
        said, at = str(raised.value), traceback.extract_tb(raised.value.__traceback__)[-1]
        assert "\n" not in said, kind
        assert at.filename.startswith(HOME), (kind, said)
        assert (at.line or "").startswith("raise "), (kind, said)


@pytest.mark.parametrize("name", ["ista", "fista", "admm", "primal_dual", "amp"])
def test_tensors_without_values(name: str) -> None:
    """Where samples are looked at there has to be something to see."""
    solve, needed, _ = SOLVERS[name]
    on_meta = {key: TENSORS[key].to("meta") for key in needed}
    for given in (on_meta, {**on_meta, "A": Opaque(MATRIX.to("meta"))}):
        rule = "y must hold values for what looks at them, but it is on the meta device: move it with .to()"
        check_refused((lambda given=given: solve(**given, iterations=5, tol=1e-3), ValueError, rule))  # type: ignore[misc]


@dataclass
class Pair:
    forward: Callable[[Tensor], Any]
    adjoint: Callable[[Tensor], Any]

    def __call__(self, x: Tensor) -> Any:
        return self.forward(x)


def changing() -> Pair:
    """An adjoint of another shape in the second call."""
    calls: list[int] = []
    return Pair(lambda x: x, lambda y: [calls.append(1), y if len(calls) == 1 else y[:, :-1]][1])


y, right = torch.ones(3, 6), Opaque(MATRIX)
PRODUCTS: dict[str, tuple[Any, type[Exception], str]] = {
    "A(x) is no tensor": (
        Pair(lambda x: None, lambda y: y), TypeError, "A(x) must return a tensor, got NoneType: a return is missing",
    ),
    "A(x) of another shape": (
        Pair(lambda x: x[:, :-1], lambda y: y), ValueError,
        "A(x) must be a tensor of the shape of y, (3, 6), got (3, 5)",
    ),
    "A(x) of a shape that broadcasts": (
        Pair(lambda x: x[:, :1], lambda y: y), ValueError,
        "A(x) must be a tensor of the shape of y, (3, 6), got (3, 1)",
    ),
    "A(x) of another type": (
        Pair(lambda x: x.double(), lambda y: y), TypeError,
        "A(x) must be torch.float32 where y is torch.float32, got torch.float64: convert one with .to()",
    ),
    "A(x) is complex": (
        Pair(lambda x: x.cfloat(), lambda y: y), TypeError,
        "A(x) is complex where y is real: give a complex y, or let A return the real part",
    ),
    "A(x) elsewhere": (
        Pair(lambda x: x.to("meta"), lambda y: y), ValueError,
        "all tensors must be on one device, but A(x) is on meta and the data on cpu: move one with .to()",
    ),
    "the adjoint is no tensor": (
        Pair(lambda x: x, lambda y: y.numpy()), TypeError,
        "A.adjoint(y) must return a tensor, got ndarray: use torch.from_numpy",
    ),
    "the adjoint is one sample": (
        Pair(lambda x: x, lambda y: y[0]), ValueError,
        "A.adjoint(y) must be a tensor with the 3 samples of y in its first dimension, got (6,)",
    ),
    "the adjoint of another type": (
        Pair(lambda x: x, lambda y: y.double()), TypeError,
        "A.adjoint(y) must be torch.float32 where y is torch.float32, got torch.float64: convert one with .to()",
    ),
    "the adjoint elsewhere": (
        Pair(lambda x: x, lambda y: y.to("meta")), ValueError,
        "all tensors must be on one device, but A.adjoint(y) is on meta and the data on cpu: move one with .to()",
    ),
    "the adjoint of another shape later": (
        changing(), ValueError,
        "A.adjoint(y) must be a tensor of the shape of the first one, (3, 6), got (3, 5)",
    ),
    "an error of torch in the adjoint": (
        Opaque(torch.ones(5, 9)), ValueError,
        "A.adjoint must take a tensor of shape (3, 6) and type torch.float32, but it raised: mat1 and mat2 shapes",
    ),
    "an error of torch in A": (
        Pair(lambda x: x @ torch.ones(5, 4), lambda y: y), ValueError,
        "A must take a tensor of shape (3, 6) and type torch.float32, but it raised: mat1 and mat2 shapes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("solver", sorted(OF_OPERATORS))
def test_products_that_do_not_fit(solver: str, name: str) -> None:
    op, kind, words = PRODUCTS[name] if "later" not in name else (changing(), *PRODUCTS[name][1:])
    solve, needed, _ = SOLVERS[solver]
    given = {"A": op, "y": y, "Y": y, "lam": 0.1, "x": torch.zeros(3, 6)}
    check_refused((lambda: solve(**{key: given[key] for key in needed}), kind, words))


def test_an_error_that_is_no_matter_of_shapes_is_left_alone() -> None:
    def fails(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        S.fista(Pair(fails, lambda y: y), y, 0.1)


OTHERS: dict[str, Refused] = {
    "x of a gap": (
        lambda: S.duality_gap(torch.zeros(3, 8), y, MATRIX, 0.1), ValueError,
        "x has 8 columns but A is (6, 9): expected x of shape (..., 9)",
    ),
    "x of a gap of an operator": (
        lambda: S.duality_gap(torch.zeros(3, 8), y, right, 0.1), ValueError,
        "x must have the shape of A.adjoint(y), (3, 9), got (3, 8)",
    ),
    "an array of objects": (
        lambda: S.fista(MATRIX.numpy(), np.array([None]), 0.1), TypeError,
        "y must be of numbers that PyTorch has, got object: use y.astype(float)",
    ),
    "what solve returns": (
        lambda: S.admm(right, y, 0.1, solve=lambda b, rho: b.double()), TypeError,
        "solve(b, rho) must return torch.float32, got torch.float64: convert it with .to()",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_refused(name: str) -> None:
    check_refused(OTHERS[name])


@pytest.mark.parametrize(
    "run",
    [
        lambda y: S.ista(MATRIX, y, 0.1, tol=1e-3),
        lambda y: S.fista(MATRIX, y, 0.1, restart=True),
        lambda y: S.admm(MATRIX, y, 0.1),
        lambda y: S.primal_dual(MATRIX, y, 0.1),
        lambda y: S.amp(MATRIX, y, damping=0.5),
        lambda y: S.lasso(MATRIX, y, 0.1),
        lambda y: S.fista(MATRIX, TENSORS["y"][0], 0.1, tol=1e-3, step=y.sum()),
        lambda y: torch.func.grad(lambda y: S.admm(MATRIX, y, 0.1).sum())(y),
    ],
)
def test_values_that_vmap_hides(run: Callable[[Tensor], Tensor]) -> None:
    check_refused(
        (
            lambda: torch.func.vmap(run)(TENSORS["y"]), ValueError,
            "arguments must hold values for what looks at them, but torch.vmap hides those of its samples: call the "
            "solver with all samples as one batch, without vmap",
        )
    )  # fmt: skip
