"""The examples and the blocks of pages run as they stand, and find what they say."""

from __future__ import annotations

import re
import shlex
import warnings
from pathlib import Path

import pytest
from fastunroll.encode import encode
from forks import printed_as_installed, printed_by_script

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_all_are_tested() -> None:
    assert {p.stem for p in EXAMPLES.glob("*.py")} == {
        "deblurring", "dropin", "forms_of_a_layer", "magnetic_resonance", "sparse_recovery",
    }  # fmt: skip


def test_sparse_recovery(tmp_path: Path) -> None:
    out = printed_by_script(tmp_path, EXAMPLES / "sparse_recovery.py", "--steps", "120")
    ista, fista, untrained, trained = map(float, re.findall(r"(-?\d+\.\d+) dB", out))
    assert untrained == pytest.approx(ista, abs=0.02)
    assert trained < min(ista, fista) - 3


def test_forms_of_a_layer(tmp_path: Path) -> None:
    out = printed_by_script(tmp_path, EXAMPLES / "forms_of_a_layer.py")
    ista, fista, admm, amp, alista = map(float, re.findall(r"(-?\d+\.\d+) dB", out))
    assert alista < amp < admm < fista < ista


def test_deblurring(tmp_path: Path) -> None:
    out = printed_by_script(tmp_path, EXAMPLES / "deblurring.py", "--steps", "20", "--side", "96")
    assert "All 10 layers run in one native call." in out
    blurred, few, many, learned = map(float, re.findall(r"(-?\d+\.\d+) dB", out))
    assert blurred + 1 < learned
    assert blurred + 1 < few < many


def test_magnetic_resonance(tmp_path: Path) -> None:
    out = printed_by_script(tmp_path, EXAMPLES / "magnetic_resonance.py", "--steps", "20", "--side", "48")
    assert "All 10 layers run in one native call." in out
    zero_filled, learned, few, many = map(float, re.findall(r"(-?\d+\.\d+) dB", out))
    assert zero_filled < few < learned < many


PAGES = [
    "README.md",
    "docs/extending.md",
    "docs/iterations.md",
    "docs/networks.md",
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


def test_the_page_of_training() -> None:
    """Its blocks run, in order, with fewer steps."""
    text = (EXAMPLES.parent / "docs" / "training.md").read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    for steps, fewer in (("16, 60, 30", "16, 1, 1"), ("(400, rate", "(2, rate"), ("end_to_end(40)", "end_to_end(1)")):
        assert steps in program
        program = program.replace(steps, fewer)
    exec(compile(program, "docs/training.md", "exec", dont_inherit=True), {"__name__": "__main__"})


def test_the_page_of_encode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of docs/encode.md, in order. Two processes of torchrun write what one process writes."""
    page = (EXAMPLES.parent / "docs" / "encode.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(python|sh)\n(.*?)```", page, flags=re.DOTALL)
    assert {language for language, _ in blocks} == {"python", "sh"}
    monkeypatch.chdir(tmp_path)
    for language, block in blocks:
        if language == "python":
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
                exec(compile(block, "docs/encode.md", "exec", dont_inherit=True), {"__name__": "__main__"})
            continue
        out = printed_as_installed(tmp_path, *shlex.split(block.replace("\\\n", " ")))
        assert out.count("codes of") == 1, out
    encode("D.npy", "patches.npy", "alone.npz", lam=1.0)
    assert Path("shared.npz").read_bytes() == Path("alone.npz").read_bytes()
