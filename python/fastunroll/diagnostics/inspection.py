"""Measures an unrolled network layer by layer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import _checks
from ..arrays import takes_arrays
from ..losses import kkt_residual, lasso_objective, nmse_db
from ..nn import Unrolled, UnrolledNetwork
from ..operators.convert import OperatorLike, matrix_or_operator
from ..operators.flattened import Flattened
from ..operators.linear_operator import LinearOperator
from ..operators.products import batch_shape
from ..prox import L1
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
    to_double,
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


@takes_arrays("y")
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
    """Reports the effect of each layer of an unrolled network on a batch of samples.

    ``print`` shows the report as text, ``plot`` draws it, and ``as_dict()`` returns it as data. All numbers are
    computed in double precision. With x_0 = 0, the report has for each layer k = 1, …, K:

    - the parameters of the layer from ``model.layers_summary()``, if the model is a network of :mod:`fastunroll.nn`. A
      parameter that has the name of a measure is called ``learned …``.
    - ``density``: the share of x_k that is not zero.
    - ``update``: ‖x_k − x_{k−1}‖/‖x_k‖ over the whole batch. It is 0 if the layer changes nothing, and infinite if the
      layer sets a nonzero iterate to zero.
    - ``nmse_db`` and ``mean_db``, if ``x_true`` is given: the error pooled over the batch, and the mean of the errors
      of the samples, in dB, as in :func:`fastunroll.losses.nmse_db`. ``mean_db`` leaves out samples whose truth is
      zero. Both are None if the whole truth is zero.
    - ``kkt_residual`` and ``objective``, if A and λ are known: the means over samples of
      :func:`fastunroll.losses.kkt_residual` and :func:`fastunroll.losses.lasso_objective`.
    - the :class:`fastunroll.diagnostics.Decomposition` of the error, if a reference solution and an ideal step are
      known.

    A and λ default to ``model.A`` and ``model.lam``, and A to the operator of a :class:`fastunroll.nn.Unrolled`. The
    reference solution is ``x_true`` if it is given. Otherwise it is the Lasso solution, which FISTA with restarts
    computes (at most 10,000 iterations, until the KKT residual is 1e-10). The model keeps its mode (training or
    evaluation), and autograd records nothing.

    Args:
        model: a network of :mod:`fastunroll.nn`, or any function whose call ``model(y, return_layers=True)`` returns
            the outputs of all layers (K, ..., n). The network must start from zero.
        y: the measurements (..., m), at least one sample; for an operator (..., *A.shape_out), or (B, ...) where it
            states no shape.
        x_true: the ground truth (..., n); for an operator of the shape of its x.
        A: the matrix (m, n) of the Lasso problem, a matrix for every sample, or any operator
            (:func:`fastunroll.operators.as_operator`).
        lam: the weight λ ≥ 0 of the Lasso problem, a number or a tensor (n,).
        ideal: the step of the algorithm that the network unrolls. It maps x (..., n) and y (..., m) to x⁺ (..., n), in
            the dtype of the data. The default is the step of ISTA with t = 1/‖A‖².
        plot: the path of a file for the figure, such as ``"report.png"``.

    Raises:
        TypeError: an argument is not a floating-point tensor, not a number, or cannot be called.
        ValueError: shapes do not fit; there is no sample; the network is an equilibrium network; a value is not
            finite (the message names the first layer whose output is not finite); only one of A and λ is known; or
            ``ideal`` has no reference solution.
        ImportError: ``plot`` is given and matplotlib is not installed.
        FileNotFoundError: the folder of ``plot`` does not exist.

    Example::

        found = fu.diagnostics.report(net, y, x_true, lam=0.1, plot="layers.png")
        print(found)
        found.layers[-1]["nmse_db"]
    """
    if not callable(model):
        raise TypeError(f"model must be a network or a function, got {_checks.shown(model)}")
    if isinstance(model, Unrolled) and model.is_equilibrium:
        raise ValueError("model must have K layers, but an equilibrium network has none: make it with layers=K")
    if ideal is not None and not callable(ideal):
        raise TypeError(f"ideal must be a function of x and y, or None, got {_checks.shown(ideal)}")
    if plot is not None:
        _require_plottable(plot)
    _checks.finite_values("y", _checks.tensor("y", y))
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
        decomposition, remarks = _decomposed(layers, y, x_true, lasso, ideal, "A and lam" if A is None else "lam")
        if lasso is not None and isinstance(model, Unrolled) and type(model.prox) is not L1:
            remarks += (f"The Lasso problem has the norm ‖x‖₁ in the place of the prior {type(model.prox).__name__}.",)
        measured = []
        before = torch.zeros_like(layers[0])
        for x in map(to_double, layers):
            measured.append(_measures(x, before, x_true, lasso))
            before = x
    learned = []
    if isinstance(model, (Unrolled, UnrolledNetwork)):
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
        nonzero = x_true.any(-1)
        has_signal = bool(nonzero.any())
        row["nmse_db"] = float(nmse_db(x, x_true)) if has_signal else None
        row["mean_db"] = float(nmse_db(x[nonzero], x_true[nonzero], pooled=False)) if has_signal else None
    if lasso is not None:
        problem = x.to(lasso.x.dtype), lasso.y, lasso.A, lasso.lam
        row["kkt_residual"] = float(kkt_residual(*problem).mean())
        row["objective"] = float(lasso_objective(*problem).mean())
    return row


def _decomposed(
    layers: Tensor, y: Tensor, x_true: Tensor | None, lasso: _Lasso | None, ideal: Step | None, missing: str
) -> tuple[Decomposition | None, tuple[str, ...]]:
    """Returns the decomposition, or None if an input for it is missing, and remarks on missing inputs or precision."""
    if lasso is None:
        if ideal is None:
            return None, (f"Give {missing} for the KKT residual, the objective and the decomposition of the error.",)
        if x_true is None:
            raise ValueError(
                "ideal needs a reference solution to compare with: give x_true, or A and lam for the solution of the "
                "Lasso problem"
            )
        return decompose(layers, y, x_true, ideal, None), (f"Give {missing} for the KKT residual and the objective.",)
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
    """Returns A, or the A of the model, as a matrix or an operator."""
    own = model.operator if isinstance(model, Unrolled) else getattr(model, "A", None)
    given = own if A is None else A
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
    """Returns the outputs of all layers (K, ..., n) after a check of their shape and values."""
    layers = _checks.tensor("the output of the model", model(y, return_layers=True))
    flat = len(batch) == y.dim() - 1  # a sample is a vector
    fits = layers.shape[1 : len(batch) + 1] == batch and (layers.dim() == y.dim() + 1 or not flat)
    if not fits or layers.dim() < len(batch) + 2 or 0 in layers.shape:
        wanted = _checks.shape_text(("K", *batch, "n" if flat else "..."))
        raise ValueError(
            f"model(y, return_layers=True) must return the outputs of all layers, of shape {wanted}, got "
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
    """Returns ``x_true`` in double precision after a check of its shape, device and values."""
    if x_true is None:
        return None
    if _checks.tensor("x_true", x_true).shape != x.shape:
        raise ValueError(
            f"x_true must have the shape of the output of the model, {_checks.shape_text(x.shape)}, got "
            f"{_checks.shape_text(x_true.shape)}"
        )
    _checks.same_device("x_true", x_true, x)
    _checks.finite_values("x_true", x_true)
    return to_double(x_true)


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
            raise ValueError(f"the Lasso problem needs both A and lam, but {missing} is not known: give {missing} too")
        return None
    if isinstance(matrix, LinearOperator):
        return _Lasso(y, matrix, _weight(weight, x, x.shape[-1]), x)
    _checks.nonzero_matrix("A", matrix)
    _checks.columns("y", y, matrix.shape[0], matrix.shape)
    _checks.columns("the output of the model", x, matrix.shape[1], matrix.shape)
    _checks.same_device("A", matrix, y)
    dtype = torch.promote_types(torch.promote_types(to_double(x).dtype, y.dtype), matrix.dtype)
    matrix = matrix.detach().to(dtype).contiguous()
    return _Lasso(y.to(dtype), matrix, _weight(weight, matrix, matrix.shape[1]), matrix)


def _weight(lam: Tensor | float, like: Tensor, n: int) -> Tensor:
    """Returns λ, one number or one for each coordinate."""
    weight = _checks.threshold("lam", lam, like).detach()
    weight = weight.reshape(()) if weight.numel() == 1 else weight
    if weight.shape not in ((), (n,)) or bool((weight < 0).any()):
        raise ValueError(
            f"lam must be a number ≥ 0 or a tensor of {_checks.shape_text((n,))} numbers ≥ 0, got "
            f"{'negative numbers' if weight.shape in ((), (n,)) else f'shape {_checks.shape_text(weight.shape)}'}"
        )
    _checks.finite_values("lam", weight)
    return weight


def _require_plottable(plot: object) -> None:
    """Raises an exception before all computations if the figure cannot be drawn or written after them."""
    if not isinstance(plot, (str, os.PathLike)):
        raise TypeError(f"plot must be a path or None, got {_checks.shown(plot)}")
    if not Path(plot).parent.is_dir():
        raise FileNotFoundError(f"plot must be in a folder that exists, got {os.fspath(plot)!r}")
    figure_class()
