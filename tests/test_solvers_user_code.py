"""What operators, priors and solves of users may do: keep what they are given, write to it, return one buffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from refusals import check_refused
from torch import Tensor

lin, S = fu.operators, fu.solvers
SOLVERS: dict[str, Callable[..., Tensor]] = {"ista": S.ista, "fista": S.fista, "admm": S.admm, "pdhg": S.primal_dual}
SIDE = 8


def delta(boundary: str, dtype: torch.dtype) -> fu.operators.Blur:
    kernel = torch.zeros(3, 3, dtype=dtype)
    kernel[1, 1] = 1
    return lin.Blur(kernel, boundary)


def pair(dtype: torch.dtype) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    mask = (torch.rand(SIDE, SIDE) < 0.5).to(dtype)
    return (lambda x: mask * x), (lambda y: mask * y)


def scaled(dtype: torch.dtype) -> fu.operators.LinearOperator:
    return lin.as_operator((lambda x: 1e-3 * x, lambda y: 1e-3 * y))


# Operators without a solve of their own, over which conjugate gradients end in few steps.
ENDS_EARLY: dict[str, Callable[[torch.dtype], Any]] = {
    "reflect": lambda dtype: delta("reflect", dtype),
    "constant": lambda dtype: delta("constant", dtype),
    "valid": lambda dtype: delta("valid", dtype),
    "coils": lambda dtype: lin.MultiCoilFourier(
        torch.ones(SIDE, SIDE, dtype=dtype), torch.full((4, SIDE, SIDE), 0.5, dtype=dtype.to_complex())
    ),
    "composed": lambda dtype: lin.Mask((torch.rand(SIDE, SIDE) < 0.5).to(dtype)) @ lin.Wavelet("haar", 2).H,
    "functions": pair,
    "scaled": scaled,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [10, 100])
@pytest.mark.parametrize("kind", ENDS_EARLY)
def test_conjugate_gradients_go_on_from_a_solution(kind: str, steps: int, dtype: torch.dtype) -> None:
    A = ENDS_EARLY[kind](dtype)
    op = lin.as_operator(A)
    like = torch.rand(2, SIDE, SIDE, dtype=dtype)
    y = op(like.to(dtype.to_complex()) if kind == "coils" else like).detach().clone().requires_grad_()
    x = S.admm(A, y, 0.05, iterations=4, rho=0.7, inner_iterations=steps)
    (gradient,) = torch.autograd.grad(x.abs().sum(), y)
    assert bool(x.isfinite().all())
    assert bool(gradient.isfinite().all())
    exact = S.admm(A, y.detach(), 0.05, iterations=4, rho=0.7, inner_iterations=8)
    torch.testing.assert_close(x.detach(), exact, rtol=1e-4, atol=1e-4 if dtype == torch.float32 else 1e-10)


@pytest.mark.parametrize("kind", ["circular", "reflect"])
def test_samples_of_admm_with_one_rho_are_apart(kind: str) -> None:
    A = lin.Blur(torch.rand(3, 3, dtype=torch.float64) / 9, kind)
    y = A(torch.rand(3, 12, 12, dtype=torch.float64))
    together = S.admm(A, y, 0.02, adaptive=False, iterations=12)
    assert torch.equal(together[1:2], S.admm(A, y[1:2], 0.02, adaptive=False, iterations=12))


@pytest.mark.parametrize("writes", ["A", "A.adjoint"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_an_operator_that_writes_to_its_argument(solver: str, writes: str) -> None:
    weights = torch.linspace(0.5, 1, SIDE)

    class Scaling:
        def __call__(self, x: Tensor) -> Tensor:
            return x.mul_(weights) if writes == "A" else x * weights

        def adjoint(self, y: Tensor) -> Tensor:
            return y.mul_(weights) if writes == "A.adjoint" else y * weights

    y = torch.rand(2, SIDE)
    given = y.clone()
    with pytest.raises(ValueError, match=f"^{writes} must leave its argument as it is, but it writes to it: copy it"):
        SOLVERS[solver](Scaling(), y, 0.02)
    assert torch.equal(y, given)


class Soft(fu.prox.Proximal):
    """A soft threshold that returns one buffer, or a new tensor each time."""

    def __init__(self, buffer: Tensor | None) -> None:
        super().__init__()
        self.buffer = buffer

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        found = torch.sgn(z) * torch.relu(z.abs() - theta)
        return found if self.buffer is None else self.buffer.copy_(found)


@pytest.mark.parametrize("tol", [0.0, 1e-30])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.filterwarnings("ignore::fastunroll.solvers.ConvergenceWarning")
def test_a_prior_with_one_buffer(solver: str, tol: float) -> None:
    A = lin.Blur(torch.rand(3, 3) / 9)
    y = A(torch.rand(3, SIDE, SIDE))
    found, wanted = (
        SOLVERS[solver](A, y, 0.02, prox=Soft(buffer), iterations=12, tol=tol)
        for buffer in (torch.empty(3, SIDE, SIDE), None)
    )
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.filterwarnings("ignore::fastunroll.solvers.ConvergenceWarning")
def test_an_operator_may_keep_what_it_is_given(solver: str) -> None:
    weights = torch.linspace(0.5, 1, SIDE)
    seen: list[tuple[Tensor, Tensor]] = []

    def product(v: Tensor) -> Tensor:
        seen.append((v, v.clone()))
        return v * weights

    SOLVERS[solver]((product, product), torch.rand(2, SIDE), 0.02, iterations=25, tol=1e-30)
    assert len(seen) > 25
    assert all(torch.equal(kept, copied) for kept, copied in seen)


class Changes:
    """The identity, of which a product is something else from the fourth on."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        self.change, self.products = change, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.products += 1
        return x if self.products < 4 else self.change(x)

    adjoint = __call__


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (Tensor.to_sparse, r"must be a dense tensor, got one of layout torch.sparse_coo: use .to_dense\(\)$"),
        (lambda x: x + 0j, r"is complex where (the first one|y|x) is real: "),
    ],
)
@pytest.mark.parametrize("solver", ["ista", "fista", "pdhg"])
def test_a_product_that_changes(solver: str, change: Callable[[Tensor], Tensor], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        SOLVERS[solver](Changes(change), torch.rand(2, SIDE), 0.02)


def test_a_solve_that_fails() -> None:
    def solve(b: Tensor, rho: Tensor) -> Tensor:
        return torch.linalg.solve(torch.eye(3), b)

    with pytest.raises(
        ValueError, match=r"^solve\(b, rho\) must take a tensor of shape \(2, 8\) and type torch.float32"
    ):
        S.admm((Tensor.clone, Tensor.clone), torch.rand(2, SIDE), 0.02, solve=solve)


class Returns(fu.prox.Proximal):
    """A user's prior, which returns what a function makes of z."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        found: Tensor = self.make(z)
        return found


OTHER_TENSORS: dict[str, tuple[Callable[[Tensor], Any], type[Exception], str]] = {
    "sparse": (Tensor.to_sparse, TypeError, "must return a dense tensor, got layout torch.sparse_coo: convert it"),
    "mkldnn": (Tensor.to_mkldnn, TypeError, "must return a dense tensor, got layout torch._mkldnn: convert it"),
    "nested": (
        lambda z: torch.nested.nested_tensor([*z], layout=torch.jagged), TypeError,
        "must return one dense tensor, got a nested one",
    ),
    "without values": (
        lambda z: z.to("meta"), ValueError, "must return a tensor of the device of z, cpu, got one of meta",
    ),
}  # fmt: skip
PRIOR_CALLS: dict[str, Callable[[Any, Tensor, Any], Tensor]] = {
    **{
        name: lambda A, y, prior, solve=solve: solve(A, y, 0.1, prox=prior, iterations=3)
        for name, solve in SOLVERS.items()
    },
    **{
        f"Unrolled, {type(scheme).__name__}": lambda A, y, prior, scheme=scheme: fu.nn.Unrolled(
            scheme, A, prior, 2, step=0.5
        )(y)
        for scheme in (fu.schemes.ProximalGradient(), fu.schemes.FISTA(), fu.schemes.ADMM(), fu.schemes.HQS())
    },
    "by itself": lambda A, y, prior: prior(y, 0.1),
}


@pytest.mark.parametrize("of_matrix", [False, True], ids=["operator", "matrix"])
@pytest.mark.parametrize("kind", OTHER_TENSORS)
@pytest.mark.parametrize("name", PRIOR_CALLS)
def test_what_a_prior_returns_is_like_z(name: str, kind: str, of_matrix: bool) -> None:
    make, error, message = OTHER_TENSORS[kind]
    A, y = (torch.rand(SIDE, SIDE) / SIDE, torch.rand(3, SIDE)) if of_matrix else (lin.Blur(torch.ones(3, 3) / 9), None)
    y = torch.rand(2, SIDE, SIDE) if y is None else y
    for recorded in (False, True):
        with torch.set_grad_enabled(recorded):
            check_refused((lambda: PRIOR_CALLS[name](A, y, Returns(make)), error, f"Returns.prox {message}"))


HALVES: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "Blur": (lambda: lin.Blur(torch.ones(3, 3) / 9), (2, SIDE, SIDE)),
    "Mask": (lambda: lin.Mask(torch.ones(SIDE, SIDE)), (2, SIDE, SIDE)),
    "Fourier": (lambda: lin.Fourier(torch.ones(SIDE, SIDE), real=True), (2, SIDE, SIDE)),
    "Gradient": (lin.Gradient, (2, 2, SIDE, SIDE)),
    "volumes": (lambda: lin.Blur(torch.ones(3, 3, 3) / 27, dims=3), (SIDE, SIDE, SIDE)),
    "composed": (lambda: lin.Blur(torch.ones(3, 3) / 9) @ lin.Wavelet("haar").H, (2, SIDE, SIDE)),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("name", SOLVERS)
def test_half_precision_is_not_enough(name: str, kind: str, dtype: torch.dtype) -> None:
    make, shape = HALVES[kind]
    message = f"y needs single or double precision, in which A.adjoint(y) is computed, got {dtype}: use y.float()"
    check_refused((lambda: SOLVERS[name](make(), torch.ones(shape, dtype=dtype), 0.1), TypeError, message))
