"""The examples run as they stand, and find what they say."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
from forks import printed_by_script

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_all_are_tested() -> None:
    assert {p.name for p in EXAMPLES.glob("*.py")} == {"dropin.py", "forms_of_a_layer.py", "sparse_recovery.py"}


def test_sparse_recovery(tmp_path: Path) -> None:
    out = printed_by_script(tmp_path, EXAMPLES / "sparse_recovery.py", "--steps", "120")
    ista, fista, untrained, trained = map(float, re.findall(r"(-?\d+\.\d+) dB", out))
    assert untrained == pytest.approx(ista, abs=0.02)
    assert trained < min(ista, fista) - 3


def test_forms_of_a_layer(tmp_path: Path) -> None:
    out = printed_by_script(tmp_path, EXAMPLES / "forms_of_a_layer.py")
    ista, fista, admm, amp, alista = map(float, re.findall(r"(-?\d+\.\d+) dB", out))
    assert alista < amp < admm < fista < ista


PAGES = [
    "README.md",
    "docs/extending.md",
    "docs/iterations.md",
    "docs/operators.md",
    "docs/priors.md",
    "docs/solvers.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_snippets_of_pages(page: str) -> None:
    """Every Python block of a page runs, in order, as one program."""
    text = (EXAMPLES.parent / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    program = compile("\n".join(blocks), page, "exec", dont_inherit=True)
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as in a process of its own
        exec(program, {"__name__": "__main__"})
