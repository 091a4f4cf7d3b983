"""What fu.sklearn refuses, in a sentence; and the tensors that it takes in place of arrays, or refuses."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from refusals import Refused, check_refused

pytestmark = pytest.mark.skipif(find_spec("sklearn") is None, reason="needs scikit-learn")

RNG = np.random.default_rng(0)
X, D = RNG.normal(size=(4, 6)), RNG.normal(size=(9, 6))
HOLED = np.where(np.arange(6) == 2, np.nan, X)


def encode(*args: Any, **options: Any) -> Callable[[], object]:
    return lambda: fu.sklearn.sparse_encode(*args, **options)


def coder(dictionary: Any, **options: Any) -> Any:
    return fu.sklearn.SparseCoder(dictionary, **{"transform_algorithm": "lasso_cd", **options})


def transform(*args: Any, **options: Any) -> Callable[[], object]:
    return lambda: coder(D, **options).transform(*args)


BAD: dict[str, Refused] = {
    "features": (
        encode(X[:, 1:], D), ValueError,
        "X is (4, 5) but dictionary is (9, 6): expected X of shape (n_samples, n_features) and dictionary of shape",
    ),
    "features, of a transformer": (transform(X[:, 1:]), ValueError, "X is (4, 5) but dictionary is (9, 6)"),
    "features, not checked": (encode(X[0], D, check_input=False), ValueError, "X is (6,) but dictionary is (9, 6)"),
    "algorithm": (
        encode(X, D, algorithm="ista"), ValueError,
        "algorithm must be one of lasso_cd, lasso_lars, lars, omp, threshold, got 'ista'",
    ),
    "alpha": (encode(X, D, alpha=-1), ValueError, "alpha must be a finite number ≥ 0, got -1"),
    "alpha, a word": (encode(X, D, alpha="1"), TypeError, "alpha must be a number, got str"),
    "alpha, of a transformer": (
        transform(X, transform_alpha=-1), ValueError, "transform_alpha must be a finite number ≥ 0, got -1",
    ),
    "tol": (encode(X, D, tol=0), ValueError, "tol must be a finite number > 0, got 0"),
    "max_iter": (encode(X, D, max_iter=0), ValueError, "max_iter must be a whole number ≥ 1, got 0"),
    "init": (
        encode(X, D, init=np.zeros((3, 9))), ValueError,
        "init must have the shape (n_samples, n_components), here (4, 9), got (3, 9)",
    ),
    "integers, not checked": (
        encode(np.ones((4, 6), int), D, check_input=False), TypeError,
        "X must be float64 or float32, got int64: use check_input=True to convert it",
    ),
    "no samples": (
        encode(X[:0], D), ValueError, "Found array with 0 sample(s) (shape=(0, 6)) while a minimum of 1 is required.",
    ),
    "no samples, of a transformer": (transform(X[:0]), ValueError, "Found array with 0 sample(s)"),
    "not finite": (encode(HOLED, D), ValueError, "Input X contains NaN."),
    "not finite, dictionary": (encode(X, np.where(D > 0, D, np.nan)), ValueError, "Input dictionary contains NaN."),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    check_refused(BAD[name])


@pytest.mark.parametrize("algorithm", ["lasso_cd", "omp"])
def test_tensors_with_a_lazy_sign_are_taken(algorithm: str) -> None:
    start = np.ones((4, 9))

    def lazy(array: Any) -> torch.Tensor:
        return torch._neg_view(-torch.from_numpy(array))

    wanted = fu.sklearn.sparse_encode(X, D, algorithm=algorithm, alpha=0.3, init=start)
    conjugate = torch.complex(lazy(X), lazy(-X)).conj().imag  # of which the imaginary part is X
    for given in (lazy(X), conjugate):
        assert given.is_neg()
        found = fu.sklearn.sparse_encode(given, lazy(D), algorithm=algorithm, alpha=0.3, init=lazy(start))
        np.testing.assert_array_equal(found, wanted)
    lazily = coder(lazy(D), transform_algorithm=algorithm).fit(lazy(X)).transform(lazy(X))
    np.testing.assert_array_equal(lazily, coder(D, transform_algorithm=algorithm).fit(X).transform(X))


TENSORS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "complex": (lambda t: t.to(torch.complex128).conj(), "{0} must be real, got torch.complex128"),
    "gradient": (torch.nn.Parameter, "{0} must not require a gradient, as none is computed here: use {0}.detach()"),
    "meta": (lambda t: t.to("meta"), "{0} must be in the processor's memory, got a tensor on meta: use {0}.cpu()"),
    "sparse": (lambda t: t.to_sparse(), "{0} must be dense, got layout torch.sparse_coo: use {0}.to_dense()"),
    "bfloat16": (
        lambda t: t.bfloat16(), "{0} must be of numbers that NumPy has, got torch.bfloat16: use {0}.float()",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_that_numpy_cannot_take_are_refused(kind: str) -> None:
    make, says = TENSORS[kind]
    x, d = torch.from_numpy(X), torch.from_numpy(D)
    for call in (
        lambda: fu.sklearn.sparse_encode(make(x), d),
        lambda: fu.sklearn.sparse_encode(make(x), d, algorithm="omp"),
        lambda: coder(d).fit(make(x)),
        lambda: coder(d).fit(x).transform(make(x)),
    ):
        check_refused((call, TypeError, says.format("X")))
    check_refused((lambda: fu.sklearn.sparse_encode(x, make(d)), TypeError, says.format("dictionary")))
    check_refused((lambda: coder(make(d)).fit(x), TypeError, says.format("dictionary")))
