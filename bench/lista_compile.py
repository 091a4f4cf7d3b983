"""LISTA compiled by torch.compile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr
from copy import deepcopy
from functools import lru_cache
from io import StringIO
from typing import Any

import fastunroll as fu
import torch
from harness import Contestant
from lista_eager import eager, squared_error, step, weights
from torch import Tensor, nn

MISSING = (
    None
    if shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    else "torch.compile left out: it needs a C++ compiler, such as g++"
)


def _loss(y: Tensor, truth: Tensor, w1: list[Tensor], w2: list[Tensor], theta: list[Tensor]) -> Tensor:
    return squared_error(eager(y, w1, w2, theta), truth)


@lru_cache(maxsize=1)
def _compiled(function: Callable[..., Any], shape: tuple[int, ...]) -> Callable[..., Tensor]:
    """A program for one shape, for all weights of it.

    Programs of other shapes are forgotten: after eight of one function torch.compile silently runs it eagerly.
    """
    torch._dynamo.reset()
    return torch.compile(function, dynamic=False)


def _shape(model: fu.nn.LISTA, y: Tensor) -> tuple[int, ...]:
    return (*y.shape, model.n, model.layers, model.tied)


@torch.no_grad()
def forward(model: fu.nn.LISTA, y: Tensor) -> Contestant:
    program = _compiled(eager, _shape(model, y))
    w1, w2, theta = ([w.detach() for w in group] for group in weights(model))

    @torch.no_grad()
    def run() -> Tensor:
        return program(y, w1, w2, theta)

    run()
    return Contestant(run)


class _Frozen(nn.Module):
    def __init__(self, model: fu.nn.LISTA) -> None:
        super().__init__()
        self.model = deepcopy(model)

    def forward(self, y: Tensor) -> Tensor:
        return eager(y, *weights(self.model))


def frozen(model: fu.nn.LISTA, y: Tensor) -> Contestant:
    """Inference only: weights are constants, packed once, and each product is the faster of MKL and a C++ template.

    Freezing is set globally: given as ``options=`` it comes too late, and no weight is packed.
    """
    from torch._dynamo.utils import counters
    from torch._inductor import config

    program = torch.compile(_Frozen(model).eval(), dynamic=False)

    @torch.no_grad()
    def run() -> Tensor:
        return program(y)

    counters.clear()
    with config.patch(freezing=True, max_autotune=True), redirect_stderr(StringIO()):  # it prints its trials
        run()
    packed = counters["inductor"]["mkldnn_linear_weight_pack_matcher_count"]
    templates = counters["inductor"]["cpp_templated_kernel_counter"]
    return Contestant(run, note=f"of {packed} packed products {templates} in C++ templates, the others in MKL")


def training(model: fu.nn.LISTA, y: Tensor, truth: Tensor) -> Contestant:
    program = _compiled(_loss, _shape(model, y))
    groups = weights(model)
    contestant = step(model, lambda: program(y, truth, *groups))
    contestant.run()
    return contestant
