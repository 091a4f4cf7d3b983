"""Every argument of training and of its data, with every kind of wrong value: each is refused in one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from fastunroll import data, training
from fastunroll.data import Samples, SparseRecovery, sensing_matrix
from fastunroll.training import Stage, end_to_end, layerwise, train

PACKAGE = Path(training.__file__).parents[1]
A = sensing_matrix(6, 10)
PROBLEM = SparseRecovery(A, snr=40)
PAIR = (torch.ones(12, 6), torch.ones(12, 10))
RATES = {"log_step": 1e-3}
NESTED = torch.nested.nested_tensor([torch.zeros(2, 6), torch.zeros(3, 6)], layout=torch.jagged)


def alista() -> fu.nn.ALISTA:
    return fu.nn.ALISTA(A, layers=2)


def _train(**given: Any) -> object:
    defaults: dict[str, Any] = {
        "model": alista(), "data": PROBLEM, "schedule": end_to_end(1), "batch": 4, "held_out": 4, "progress": False,
    }  # fmt: skip
    defaults |= given
    return train(defaults.pop("model"), defaults.pop("data"), defaults.pop("schedule"), **defaults)


def _search(**given: Any) -> object:
    grid = {"c1": (0.1,), "c2": (0.0,), "c3": (5.0,)}
    return training.search(
        **({"model": fu.nn.HyperLISTA(A, layers=2), "samples": PAIR, "grid": grid, "steps": 1} | given)
    )


def _fill(**defaults: Any) -> Callable[..., Callable[..., object]]:
    """A call of a function with some arguments in the place of those given here."""
    return lambda function: lambda **given: function(**(defaults | given))


def _sample(problem: Any) -> Callable[..., object]:
    return lambda **given: problem.sample(**({"count": 2, "generator": torch.Generator()} | given))


CALLS: dict[str, Callable[..., object]] = {
    "train": _train,
    "search": _search,
    "Stage": _fill(steps=2)(Stage),
    "end_to_end": _fill(steps=2)(end_to_end),
    "layerwise": _fill(layers=2)(layerwise),
    "kkt": _fill(A=A, lam=0.1)(training.kkt),
    "lasso": _fill(A=A, lam=0.1)(training.lasso),
    "total": lambda pair: training.total(pair),
    "stream": lambda **given: next(data.stream(**({"problem": PROBLEM, "batch": 2} | given))),
    "fixed": _fill(problem=PROBLEM, count=2)(data.fixed),
    "sensing_matrix": _fill(m=2, n=3)(sensing_matrix),
    "SparseRecovery": _fill(A=A)(SparseRecovery),
    "SparseRecovery.sample": _sample(PROBLEM),
    "Patches": _fill(images=[np.ones((9, 9))])(data.Patches),
    "Patches.sample": _sample(data.Patches([np.arange(81.0).reshape(9, 9)])),
    "cosine_dictionary": data.cosine_dictionary,
    "Photographs": _fill(images=[np.ones((9, 9))], shape=8)(data.Photographs),
    "Photographs.sample": _sample(data.Photographs(None, 8, images=[np.ones((9, 9))])),
    "Phantoms": _fill(shape=8)(data.Phantoms),
    "Phantoms.sample": _sample(data.Phantoms(None, 8)),
    "photograph": _fill(name="camera")(data.photograph),
    "shepp_logan": data.shepp_logan,
}

BIG = 10**400
NOT_NUMBERS: tuple[Any, ...] = ("x", [1], torch.zeros(3, 3), NESTED, {}, 1j, object(), np.zeros(2))
COUNTS = (*NOT_NUMBERS, 0, -1, 2**63, BIG, 1.5, math.nan, True)
NUMBERS = (*NOT_NUMBERS, math.nan, math.inf, -math.inf, BIG)
POSITIVE = (*NUMBERS, 0, -1.0)
NOT_NEGATIVE = (*NUMBERS, -1.0)
SHAPES = ("x", *NOT_NUMBERS[2:], None, (), (3,) * 3, (0, 3), (-1, 3), (2.5, 3), 0, -1, 1.5, True, 2**63, BIG)
OPERATORS = (3, "x", [], {}, object(), torch.arange(6).reshape(2, 3))
IMAGES = (
    3, [3], [np.zeros(3)], [np.zeros((3, 3))], [], ["x"], torch.zeros(3, 3), [NESTED], [np.full((9, 9), math.nan)],
    [np.array([["x"] * 9] * 9)],
)  # fmt: skip
SWITCHES = (1, 0, "x", None, torch.tensor(True), torch.zeros(3, 3), NESTED, [])
SEEDS = (*NOT_NUMBERS, 2**63, -(2**63), BIG, 1.5, math.nan, True, None)
FUNCTIONS = (3, "x", None, torch.zeros(3, 3), [])
MATRICES = (3, "x", None, [[1.0]], NESTED, torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64),
            torch.full((2, 2), math.nan), torch.zeros(0, 3), np.ones(2))  # fmt: skip
MAPPINGS = (3, "x", [1], torch.zeros(3, 3), {1: 1.0}, {"log_step": "x"}, {"log_step": -1.0}, {"log_step": BIG},
            {"log_step": torch.zeros(2, 2)})  # fmt: skip
GENERATORS = (3, "x", None, torch.zeros(2), [])
PROBLEMS = (3, "x", None, torch.zeros(3, 6), NESTED, [], object())
PAIRS: tuple[Any, ...] = (
    (NESTED, None), (torch.zeros(12, 6).to_sparse(), None), (torch.zeros(12), None), (torch.zeros(()), None),
    (torch.zeros(12, 6, dtype=torch.int64), None), (None, None), ("x", None), (PAIR[0],), (*PAIR, PAIR[0]),
    (PAIR[0], "x"), (PAIR[0], NESTED), (PAIR[0], PAIR[1][:5]), (PAIR[0], torch.zeros(12)), (PAIR[0][:, :5], PAIR[1]),
    (PAIR[0], PAIR[1][:, :1]), (PAIR[0], PAIR[1].double().to(torch.int64)),
)  # fmt: skip
GRIDS = (3, "x", None, {}, {"c1": (1.0,)}, {"c1": (), "c2": (1.0,), "c3": (1.0,)}, {"c1": "x", "c2": (1,), "c3": (1,)},
         {"c1": ("x",), "c2": (1,), "c3": (1,)}, {"c1": (-1,), "c2": (1,), "c3": (1,)},
         {"c1": torch.zeros(2), "c2": (1,), "c3": (1,)}, {"c1": (BIG,), "c2": (1,), "c3": (1,)})  # fmt: skip

ARGUMENTS: dict[tuple[str, str], tuple[Any, ...]] = {
    ("train", "model"): (3, None, torch.nn.Linear(6, 10), NESTED),
    ("train", "data"): (*PROBLEMS, *PAIRS),
    ("train", "schedule"): (3, "x", None, torch.zeros(3, 3), NESTED, [3], [], [*end_to_end(1), None]),
    ("train", "loss"): FUNCTIONS,
    ("train", "batch"): (*COUNTS, None),
    ("train", "rates"): MAPPINGS,
    ("train", "clip"): (*POSITIVE, None),
    ("train", "seed"): SEEDS,
    ("train", "held_out"): (*COUNTS, None, *PAIRS),
    ("train", "check_every"): (*COUNTS, None),
    ("train", "patience"): COUNTS,
    ("train", "checkpoint"): (3, [1], torch.zeros(3, 3), NESTED, "", "nul\0l", True),
    ("train", "progress"): SWITCHES,
    ("search", "model"): (3, None, alista(), NESTED),
    ("search", "samples"): (3, "x", None, *PAIRS),
    ("search", "loss"): FUNCTIONS,
    ("search", "grid"): GRIDS,
    ("search", "steps"): (*COUNTS, None),
    ("Stage", "steps"): (*COUNTS, None),
    ("Stage", "depth"): COUNTS,
    ("Stage", "alone"): SWITCHES,
    ("Stage", "rate"): (*POSITIVE, None),
    ("Stage", "fade"): (*POSITIVE, None),
    ("Stage", "final"): (*POSITIVE, None),
    ("Stage", "inherit"): (*MAPPINGS, None),
    ("end_to_end", "steps"): (*COUNTS, None),
    ("end_to_end", "rate"): (*POSITIVE, None),
    ("end_to_end", "final"): (*POSITIVE, None),
    ("layerwise", "layers"): (*COUNTS, None, 2**62),
    ("layerwise", "alone"): (*COUNTS, None),
    ("layerwise", "together"): (*NOT_NUMBERS, -1, 2**63, BIG, 1.5, math.nan, True, None),
    ("layerwise", "rates"): (3, "x", None, torch.zeros(3, 3), NESTED, *((v,) for v in POSITIVE)),
    ("layerwise", "fade"): (*POSITIVE, None),
    ("layerwise", "final"): (*POSITIVE, None),
    ("layerwise", "inherit"): MAPPINGS,
    ("kkt", "A"): MATRICES,
    ("kkt", "lam"): (*NUMBERS, -1.0, None),
    ("lasso", "A"): MATRICES,
    ("lasso", "lam"): (*NUMBERS, -1.0, None),
    ("total", "pair"): (3, "x", None, (1.0,), NESTED, *((v, training.mean_square) for v in NUMBERS), (1.0, 3)),
    ("stream", "problem"): PROBLEMS,
    ("stream", "batch"): (*COUNTS, None),
    ("stream", "seed"): SEEDS,
    ("fixed", "problem"): PROBLEMS,
    ("fixed", "count"): (*COUNTS, None),
    ("fixed", "seed"): SEEDS,
    ("sensing_matrix", "m"): (*COUNTS, None),
    ("sensing_matrix", "n"): (*COUNTS, None),
    ("sensing_matrix", "seed"): SEEDS,
    ("sensing_matrix", "condition"): (*POSITIVE, 0.5),
    ("SparseRecovery", "A"): MATRICES,
    ("SparseRecovery", "density"): (*POSITIVE, 1.5, None),
    ("SparseRecovery", "nonzeros"): (*COUNTS, 11),
    ("SparseRecovery", "snr"): NUMBERS,
    ("SparseRecovery.sample", "count"): (*COUNTS, None),
    ("SparseRecovery.sample", "generator"): GENERATORS,
    ("Patches", "images"): IMAGES,
    ("Patches", "side"): (*COUNTS, None, 10),
    ("Patches", "contrast"): POSITIVE,
    ("Patches.sample", "count"): (*COUNTS, None),
    ("Patches.sample", "generator"): GENERATORS,
    ("cosine_dictionary", "side"): (*COUNTS, None),
    ("cosine_dictionary", "frequencies"): (*COUNTS, None),
    ("Photographs", "A"): OPERATORS,
    ("Photographs", "shape"): (*SHAPES, 10),
    ("Photographs", "noise"): (*NOT_NEGATIVE, None),
    ("Photographs", "phase"): (*NOT_NEGATIVE, None),
    ("Photographs", "images"): IMAGES,
    ("Photographs.sample", "count"): (*COUNTS, None),
    ("Photographs.sample", "generator"): GENERATORS,
    ("Phantoms", "A"): OPERATORS,
    ("Phantoms", "shape"): SHAPES,
    ("Phantoms", "noise"): (*NOT_NEGATIVE, None),
    ("Phantoms", "phase"): (*NOT_NEGATIVE, None),
    ("Phantoms", "ellipses"): (*COUNTS, None),
    ("Phantoms", "shading"): (*NOT_NEGATIVE, None),
    ("Phantoms.sample", "count"): (*COUNTS, None),
    ("Phantoms.sample", "generator"): GENERATORS,
    ("photograph", "name"): ("x", 3, None, [], torch.zeros(3, 3), NESTED),
    ("photograph", "colour"): (*SWITCHES, True),
    ("shepp_logan", "shape"): SHAPES,
}  # fmt: skip


@pytest.mark.parametrize(("function", "argument"), ARGUMENTS)
def test_a_wrong_value_is_refused_in_one_sentence(function: str, argument: str) -> None:
    for value in ARGUMENTS[function, argument]:
        with pytest.raises((TypeError, ValueError, OSError)) as raised:
            CALLS[function](**{argument: value})
        said = str(raised.value)
        assert any(word in said for word in ("must", "needs", "names", "cannot be", "expected")), (said, value)
        assert "\n" not in said
        assert len(said) < 400, said
        assert raised.traceback[-1].path.is_relative_to(PACKAGE), (said, value)  # torch and Python said nothing


def test_the_table_has_every_argument() -> None:
    import inspect

    named = {
        "train": train, "search": training.search, "Stage": Stage, "end_to_end": end_to_end, "layerwise": layerwise,
        "kkt": training.kkt, "lasso": training.lasso, "stream": data.stream, "fixed": data.fixed,
        "sensing_matrix": sensing_matrix, "SparseRecovery": SparseRecovery, "Patches": data.Patches,
        "cosine_dictionary": data.cosine_dictionary, "SparseRecovery.sample": PROBLEM.sample,
        "Patches.sample": PROBLEM.sample, "Photographs": data.Photographs, "Photographs.sample": PROBLEM.sample,
        "Phantoms": data.Phantoms, "Phantoms.sample": PROBLEM.sample, "photograph": data.photograph,
        "shepp_logan": data.shepp_logan,
    }  # fmt: skip
    wanted = {(name, argument) for name, call in named.items() for argument in inspect.signature(call).parameters}
    assert wanted == ARGUMENTS.keys() - {("total", "pair")}


@pytest.mark.parametrize("found", [3, None, 1.5, torch.zeros(2), torch.zeros((), dtype=torch.complex64), "x"], ids=repr)
def test_a_loss_returns_one_real_number(found: Any) -> None:
    wrong = lambda x, y, z: found  # noqa: E731
    for call in (_train, _search):
        with pytest.raises(TypeError, match="loss must return a tensor with one real number, got ") as raised:
            call(loss=wrong)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("loss", [torch.nn.MSELoss(), torch.nn.functional.l1_loss], ids=["module", "function"])
def test_losses_of_pytorch_take_two_tensors(loss: Any) -> None:
    with pytest.raises(TypeError, match="takes two tensors: use lambda x_hat, y, x: loss"):
        _train(loss=loss)


@pytest.mark.parametrize("found", [3, None, PAIR[0], (PAIR[0],), ("x", None), PAIRS[0], PAIRS[11]], ids=str)
def test_a_problem_returns_samples(found: Any) -> None:
    class Wrong:
        def sample(self, count: int, generator: torch.Generator) -> Samples:
            return found

    for held_out in (4, PAIR):
        with pytest.raises((TypeError, ValueError), match=r"data\.sample\(count, generator\)"):
            _train(data=Wrong(), held_out=held_out)


def test_right_values_of_every_kind_are_taken() -> None:
    one: Any = np.int64(1)
    _train(batch=one, check_every=one, patience=one, seed=one, clip=np.float32(1), held_out=np.int64(4), rates=RATES)
    _train(data=PAIR, held_out=PAIR, schedule=(*end_to_end(1),), progress=np.bool_(False))
    _train(data=Samples(*PAIR), batch=4, loss=training.total((one, training.kkt(A, 0))), seed=-1)
    assert len(layerwise(3, 2, 0)) == 3
    assert len(layerwise(3, 2, one)) == 5
    assert Stage(one, depth=one, alone=np.bool_(True)).alone is True  # type: ignore[arg-type]
