"""The fuzzer finds what it is there for: wrong values, hidden NaN, other bits, raw errors, processes that die."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import fastunroll as fu
import pytest
import torch
from fuzz import __main__ as command
from fuzz import functions, oracle, slice
from fuzz.compare import Finding
from fuzz.draw import Draw
from fuzz.subject import Subject
from fuzz.transforms import WAYS
from torch import Tensor

TESTS = Path(__file__).parent


def subject(run: Any) -> Subject:
    """The soft threshold of five samples by ``run``."""
    x, theta = torch.randn(5, 7, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    leaves = {"x": x, "theta": theta}
    return Subject(
        "soft_threshold", leaves, run, lambda v: fu.reference.soft_threshold(v["x"], v["theta"]), (5,), ("x",)
    )


def right(v: Any) -> Tensor:
    return fu.soft_threshold(v["x"], v["theta"])


def second_row_wrong(v: Any) -> Tensor:
    out = right(v)
    return out + 1e-6 * (torch.arange(len(out)) == 1)[:, None] * out


def without_gradient_of_theta(v: Any) -> Tensor:
    return fu.soft_threshold(v["x"], v["theta"].detach())


def other_bits(v: Any) -> Tensor:
    return right(v) * (1 + 1e-14 * torch.get_num_threads())


FAULTS = {
    "no_grad": (second_row_wrong, "values: 1 of 5 rows wrong"),
    "inference": (second_row_wrong, "1 of 5 rows wrong"),
    "grad": (without_gradient_of_theta, "gradient"),
    "vmap": (lambda v: right(v) * 1.01, "rows wrong"),
    "bits": (other_bits, "another number of threads"),
}


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("way", FAULTS)
def test_a_fault_is_found(way: str) -> None:
    run, message = FAULTS[way]
    said = []
    for call in range(8):
        WAYS[way](Draw(0, call), subject(right))
        torch.set_num_threads(4)  # more than the fuzzer takes
        try:
            WAYS[way](Draw(0, call), subject(run))
        except Finding as finding:
            said.append(str(finding))
    assert said
    assert all(message in line for line in said)


def test_a_hidden_nan_is_found() -> None:
    hidden = subject(lambda v: right(v).nan_to_num(0.0))
    hidden.leaves["x"][3, 2] = float("nan")
    with pytest.raises(Finding, match=r"nan comes back as 0\.0"):
        WAYS["no_grad"](Draw(0, 0), hidden)


def moved(x: Tensor) -> Tensor:
    """A Fourier transform and its inverse: what is not finite reaches all of a sample."""
    return torch.fft.ifft(torch.fft.fft(x)).real


def leaks(x: Tensor) -> Tensor:
    """The same, but what is not finite reaches all samples."""
    return moved(x) + 0 * x.sum(0)


@pytest.mark.parametrize("run", [moved, leaks])
def test_a_value_that_is_not_finite_may_spread_in_its_sample_alone(run: Any) -> None:
    x = torch.randn(4, 7, dtype=torch.float64)
    s = Subject("moved", {"x": x}, lambda v: run(v["x"]), lambda v: v["x"], (4,), ("x",), spreads=True)
    WAYS["no_grad"](Draw(0, 0), s)
    x[1, 2] = torch.nan
    if run is moved:
        WAYS["no_grad"](Draw(0, 0), s)
        WAYS["grad"](Draw(0, 0), s)
        return
    with pytest.raises(Finding, match="not finite in a sample that is finite"):
        WAYS["no_grad"](Draw(0, 0), s)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("what", [name for name in slice.SUBJECTS if name.startswith("picture")])
def test_a_fault_over_pictures_is_found(what: str) -> None:
    """The last value of a result is wrong by a thousandth."""
    found = 0
    for call in range(12):
        d = Draw(0, call)
        s = slice.SUBJECTS[what][1](d)
        with torch.no_grad():
            right = s.run(s.leaves)
        if not right.numel() or not right.isfinite().all() or not right.reshape(-1)[-1]:
            continue
        WAYS["no_grad"](d, s)
        run, wrong = s.run, torch.ones_like(right)
        wrong.reshape(-1)[-1] += 1e-2 if right.dtype.to_real() != torch.float64 else 1e-3
        s.run = lambda leaves, run=run, wrong=wrong: run(leaves) * wrong  # type: ignore[misc]
        try:
            WAYS["no_grad"](d, s)
        except Finding:
            found += 1
        if found == 2:
            return
    pytest.fail(f"{found} faults found of {what}")


@pytest.mark.parametrize("what", ["picture operator", "picture layers", "picture iterations"])
def test_volumes_are_drawn(what: str) -> None:
    """All operators of them with each boundary, and total variation over them, in calls that are right."""
    drawn: set[str] = set()
    compared = 0
    for call in range(400):
        d = Draw(1, call)
        s = slice.SUBJECTS[what][1](d)
        if "dims=3" not in d.said:
            continue
        drawn |= set(d.said)
        if compared < 20:
            WAYS["no_grad"](d, s)
            compared += 1
    kinds = ["Blur", "Downsample", "Fourier", "MultiCoilFourier", "Mask"]
    boundaries = ["circular", "reflect", "constant", "valid"]
    wanted = {f"operator={kind}" for kind in kinds} | {f"boundary={boundary}" for boundary in boundaries}
    wanted |= set() if what == "picture operator" else {"total variation of volumes"}
    assert wanted <= drawn, wanted - drawn


def test_terms_that_cancel_are_compared_by_their_size() -> None:
    """The gradient −1 + G + 1 of ADMM's dual variable is known to a rounding of 1, however small G is."""
    leaves = {"y": torch.tensor([0.7]), "A": torch.tensor([[8e-4]]), "beta": torch.tensor(0.5)}
    leaves["s0"] = torch.tensor([0.3])

    def run(v: Any) -> Tensor:
        step, scheme = fu.GradientStep(v["A"], None, None, "gram"), fu.schemes.ADMM(v["beta"])
        return fu.unrolled(v["y"], step, fu.prox.Identity(), layers=1, scheme=scheme, s0=v["s0"])  # type: ignore[return-value]

    def exact(v: Any) -> Tensor:
        A, beta = [v["A"]], [v["beta"]]
        return oracle.network(v["y"], "gram", A, [], [], "identity", [], [], 1, (), "admm", beta, None, v["s0"], 1)[0][
            0
        ]

    for call in range(8):
        WAYS["grad"](Draw(0, call), Subject("unrolled", leaves, run, exact, (), ("y", "s0")))


def test_a_call_is_drawn_again_from_its_seed() -> None:
    a, b, other = (functions.ista_step(Draw(3, call)) for call in (4, 4, 5))
    assert a.leaves.keys() == b.leaves.keys()
    assert all(torch.equal(a.leaves[name], b.leaves[name]) for name in a.leaves)
    assert a.leaves["A"].flatten()[0] != other.leaves["A"].flatten()[0]


def test_an_error_is_a_finding_and_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(d: Draw, only: str) -> None:
        d.pick("size", [1, 2])
        raise IndexError("list index out of range")

    monkeypatch.setattr(slice, "one", fails)
    with warnings.catch_warnings():
        slice.run(0, range(2))
    told = capsys.readouterr().out
    assert told.count("IndexError at") == 2
    assert '"counts"' in told


def test_a_process_that_dies_is_a_finding(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Call 7 kills its process: the calls behind it run in another."""

    def dies(seed: int, first: int, count: int, only: str) -> tuple[list[dict[str, Any]], int, str]:
        code = (
            "import os, sys, json\n"
            f"for call in range({first}, {first + count}):\n"
            "    print(json.dumps({'begins': call}), flush=True)\n"
            "    call == 7 and os.abort()\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        return [command.json.loads(line) for line in done.stdout.splitlines()], done.returncode, done.stderr

    monkeypatch.setattr(command, "_slice", dies)
    total = command.Total(seed=0)
    command.run_slice(total, 5, 5)
    assert total.calls == 5
    assert "call 7: the process died with -6" in capsys.readouterr().out


def test_some_calls(capfd: pytest.CaptureFixture[str]) -> None:
    """The command runs from end to end, and prints what it drew."""
    options = ["--seed", "0", "--calls", "3", "--jobs", "1", "--only", "picture"]
    done = subprocess.run([sys.executable, "-m", "fuzz", *options], capture_output=True, text=True, cwd=TESTS)
    assert "seed 0: 3 calls, " in done.stdout, done.stderr
    assert "what: picture" in done.stdout
