"""Arrays of other libraries in every public function, network and layer, answered in kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from networks import ALL
from refusals import check_refused
from test_operators_convert import SOLVERS, STEP, B, M, N, matrix
from torch import Tensor
from user_operators import Blur, H, Sums, W, kernel

S = fu.solvers
A32 = matrix(torch.float32)
pytestmark = pytest.mark.filterwarnings("ignore::fastunroll.solvers.ConvergenceWarning")


class OnlyDLPack:
    """An array of a library with nothing but DLPack."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()

    def __array_namespace__(self) -> Any:
        return OnlyDLPack

    @staticmethod
    def from_dlpack(tensor: Tensor) -> OnlyDLPack:
        return OnlyDLPack(tensor)


class OnlyArray:
    """A table that NumPy can read."""

    def __init__(self, tensor: Tensor) -> None:
        self.array = tensor.numpy()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array


def jax_array(t: Tensor) -> Any:
    jax = pytest.importorskip("jax", reason="JAX is an extra: pip install 'fastunroll[bench]'")
    return jax.numpy.asarray(t.numpy())


ARRAYS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Any]]] = {
    "NumPy": (lambda t: t.numpy(), lambda a: isinstance(a, np.ndarray)),
    "DLPack": (OnlyDLPack, lambda a: isinstance(a, OnlyDLPack)),
    "array": (OnlyArray, lambda a: isinstance(a, np.ndarray)),
    "JAX": (jax_array, lambda a: type(a).__module__.startswith("jax")),
}
Call = Callable[[Any, Any, Any], Any]  # of A, y and x
CALLS: dict[str, Call] = {
    **{name: call for name, call in SOLVERS.items() if name not in ("certified", "lasso")},
    "lasso": lambda A, y, x: S.lasso(A, y, 0.1, x0=x).x,
    "lasso_path": lambda A, y, x: S.lasso_path(A, y, lams=[0.2, 0.1])[1][1].gap,
    "certified": lambda A, y, x: S.certified(lambda y: torch.zeros(B, N), A, 0.1, 1e-3)(y).gap,
    "nmse_db": lambda A, y, x: fu.losses.nmse_db(x, x),
}
OF_MATRICES: dict[str, Call] = {
    **{name: lambda A, y, x, build=build: build(A)(y, x) for name, build in ALL.items()},
    "every layer": lambda A, y, x: fu.nn.LISTA(A, layers=3)(y, x, True),
    "Unrolled": lambda A, y, x: fu.nn.Unrolled(fu.schemes.FISTA(), A, fu.prox.L1(), 3)(y, x),
    "unrolled": lambda A, y, x: fu.unrolled(y, fu.GradientStep(A, A, STEP), fu.prox.L1(), 0.1, layers=3, x0=x),
    "a state": lambda A, y, x: fu.unrolled(
        y, fu.GradientStep([A], step=STEP), fu.prox.L1(), 0.1, layers=3, scheme=fu.schemes.FISTA(), return_state=True
    )[1],
    "a layer one by one": lambda A, y, x: fu.unrolled(y, fu.GradientStep(A, step=STEP), fu.prox.Firm(), 0.1, layers=1),
    "ISTALayer": lambda A, y, x: fu.nn.ISTALayer(A)(x, y),
    "A x": lambda A, y, x: fu.operators.Dense(A)(x),
    "adjoint": lambda A, y, x: fu.operators.Dense(A).H(y),
    "of an operator": lambda A, y, x: Blur(kernel(torch.float32))(x),
}
OF_X: dict[str, Call] = {
    "soft_threshold": lambda A, y, x: fu.soft_threshold(x, 0.1),
    "SoftThreshold": lambda A, y, x: fu.nn.SoftThreshold()(x),
    "prox": lambda A, y, x: fu.prox.GroupL1(1)(x, 0.1),
    "analytic_weights": lambda A, y, x: fu.nn.analytic_weights(x),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("name", CALLS)
def test_arrays_are_answered_in_kind(name: str, kind: str) -> None:
    make, is_kind = ARRAYS[kind]
    y, x = torch.randn(B, M), torch.randn(B, N)
    wanted, call = CALLS[name](A32, y, x), CALLS[name]
    for A in (make(A32.clone()), A32, scipy.sparse.linalg.aslinearoperator(A32.numpy())):
        if (
            not isinstance(A, Tensor)
            and hasattr(A, "matvec")
            and name.startswith("lasso")
            and name != "lasso_objective"
        ):
            continue
        found = call(A, make(y.clone()), make(x.clone()))
        assert is_kind(found), type(found)
        tensor = found.tensor if isinstance(found, OnlyDLPack) else torch.from_numpy(np.array(found))
        assert torch.allclose(tensor, wanted, rtol=1e-3, atol=1e-3)
    assert isinstance(call(make(A32.clone()), y, x), Tensor)  # an array beside tensors


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("name", [*OF_MATRICES, *OF_X])
def test_functions_of_matrices_answer_in_kind(name: str, kind: str) -> None:
    make, is_kind = ARRAYS[kind]
    call = (OF_MATRICES | OF_X)[name]
    y, x = torch.randn(B, M), torch.randn(3, H, W) if name == "of an operator" else torch.randn(B, N)
    wanted = call(A32, y, x)
    for A in (make(A32.clone()), A32):
        found = call(A, make(y.clone()), make(x.clone()))
        assert is_kind(found), type(found)
        tensor = found.tensor if isinstance(found, OnlyDLPack) else torch.from_numpy(np.array(found))
        assert torch.equal(tensor, wanted)
        assert not tensor.requires_grad
    assert isinstance(call(make(A32.clone()), y, x), Tensor)  # an array beside tensors


def test_numbers_and_samples_are_arrays() -> None:
    """Numbers of layers, samples for training, and data of a report."""
    y, theta = torch.randn(B, M), torch.rand(4)
    wanted = fu.unrolled(y, fu.GradientStep(A32, step=STEP), fu.prox.L1(), [*theta], layers=4)
    found = fu.unrolled(y, fu.GradientStep(A32, step=np.float32(STEP)), fu.prox.L1(), [*theta.numpy()], layers=4)
    assert torch.equal(found, wanted)
    net, x = fu.nn.StepLISTA(A32, layers=2), torch.randn(B, N)
    fu.training.train(net, (y.numpy(), x.numpy()), fu.training.end_to_end(2), batch=2, progress=False)
    report = fu.diagnostics.report(net, y.numpy(), x.numpy(), lam=0.1)
    assert report.as_dict() == fu.diagnostics.report(net, y, x, lam=0.1).as_dict()


PRIORS = {
    "Identity": fu.prox.Identity(),
    "L1": fu.prox.L1(),
    "NonNegativeL1": fu.prox.NonNegativeL1(),
    "ElasticNet": fu.prox.ElasticNet(0.5),
    "GroupL1": fu.prox.GroupL1(2),
    "HardThreshold": fu.prox.HardThreshold(),
    "Box": fu.prox.Box(),
    "TotalVariation": fu.prox.TotalVariation(),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("name", PRIORS)
def test_values_of_priors_are_answered_in_kind(name: str, kind: str) -> None:
    make, is_kind = ARRAYS[kind]
    x = torch.randn(3, H, W)
    found = PRIORS[name].value(make(x.clone()))
    assert is_kind(found), type(found)
    tensor = found.tensor if isinstance(found, OnlyDLPack) else torch.from_numpy(np.array(found))
    assert torch.equal(tensor, PRIORS[name].value(x))
    for wrong in (x.tolist(), x.int()):
        check_refused((lambda wrong=wrong: PRIORS[name].value(wrong), TypeError, "x must be "))


def test_numpy_beside_an_operator_of_torch() -> None:
    """And tensors beside an operator of NumPy."""
    op = Blur(kernel(torch.float64))
    y = torch.randn(2, H, W, dtype=torch.float64)
    found = S.fista(op, y.numpy(), 0.01, iterations=5)
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, S.fista(op, y, 0.01, iterations=5).numpy())
    assert isinstance(S.fista(Sums(), torch.randn(2, 11), 0.1, iterations=5), Tensor)


@pytest.mark.parametrize("name", [*CALLS, *OF_MATRICES, *OF_X])
def test_lists_and_whole_numbers(name: str) -> None:
    y, x = torch.randn(B, M), torch.randn(3, H, W) if name == "of an operator" else torch.randn(B, N)
    call = (CALLS | OF_MATRICES | OF_X)[name]
    for wrong in ([[1.0] * M] * B, np.ones((B, M), dtype=int)):
        given = (A32, y, wrong) if name in ("nmse_db", "A x", "of an operator", *OF_X) else (A32, wrong, x)
        check_refused((lambda given=given: call(*given), TypeError, ""))  # type: ignore[misc]
    assert torch.isfinite(torch.as_tensor(call(A32, y, x))).all() or name == "nmse_db"
