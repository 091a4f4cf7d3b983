"""What operators hold for themselves: pruned and half-precision tensors, one for each sample, and other products."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from fastunroll import prox, schemes, solvers
from fastunroll.operators.restricted import restricted
from imaging_operators import EACH, FIRST, OPERATORS, Size, random, samples
from refusals import check_refused
from torch import Tensor, nn
from torch.nn.utils import prune

lin = fu.operators
DOUBLE = torch.float64


def learning() -> dict[str, tuple[Any, str, Tensor]]:
    """Operators that learn, the name of what does, and an x: the same in each call."""
    torch.manual_seed(0)
    kernel, mask = torch.rand(3, 3, dtype=DOUBLE), torch.rand(8, 12, dtype=DOUBLE)
    x, maps = torch.randn(2, 8, 12, dtype=DOUBLE), torch.randn(3, 8, 12, dtype=torch.complex128)
    complex_x = torch.complex(x, x.flip(0))
    return {
        "Blur": (lin.Blur(kernel, learn=True), "kernel", x),
        "Blur, reflect": (lin.Blur(kernel, "reflect", learn=True), "kernel", x),
        "Fourier": (lin.Fourier(mask, learn=True), "mask", complex_x),
        "MultiCoilFourier": (lin.MultiCoilFourier(mask, maps, learn_mask=True), "mask", complex_x),
        "Mask": (lin.Mask(mask, learn=True), "mask", x),
        "Convolution": (
            lin.Convolution(torch.rand(2, 2, 2, dtype=DOUBLE), learn=True), "filters", x.expand(3, 2, 8, 12)
        ),
        "Dense": (lin.Dense(mask, learn=True), "A", torch.randn(2, 12, dtype=DOUBLE)),
        "Dense for each sample": (lin.Dense(mask.expand(2, 8, 12), learn=True), "A", torch.randn(2, 12, dtype=DOUBLE)),
    }  # fmt: skip


def products(op: Any, x: Tensor) -> list[Tensor]:
    y = op(x)
    At_y = op.adjoint(y)
    found = [y, At_y, op.normal(x), op.gradient(x, 2 * y), op.collapsed_gradient(x, At_y), op.solve(x, 0.5)]
    return [t.detach() for t in found] + [torch.tensor(op.norm())]


@pytest.mark.parametrize("name", learning())
def test_pruned_tensors_follow_what_they_are_made_of(name: str) -> None:
    """PyTorch multiplies with the mask before a call of the operator alone, and not before those of its methods."""
    op, held, x = learning()[name]
    plain, *_ = learning()[name]
    prune.random_unstructured(op, held, amount=0.3)
    mask = getattr(op, f"{held}_mask")
    for factor in (1.0, 0.5):
        with torch.no_grad():
            getattr(op, f"{held}_orig").mul_(factor)
            getattr(plain, held).copy_(getattr(op, f"{held}_orig") * mask)
        calls: list[Callable[[Any], Any]] = [
            lambda op: op.adjoint(op.forward(x)), lambda op: op.normal(x), lambda op: op.solve(x, 0.5),
            lambda op: torch.tensor(op.norm()), lambda op: op.gradient(x, op.forward(x)),
        ]  # fmt: skip
        for call in calls:
            with torch.no_grad():
                getattr(op, f"{held}_orig").mul_(0.9)
                getattr(plain, held).mul_(0.9)
            assert torch.equal(call(op).detach(), call(plain).detach())
    for _ in range(2):  # each backward pass has a graph of its own
        op.normal(x).abs().sum().backward()
    assert torch.equal(getattr(op, f"{held}_orig").grad != 0, mask != 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", learning())
def test_half_precision_is_held_and_computed_in_single(name: str, dtype: torch.dtype) -> None:
    if name.startswith("Dense"):
        return  # whose x has the dtype of A
    op, held, x = learning()[name]
    op = op.to(torch.float32) if not hasattr(op, "maps") else op.float()
    x = x.to(torch.complex64 if x.is_complex() else torch.float32)
    if hasattr(op, "maps"):
        op._buffers["maps"] = op.maps.to(torch.complex64)
    setattr(op, held, nn.Parameter(getattr(op, held).to(dtype)))
    half = products(op, x)
    setattr(op, held, nn.Parameter(getattr(op, held).float()))
    for a, b in zip(half, products(op, x), strict=True):
        assert a.dtype == b.dtype
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-6)


MADE: dict[str, Callable[[torch.dtype], Any]] = {
    "Blur": lambda dtype: lin.Blur(torch.ones(3, 3, dtype=dtype)),
    "Fourier": lambda dtype: lin.Fourier(torch.ones(8, 8, dtype=dtype)),
    "MultiCoilFourier": lambda dtype: lin.MultiCoilFourier(
        torch.ones(8, dtype=dtype), torch.ones(2, 8, 8, dtype=dtype)
    ),
    "Mask": lambda dtype: lin.Mask(torch.ones(8, 8, dtype=dtype)),
    "Downsample": lambda dtype: lin.Downsample(2, torch.ones(2, 2, dtype=dtype)),
    "Convolution": lambda dtype: lin.Convolution(torch.ones(8, 2, 2, dtype=dtype)),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", MADE)
def test_operators_are_made_of_half_precision(name: str, dtype: torch.dtype) -> None:
    x = torch.randn(8, 8, 8)
    for given in (x, x.to(dtype)):
        found = MADE[name](dtype).normal(given)
        assert found.dtype in (torch.float32, torch.complex64)
        assert torch.allclose(found, MADE[name](torch.float32).normal(given.float()), rtol=1e-5, atol=1e-5)


EACH_SAMPLE = [row for row in FIRST if OPERATORS[row[0]].each]


@pytest.mark.parametrize(("name", "dtype", "size"), EACH_SAMPLE)
def test_something_for_each_sample(name: str, dtype: torch.dtype, size: Size) -> None:
    """Solvers, networks and norms, of a batch (B, …) and of several; with a stated shape too."""
    case = OPERATORS[name]
    op = case.make(dtype, size).requires_grad_(False)
    shape = samples(case, dtype, size, (1,)).shape[1:]
    stated = [lin.Blur(op.kernel, op.boundary, dims=op.picture_dims, shape=shape)] if isinstance(op, lin.Blur) else []
    assert op.own_batch[0] == EACH
    for A in (op, *stated, 0.5 * op, op @ lin.Identity(tuple(shape))):
        one, several = (A(samples(case, dtype, size, lead)) for lead in ((EACH,), (3, EACH)))
        for solver in (solvers.fista, solvers.ista):
            options: dict[str, Any] = {"step": 0.01, "iterations": 3}
            found = solver(A, several, 0.01, **options)
            wanted = torch.stack([solver(A, y, 0.01, **options) for y in several])
            assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-10)
            assert solver(A, one, 0.01, **options).shape == A.adjoint(one).shape
        assert solvers.admm(A, several, 0.01, iterations=2).shape == A.adjoint(several).shape
        net = fu.nn.Unrolled(schemes.FISTA(), A, prox.L1(), 2, step=0.1)
        assert torch.allclose(net(several)[1], net(several[1]), rtol=1e-9, atol=1e-10)


def test_measurements_are_left_out_of_something_for_each_sample() -> None:
    blur = lin.Blur(torch.rand(EACH, 3, 3, dtype=DOUBLE) / 9, "reflect", shape=(8, 8))
    A, several = restricted(blur, (torch.rand(8, 8) < 0.5).to(DOUBLE)), torch.randn(2, EACH, 8, 8, dtype=DOUBLE)
    found = solvers.fista(A, several, 0.1, step=0.1, iterations=3)
    wanted = torch.stack([solvers.fista(A, y, 0.1, step=0.1, iterations=3) for y in several])
    assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("boundary", ["circular", "reflect"])
def test_norms_of_compositions_of_something_for_each_sample(boundary: str) -> None:
    """By Lanczos' method, from a start for each of them."""
    blur = lin.Blur(torch.rand(EACH, 3, 3, dtype=DOUBLE), boundary, shape=(8, 8))
    difference = blur - lin.Identity((8, 8))
    eye = torch.eye(64, dtype=DOUBLE).reshape(64, 1, 8, 8).expand(64, EACH, 8, 8)
    exact = torch.linalg.matrix_norm(difference(eye).flatten(2).movedim(0, -1), 2).max()
    lanczos = lin.LinearOperator.norm(difference)
    assert exact * (1 - 1e-9) <= lanczos <= 1.3 * exact
    assert lin.check(blur).shape_in == (8, 8)


def test_admm_of_samples_side_by_side_is_that_of_each() -> None:
    """With one ρ: by default ρ follows all samples, as the documentation says."""
    masks = (torch.rand(3, 8, 12) < torch.tensor([0.2, 0.5, 0.9])[:, None, None]).double()
    y = torch.randn(3, 8, 12, dtype=DOUBLE)
    options = {"rho": 0.7, "adaptive": False, "iterations": 100, "tol": 1e-6}
    found = solvers.admm(lin.Mask(masks), y, 0.1, **options)
    for i in range(3):
        assert torch.equal(found[i : i + 1], solvers.admm(lin.Mask(masks[i : i + 1]), y[i : i + 1], 0.1, **options))


@pytest.mark.parametrize(("name", "dtype", "size"), FIRST)
def test_a_subclass_with_other_products_has_no_shortcuts_of_its_base(name: str, dtype: torch.dtype, size: Size) -> None:
    """The normal operator, norm, solve and matrix of the base are those of other products."""
    case = OPERATORS[name]
    op = case.make(dtype, size).requires_grad_(False)
    kind = type(op)

    def forward(self: Any, x: Tensor) -> Any:
        return 2 * kind.forward(self, x)

    def adjoint(self: Any, y: Tensor) -> Any:
        return 2 * kind.adjoint(self, y)

    x = samples(case, dtype, size, (EACH,))
    wanted, base = 4 * op.normal(x), op.normal(x)
    op.__class__ = type("Twice", (kind,), {"forward": forward, "adjoint": adjoint})
    assert torch.allclose(op.normal(x), wanted)
    assert torch.allclose(op.gradient(x, op(2 * x)), -wanted)
    assert torch.allclose(op.collapsed_gradient(x, base), wanted - base)
    solution = op.solve(x, 0.5)
    assert torch.allclose(op.normal(solution) + 0.5 * solution, x)
    assert op.stated_norm() is None
    assert op.matrix is None


def test_a_subclass_of_a_matrix_is_what_it_computes() -> None:
    class Twice(lin.Dense):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

        def adjoint(self, y: Tensor) -> Tensor:
            return 2 * super().adjoint(y)

    A, y = torch.randn(4, 7, dtype=DOUBLE), torch.randn(3, 4, dtype=DOUBLE)
    assert lin.check(Twice(A)).ok
    assert Twice(A).norm() >= 2 * lin.Dense(A).norm() * (1 - 1e-9)
    for scheme in (schemes.FISTA(), schemes.ADMM(), schemes.PrimalDual()):
        nets = [fu.nn.Unrolled(scheme, op, prox.L1(), 3, step=0.02) for op in (Twice(A), 2 * A)]
        assert torch.allclose(nets[0](y), nets[1](y), rtol=1e-9)
        assert "Twice is an operator without a matrix" in nets[0].explain(y)
    found, wanted = (solvers.fista(op, y, 0.1, iterations=20, step=0.01) for op in (Twice(A), 2 * A))
    assert torch.allclose(found, wanted, rtol=1e-9)


@pytest.mark.parametrize(("name", "dtype", "size"), FIRST)
def test_arrays_go_in_and_come_out(name: str, dtype: torch.dtype, size: Size) -> None:
    case = OPERATORS[name]
    op = case.make(dtype, size).requires_grad_(False)
    x = samples(case, dtype, size, (EACH,))
    y = op(x)
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (op.forward, (x,)), (op.adjoint, (y,)), (op.normal, (x,)), (op.gradient, (x, 2 * y)),
        (op.collapsed_gradient, (x, 3 * x)), (op.solve, (x, 0.5)), (op.data_step, (x, 3 * x, 0.5)),
    ]  # fmt: skip
    for call, tensors in calls:
        found = call(*(t.numpy() if isinstance(t, Tensor) else t for t in tensors))
        assert isinstance(found, np.ndarray), call
        assert torch.equal(torch.from_numpy(found), call(*tensors)), call
        mixed = call(*(t.numpy() if isinstance(t, Tensor) and i else t for i, t in enumerate(tensors)))
        assert isinstance(mixed, Tensor), call
        for i, tensor in enumerate(tensors):
            listed = [[1.0, 2.0] if i == k else t for k, t in enumerate(tensors)]
            if isinstance(tensor, Tensor):
                check_refused(
                    (lambda call=call, listed=listed: call(*listed), TypeError, "must be a torch.Tensor, got list")
                )


MAKERS: dict[str, Callable[[Any], Any]] = {
    "Blur": lambda t: lin.Blur(t[:3, :3]),
    "Fourier": lin.Fourier,
    "Fourier, columns": lambda t: lin.Fourier(t[0]),
    "MultiCoilFourier": lambda t: lin.MultiCoilFourier(t, t[None]),
    "Mask": lin.Mask,
    "Downsample": lambda t: lin.Downsample(2, t[:2, :2]),
    "Convolution": lambda t: lin.Convolution(t[None, :2, :2]),
    "Dense": lin.Dense,
}


@pytest.mark.parametrize("name", MAKERS)
def test_operators_are_made_of_arrays(name: str) -> None:
    values = random(DOUBLE, 8, 8)
    ops = [MAKERS[name](t) for t in (values, values.numpy())]
    x = torch.randn(1, 8, 8, dtype=DOUBLE)
    assert torch.equal(*(op.normal(x) for op in ops))
    before = values.numpy().copy()
    values.zero_()  # the operator has a copy
    assert torch.equal(ops[1].normal(x), MAKERS[name](before).normal(x))
    check_refused((lambda: MAKERS[name](before.astype(int)), TypeError, "must be floating point"))


def test_operators_are_made_of_arrays_of_true_and_false() -> None:
    known = np.eye(8) > 0
    for make in (lin.Mask, lin.Fourier):
        assert torch.equal(make(known).mask, torch.eye(8))


@pytest.mark.parametrize(
    "number", [2, 2.0, np.float32(2), np.float64(2), np.int64(2), np.float16(2), np.array(2.0), torch.tensor(2.0)]
)
def test_numbers_of_any_library_multiply_operators(number: Any) -> None:
    D = lin.Dense(torch.randn(4, 7))
    x = torch.randn(3, 7)
    for op in (D * number, number * D, D / (1 / number)):
        assert isinstance(op, lin.LinearOperator)
        assert torch.allclose(op(x), 2 * D(x))
        assert op(x).dtype == torch.float32
    check_refused((lambda: D * "2", TypeError, "the factor of an operator must be a number, got '2'"))
    check_refused((lambda: D * np.bool_(True), TypeError, "the factor of an operator must be a number, got "))
    check_refused((lambda: D * np.ones(2), ValueError, "the factor of an operator must be one number, got shape (2,)"))


def test_check_takes_arrays() -> None:
    assert lin.check(lin.Blur(torch.rand(3, 3)), np.ones((3, 8, 8), np.float32)).ok


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
@pytest.mark.parametrize("layout", ["to_sparse_coo", "to_sparse_csr", "to_sparse_csc"])
def test_sparse_matrices_in_inference_mode(layout: str) -> None:
    A, x = torch.randn(4, 7, dtype=DOUBLE), torch.randn(3, 7, dtype=DOUBLE)
    op = lin.as_operator(getattr(A, layout)())
    wanted = [op(x), op.adjoint(op(x)), op.normal(x), op.solve(x, 0.5)]
    with torch.inference_mode():
        found = [op(x), op.adjoint(op(x)), op.normal(x), op.solve(x, 0.5)]
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_state_that_replaces_what_an_operator_holds_is_warned_of(name: str) -> None:
    case = OPERATORS[name]
    op = case.make(case.dtypes[0], case.sizes[0])
    state = {key: t.clone() for key, t in op.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        op.load_state_dict(state)
        op.load_state_dict({key: t if t.is_complex() else t.bfloat16() for key, t in state.items()})  # but for rounding
    others = {key: t + 1 for key, t in state.items() if key in dict(op.named_buffers())}
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        op.load_state_dict({**state, **others})
    assert len(found) == len(others)
    for (key, wanted), warning in zip(others.items(), found, strict=True):
        assert repr(key) in str(warning.message)
        assert warning.filename == __file__
        torch.testing.assert_close(op.state_dict()[key], wanted, rtol=0, atol=0)


def test_a_network_says_which_tensor_of_its_operator_a_state_replaces() -> None:
    def network(value: float) -> Any:
        scan = lin.Fourier(torch.full((8, 12), value))
        return fu.nn.Unrolled(schemes.FISTA(), scan, prox.L1(), 2)

    net, other = network(1.0), network(0.5)
    with pytest.warns(UserWarning, match=r"replaces mask of the Fourier .* as 'operator.mask': to keep"):
        net.load_state_dict(other.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.load_state_dict(dict(network(0.7).named_parameters()), strict=False)


class Counted(lin.Fourier):
    """Has a buffer of its own beside the mask."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask)
        self.register_buffer("calls", torch.zeros(1))


def keep_mask(module: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
    state[f"{prefix}mask"] = module.mask.clone()


def hooked(mask: Tensor) -> lin.Fourier:
    op = lin.Fourier(mask)
    op.register_load_state_dict_pre_hook(keep_mask)
    return op


MASK, KERNEL = torch.eye(6), torch.rand(3, 3, dtype=DOUBLE)
KEPT: dict[str, tuple[Callable[[], Any], dict[str, Tensor]]] = {
    "a state in single precision": (lambda: lin.Blur(KERNEL), {"kernel": KERNEL.float()}),
    "a state that was rounded to half precision": (lambda: lin.Blur(KERNEL), {"kernel": KERNEL.bfloat16().double()}),
    "a hook that keeps the mask": (lambda: hooked(MASK), {"mask": 1 - MASK}),
    "a buffer of a subclass": (lambda: Counted(MASK), {"mask": MASK, "calls": torch.ones(1)}),
}
REPLACED: dict[str, tuple[Callable[[], Any], dict[str, Tensor]]] = {
    "another mask": (lambda: lin.Fourier(MASK), {"mask": 1 - MASK}),
    "a real kernel": (lambda: lin.Blur(KERNEL.to(torch.complex128)), {"kernel": 2 * KERNEL}),
    "a state of parameters": (lambda: lin.Blur(KERNEL), {"kernel": nn.Parameter(2 * KERNEL)}),
}


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("name", KEPT)
def test_a_state_that_replaces_nothing_is_not_warned_of(name: str, assign: bool) -> None:
    make, state = KEPT[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make().load_state_dict(state, assign=assign)


@pytest.mark.parametrize("name", REPLACED)
def test_a_state_of_another_kind_is_warned_of(name: str) -> None:
    make, state = REPLACED[name]
    op = make()
    with pytest.warns(UserWarning, match=f"load_state_dict replaces {next(iter(state))} of the"):
        op.load_state_dict(state)
