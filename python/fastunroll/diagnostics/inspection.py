"""The measuring of an unrolled network, layer by layer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import _checks
from ..losses import kkt_residual, lasso_objective, nmse_db
from ..nn import UnrolledNetwork
from ..operators.convert import OperatorLike, matrix_or_operator
from ..operators.flattened import Flattened
from ..operators.linear_operator import LinearOperator
from ..operators.products import batch_shape
from ..table import Table
from .decomposition import (
    CONVERGED,
    Decomposition,
    Step,
    decompose,
    distance,
    ista,
    lasso_solution,
    ratio,
    wide,
)
from .figure import figure_class
from .result import Report


@dataclass(frozen=True)
class _Lasso:
    """min ½‖A x − y‖² + λ‖x‖₁ for flat vectors: of a matrix in double precision, of an operator in that of y and x."""

    y: Tensor
    A: Tensor | LinearOperator
    lam: Tensor
    x: Tensor  # has the type of x


def report(
    model: Callable[..., Tensor],
    y: Tensor,
    x_true: Tensor | None = None,
    *,
    A: OperatorLike | None = None,
    lam: Tensor | float | None = None,
    ideal: Step | None = None,
    plot: str | os.PathLike[str] | None = None,
) -> Report:
    """What each layer of an unrolled network does to a batch: ``print`` the report, ``plot`` it, or take ``as_dict()``.

    For each layer k = 1, …, K, with x_0 = 0 and all numbers computed in double precision:

    - its parameters, as ``model.layers_summary()`` tells them (of a :class:`fastunroll.nn.UnrolledNetwork`), but for
      layers that count from 1; a parameter with the name of a measure is called ``learned …``;
    - ``density``: the share of x_k that is not zero;
    - ``update``: ‖x_k − x_{k−1}‖/‖x_k‖ over the whole batch, the size of what the layer adds; 0 if nothing moved,
      infinite if it moved to zero;
    - ``nmse_db`` and ``mean_db``, with ``x_true``: the error pooled over the batch, and the mean over samples of each
      sample's own, in dB, as :func:`fastunroll.losses.nmse_db`; samples whose truth is zero count in the first alone,
      and both are None where the whole truth is zero;
    - ``kkt_residual`` and ``objective``, with A and λ: means over samples of :func:`fastunroll.losses.kkt_residual`
      and :func:`fastunroll.losses.lasso_objective`;
    - the :class:`fastunroll.diagnostics.Decomposition` of the error, with a reference solution and an ideal step.

    A and λ are those given, else ``model.A`` and ``model.lam`` where there; what needs them is left out without them.
    The reference solution is ``x_true``, else the Lasso solution by restarted FISTA (at most 10,000 iterations, until
    the KKT residual is 1e-10). The model runs in the mode it is in, and no gradient is recorded.

    Args:
        model: a network of :mod:`fastunroll.nn`, or whatever returns all its layers, (K, ..., n), for
            ``model(y, return_layers=True)``. It starts from zero.
        y: (..., m), at least one sample; for an operator (..., *A.shape_out), or (B, ...) where it states no shape.
        x_true: (..., n), the truth; for an operator of the shape that it takes.
        A: (m, n), of the Lasso problem; or one for every sample, or any operator
            (:func:`fastunroll.operators.as_operator`).
        lam: its λ ≥ 0, a number or one a coordinate (n,).
        ideal: one step of the algorithm that is unrolled, (x, y) to x⁺, of shapes (..., n), (..., m) and (..., n),
            in the precision of the data; the step of ISTA with t = 1/‖A‖² by default.
        plot: where to write the figure, such as ``"report.png"``.

    Raises:
        TypeError: something is not a floating-point tensor, not a number, or cannot be called.
        ValueError: shapes do not fit; there is no sample; values are not finite, and if it is a layer's output, which
            is the first; one of A and λ is given and the other not known; or ``ideal`` without a reference solution.
        ImportError: ``plot`` without matplotlib.
        FileNotFoundError: the folder of ``plot`` does not exist.

    Example::

        found = fu.diagnostics.report(net, y, x_true, lam=0.1, plot="layers.png")
        print(found)
        found.layers[-1]["nmse_db"]
    """
    if not callable(model):
        raise TypeError(f"model must be a network or a function, got {_checks.shown(model)}")
    if ideal is not None and not callable(ideal):
        raise TypeError(f"ideal must be a function of x and y, or None, got {_checks.shown(ideal)}")
    if plot is not None:
        _writable(plot)
    _finite("y", _checks.tensor("y", y))
    if y.numel() == 0:
        raise ValueError(f"y must hold at least one sample, got shape {_checks.shape_text(y.shape)}")
    is_given, A = A is not None, _known(model, A)
    batch = batch_shape(A, y) if isinstance(A, LinearOperator) else y.shape[:-1]
    with torch.no_grad():
        layers = _outputs(model, y, tuple(batch))
        x_true = _truth(x_true, layers[0])
        if isinstance(A, LinearOperator):
            A, ideal = _flat(A, layers[0], y, ideal, len(batch))
            y, layers = y.flatten(len(batch)), layers.flatten(len(batch) + 1)
            x_true = None if x_true is None else x_true.flatten(len(batch))
        lasso = _lasso(model, y, layers, A, lam, is_given)
        decomposition, remarks = _decomposed(layers, y, x_true, lasso, ideal)
        measured = []
        before = torch.zeros_like(layers[0])
        for x in map(wide, layers):
            measured.append(_measures(x, before, x_true, lasso))
            before = x
    learned = []
    if isinstance(model, UnrolledNetwork):
        learned = [_parameters(row, measured[0]) for row in model.layers_summary()]
    rows = [{**(learned[k] if learned else {}), **row} for k, row in enumerate(measured)]
    found = Report(
        model=type(model).__name__ if isinstance(model, torch.nn.Module) else getattr(model, "__name__", "model"),
        samples=y[..., 0].numel(),
        layers=Table({"layer": k, **row} for k, row in enumerate(rows, 1)),
        parameters=tuple(learned[0]) if learned else (),
        decomposition=decomposition,
        remarks=remarks,
    )
    if plot is not None:
        found.plot(plot)
    return found


def _measures(x: Tensor, before: Tensor, x_true: Tensor | None, lasso: _Lasso | None) -> dict[str, float | None]:
    row: dict[str, float | None] = {
        "density": float(torch.count_nonzero(x)) / x.numel(),
        "update": ratio(distance(x, before), distance(x, torch.zeros_like(x))),
    }
    if x_true is not None:
        there = x_true.any(-1)
        some = bool(there.any())
        row["nmse_db"] = float(nmse_db(x, x_true)) if some else None
        row["mean_db"] = float(nmse_db(x[there], x_true[there], pooled=False)) if some else None
    if lasso is not None:
        problem = x.to(lasso.x.dtype), lasso.y, lasso.A, lasso.lam
        row["kkt_residual"] = float(kkt_residual(*problem).mean())
        row["objective"] = float(lasso_objective(*problem).mean())
    return row


def _decomposed(
    layers: Tensor, y: Tensor, x_true: Tensor | None, lasso: _Lasso | None, ideal: Step | None
) -> tuple[Decomposition | None, tuple[str, ...]]:
    """The decomposition, where it can be made, and what is to be said about it."""
    if lasso is None:
        if ideal is None:
            return None, ("Give A and lam for the KKT residual, the objective and the decomposition of the error.",)
        if x_true is None:
            raise ValueError(
                "ideal needs a reference solution to be measured against: give x_true, or A and lam for the solution "
                "of the Lasso problem"
            )
        return decompose(layers, y, x_true, ideal, None), ("Give A and lam for the KKT residual and the objective.",)
    step = ista(lasso.A, lasso.lam, lasso.y, lasso.x) if ideal is None else ideal
    if x_true is not None:
        return decompose(layers, y, x_true, step, None), ()
    solution, residual = lasso_solution(lasso.y, lasso.A, lasso.lam)
    remarks = (
        () if residual <= CONVERGED else (f"The Lasso solution is not exact: its KKT residual is {residual:.1g}.",)
    )
    return decompose(layers, y, solution, step, residual), remarks


def _parameters(row: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, float]:
    return {f"learned {n}" if n in measured else n: value for n, value in row.items() if n != "layer"}


def _known(model: object, A: OperatorLike | None) -> Tensor | LinearOperator | None:
    """A, or that of the model, as a matrix or an operator."""
    given = getattr(model, "A", None) if A is None else A
    if A is None and not isinstance(given, (Tensor, LinearOperator)):
        return None
    return matrix_or_operator(given)


def _flat(
    op: LinearOperator, x: Tensor, y: Tensor, ideal: Step | None, dims: int
) -> tuple[LinearOperator, Step | None]:
    """The operator and the step for flat vectors. ``dims`` dimensions of x and y count samples."""
    takes, returns = x.shape[dims:], y.shape[dims:]
    if ideal is None:
        return Flattened(op, takes, returns), None
    given = ideal

    def step(x: Tensor, y: Tensor) -> Tensor:
        return given(x.reshape(*x.shape[:-1], *takes), y.reshape(*y.shape[:-1], *returns)).flatten(dims)

    return Flattened(op, takes, returns), step


def _outputs(model: Callable[..., Tensor], y: Tensor, batch: tuple[int, ...]) -> Tensor:
    """Every layer's output, (K, ..., n), checked."""
    layers = _checks.tensor("the output of the model", model(y, return_layers=True))
    flat = len(batch) == y.dim() - 1  # a sample is a vector
    fits = layers.shape[1 : len(batch) + 1] == batch and (layers.dim() == y.dim() + 1 or not flat)
    if not fits or layers.dim() < len(batch) + 2 or 0 in layers.shape:
        wanted = _checks.shape_text(("K", *batch, "n" if flat else "..."))
        raise ValueError(
            f"the model must return all its layers for model(y, return_layers=True), of shape {wanted}, got "
            f"{_checks.shape_text(layers.shape)}"
        )
    finite = torch.isfinite(layers).flatten(1).all(1)
    if not bool(finite.all()):
        first = int(finite.logical_not().nonzero()[0]) + 1
        raise ValueError(
            f"layer {first} of {len(layers)} is the first whose output holds NaN or infinity: look at its parameters, "
            "or clip gradients in training"
        )
    return layers


def _truth(x_true: Tensor | None, x: Tensor) -> Tensor | None:
    """``x_true``, checked, in double precision."""
    if x_true is None:
        return None
    if _checks.tensor("x_true", x_true).shape != x.shape:
        raise ValueError(
            f"x_true must have the shape of what the model returns, {_checks.shape_text(x.shape)}, got "
            f"{_checks.shape_text(x_true.shape)}"
        )
    _checks.same_device("x_true", x_true, x)
    _finite("x_true", x_true)
    return wide(x_true)


def _lasso(
    model: object,
    y: Tensor,
    x: Tensor,
    matrix: Tensor | LinearOperator | None,
    lam: Tensor | float | None,
    is_given: bool,
) -> _Lasso | None:
    """The problem whose A and λ were given, or are the model's; None if they are not known."""
    known_lam = getattr(model, "lam", None)
    weight = lam if lam is not None or not isinstance(known_lam, (Tensor, float, int)) else known_lam
    if matrix is None or weight is None:
        if is_given or lam is not None:
            missing = "lam" if weight is None else "A"
            raise ValueError(
                f"A and lam make the Lasso problem together, but {missing} is not known: give {missing} too"
            )
        return None
    if isinstance(matrix, LinearOperator):
        return _Lasso(y, matrix, _weight(weight, x, x.shape[-1]), x)
    _checks.nonzero_matrix("A", matrix)
    _checks.columns("y", y, matrix.shape[0], matrix.shape)
    _checks.columns("the output of the model", x, matrix.shape[1], matrix.shape)
    _checks.same_device("A", matrix, y)
    dtype = torch.promote_types(torch.promote_types(wide(x).dtype, y.dtype), matrix.dtype)
    matrix = matrix.detach().to(dtype).contiguous()
    return _Lasso(y.to(dtype), matrix, _weight(weight, matrix, matrix.shape[1]), matrix)


def _weight(lam: Tensor | float, like: Tensor, n: int) -> Tensor:
    """λ, one number or one a coordinate."""
    weight = _checks.threshold("lam", lam, like).detach()
    weight = weight.reshape(()) if weight.numel() == 1 else weight
    if weight.shape not in ((), (n,)) or bool((weight < 0).any()):
        raise ValueError(
            f"lam must be one number ≥ 0 or one a coordinate, shape {_checks.shape_text((n,))}, got "
            f"{'negative ones' if weight.shape in ((), (n,)) else _checks.shape_text(weight.shape)}"
        )
    _finite("lam", weight)
    return weight


def _writable(plot: object) -> None:
    """Refuses a figure that cannot be drawn or written before all the work, rather than after it."""
    if not isinstance(plot, (str, os.PathLike)):
        raise TypeError(f"plot must be a path or None, got {_checks.shown(plot)}")
    if not Path(plot).parent.is_dir():
        raise FileNotFoundError(f"plot must be in a folder that exists, got {os.fspath(plot)!r}")
    figure_class()


def _finite(name: str, value: Tensor) -> None:
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} must be finite, but it holds NaN or infinity: check how it was made")
