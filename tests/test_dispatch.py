"""Which kernel a call gets on a device: what was measured there decides, and without it a rule."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastunroll as fu
import pytest
import torch
from devices import NO_GPU, on
from fastunroll import _fastunroll
from fastunroll.__main__ import main
from fastunroll.ops import backends
from fastunroll.ops.cuda import fused, kernel_choice, timings
from fastunroll.ops.cuda.backend import CudaBackend
from fastunroll.ops.cuda.kernel_choice import Plan
from fastunroll.ops.cuda.timings import Case, Timings
from fastunroll.ops.spec import NetworkSpec, Parameters
from fastunroll.tune import tune


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with on("emulated"):
        timings.forget()
        yield tmp_path / "fastunroll" / "cpu.json"
    timings.forget()


def _plan(n: int, batch: int, gradient: bool = False, kind: str = "untied", layers: int = 2) -> Plan | None:
    y = torch.zeros(batch, n // 2)
    if kind == "gradient":
        form, p = (
            NetworkSpec(layers, linear="gradient"),
            Parameters([torch.zeros(n // 2, n)], [], theta=[torch.zeros(1)]),
        )
    else:
        second = [torch.zeros(n, n)] * (1 if kind == "tied" else layers)
        form, p = (
            NetworkSpec(layers),
            Parameters([torch.zeros(n, n // 2)] * len(second), second, theta=[torch.zeros(1)]),
        )
    return kernel_choice.plan(backends.BACKENDS[y.device.type].module, form, p, y, gradient=gradient)


_CASE = Case("untied", "single", False, 128, 64, {"16 samples on 1 blocks": 9.0, "16 samples on 4 blocks": 3.0})


def _measured(path: Path, *cases: Case) -> None:
    Timings("cpu", "2026-01-01", cases).write(path)
    timings.forget()


def test_without_timings_few_samples_spread_over_many_blocks_as_long_as_all_run_at_once() -> None:
    assert _plan(500, 1) == Plan("single", 1, 16)
    assert _plan(500, 16 * 8) == Plan("single", 1, 16)
    assert _plan(500, 16 * 8 + 1) == Plan("single", 1, 4)
    assert _plan(500, 16 * 33 + 1) == Plan("single", 2, 4)
    assert _plan(500, 1, kind="gradient") == _plan(500, 1, kind="tied") == Plan("single", 1, 16, weights_in_smem=True)
    assert _plan(500, 16 * 16, kind="gradient") == Plan("single", 1, 8, weights_in_smem=True)
    assert _plan(500, 16 * 16 + 1, kind="gradient") == Plan("single", 1, 4)
    assert _plan(500, 1, kind="tied", layers=1) == Plan("single", 1, 16)
    assert _plan(100, 1) == Plan("single", 1, 1)
    assert _plan(500, 16, gradient=True) == Plan("single", 1, 4)
    assert _plan(600, 16) is None


def test_the_fastest_that_was_measured_is_chosen(cache: Path) -> None:
    assert _plan(128, 64) == Plan("single", 1, 1)
    _measured(cache, _CASE)
    assert _plan(128, 64) == Plan("single", 1, 4)
    assert _plan(128, 64, kind="tied") == Plan("single", 1, 1)  # of which nothing is known
    assert _plan(128, 64, gradient=True) == Plan("single", 1, 1)
    _measured(cache, replace(_CASE, times={**_CASE.times, "layer by layer": 1.0}))
    assert _plan(128, 64) is None


def test_the_nearest_case_counts(cache: Path) -> None:
    one, two = "16 samples on 1 blocks", "16 samples on 2 blocks"
    _measured(
        cache,
        replace(_CASE, batch=1, times={one: 2.0, two: 1.0}),
        replace(_CASE, batch=1024, times={one: 1.0, two: 2.0}),
        replace(_CASE, n=64, batch=1, times={"layer by layer": 1.0}),
    )
    assert _plan(120, 8) == Plan("single", 1, 2)
    assert _plan(120, 100) == Plan("single", 1, 1)
    assert _plan(120, 0) == Plan("single", 1, 2)
    assert _plan(70, 1) is None


def test_a_kernel_without_room_is_not_chosen(cache: Path) -> None:
    _measured(cache, replace(_CASE, times={"16 samples on 1 blocks": 1.0, "16 samples on 4 blocks": 2.0}))
    assert _plan(400, 64) == Plan("single", 1, 4)
    _measured(cache, replace(_CASE, times={"of another version": 1.0}))
    assert _plan(100, 64) == Plan("single", 1, 1)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"device": "cpu", "date": "", "cases": [{}]}',
     json.dumps({"device": "cpu", "date": "", "cases": [{**vars(_CASE), "batch": 0}]}),
     json.dumps({"device": "cpu", "date": "", "cases": [{**vars(_CASE), "times": []}]})],
)  # fmt: skip
def test_a_file_that_is_none_is_said_once_and_does_no_harm(content: str, cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text(content)
    with pytest.warns(UserWarning, match=r"cpu\.json is no file of timings.*`fastunroll tune` writes it anew"):
        assert _plan(100, 1) == Plan("single", 1, 1)
    assert _plan(100, 1) == Plan("single", 1, 1)


def test_tuning_times_each_kernel_and_leaves_all_as_it_was(cache: Path) -> None:
    state = torch.random.get_rng_state()
    found = tune(torch.device("cpu"), sizes=(32,), batches=(1,), layers=2, seconds=0, precisions=("single", "bfloat16"))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len({(c.kind, c.precision, c.gradient) for c in found.cases}) == len(found.cases) == 12
    for c in found.cases:
        row_tiles = (1, 2) if c.precision == "single" else (1,)
        plans = [Plan(c.precision, tiles, blocks) for tiles in row_tiles for blocks in (1, 2, 4)]
        if not c.gradient:
            plans.append(Plan(c.precision, 1, 16))
        if not c.gradient and c.kind != "untied":
            plans += [Plan(c.precision, 1, blocks, weights_in_smem=True) for blocks in (8, 16)]
        assert set(c.times) == {kernel_choice.name_of(plan) for plan in (*plans, None)}
        assert min(c.times.values()) > 0
    found.write(cache)
    assert Timings.read(cache) == found
    assert [path.name for path in cache.parent.iterdir()] == ["cpu.json"]
    timings.forget()
    y = torch.zeros(1, 16)
    fastest = min(found.cases[0].times, key=found.cases[0].times.__getitem__)
    assert found.cases[0].kind == "untied"
    assert kernel_choice.name_of(_plan(32, len(y))) == fastest


def _examples() -> list[str]:
    device = torch.device("cpu")
    return kernel_choice.examples(backends.BACKENDS[device.type].module, device)


def test_examples_say_how_and_what(cache: Path) -> None:
    lines = _examples()
    assert "by rule: `fastunroll tune` measures them" in lines[0]
    assert "  n = 500, 64 samples: 16 samples on 16 blocks; gradient: 16 samples on 4 blocks" in lines
    _measured(cache, _CASE)
    lines = _examples()
    assert "the fastest measured on 2026-01-01" in lines[0]
    assert "  n = 128, 64 samples: 16 samples on 4 blocks; gradient: 16 samples on 1 blocks" in lines


def test_only_one_kernel(cache: Path) -> None:
    with kernel_choice.only(None):
        assert _plan(100, 1) is None
    with kernel_choice.only(Plan("single", 1, 4)):
        assert _plan(100, 1) == Plan("single", 1, 4)
        assert _plan(600, 1) is None
    assert _plan(100, 1) == Plan("single", 1, 1)


def test_results_are_the_same_with_each_kernel(cache: Path) -> None:
    net = fu.nn.LISTA(torch.randn(20, 33), layers=3)
    y = torch.randn(5, 20)
    found = []
    for name in ("16 samples on 1 blocks", "16 samples on 2 blocks", "layer by layer"):
        _measured(cache, replace(_CASE, times={name: 1.0}))
        found.append(net.requires_grad_(True)(y).detach())
    for x in found[1:]:
        assert torch.allclose(x, found[0], atol=1e-5)
    assert not torch.equal(found[0], found[2])  # they sum in another order


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU to tune for")
def test_tuning_without_a_gpu_says_so(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tune"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("fastunroll tune: a GPU with CUDA kernels is needed, but ")
    assert not cache.parent.exists()


@pytest.mark.skipif(not NO_GPU, reason="there is a driver")
@pytest.mark.parametrize(("devices", "why"), [(0, "no NVIDIA driver found"), (1, "torch sees no device")])
def test_tuning_by_a_build_for_cuda_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], devices: int, why: str
) -> None:
    cuda = torch.device("cuda", 0)
    monkeypatch.setitem(backends.BACKENDS, "cuda", CudaBackend(object()))
    monkeypatch.setattr(_fastunroll, "cuda_devices", lambda: (devices, why))
    assert backends.problem(cuda) == fu.backend().cuda_problem == why
    with pytest.raises(SystemExit, match="2"):
        main(["tune"])
    assert capsys.readouterr().err == f"fastunroll tune: a GPU with CUDA kernels is needed, but {why}\n"
    with pytest.raises(RuntimeError, match=f"tune needs a device with kernels, but {why}"):
        tune(cuda)


def test_a_kernel_that_errs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "16 samples on 2 blocks"
    usual = fused.forward

    def wrong(module: Any, chosen: Plan, *arguments: Any) -> None:
        usual(module, chosen, *arguments)
        if kernel_choice.name_of(chosen) == name:
            arguments[-1].last.mul_(1.01)

    monkeypatch.setattr(fused, "forward", wrong)
    found = tune(torch.device("cpu"), sizes=(32,), batches=(2,), layers=2, seconds=0, precisions=("single",))
    assert {c.gradient for c in found.cases if name in c.times} == {True}
