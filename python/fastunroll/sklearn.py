"""Sparse coding with the names, arguments and shapes of scikit-learn. fastunroll solves the Lasso problems.

To use it, replace ``from sklearn.decomposition import ...`` by ``from fastunroll.sklearn import ...``. It needs
scikit-learn: ``pip install 'fastunroll[sklearn]'``.
"""

from __future__ import annotations

import warnings
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from . import _checks
from .solvers import Lasso
from .warn import no_convergence_warnings

try:
    from sklearn import decomposition
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import check_array
except ImportError as error:
    raise ImportError(
        f"fastunroll.sklearn needs scikit-learn, which cannot be imported ({error}): pip install 'fastunroll[sklearn]'"
    ) from error

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # before scikit-learn 1.6, validate_data was a method of estimators

    def validate_data(estimator: Any, X: Any, **options: Any) -> Any:
        return estimator._validate_data(X, **options)


__all__ = ["SparseCoder", "sparse_encode"]

Floats = NDArray[np.floating[Any]]

ALGORITHMS = ("lasso_cd", "lasso_lars", "lars", "omp", "threshold")
NATIVE = ("lasso_cd", "lasso_lars")  # two names of the same problem; scikit-learn solves all others
DTYPES = [np.float64, np.float32]

# Relative duality gaps. scikit-learn stops at an absolute gap of 1e-8 ‖x‖², which is a relative gap of 2e-8. float32
# cannot reach that gap.
DEFAULT_TOL = {"float64": 2e-8, "float32": 1e-6}
MAX_STEPS = 2**31 - 1


class _Solver:
    """A Lasso solver for a dictionary, which is reused as long as dictionary and constraint stay the same."""

    def __init__(self, dictionary: Floats, positive: bool) -> None:
        self.dictionary, self.positive = dictionary, positive
        self.lasso = Lasso(dictionary.T, nonnegative=positive)

    def is_for(self, dictionary: Floats, positive: bool) -> bool:
        same_dtype = self.dictionary.dtype == dictionary.dtype
        return self.positive == positive and same_dtype and np.array_equal(self.dictionary, dictionary)

    def encode(
        self, X: Floats, alpha: float, max_iter: int, tol: float | None, init: Floats | None, callers: int
    ) -> NDArray[Any]:
        tol = DEFAULT_TOL[X.dtype.name] if tol is None else tol
        steps = min(max_iter * self.dictionary.shape[0], MAX_STEPS)
        with no_convergence_warnings():  # the next lines warn in scikit-learn's terms
            result = self.lasso.solve(X, alpha, tol=tol, x0=init, max_iter=steps)
        failed = int((~result.converged).sum())
        if failed:
            warnings.warn(
                f"{failed} of {len(X)} samples did not reach the relative duality gap {tol:g} in {max_iter} sweep(s), "
                f"and the largest gap is {float(result.gap.max()):.2g}: raise the number of iterations, alpha or tol",
                ConvergenceWarning,
                stacklevel=1 + callers,
            )
        return np.asarray(result.x)


def _require_same_features(X: Floats, dictionary: Floats) -> None:
    if X.ndim != 2 or dictionary.ndim != 2 or X.shape[1] != dictionary.shape[1]:
        raise ValueError(
            f"X is {_checks.shape_text(X.shape)} but dictionary is {_checks.shape_text(dictionary.shape)}: expected X "
            "of shape (n_samples, n_features) and dictionary of shape (n_components, n_features)"
        )


def _unchecked(name: str, value: object) -> Floats:
    """Returns an array after a check of its dtype. With ``check_input=False``, the values are not checked."""
    array = np.asarray(value)
    if array.dtype not in DTYPES:
        raise TypeError(f"{name} must be float64 or float32, got {array.dtype}: use check_input=True to convert it")
    return np.ascontiguousarray(array)


def _positive_or_none(name: str, value: float | None) -> float | None:
    return None if value is None else _checks.positive(name, value)


def sparse_encode(
    X: Any,
    dictionary: Any,
    *,
    gram: Any = None,
    cov: Any = None,
    algorithm: str = "lasso_cd",
    n_nonzero_coefs: int | None = None,
    alpha: float | None = None,
    copy_cov: bool = True,
    init: Any = None,
    max_iter: int = 1000,
    n_jobs: int | None = None,
    check_input: bool = True,
    verbose: int = 0,
    positive: bool = False,
    tol: float | None = None,
) -> NDArray[Any]:
    """Computes sparse codes: for each row x of X, the code c that minimises ½‖x − c D‖² + α‖c‖₁, D the dictionary.

    ``algorithm="lasso_cd"`` and ``"lasso_lars"`` are two names of this problem. fastunroll solves it to a certified
    duality gap, with the threads of PyTorch. scikit-learn computes the other algorithms (``"lars"``, ``"omp"`` and
    ``"threshold"``) and least squares (α = 0).

    If the solution is not unique, as with duplicate atoms, fastunroll may return another solution than scikit-learn,
    with the same objective. With ``positive`` and a small α, scikit-learn's ``"lasso_lars"`` stops before it reaches
    the solution. fastunroll reaches it.

    Args:
        X: the samples (n_samples, n_features). The computation and the result are float32 if X is float32, and float64
            otherwise.
        dictionary: the dictionary (n_components, n_features), one atom in each row, of any norm.
        gram: the Gram matrix (n_components, n_components). The Lasso does not need it.
        cov: the covariance (n_components, n_samples). The Lasso does not need it.
        algorithm: the algorithm, see above. scikit-learn's default ``"lasso_lars"`` is the same problem as
            ``"lasso_cd"``.
        n_nonzero_coefs: the number of nonzeros, for ``"lars"`` and ``"omp"``.
        alpha: α ≥ 0. The default is 1.
        copy_cov: an option of ``"omp"``.
        init: the start (n_samples, n_components) of ``"lasso_cd"``, which is not changed. The default is zero.
        max_iter: the largest number of sweeps for a sample. A sweep has n_components steps.
        n_jobs: an option of scikit-learn's algorithms.
        check_input: whether to convert X and the dictionary and to refuse NaN. Otherwise a sample with NaN gets a code
            of NaN and counts as not converged.
        verbose: an option of scikit-learn's algorithms.
        positive: whether to require c ≥ 0.
        tol: the relative duality gap to reach, (P − D) / (½‖x‖²). scikit-learn has no such option. The default is 2e-8
            in float64, at which scikit-learn's "lasso_cd" stops, and 1e-6 in float32.

    Returns:
        The codes (n_samples, n_components).

    Raises:
        TypeError: an argument does not hold numbers, or with ``check_input=False`` is not floating point; or NumPy
            cannot read a tensor.
        ValueError: there are no samples, values are not finite, shapes do not fit, or an argument is out of range.

    Warns:
        sklearn.exceptions.ConvergenceWarning: samples did not reach ``tol``. The message says how many.

    Equivalent to::

        sklearn.decomposition.sparse_encode(X, dictionary, algorithm="lasso_cd", alpha=alpha, positive=positive)

    Reference: Tibshirani 1996; Mairal, Bach, Ponce and Sapiro 2009 (sparse coding in dictionary learning).
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
    penalty = 1.0 if alpha is None else _checks.not_negative("alpha", alpha)
    X, dictionary, init = _checks.array("X", X), _checks.array("dictionary", dictionary), _checks.array("init", init)
    gram, cov = _checks.array("gram", gram), _checks.array("cov", cov)
    if algorithm not in NATIVE or penalty == 0:
        return decomposition.sparse_encode(
            X,
            dictionary,
            gram=gram,
            cov=cov,
            algorithm=algorithm,
            n_nonzero_coefs=n_nonzero_coefs,
            alpha=alpha,
            copy_cov=copy_cov,
            init=init,
            max_iter=max_iter,
            n_jobs=n_jobs,
            check_input=check_input,
            verbose=verbose,
            positive=positive,
        )
    max_iter, tol = _checks.count("max_iter", max_iter), _positive_or_none("tol", tol)
    if check_input:
        dictionary = check_array(dictionary, order="C", dtype=DTYPES, input_name="dictionary")
        X = check_array(X, order="C", dtype=DTYPES, input_name="X")
    else:
        dictionary, X = _unchecked("dictionary", dictionary), _unchecked("X", X)
    _require_same_features(X, dictionary)
    start = None
    if init is not None and algorithm == "lasso_cd":
        start = np.ascontiguousarray(init, dtype=X.dtype)
        expected = (X.shape[0], dictionary.shape[0])
        if start.shape != expected:
            raise ValueError(
                f"init must have the shape (n_samples, n_components), here {_checks.shape_text(expected)}, got "
                f"{_checks.shape_text(start.shape)}"
            )
    solver = _Solver(dictionary.astype(X.dtype, copy=False), bool(positive))
    return solver.encode(X, penalty, max_iter, tol, start, callers=2)


class SparseCoder(decomposition.SparseCoder):
    """The transformer of scikit-learn that computes sparse codes in a fixed dictionary. fastunroll solves the Lasso.

    With ``transform_algorithm="lasso_cd"`` or ``"lasso_lars"``, each row x of the data gets the code c that minimises
    ½‖x − c D‖² + α‖c‖₁. Everything that depends on the dictionary D alone is computed once and reused until D changes.
    scikit-learn computes the other algorithms, among them its default ``"omp"``, and least squares (α = 0). Pipelines,
    parameter search, ``clone``, ``set_output`` and pickling work as for any transformer.

    Args:
        dictionary: the dictionary D (n_components, n_features), one atom in each row.
        transform_algorithm: ``"lasso_cd"``, ``"lasso_lars"``, ``"lars"``, ``"omp"`` or ``"threshold"``.
        transform_n_nonzero_coefs: the number of nonzeros, for ``"lars"`` and ``"omp"``.
        transform_alpha: α ≥ 0. The default is 1.
        split_sign: whether to return the positive and negative parts of the codes as 2 n_components features.
        n_jobs: an option of scikit-learn's algorithms. The Lasso uses the threads of PyTorch.
        positive_code: whether to require c ≥ 0.
        transform_max_iter: the largest number of sweeps for a sample. A sweep has n_components steps.
        transform_tol: the relative duality gap to reach, see :func:`sparse_encode`. scikit-learn has no such option.

    Attributes:
        n_components_: the number of atoms.
        n_features_in_: the number of features seen in ``fit``.
        feature_names_in_: the names of the features, if they have names.

    Raises:
        TypeError: in ``fit`` and ``transform``, if an argument does not hold numbers or NumPy cannot read a tensor.
        ValueError: in ``fit`` and ``transform``, if there are no samples, values are not finite, shapes do not fit, or
            a parameter is out of range.

    Warns:
        sklearn.exceptions.ConvergenceWarning: samples did not reach the tolerance. The message says how many.

    Example::

        coder = fu.sklearn.SparseCoder(dictionary, transform_algorithm="lasso_cd", transform_alpha=0.1)
        codes = coder.fit_transform(X)

    Equivalent to::

        sklearn.decomposition.SparseCoder(dictionary, transform_algorithm="lasso_cd", transform_alpha=0.1)

    Reference: Tibshirani 1996; Mairal, Bach, Ponce and Sapiro 2009 (sparse coding in dictionary learning).
    """

    def __init__(
        self,
        dictionary: Any,
        *,
        transform_algorithm: str = "omp",
        transform_n_nonzero_coefs: int | None = None,
        transform_alpha: float | None = None,
        split_sign: bool = False,
        n_jobs: int | None = None,
        positive_code: bool = False,
        transform_max_iter: int = 1000,
        transform_tol: float | None = None,
    ) -> None:
        super().__init__(
            dictionary,
            transform_algorithm=transform_algorithm,
            transform_n_nonzero_coefs=transform_n_nonzero_coefs,
            transform_alpha=transform_alpha,
            split_sign=split_sign,
            n_jobs=n_jobs,
            positive_code=positive_code,
            transform_max_iter=transform_max_iter,
        )
        self.transform_tol = transform_tol

    def fit(self, X: Any, y: Any = None) -> SparseCoder:
        """Checks the parameters and the number of features. It learns nothing.

        Args:
            X: the samples (n_samples, n_features).
            y: not used.

        Returns:
            The estimator itself.
        """
        _checks.array("dictionary", self.dictionary)
        fitted: SparseCoder = super().fit(_checks.array("X", X), y)
        return fitted

    def transform(self, X: Any, y: Any = None) -> Any:
        """Computes the sparse codes of samples.

        Args:
            X: the samples (n_samples, n_features).
            y: not used.

        Returns:
            The codes (n_samples, n_components) in the precision of X, or twice as many columns with ``split_sign``.
        """
        alpha = self.transform_alpha
        penalty = 1.0 if alpha is None else _checks.not_negative("transform_alpha", alpha)
        X, dictionary = _checks.array("X", X), _checks.array("dictionary", self.dictionary)
        if self.transform_algorithm not in NATIVE or penalty == 0:
            return self._transform(X, dictionary)
        max_iter = _checks.count("transform_max_iter", self.transform_max_iter)
        tol = _positive_or_none("transform_tol", self.transform_tol)
        X = validate_data(self, X, reset=False, order="C", dtype=DTYPES)
        dictionary = check_array(dictionary, order="C", dtype=DTYPES, input_name="dictionary")
        _require_same_features(X, dictionary)
        solver = _solver_of(self, dictionary.astype(X.dtype, copy=False), bool(self.positive_code))
        code = solver.encode(X, penalty, max_iter, tol, None, callers=3)  # scikit-learn wraps transform in a function
        return np.hstack([np.maximum(code, 0), np.maximum(-code, 0)]) if self.split_sign else code


# Solvers are not attributes of the estimators, because transform must not change attributes, and copies and pickles
# must contain the parameters only.
_solvers: WeakKeyDictionary[SparseCoder, _Solver] = WeakKeyDictionary()


def _solver_of(coder: SparseCoder, dictionary: Floats, positive: bool) -> _Solver:
    """Returns the solver of an estimator. It makes a new solver if the dictionary or the constraint has changed."""
    solver = _solvers.get(coder)
    if solver is None or not solver.is_for(dictionary, positive):
        # The solver stores a copy, so that a later comparison detects changes of the dictionary in place.
        solver = _solvers[coder] = _Solver(dictionary.copy(), positive)
    return solver
