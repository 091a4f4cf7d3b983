"""The base class of linear operators: a subclass has ``forward`` and ``adjoint``, and gets all else."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import _checks
from .._checks import shape_text
from .gradients import MADE_OF_PRODUCTS, OTHER, with_arrays, with_gradient
from .stated import SHAPES, as_stated

if TYPE_CHECKING:
    from .composition import Composed


# What an operator may have in the place of products with A and Aᴴ.
_SHORTCUTS = (
    "gradient", "collapsed_gradient", "normal", "norm", "stated_norm", "solve", "solves", "data_step", "adjoint_solve",
    "matrix", "collapsed",
)  # fmt: skip


class LinearOperator(nn.Module):
    """A linear operator A that is applied to batches of samples: ``op(x)`` is A x, ``op.adjoint(y)`` is Aᴴ y.

    A subclass writes ``forward`` and ``adjoint``. Everything else is given, and may be replaced by what is faster:
    :meth:`gradient`, :meth:`normal`, :meth:`norm`, :meth:`solve`, :attr:`matrix`. A subclass of another operator that
    replaces its ``forward`` or ``adjoint`` inherits none of these, as they belong to the products of the other one.

    Gradients. The backward pass of ``forward`` is ``adjoint`` and the other way round, so that neither has to be
    differentiable by itself: both may call an FFT library or SciPy. Second derivatives work too. Where the operator
    learns (it uses a parameter, or any tensor that requires a gradient), PyTorch differentiates what the methods
    compute, and the gradient reaches those tensors.

    Shapes. x is (..., *shape_in) and y is (..., *shape_out): all dimensions before those of one sample are the batch.
    A subclass may state both, as attributes of the class or of the object. :meth:`norm` needs ``shape_in``.

    An operator is a ``torch.nn.Module``: tensors that move and are saved with it are buffers, tensors that learn are
    parameters.

    Attributes:
        shape_in: the shape of one sample of x, or None where it is not stated.
        shape_out: the shape of one sample of y, or None.
        matrix: the dense matrix A, (m, n) or one for every sample (B, m, n), where the operator is one, else None. A
            matrix is what native kernels need: a subclass may state it, and functions then use it.
        collapsed: whether AᴴA x costs less than A x and Aᴴ y together. Solvers and networks then compute Aᴴy once, and
            AᴴA x − Aᴴy in each iteration.

    Raises:
        AttributeError: a subclass does not call ``super().__init__()``.
        TypeError: ``forward`` or ``adjoint`` is missing, or returns no tensor.

    Example::

        class Blur(fu.operators.LinearOperator):
            def __init__(self, kernel):                       # (H, W), of the size of the picture
                super().__init__()
                self.register_buffer("spectrum", torch.fft.rfft2(kernel))
                self.shape_in = self.shape_out = tuple(kernel.shape)

            def forward(self, x):
                return torch.fft.irfft2(torch.fft.rfft2(x) * self.spectrum, s=self.shape_in)

            def adjoint(self, y):
                return torch.fft.irfft2(torch.fft.rfft2(y) * self.spectrum.conj(), s=self.shape_in)

        A = Blur(kernel)
        x = fu.solvers.fista(A, y, lam=0.01)
    """

    shape_in: tuple[int, ...] | None = None
    shape_out: tuple[int, ...] | None = None
    matrix: Tensor | None = None
    collapsed: bool = False
    __array_ufunc__ = None  # a number of NumPy times an operator is an operator
    same_dtype = False  # whether x must have the dtype of the operator's tensors, as for a matrix

    def __init_subclass__(cls, *, differentiable: bool = False, **options: Any) -> None:
        """Makes the methods of the class take arrays, and gives ``forward``, ``adjoint``, ``normal`` their gradients.

        What a base class computes in the place of other products than those of this class is not inherited.

        differentiable: they are compositions of differentiable functions, which keep their own gradients.
        """
        super().__init_subclass__(**options)
        for name in SHAPES:
            if name in cls.__dict__:
                setattr(cls, name, as_stated(name, cls.__dict__[name]))
        for name in (*OTHER, *MADE_OF_PRODUCTS):
            method = cls.__dict__.get(name)
            if inspect.isfunction(method):
                plain = differentiable or name not in OTHER
                setattr(cls, name, with_arrays(method if plain else with_gradient(name, method)))
        replaces = not {"forward", "adjoint"}.isdisjoint(cls.__dict__)
        if replaces and super(cls, cls).forward is not LinearOperator.forward:
            for name in _SHORTCUTS:
                if name not in cls.__dict__:
                    setattr(cls, name, LinearOperator.__dict__[name])

    def __getattr__(self, name: str) -> Any:
        held = self.__dict__.get("_buffers")  # quickly: every product reads some
        if held is not None and name in held:
            return held[name]
        if "_parameters" not in self.__dict__ and not name.startswith("__"):
            raise AttributeError(
                f"{type(self).__name__}.__init__ must call super().__init__() before anything else, but it does not"
            )
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, as_stated(name, value) if name in SHAPES else value)

    @property
    def dims_in(self) -> int | None:
        """The number of dimensions of one sample of x, if it is known."""
        return None if self.shape_in is None else len(self.shape_in)

    @property
    def dims_out(self) -> int | None:
        """The number of dimensions of one sample of y, if it is known."""
        return None if self.shape_out is None else len(self.shape_out)

    @property
    def own_batch(self) -> tuple[int, ...]:
        """The shape of a batch each sample of which has something of its own, such as a mask; () if all share A."""
        return ()

    def product_name(self, method: str) -> str:
        """What messages call a product: "Blur.forward"."""
        return f"{type(self).__name__}.{method}"

    def written(self, method: str) -> Callable[[Tensor], Any]:
        """``forward`` or ``adjoint`` as its class has written it, without gradients and arrays."""
        found = getattr(type(self), method)
        return partial(getattr(found, "bare", found), self)

    @property
    def source(self) -> Any:
        """The object by which solvers know the operator again: itself, or the object of another library."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        """A x: (..., *shape_in) to (..., *shape_out)."""
        raise TypeError(
            f"a linear operator must have forward(x), which returns A x, but {type(self).__name__} has none"
        )

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ y: (..., *shape_out) to (..., *shape_in). Equivalent to ``y @ A.conj()`` for a matrix A."""
        raise TypeError(
            f"a linear operator must have adjoint(y), which returns Aᴴ y, but {type(self).__name__} has none"
        )

    @with_arrays
    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Aᴴ(A x − y), the gradient of ½‖A x − y‖²: (..., *shape_in)."""
        if self.collapsed:
            return self.collapsed_gradient(x, self.adjoint(y))
        return self.adjoint(difference("A(x)", self(x), "y", y))

    @with_arrays
    def collapsed_gradient(self, x: Tensor, At_y: Tensor) -> Tensor:
        """AᴴA x − Aᴴy, the same gradient from Aᴴy, which an iteration computes once: (..., *shape_in)."""
        return difference("A.normal(x)", self.normal(x), "At_y", At_y)

    def normal(self, x: Tensor) -> Tensor:
        """AᴴA x: (..., *shape_in)."""
        return self.adjoint(self(x))

    def norm(self) -> float:
        """An upper bound of ‖A‖, the largest singular value of any sample.

        40 steps of Lanczos' method find it, from a random start: it is an upper bound with a probability of 1 − 1e-9,
        and at most a few per cent above ‖A‖. (:class:`Dense` certifies its norm.)

        Raises:
            ValueError: ``shape_in`` is not stated, A is zero, or its products hold NaN or infinity.

        Warns:
            AdjointWarning: ``adjoint`` is not the adjoint of A, so the method has found nothing.

        Reference: see :func:`fastunroll.operators.norm.lanczos_bound`.
        """
        from .norm import estimated_norm

        return estimated_norm(self)

    def stated_norm(self) -> float | None:
        """:meth:`norm` where a formula gives it, None where Lanczos' method would have to estimate it."""
        overridden = type(self).norm is not LinearOperator.norm or "norm" in self.__dict__
        return float(self.norm()) if overridden else None

    @property
    def solves(self) -> bool:
        """Whether the operator has a :meth:`solve` that is better than conjugate gradients."""
        return type(self).solve is not LinearOperator.solve or "solve" in self.__dict__

    @with_arrays
    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(AᴴA + ρI)⁻¹ b, the linear step of ADMM, for each sample.

        Conjugate gradients run until the residual is at the precision of b. Differentiable in b and ρ, any number of
        times, with memory for the solution alone; and in what the operator learns, twice, in the same way.

        Args:
            b: (..., *shape_in).
            rho: ρ > 0, one number.

        Returns:
            (..., *shape_in).

        Raises:
            ValueError: ρ ≤ 0, or ``torch.jit.trace`` records conjugate gradients.

        Warns:
            ConvergenceWarning: 1000 steps were not enough for some samples.

        Equivalent to::

            torch.linalg.solve(A.mH @ A + rho * torch.eye(n), b[..., None])[..., 0]

        Reference: Hestenes and Stiefel, *Methods of conjugate gradients for solving linear systems*, 1952.
        """
        from .solve import solve

        return solve(self, b, rho)

    @with_arrays
    def data_step(self, v: Tensor, At_y: Tensor, rho: Tensor | float) -> Tensor:
        """argmin ½‖A z − y‖² + ρ/2·‖z − v‖² = (AᴴA + ρI)⁻¹(Aᴴy + ρ v), the linear step of ADMM: (..., *shape_in).

        Equivalent to ``A.solve(At_y + rho * v, rho)``, which some operators compute in one pass. Raises what that
        raises, and ValueError where v and At_y differ in shape.
        """
        from .solve import HALF, rho_beside

        _checks.tensor("At_y", At_y)
        if v.shape != At_y.shape:
            raise ValueError(
                f"v and At_y must have one shape, got {shape_text(v.shape)} and {shape_text(At_y.shape)}: give each "
                "sample of one a sample of the other"
            )
        if v.dtype in HALF:  # the sum is of the precision in which A computes
            v, At_y = (t.to(self.normal(torch.zeros_like(v)).dtype) for t in (v, At_y))
        return self.solve(At_y + rho_beside(rho, v) * v, rho)

    @with_arrays
    def adjoint_solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(A Aᴴ + ρI)⁻¹ b, which is ``A.H.solve(b, rho)``: (..., *shape_out).

        By conjugate gradients. Where :meth:`solve` is better, they start at (b − A(AᴴA + ρI)⁻¹Aᴴ b)/ρ, which loses
        digits for small ρ.
        """
        from .solve import solve

        def start(b: Tensor, rho: Tensor) -> Tensor:
            return (b - self(self.solve(self.adjoint(b), rho))) / rho

        return solve(self.H, b, rho, start if self.solves else None)

    @property
    def H(self) -> LinearOperator:
        """Aᴴ as an operator."""
        from .composition import Adjoint

        return Adjoint(self)

    def __matmul__(self, other: object) -> Composed:
        """A B: first B, then A."""
        from .composition import Composed

        return Composed(self, _operator("@", other))

    def __rmatmul__(self, other: object) -> Composed:
        from .composition import Composed

        return Composed(_operator("@", other), self)

    def __add__(self, other: object) -> LinearOperator:
        from .composition import Sum

        return Sum(self, _operator("+", other))

    def __radd__(self, other: object) -> LinearOperator:
        from .composition import Sum

        return Sum(_operator("+", other), self)

    def __sub__(self, other: object) -> LinearOperator:
        return self + -_operator("-", other)

    def __rsub__(self, other: object) -> LinearOperator:
        return _operator("-", other) + -self

    def __neg__(self) -> LinearOperator:
        return self * -1.0

    def __mul__(self, factor: complex | Tensor) -> LinearOperator:
        """c·A for a number c."""
        from .scaled import Scaled

        return Scaled(self, factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: complex | Tensor) -> LinearOperator:
        """A/c for a number c."""
        return self * (1 / divisor)

    def to_scipy(self, shape_in: tuple[int, ...] | None = None, dtype: Any = None) -> Any:
        """The operator, for one sample, as a ``scipy.sparse.linalg.LinearOperator`` of flat vectors.

        Args:
            shape_in: the shape of one sample of x; by default the one that the operator states.
            dtype: of the products, as SciPy states it; by default found by a product.

        Returns:
            The operator of shape (m, n), with ``matvec``, ``rmatvec``, ``matmat`` and ``rmatmat``.

        Raises:
            ImportError: SciPy is not installed.
            ValueError: the operator states no ``shape_in``, and none is given.
        """
        from .export import to_scipy

        return to_scipy(self, shape_in, dtype)

    def to_deepinv(self) -> Any:
        """The operator as a ``deepinv.physics.LinearPhysics``: ``A``, ``A_adjoint``, ``A_adjoint_A`` and ``prox_l2``.

        x and y have the shapes that the operator takes: those of DeepInverse, (B, C, H, W), where (B, C) are a batch.
        Complex pictures are (B, 2, H, W) there, with the real and the imaginary part as channels.

        Raises:
            ImportError: DeepInverse is not installed.
        """
        from .export import to_deepinv

        return to_deepinv(self)

    def example(self) -> Tensor:
        """A tensor of the precision and device of the operator's tensors, or of single precision without any.

        It is real, but where a part takes x of its own type alone.
        """
        for part in self.modules():
            if isinstance(part, LinearOperator) and part.same_dtype:
                return _tensors(part)[0] if part.matrix is None else part.matrix
        tensors = (t for part in self.modules() for t in _tensors(part) if t.is_floating_point() or t.is_complex())
        found = next(tensors, torch.zeros(()))
        return found.real if found.is_complex() else found

    def sample(self) -> Tensor:
        """A batch of samples x, whatever they hold, of the operator's type and device."""
        if self.shape_in is None:
            raise ValueError(
                f"shape_in must be stated to find the norm of {type(self).__name__}, such as shape_in = (64, 64), the "
                "shape of one sample of x"
            )
        like = self.example()
        with torch.no_grad():
            shape = (*(self.own_batch or (1,)), *self.shape_in)
            return self.normal(torch.zeros(shape, dtype=like.dtype, device=like.device))


def difference(name: str, a: Tensor, other_name: str, b: Tensor) -> Tensor:
    """a − b of batches of one shape."""
    _checks.tensor(other_name, b)
    if a.shape != b.shape:
        raise ValueError(
            f"{name} and {other_name} must have one shape, got {shape_text(a.shape)} and {shape_text(b.shape)}: give "
            "each sample of one a sample of the other"
        )
    return a - b


def _tensors(part: nn.Module) -> list[Tensor]:
    own = [*part.parameters(recurse=False), *part.buffers(recurse=False), *vars(part).values()]
    return [t for t in own if isinstance(t, Tensor)]


def _operator(sign: str, value: object) -> LinearOperator:
    """``value`` as an operator, where it can only be one."""
    from .convert import as_operator

    if isinstance(value, Tensor) and value.layout == torch.strided:
        raise TypeError(
            f"{sign} composes operators, got a tensor: use op(x) for the product with x, or op {sign} "
            "fu.operators.Dense(A) for a matrix"
        )
    return as_operator(value)
