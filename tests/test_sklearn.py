"""fu.sklearn gives scikit-learn's answers, in scikit-learn's tools, and is not needed to import fastunroll.

scikit-learn brings an OpenMP runtime of its own, so it is imported inside the tests: collecting them must not load it.
"""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
from forks import printed

pytestmark = pytest.mark.skipif(find_spec("sklearn") is None, reason="needs scikit-learn")

Array = np.ndarray[Any, np.dtype[Any]]


def problem(samples: int, features: int, atoms: int, seed: int = 0, dtype: type = np.float64) -> tuple[Array, Array]:
    """Samples and a dictionary of atoms of norm 1."""
    rng = np.random.default_rng(seed)
    dictionary = rng.normal(size=(atoms, features))
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    return rng.normal(size=(samples, features)).astype(dtype), dictionary.astype(dtype)


def objective(code: Array, X: Array, dictionary: Array, alpha: float) -> Array:
    return ((X - code @ dictionary) ** 2).sum(1) / 2 + alpha * np.abs(code).sum(1)


def theirs(X: Array, dictionary: Array, **options: Any) -> Array:
    from sklearn.decomposition import sparse_encode

    return sparse_encode(X, dictionary, **options)


def descended(X: Array, dictionary: Array, alpha: float) -> Array:
    """Nonnegative codes by coordinate descent until nothing changes, which its criterion does not always see."""
    from sklearn.linear_model import Lasso

    lasso = Lasso(alpha / X.shape[1], fit_intercept=False, tol=1e-15, max_iter=20000, positive=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lasso.fit(dictionary.T, X.T).coef_.reshape(len(X), -1)


def coder(dictionary: Array, **options: Any) -> Any:
    return fu.sklearn.SparseCoder(dictionary, **{"transform_algorithm": "lasso_cd", "transform_alpha": 0.3, **options})


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("algorithm", ["lasso_cd", "lasso_lars"])
@pytest.mark.parametrize(
    ("samples", "features", "atoms", "alpha"),
    [(1, 1, 1, 0.1), (7, 30, 12, 0.01), (20, 16, 16, 0.2), (12, 20, 40, 0.5), (5, 8, 33, 1.0), (3, 10, 5, 100.0)],
)
def test_sparse_encode_equals_scikit_learn(
    samples: int, features: int, atoms: int, alpha: float, algorithm: str, positive: bool
) -> None:
    X, dictionary = problem(samples, features, atoms, seed=atoms)
    options = {"algorithm": algorithm, "alpha": alpha, "positive": positive}
    ours = fu.sklearn.sparse_encode(X, dictionary, **options, tol=1e-14)
    by_default = fu.sklearn.sparse_encode(X, dictionary, **options)
    assert ours.shape == (samples, atoms)
    if algorithm == "lasso_cd":
        # It stops at 1e-8 ‖x‖², which is about 1e-4 in the code.
        expected = theirs(X, dictionary, **options)
        np.testing.assert_allclose(ours, expected, atol=1e-4)
    elif positive:
        # Least angles with signs stop before a small alpha, as scikit-learn says. So its Lasso, to all digits.
        expected = descended(X, dictionary, alpha)
        np.testing.assert_allclose(ours, expected, atol=1e-6)
    else:
        expected = theirs(X, dictionary, **options)
        np.testing.assert_allclose(ours, expected, atol=1e-9)
    for code in (ours, by_default):
        least = objective(expected, X, dictionary, alpha)
        np.testing.assert_allclose(objective(code, X, dictionary, alpha), least, atol=1e-6, rtol=0)


def test_alpha_is_1_by_default() -> None:
    X, dictionary = problem(6, 10, 15)
    ours = fu.sklearn.sparse_encode(3 * X, dictionary, tol=1e-12)
    np.testing.assert_allclose(ours, theirs(3 * X, dictionary), atol=1e-9)
    assert ours.any()
    np.testing.assert_array_equal(ours, fu.sklearn.sparse_encode(3 * X, dictionary, alpha=1, tol=1e-12))
    np.testing.assert_allclose(
        coder(dictionary, transform_alpha=None, transform_tol=1e-12).transform(3 * X), ours, atol=1e-12
    )


def test_precision_is_that_of_the_samples() -> None:
    X, dictionary = problem(6, 30, 20)
    exact = theirs(X, dictionary, alpha=0.3)
    for x in (X, X.astype(np.float32)):
        for d in (dictionary, dictionary.astype(np.float32)):
            for split in (False, True):
                code = coder(d, split_sign=split).transform(x)
                assert code.dtype == x.dtype
            code = fu.sklearn.sparse_encode(x, d, alpha=0.3)
            assert code.dtype == x.dtype
            np.testing.assert_allclose(code, exact, atol=3e-3)
    whole = np.arange(60).reshape(2, 30)
    assert fu.sklearn.sparse_encode(whole, dictionary).dtype == np.float64
    assert fu.sklearn.sparse_encode(whole.tolist(), dictionary.tolist()).shape == (2, 20)


def test_start() -> None:
    X, dictionary = problem(6, 20, 30)
    expected = theirs(X, dictionary, alpha=0.3)
    for init in (expected, np.full_like(expected, 5.0), np.asfortranarray(-expected)):
        before = init.copy()
        for positive in (False, True):
            code = fu.sklearn.sparse_encode(X, dictionary, alpha=0.3, init=init, positive=positive, tol=1e-12)
            np.testing.assert_allclose(code, theirs(X, dictionary, alpha=0.3, positive=positive), atol=1e-9)
            assert (code >= 0).all() or not positive
        np.testing.assert_array_equal(init, before)
    # least angles do not start anywhere, and scikit-learn does not look at init
    fu.sklearn.sparse_encode(X, dictionary, algorithm="lasso_lars", init=np.zeros(3))


def test_duplicate_and_zero_atoms() -> None:
    X, dictionary = problem(6, 20, 15)
    dictionary = np.vstack([dictionary, dictionary[:5], np.zeros((2, 20)), 3 * dictionary[5:8]])
    ours = fu.sklearn.sparse_encode(X, dictionary, alpha=0.3)
    least = objective(theirs(X, dictionary, alpha=0.3, algorithm="lasso_cd"), X, dictionary, 0.3)
    np.testing.assert_allclose(objective(ours, X, dictionary, 0.3), least, atol=1e-6, rtol=0)
    assert not ours[:, 20:22].any()


def test_memory_layouts() -> None:
    X, dictionary = problem(6, 20, 15)
    expected = fu.sklearn.sparse_encode(X, dictionary, alpha=0.3)
    locked = X.copy()
    locked.flags.writeable = False
    for x in (np.asfortranarray(X), X[::-1][::-1], np.repeat(X, 2, axis=1)[:, ::2], locked, X.astype(">f8")):
        for check in (True, False):
            if check or x.dtype.isnative:
                code = fu.sklearn.sparse_encode(x, np.asfortranarray(dictionary), alpha=0.3, check_input=check)
                np.testing.assert_array_equal(code, expected)
    code = fu.sklearn.sparse_encode(X[::-1], dictionary, alpha=0.3, check_input=False)
    np.testing.assert_allclose(code, expected[::-1], atol=1e-9)


@pytest.mark.parametrize("algorithm", ["lars", "omp", "threshold", "lasso_cd"])
def test_the_rest_is_passed_on(algorithm: str) -> None:
    X, dictionary = problem(6, 20, 10)
    alpha = 0.0 if algorithm == "lasso_cd" else 0.3  # no penalty: least squares
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's own, about coordinate descent without a penalty
        expected = theirs(X, dictionary, algorithm=algorithm, alpha=alpha)
        ours = fu.sklearn.sparse_encode(X, dictionary, algorithm=algorithm, alpha=alpha)
        by_coder = coder(dictionary, transform_algorithm=algorithm, transform_alpha=alpha).transform(X)
    np.testing.assert_array_equal(ours, expected)
    np.testing.assert_array_equal(by_coder, expected)


def test_signatures_are_those_of_scikit_learn() -> None:
    from sklearn import decomposition

    for ours, expected, added in (
        (fu.sklearn.sparse_encode, decomposition.sparse_encode, "tol"),
        (fu.sklearn.SparseCoder, decomposition.SparseCoder, "transform_tol"),
    ):
        mine = {name: (p.kind, p.default) for name, p in inspect.signature(ours).parameters.items()}
        assert list(mine)[-1] == added
        assert mine.pop(added)[1] is None
        known = {name: (p.kind, p.default) for name, p in inspect.signature(expected).parameters.items()}
        if "algorithm" in known:  # the two names of the Lasso
            assert {known.pop("algorithm")[1], mine.pop("algorithm")[1]} == {"lasso_lars", "lasso_cd"}
        assert mine == known


def test_split_sign_and_inverse() -> None:
    from sklearn.decomposition import SparseCoder

    X, dictionary = problem(6, 20, 30)
    options = {"transform_algorithm": "lasso_lars", "transform_alpha": 0.3, "split_sign": True}
    ours, expected = coder(dictionary, **options, transform_tol=1e-12), SparseCoder(dictionary, **options)
    code = ours.fit_transform(X)
    np.testing.assert_allclose(code, expected.fit_transform(X), atol=1e-9)
    assert code.shape == (6, 60)
    assert (code >= 0).all()
    assert coder(dictionary).fit(X).get_feature_names_out()[1] == "sparsecoder1"
    if hasattr(expected, "inverse_transform"):
        np.testing.assert_allclose(ours.inverse_transform(code), expected.inverse_transform(code), atol=1e-9)


def test_pipeline_and_grid_search() -> None:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, dictionary = problem(60, 10, 15)
    code = coder(dictionary, transform_tol=1e-12).transform(X)
    pipeline = make_pipeline(StandardScaler(), coder(dictionary), Ridge(1e-3))
    search = GridSearchCV(pipeline, {"sparsecoder__transform_alpha": [0.1, 0.3, 3.0]}, cv=3)
    search.fit(X, code[:, :3].sum(1))
    assert search.best_params_["sparsecoder__transform_alpha"] < 3
    assert search.best_score_ > 0.5
    assert search.predict(X).shape == (60,)


def test_copies_and_pickles() -> None:
    from sklearn.base import clone

    X, dictionary = problem(6, 20, 30)
    ours = coder(dictionary).fit(X)
    code = ours.transform(X)
    for other in (clone(ours), copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert other.get_params().keys() == ours.get_params().keys()
        np.testing.assert_array_equal(other.transform(X), code)


def test_solver_is_kept_until_something_changes() -> None:
    X, dictionary = problem(6, 20, 30)
    kept = fu.sklearn._solvers
    ours = coder(dictionary)
    ours.transform(X)
    first = kept[ours]
    ours.set_params(transform_alpha=0.2).transform(X[:2])
    assert kept[ours] is first
    ours.set_params(positive_code=True)
    assert (ours.transform(X) >= 0).all()
    assert kept[ours] is not first
    ours.set_params(positive_code=False)
    dictionary[3] = -2 * dictionary[4]  # in place
    np.testing.assert_array_equal(ours.transform(X), fu.sklearn.sparse_encode(X, dictionary, alpha=0.2))
    assert ours.transform(X.astype(np.float32)).dtype == np.float32
    ours.set_params(dictionary=dictionary[:7])
    assert ours.transform(X).shape == (6, 7)
    count = len(kept)
    del ours
    gc.collect()
    assert len(kept) < count


def test_threads_may_share_an_estimator() -> None:
    X, dictionary = problem(40, 20, 30)
    ours = coder(dictionary)
    expected = ours.transform(X)
    with ThreadPoolExecutor(4) as pool:
        for code in pool.map(ours.transform, [X] * 8):
            np.testing.assert_array_equal(code, expected)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_data_frames(kind: str) -> None:
    frames = pytest.importorskip(kind)
    X, dictionary = problem(6, 3, 5)
    frame = frames.DataFrame({f"f{i}": X[:, i] for i in range(3)})
    ours = coder(dictionary).set_output(transform=kind)
    code = ours.fit_transform(frame)
    assert isinstance(code, frames.DataFrame)
    assert list(code.columns) == [f"sparsecoder{i}" for i in range(5)]
    np.testing.assert_array_equal(code.to_numpy(), coder(dictionary).transform(X))


def test_what_did_not_converge_is_said() -> None:
    from sklearn.exceptions import ConvergenceWarning

    X, dictionary = problem(5, 20, 60)
    says = (
        r"^\d of 5 samples did not reach the relative duality gap 1e-30 in 1 sweep\(s\), and the largest gap is \S+: "
    )
    hard = coder(dictionary, transform_alpha=0.01, transform_max_iter=1, transform_tol=1e-30)
    with pytest.warns(ConvergenceWarning, match=says) as warned:
        hard.fit(X).transform(X)
    assert warned[0].filename == __file__
    expected = fu.sklearn.sparse_encode(X, dictionary, alpha=0.3)
    X[2, 3] = np.nan
    with pytest.warns(ConvergenceWarning, match="^1 of 5 samples") as warned:
        code = fu.sklearn.sparse_encode(X, dictionary, alpha=0.3, check_input=False)
    assert warned[0].filename == __file__
    assert np.isnan(code[2]).all()
    others = [0, 1, 3, 4]
    np.testing.assert_allclose(code[others], expected[others], atol=1e-9)


@pytest.mark.parametrize("algorithm", ["lasso_cd", "lasso_lars", "omp"])
def test_check_estimator(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As scikit-learn tests its own SparseCoder; that one fails with "lasso_cd" and a dictionary of another dtype."""
    instances = pytest.importorskip("sklearn.utils._test_common.instance_generator")
    from sklearn.decomposition import SparseCoder
    from sklearn.utils.estimator_checks import check_estimator

    # Which dictionary fits the data of which check.
    parameters = instances.PER_ESTIMATOR_CHECK_PARAMS
    monkeypatch.setitem(parameters, fu.sklearn.SparseCoder, parameters[SparseCoder])
    ours = coder(np.random.default_rng(0).normal(size=(5, 3)), transform_algorithm=algorithm, transform_alpha=None)
    results = check_estimator(ours, on_fail=None, on_skip=None)
    assert not {r["check_name"]: r["exception"] for r in results if r["status"] not in ("passed", "skipped")}
    # Skipped for want of a package or a setting of the environment, and of nothing else.
    skipped = [r["check_name"] for r in results if r["status"] == "skipped"]
    assert not [name for name in skipped if not re.search("array_api|pandas|polars", name)]
    assert len(results) > 30


BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "sklearn":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
import fastunroll as fu
for use in "fu.sklearn", "import fastunroll.sklearn":
    try:
        exec(use)
    except ImportError as error:
        print(error)
"""


def test_without_scikit_learn(tmp_path: Path) -> None:
    """The package itself imports nothing of it, as test_packaging.py says."""
    out = printed(tmp_path, BLOCKED)
    says = "fastunroll.sklearn needs scikit-learn, which cannot be imported (No module named 'sklearn'): pip install "
    assert out.splitlines() == [says + "'fastunroll[sklearn]'"] * 2


def test_loaded_when_used(tmp_path: Path) -> None:
    code = (
        "import sys, fastunroll as fu; print('sklearn' in sys.modules, fu.sklearn.__name__, 'sklearn' in sys.modules)"
    )
    out = printed(tmp_path, code)
    assert out.split() == ["False", "fastunroll.sklearn", "True"]
    with pytest.raises(AttributeError, match="module 'fastunroll' has no attribute 'skleam'"):
        _ = fu.skleam
