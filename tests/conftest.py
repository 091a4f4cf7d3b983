from __future__ import annotations

import gc
import signal
import warnings
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from fastunroll import _fastunroll
from hypothesis import HealthCheck, settings

# Where tests run in the background Ctrl-C is ignored, and the processes that they start would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No example is refused for the time that it takes: the machine may be busy.
settings.register_profile(
    "fastunroll", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=40, derandomize=True
)
settings.load_profile("fastunroll")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Nothing of what is collected is garbage: it is not looked for meanwhile, nor among the tests afterwards."""
    gc.disable()
    found = yield
    gc.freeze()
    gc.enable()
    return found


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    """As ``torch.manual_seed``, which also writes down the stack for devices that are not in use: that takes longer."""
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)


@pytest.fixture
def native() -> Iterator[object]:
    """The native module; its settings and the number of threads are put back, its registers have to be."""
    chosen, crossover, threads = (
        _fastunroll.instruction_set(),
        _fastunroll.dense_above(),
        torch.get_num_threads(),
    )
    yield _fastunroll
    _fastunroll.use_instruction_set(chosen)
    _fastunroll.set_dense_above(crossover)
    torch.set_num_threads(threads)
    with np.errstate(all="ignore"):
        assert np.longdouble(2) * 3 == 6, "a kernel used MMX and left its registers in use: x87 arithmetic answers NaN"


@pytest.fixture
def instruction_sets(native: Any) -> list[str]:
    """The sets that are compiled and that this machine has, for tests that compute once what all are compared with."""
    found = []
    for name in native.compiled_instruction_sets():
        with suppress(ValueError):
            native.use_instruction_set(name)
            found.append(name)
    return found


@pytest.fixture
def _quiet_torch() -> Iterator[None]:
    torch._dynamo.reset()
    with warnings.catch_warnings():
        # torch's own tracing of autograd functions, and its use of deprecated modules of Python and torch
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield
    torch._dynamo.reset()


@pytest.fixture(params=_fastunroll.compiled_instruction_sets())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _fastunroll.instruction_set()
    try:
        _fastunroll.use_instruction_set(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    yield request.param
    _fastunroll.use_instruction_set(before)
