"""Every option of load_lista with every kind of wrong value: each is refused in one sentence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from fastunroll import convert
from networks import ALL, matrix
from sources import ADOPTY, ada_lista, ada_lista_lista, copied, hyperlista_alista, na_alista, sparse_representation
from sources_tensorflow import onsager_lamp, vita_alista, vita_cp, vita_lamp, vita_lista

PACKAGE = Path(convert.__file__).parents[1]
NESTED = torch.nested.nested_tensor([torch.zeros(2, 6), torch.zeros(3, 6)], layout=torch.jagged)
JUNK: tuple[Any, ...] = ("x", [1], {}, object(), 1j, torch.zeros(3, 3), NESTED, np.zeros(2))
COUNTS = (*JUNK, 0, -1, 2**63, 10**400, 1.5, math.nan, True)
NUMBERS = (*JUNK, math.nan, math.inf, -1.0, 10**400)
WORDS = (*JUNK, 3, True, "ALISTA-XX")
MATRICES: tuple[Any, ...] = (
    3, "x", [[1.0]], NESTED, torch.zeros(3), torch.zeros(2, 2), torch.zeros(5, 9, dtype=torch.int64),
    torch.eye(5).to_sparse(), torch.full((5, 9), math.nan), torch.zeros(0, 3), np.array([["x"] * 9] * 5),
    np.array([[None] * 9] * 5), torch.zeros(5, 9, device="meta"), torch.zeros(5, 9, dtype=torch.complex64),
)  # fmt: skip
SELECTIONS = (3, "x", "ab", (1,), (1, 2, 3), ("x", 2), (math.nan, 2), (-1, 2), (1, 101), torch.zeros(3, 3), NESTED, {})
PASSING = (*JUNK, -1, 10, 2**63, 1.5, True, [1, 2], [1, 2, 3, "x"], [0.5] * 4, (0, 0, 0, 10))
ALL_OPTIONS: dict[str, tuple[Any, ...]] = {
    "A": MATRICES, "W": MATRICES, "theta": NUMBERS, "lam": NUMBERS, "layers": COUNTS, "max_iter": COUNTS, "p": PASSING,
    "selection": SELECTIONS, "shrinkage": WORDS, "network": WORDS, "of_y": WORDS, "gain": (*WORDS, None),
}  # fmt: skip


def _own(label: str, **options: Any) -> Any:
    return lambda m, n: (ALL[label](matrix(m, n)).state_dict(), options, None)


def _square(m: int, n: int) -> Any:
    return ADOPTY["lista"](5, 5)


SOURCES: dict[str, Any] = {
    "copied": copied, "hyperlista": hyperlista_alista, "na_alista": na_alista, "ada_lista": ada_lista,
    "ada_lista_lista": ada_lista_lista, "sparse": sparse_representation, "lamp": onsager_lamp("soft"),
    "vita_lista": vita_lista(True), "vita_cp": vita_cp(True), "vita_alista": vita_alista, "vita_lamp": vita_lamp(True),
    "square": _square, "LISTACP": _own("LISTACP", selection=None),
    "LISTASS": _own("LISTASS-selection=(10.0, 30.0)", selection=None),
    "ALISTA": _own("ALISTA", selection=None, network="ALISTA"), "StepLISTA": _own("StepLISTA", lam=0.1),
    "GLISTA": _own("GLISTA", selection=None, gain="relu"),
    "HyperLISTA": _own("HyperLISTA-c1=0.02-c2=0.05-c3=3.0", layers=3),
} | {f"adopty, {name}": ADOPTY[name] for name in ("step", "coupled", "alista", "hessian")}  # fmt: skip
PAIRS = [(name, option) for name, build in SOURCES.items() for option in build(5, 9)[1]]


@pytest.mark.parametrize(("name", "option"), PAIRS)
def test_a_wrong_option_is_refused_in_one_sentence(name: str, option: str) -> None:
    s, options, _ = SOURCES[name](5, 9)
    convert.load_lista(s, **options)
    for value in ALL_OPTIONS[option]:
        with pytest.raises((TypeError, ValueError)) as raised:
            convert.load_lista(s, **(options | {option: value}))
        said = str(raised.value)
        assert "must" in said or "but the mapping holds" in said, (said, value)
        assert "\n" not in said
        assert len(said) < 400
        assert Path(raised.traceback[-1].path).is_relative_to(PACKAGE), (said, value)  # torch and Python said nothing


def test_the_table_has_every_option() -> None:
    from fastunroll.convert.load import CONVENTIONS

    known = {option for convention in CONVENTIONS for option in convention.options()}
    assert known == ALL_OPTIONS.keys()
    assert known - {option for _, option in PAIRS} == set()


def test_a_matrix_that_is_stored_too() -> None:
    """Where the weights hold all, only the shape of A is compared with them."""
    state = fu.nn.LISTA(matrix(5, 9), layers=2).state_dict()
    convert.load_lista(state, torch.zeros(5, 9))
    for A in (3, "x", [[1.0]], NESTED, torch.zeros(3), torch.zeros(2, 2), torch.zeros(5, 9, dtype=torch.int64)):
        with pytest.raises((TypeError, ValueError), match=r"must be|but the mapping holds") as raised:
            convert.load_lista(state, A)
        assert "\n" not in str(raised.value)
