"""Where the kernels of devices can run: on the host, emulated; and on a GPU if there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

import pytest
import torch
from fastunroll.ops import backends
from fastunroll.ops.cuda.device import describe

NO_GPU = backends.problem(torch.device("cuda", 0))
DEVICES = ["emulated"] if NO_GPU else ["emulated", "cuda"]
# Of the GPU, if there is one: processors, and whether blocks can share memory.
DEVICE_FACTS = None if NO_GPU else describe(backends.BACKENDS["cuda"].module, torch.device("cuda", 0))


@contextmanager
def on(name: str) -> Iterator[torch.device]:
    """The device that tensors are to be on."""
    if name == "cuda":
        yield torch.device("cuda", 0)
        return
    if find_spec("fastunroll._emulated") is None:
        pytest.skip("built without -DFASTUNROLL_EMULATED=ON, as `make test` builds it")
    with backends.emulated(import_module("fastunroll._emulated")):
        yield torch.device("cpu")
