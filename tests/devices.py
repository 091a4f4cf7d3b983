"""Where the kernels of devices can run: on the host, emulated; and on a GPU if there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

import pytest
import torch
from fastunroll.ops import device

DEVICES = ["emulated", "cuda"]


@contextmanager
def on(name: str) -> Iterator[torch.device]:
    """The device that tensors are to be on; skips the test where there is none."""
    if name == "emulated":
        if find_spec("fastunroll._emulated") is None:
            pytest.skip("built without -DFASTUNROLL_EMULATED=ON")
        with device.emulated(import_module("fastunroll._emulated")):
            yield torch.device("cpu")
    else:
        found = torch.device("cuda", 0)
        problem = device.problem(found)
        if problem is not None:
            pytest.skip(problem)
        yield found
