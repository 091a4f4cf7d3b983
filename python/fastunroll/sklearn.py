"""Sparse coding for users of scikit-learn: its names, arguments and shapes, with the Lasso solved by fastunroll.

``from fastunroll.sklearn import SparseCoder, sparse_encode`` in place of ``from sklearn.decomposition import ...`` is
all it takes. Needs scikit-learn: ``pip install 'fastunroll[sklearn]'``.
"""

from __future__ import annotations

import warnings
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from . import _checks
from .solvers import Lasso

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
except ImportError:  # before scikit-learn 1.6 it was a method

    def validate_data(estimator: Any, X: Any, **options: Any) -> Any:
        return estimator._validate_data(X, **options)


__all__ = ["SparseCoder", "sparse_encode"]

Floats = NDArray[np.floating[Any]]

ALGORITHMS = ("lasso_cd", "lasso_lars", "lars", "omp", "threshold")
NATIVE = ("lasso_cd", "lasso_lars")  # two names of one problem; all else is passed on to scikit-learn
DTYPES = [np.float64, np.float32]

# Relative duality gaps. scikit-learn stops at 1e-8 ‖x‖², which is this; single precision cannot get there.
DEFAULT_TOL = {"float64": 2e-8, "float32": 1e-6}
MOST_STEPS = 2**31 - 1


class _Prepared:
    """The Lasso of one dictionary, with what tells whether it is still the one wanted."""

    def __init__(self, dictionary: Floats, positive: bool) -> None:
        self.dictionary, self.positive = dictionary, positive
        self.lasso = Lasso(dictionary.T, nonnegative=positive)

    def fits(self, dictionary: Floats, positive: bool) -> bool:
        mine = self.dictionary
        return self.positive == positive and mine.dtype == dictionary.dtype and np.array_equal(mine, dictionary)

    def encode(
        self, X: Floats, alpha: float, max_iter: int, tol: float | None, init: Floats | None, callers: int
    ) -> NDArray[Any]:
        tol = DEFAULT_TOL[X.dtype.name] if tol is None else tol
        steps = min(max_iter * self.dictionary.shape[0], MOST_STEPS)
        result = self.lasso.solve(X, alpha, tol=tol, x0=init, max_iter=steps)
        failed = int((~result.converged).sum())
        if failed:
            warnings.warn(
                f"{failed} of {len(X)} samples did not reach the relative duality gap {tol:g} in {max_iter} sweep(s); "
                f"the largest gap is {float(result.gap.max()):.2g}: raise the number of iterations, alpha or tol",
                ConvergenceWarning,
                stacklevel=1 + callers,
            )
        return np.asarray(result.x)


def _same_features(X: Floats, dictionary: Floats) -> None:
    if X.ndim != 2 or dictionary.ndim != 2 or X.shape[1] != dictionary.shape[1]:
        raise ValueError(
            f"X is {_checks.shape_text(X.shape)} but dictionary is {_checks.shape_text(dictionary.shape)}: expected X "
            "of shape (n_samples, n_features) and dictionary of shape (n_components, n_features)"
        )


def _unchecked(name: str, value: object) -> Floats:
    """An array as ``check_input=False`` promises it, which costs nothing to look at but its values."""
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
    """Sparse codes of samples: for each row x of X the code c that minimises ½‖x − c D‖² + α‖c‖₁, D the dictionary.

    ``algorithm="lasso_cd"`` and ``"lasso_lars"`` are two names of this problem, which fastunroll solves to a certified
    duality gap, with the threads of PyTorch. ``"lars"``, ``"omp"``, ``"threshold"``, and α = 0, which is least squares,
    are passed on to scikit-learn as they are.

    Where the solution is not unique, as with duplicate atoms, it can be another one than scikit-learn's, of the same
    objective. With ``positive`` and a small α scikit-learn's ``"lasso_lars"`` stops before the solution; this does not.

    Args:
        X: (n_samples, n_features). The result has its precision: float32, or float64 for all else. The computation
            is in that precision too, whatever that of the dictionary.
        dictionary: (n_components, n_features), one atom a row, of any norm.
        gram: (n_components, n_components), not needed for the Lasso.
        cov: (n_components, n_samples), not needed for the Lasso.
        algorithm: which problem, see above. scikit-learn's default is ``"lasso_lars"``, the same problem.
        n_nonzero_coefs: for ``"lars"`` and ``"omp"``.
        alpha: α ≥ 0, 1 by default.
        copy_cov: for ``"omp"``.
        init: (n_samples, n_components), where ``"lasso_cd"`` starts; zero by default. It is not written to.
        max_iter: at most so many sweeps, of n_components steps each, a sample.
        n_jobs: for what is passed on to scikit-learn.
        check_input: whether to convert X and the dictionary and to refuse NaN. Without, a sample with NaN gets a code
            of NaN and counts as not converged.
        verbose: for what is passed on to scikit-learn.
        positive: require c ≥ 0.
        tol: relative duality gap to reach, (P − D) / (½‖x‖²); not in scikit-learn. By default 2e-8 in float64, which
            is where scikit-learn's "lasso_cd" stops, and 1e-6 in float32.

    Returns:
        (n_samples, n_components).

    Raises:
        TypeError: not numbers, or with ``check_input=False`` not floating point; or a tensor that NumPy cannot take.
        ValueError: no samples, values not finite, shapes do not fit, or an argument out of range.

    Warns:
        sklearn.exceptions.ConvergenceWarning: some samples did not reach ``tol``, and how many.

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
    _same_features(X, dictionary)
    start = None
    if init is not None and algorithm == "lasso_cd":
        start = np.ascontiguousarray(init, dtype=X.dtype)
        expected = (X.shape[0], dictionary.shape[0])
        if start.shape != expected:
            raise ValueError(
                f"init must be (n_samples, n_components), here {_checks.shape_text(expected)}, got "
                f"{_checks.shape_text(start.shape)}"
            )
    prepared = _Prepared(dictionary.astype(X.dtype, copy=False), bool(positive))
    return prepared.encode(X, penalty, max_iter, tol, start, callers=2)


class SparseCoder(decomposition.SparseCoder):
    """Finds sparse codes of data in a fixed dictionary: scikit-learn's transformer, with the Lasso by fastunroll.

    For ``transform_algorithm="lasso_cd"`` or ``"lasso_lars"`` each row x of the data gets the code c that minimises
    ½‖x − c D‖² + α‖c‖₁; what depends on the dictionary D alone is computed once and kept until it changes. As in
    scikit-learn the default is ``"omp"``, and like ``"lars"``, ``"threshold"`` and α = 0 it is scikit-learn itself
    that computes it. Pipelines, parameter search, ``clone``, ``set_output`` and pickling work as for any transformer.

    Args:
        dictionary: D, (n_components, n_features), one atom a row.
        transform_algorithm: ``"lasso_cd"``, ``"lasso_lars"``, ``"lars"``, ``"omp"`` or ``"threshold"``.
        transform_n_nonzero_coefs: for ``"lars"`` and ``"omp"``.
        transform_alpha: α ≥ 0, 1 by default.
        split_sign: put the negative part of the codes beside the positive one: 2 n_components features.
        n_jobs: for what scikit-learn computes; the Lasso uses the threads of PyTorch.
        positive_code: require c ≥ 0.
        transform_max_iter: at most so many sweeps, of n_components steps each, a sample.
        transform_tol: relative duality gap to reach; not in scikit-learn. See :func:`sparse_encode`.

    Attributes:
        n_components_: number of atoms.
        n_features_in_: number of features seen in ``fit``.
        feature_names_in_: their names, if they had any.

    Raises:
        TypeError: in ``fit`` and ``transform``: not numbers, or a tensor that NumPy cannot take.
        ValueError: there too: no samples, values not finite, shapes do not fit, or a parameter out of range.

    Warns:
        sklearn.exceptions.ConvergenceWarning: some samples did not reach the tolerance, and how many.

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
        """Checks the parameters and the number of features; nothing is learned.

        Args:
            X: (n_samples, n_features).
            y: not used.

        Returns:
            The estimator itself.
        """
        _checks.array("dictionary", self.dictionary)
        fitted: SparseCoder = super().fit(_checks.array("X", X), y)
        return fitted

    def transform(self, X: Any, y: Any = None) -> Any:
        """Sparse codes of the samples.

        Args:
            X: (n_samples, n_features).
            y: not used.

        Returns:
            (n_samples, n_components), or twice as many columns with ``split_sign``; of X's precision.
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
        _same_features(X, dictionary)
        prepared = _prepared(self, dictionary.astype(X.dtype, copy=False), bool(self.positive_code))
        code = prepared.encode(X, penalty, max_iter, tol, None, callers=3)  # scikit-learn wraps transform
        return np.hstack([np.maximum(code, 0), np.maximum(-code, 0)]) if self.split_sign else code


# Beside the estimators and not in them: transform must leave their attributes alone, and copies and pickles are of the
# parameters only.
_kept: WeakKeyDictionary[SparseCoder, _Prepared] = WeakKeyDictionary()


def _prepared(coder: SparseCoder, dictionary: Floats, positive: bool) -> _Prepared:
    """The solver kept for an estimator, made anew if its dictionary or the constraint changed."""
    kept = _kept.get(coder)
    if kept is None or not kept.fits(dictionary, positive):
        # A copy, so that a change of the dictionary in place is seen.
        kept = _kept[coder] = _Prepared(dictionary.copy(), positive)
    return kept
