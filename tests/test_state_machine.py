"""A network is its specification, whatever has happened to it: training, edits, copies, forks, and in any order."""

from __future__ import annotations

import copy
import os
import pickle
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from closeness import relative_error
from fuzz.draw import Draw
from fuzz.events import EVENTS, convert
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from networks import ALL, COMPLEX, Build, matrix, moved
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations
from twins import twin

MACHINES: dict[str, tuple[Build, torch.dtype]] = {name: (build, torch.float64) for name, build in ALL.items()} | {
    f"complex {name}": (build, torch.complex128) for name, build in COMPLEX.items()
}
# What PyTorch does to a module that has parametrizations.
WITH_PARAMETRIZATIONS = ("call", "recorded call", "in place", "element", "data whole", "data rows", "numpy",
                         "optimizer", "load_state_dict", "saved", "there and back", "frozen")  # fmt: skip
# Buffers that were computed from one another do not fit to the last bit when they come back from single precision.
SINGLE = 1e-4


class Life(RuleBasedStateMachine):
    """One network from its birth on. After each step it is compared with its twin, which reads its entries by name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        build, dtype = MACHINES[name]
        self.net: Any = moved(build(matrix(dtype=dtype))).eval()  # spectral_norm moves in training
        self.y = torch.randn(3, self.net.m, dtype=dtype)
        self.tolerance, self.compiled, self.forked = 1e-9, False, False

    # --- what happens -------------------------------------------------------------------------------------------------

    @rule(event=st.sampled_from(sorted(EVENTS)), seed=st.integers(0, 999))
    def happens(self, event: str, seed: int) -> None:
        if self._is_parametrized() and event not in WITH_PARAMETRIZATIONS:
            return
        if event == "there and back":
            self.tolerance = SINGLE
        state = torch.get_rng_state()
        EVENTS[event](Draw(seed, 0), self.net, self.y)
        torch.set_rng_state(state)
        self.net.eval()

    @rule(rate=st.sampled_from([1e-3, 1e-2]))
    def trains(self, rate: float) -> None:
        optimizer = torch.optim.SGD(
            [p for p in self.net.parameters() if p.requires_grad] or self.net.parameters(), rate
        )
        loss = (self.net(self.y).abs() ** 2).sum()
        if loss.requires_grad:
            loss.backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            optimizer.step()
        self.net.zero_grad()

    def _lists(self) -> list[nn.ParameterList]:
        """Of matrices, which PyTorch's parametrizations are for."""
        lists = [child for child in self.net.modules() if isinstance(child, nn.ParameterList)]
        return [entries for entries in lists if len(entries) and entries[0].dim() == 2]

    def _is_parametrized(self) -> bool:
        return any(map(is_parametrized, self.net.modules()))

    @precondition(lambda self: self._lists() and not self.y.is_complex())
    @rule(kind=st.sampled_from(["weight_norm", "spectral_norm", "orthogonal"]), data=st.data())
    def is_parametrized(self, kind: str, data: st.DataObject) -> None:
        entries = data.draw(st.sampled_from(self._lists()))
        name = str(data.draw(st.integers(0, len(entries) - 1)))
        shared = len(list(entries.parameters())) < len(entries)
        if not is_parametrized(entries, name) and not shared:
            getattr(parametrizations, kind)(entries, name)
            self.net.eval()

    @precondition(lambda self: self._is_parametrized())
    @rule()
    def is_no_longer_parametrized(self) -> None:
        for entries in self._lists():
            for name in list(getattr(entries, "parametrizations", ())):
                remove_parametrizations(entries, name)

    @precondition(lambda self: self.y.dtype.to_real() == torch.float64)
    @rule()
    def moves_to_single(self) -> None:
        self.tolerance = SINGLE
        convert(self.net, torch.float32)
        self.y = self.y.to(torch.complex64 if self.y.is_complex() else torch.float32)

    @precondition(lambda self: self.y.dtype.to_real() == torch.float32)
    @rule()
    def moves_to_double(self) -> None:
        convert(self.net, torch.float64)
        self.y = self.y.to(torch.complex128 if self.y.is_complex() else torch.float64)

    @rule()
    def is_copied(self) -> None:
        self.net = copy.deepcopy(self.net)

    @precondition(lambda self: not self._is_parametrized())  # PyTorch refuses to pickle such
    @rule()
    def is_pickled(self) -> None:
        self.net = pickle.loads(pickle.dumps(self.net))

    # --- where it runs ------------------------------------------------------------------------------------------------

    @rule()
    def runs_in_a_thread(self) -> None:
        with ThreadPoolExecutor(2) as pool:
            for found in pool.map(lambda _: self.net(self.y).detach(), range(4)):
                self._require(found, self._wanted())

    @precondition(lambda self: not self.forked and sys.platform == "linux")
    @rule()
    def runs_in_a_fork(self) -> None:
        self.forked = True
        with torch.no_grad():
            before = self.net(self.y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
            child = os.fork()
        if child == 0:
            with torch.no_grad():
                os._exit(0 if torch.equal(self.net(self.y), before) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    @precondition(lambda self: not self.compiled)
    @rule(seed=st.integers(0, 999))
    def is_compiled(self, seed: int) -> None:
        if Draw(seed, 0).random.random() < 0.2:  # it takes seconds
            self.compiled = True
            torch._dynamo.reset()
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                self._require(torch.compile(self.net, backend="aot_eager")(self.y), self._wanted())
            torch._dynamo.reset()

    # --- what stays so ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _wanted(self) -> Tensor:
        return twin(self.net, self.y)[-1]

    def _require(self, found: Tensor, wanted: Tensor) -> None:
        assert found.dtype == self.y.dtype
        assert relative_error(found.detach(), wanted.detach()) <= self.tolerance

    @invariant()
    def is_its_specification(self) -> None:
        with torch.no_grad():
            self._require(self.net(self.y), self._wanted())
        found, wanted = self.net(self.y), twin(self.net, self.y)[-1]
        self._require(found, wanted)
        learned = [p for p in self.net.parameters() if p.requires_grad]
        if self.tolerance == SINGLE or not learned:
            return  # a value near its threshold has another gradient on the other side
        options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
        weight = torch.randn_like(wanted.real)
        a, b = (torch.autograd.grad((weight * x.abs() ** 2).sum(), learned, **options) for x in (found, wanted))
        largest = max(float(g.norm()) for g in b)
        for f, w in zip(a, b, strict=True):
            assert float((f - w).norm()) <= 1e-6 * float(w.norm()) + 1e-9 * largest


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize("name", MACHINES)
def test_a_network_is_its_specification(name: str) -> None:
    how = settings(max_examples=3, stateful_step_count=12, phases=(Phase.generate, Phase.shrink))
    run_state_machine_as_test(lambda: Life(name), settings=how)
