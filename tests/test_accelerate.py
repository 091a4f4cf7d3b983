"""Fused layers in the place of those that people wrote; the drop-in."""

from __future__ import annotations

import copy
import io
import pickle
import re
from pathlib import Path
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll import convert
from forks import printed_by_script
from sources import (
    soft,
    unit,
)
from torch import Tensor, nn
from torch.nn.functional import relu

# Modules as people write them.


class Copied(nn.Module):
    """LISTA as it is copied, in words of its own."""

    def __init__(self, m: int, n: int, max_iter: int = 4, theta: float = 0.05) -> None:
        super().__init__()
        self._W = nn.Linear(m, n, bias=False)
        self._S = nn.Linear(n, n, bias=False)
        self.shrinkage = nn.Softshrink(theta)
        self.theta, self.max_iter = theta, max_iter

    def forward(self, y: Tensor) -> Tensor:
        x = self.shrinkage(self._W(y))
        if self.max_iter > 1:
            for _ in range(self.max_iter):
                x = self.shrinkage(self._W(y) + self._S(x))
        return x


class Thresholds(nn.Module):
    """With a learned threshold a layer, and every layer's output."""

    def __init__(self, m: int, n: int, layers: int = 5) -> None:
        super().__init__()
        self._W = nn.Linear(m, n, bias=False)
        self._S = nn.Linear(n, n, bias=False)
        self.thr = nn.Parameter(torch.rand(layers, 1) * 0.1)
        self.numIter = layers

    def forward(self, y: Tensor) -> list[Tensor]:
        x, every = y.new_zeros(len(y), self._S.in_features), []
        for k in range(self.numIter):
            z = self._W(y) + self._S(x)
            x = relu(z - self.thr[k]) - relu(-z - self.thr[k])
            every.append(x)
        return every


class Other(Copied):
    """Has the attributes of a copied LISTA, but computes another function."""

    def forward(self, y: Tensor) -> Tensor:
        return super().forward(y) + 1e-3 * self._W(y)


class Refusing(Copied):
    def forward(self, y: Tensor) -> Tensor:
        return super().forward(y.squeeze(2))


class Threshold(nn.Module):
    def __init__(self, *shape: int, clamped: bool = False) -> None:
        super().__init__()
        self.lambd = nn.Parameter(0.1 + torch.rand(shape))
        self.relu = nn.ReLU()
        self.clamped = clamped

    def forward(self, x: Tensor) -> Tensor:
        return soft(x, self.relu(self.lambd) if self.clamped else self.lambd)


class HardThreshold(Threshold):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x.abs() > self.lambd)


class Model(nn.Module):
    def __init__(self, encoder: nn.Module, threshold: nn.Module) -> None:
        super().__init__()
        self.encoder, self.threshold = encoder, threshold
        self.head = nn.Sequential(nn.Linear(9, 3), nn.Softshrink(0.2))

    def forward(self, y: Tensor) -> Tensor:
        x = self.encoder(y)
        return self.head(self.threshold(x[-1] if isinstance(x, list) else x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("m", "n"), [(1, 9), (5, 9), (12, 9)])
@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (lambda m, n: Copied(m, n), "encoder (Copied): 5 layers in one call"),
        (lambda m, n: Copied(m, n, max_iter=1), "encoder (Copied): 1 layers in one call"),
        (lambda m, n: Copied(m, n, theta=20.0), "encoder (Copied): 5 layers in one call"),
        (lambda m, n: Copied(m, n, max_iter=30), "encoder (Copied): 31 layers in one call"),
        (Thresholds, "encoder (Thresholds): 5 layers in one call"),
    ],
)
def test_accelerate(
    encoder: Any, said: str, m: int, n: int, dtype: torch.dtype, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Model(encoder(m, n), Threshold(n)).to(dtype)
    before, names = copy.deepcopy(model), list(model.state_dict())
    parameters = list(model.parameters())
    assert convert.accelerate(model) is model
    assert capsys.readouterr().out == f"{said}\nthreshold (Threshold): a fused soft threshold\n"
    assert type(model.encoder) is not type(before.encoder)
    assert type(model.head[1]) is nn.Softshrink
    assert all(p is q for p, q in zip(model.parameters(), parameters, strict=True))
    assert list(model.state_dict()) == names
    y = 3 * torch.randn(20, m, dtype=dtype)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    for net in (model, before):
        net(y).square().sum().backward()
    assert torch.allclose(model(y), before(y), rtol=tolerance, atol=tolerance)
    for p, q in zip(model.parameters(), before.parameters(), strict=True):
        wanted = torch.zeros_like(p) if q.grad is None else q.grad  # of one layer, where _S has no part
        assert torch.allclose(p.grad, wanted, rtol=10 * tolerance, atol=10 * tolerance)


def test_accelerated_modules_train_save_and_copy() -> None:
    model = Model(Copied(5, 9), Threshold(9))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = copy.deepcopy(model)
    slow = torch.optim.SGD(before.parameters(), lr=0.1)
    convert.accelerate(model, verbose=False)
    y = torch.randn(20, 5)
    for _ in range(3):
        for net, opt in ((model, optimizer), (before, slow)):
            opt.zero_grad()
            net(y).square().sum().backward()
            opt.step()
    assert torch.allclose(model(y), before(y), rtol=1e-4, atol=1e-5)
    before.load_state_dict(model.state_dict())
    buffer = io.BytesIO()
    pickle.dump(model, buffer)
    for other in (copy.deepcopy(model), pickle.loads(buffer.getvalue())):
        assert torch.equal(other(y), model(y))
    assert convert.accelerate(model, verbose=False) is model
    assert model.double()(y.double()).dtype == torch.float64
    assert model.encoder.max_iter == 4
    assert "layers=5" in repr(model)


def test_accelerate_the_module_itself(capsys: pytest.CaptureFixture[str]) -> None:
    old = Copied(5, 9)
    new = convert.accelerate(old)
    assert capsys.readouterr().out == "the module (Copied): 5 layers in one call\n"
    assert new is not old
    assert new._W is old._W
    y = torch.randn(4, 5)
    assert torch.allclose(new(y), old(y), atol=1e-6)


def test_layers_are_counted_where_they_have_converged(capsys: pytest.CaptureFixture[str]) -> None:
    """With its own weights the 300th iterate is the 301st."""
    old, A = Copied(4, 6, max_iter=300, theta=1), unit(4, 6).float()
    L = torch.linalg.matrix_norm(A, 2) ** 2
    with torch.no_grad():
        old._W.weight.copy_(A.T / L)
        old._S.weight.copy_(torch.eye(6) - A.T @ A / L)
    convert.accelerate(old)
    assert capsys.readouterr().out == "the module (Copied): 301 layers in one call\n"


@pytest.mark.parametrize("cls", [Copied, Thresholds])
def test_changes_are_noticed(cls: type[nn.Module]) -> None:
    """Without gradients too, where packed weights and thresholds are kept."""
    old = cls(5, 9)
    new, y = convert.accelerate(old, verbose=False), 3 * torch.randn(4, 5)

    def same() -> None:
        wanted, found = old(y), new(y)
        for a, b in zip(wanted, found, strict=True):
            assert torch.allclose(a, b, atol=1e-6)

    with torch.inference_mode():
        same()
    same()  # gradients after inference
    with torch.no_grad():
        same()
        for p in new.parameters():
            p.mul_(1.5)
        same()
        for p in new.parameters():
            p.data = 0.5 * p.data
        same()
        new._W.weight.data = torch.randn(9, 5)
        same()


def test_hooks_and_the_generator_are_left_alone() -> None:
    calls = []
    model = nn.Sequential(Copied(5, 9))
    model[0].register_forward_hook(lambda *_: calls.append(1))
    state = torch.get_rng_state()
    convert.accelerate(model, verbose=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert calls == []
    model(torch.randn(3, 5))
    assert calls == [1]


def test_a_module_in_two_places() -> None:
    shared = Copied(5, 9)
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared)})
    convert.accelerate(model, verbose=False)
    assert model["a"] is model["b"][0]
    assert model["a"] is not shared


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Other(5, 9), "kept, because none of its thresholds and numbers of layers gives the same output"),
        (HardThreshold(9), "kept, because it is not the soft threshold of its parameter"),
        (Threshold(clamped=True), "a fused soft threshold, clamped at 0"),
        (Threshold(9, 1, 1), "a fused soft threshold"),
    ],
)
def test_accelerate_checks(module: nn.Module, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(module)
    convert.accelerate(model)
    assert capsys.readouterr().out == f"0 ({type(module).__name__}): {said}\n"
    assert (model[0] is module) == said.startswith("kept")


def test_accelerate_what_refuses_samples(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(Refusing(5, 9))
    convert.accelerate(model)
    assert re.fullmatch(r"0 \(Refusing\): kept, because it refuses a batch of samples: .+\n", capsys.readouterr().out)


def test_other_modules_are_not_touched(capsys: pytest.CaptureFixture[str]) -> None:
    hooked = Copied(5, 9)
    hooked._W.register_forward_pre_hook(lambda *_: None)
    biased = Copied(5, 9)
    biased._S = nn.Linear(9, 9)
    model = nn.ModuleList([hooked, biased, nn.Linear(3, 3), nn.PReLU(), nn.Softshrink(0.1), fu.nn.SoftThreshold(0.1)])
    children = list(model)
    convert.accelerate(model)
    assert all(a is b for a, b in zip(model, children, strict=True))
    assert capsys.readouterr().out == ""
    with pytest.raises(TypeError, match=re.escape("module must be a torch.nn.Module, got str")):
        convert.accelerate("model")


class Broken(Copied):
    """Whose state is not what its class makes."""

    def __init__(self, how: str) -> None:
        super().__init__(5, 9)
        if how == "no weight":
            self._W.weight = None  # type: ignore[assignment]
        elif how == "a vector":
            self._W.weight = nn.Parameter(torch.zeros(9))
        elif how == "a scalar":
            self._W.weight = nn.Parameter(torch.zeros(()))
        elif how == "meta":
            self.to("meta")
        elif how == "nan":
            nn.init.constant_(self._S.weight, torch.nan)
        elif how == "whole numbers":
            self._W.weight = nn.Parameter(torch.ones(9, 5, dtype=torch.int64), requires_grad=False)
        elif how == "complex":
            self._W.weight = nn.Parameter(self._W.weight.to(torch.complex64))
        elif how == "half":
            self._S.half()
        elif how == "counts":
            self.T = self.K = self.layers = 10**12  # type: ignore[assignment]
        elif how == "names":
            self.theta = self.shrinkage.lambd = "x"  # type: ignore[assignment]
        elif how == "empty":
            self._W.weight = nn.Parameter(torch.zeros(9, 0))


HOWS = (
    "no weight", "a vector", "a scalar", "meta", "nan", "whole numbers", "complex", "half", "counts", "names", "empty",
)  # fmt: skip


@pytest.mark.parametrize("how", HOWS)
def test_broken_modules_are_left_or_replaced_rightly(how: str, capsys: pytest.CaptureFixture[str]) -> None:
    old = Broken(how)
    model = nn.Sequential(old)
    convert.accelerate(model)
    said = capsys.readouterr().out
    assert said.count("\n") == (how not in ("no weight", "a vector", "a scalar"))  # which look like no copied LISTA
    if how == "counts":
        y = torch.randn(3, 5)
        assert torch.allclose(model(y), old(y), atol=1e-6)
        assert "5 layers in one call" in said
    else:
        assert model[0] is old


@pytest.mark.parametrize("verbose", [1, None, "x", torch.tensor(True)])
def test_a_switch_is_true_or_false(verbose: Any) -> None:
    with pytest.raises(TypeError, match="verbose must be True or False, got "):
        convert.accelerate(nn.Linear(2, 3), verbose=verbose)


def test_dropin_example(tmp_path: Path) -> None:
    """The same losses with the import changed."""
    script = Path(__file__).parent.parent / "examples" / "dropin.py"
    options = "--steps", "25", "-m", "20", "-n", "41", "--layers", "4", "--batch", "32"
    out = printed_by_script(tmp_path, script, *options)
    rows = re.findall(r"^ *(\d+) +(\S+) +(\S+) +(\S+)$", out, flags=re.MULTILINE)
    assert len(rows) >= 5
    losses = [(float(plain), float(fused)) for _, plain, fused, _ in rows]
    assert all(abs(a - b) <= 1e-4 * a for a, b in losses)
    assert re.search(r"a step takes \S+ ms, and \S+ ms with fastunroll: \S+ times faster", out)
