"""Processes that start in milliseconds: forks of one that has imported the package already."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fastunroll.__main__  # imported once for all forks
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

TIMEOUT = 300  # for what takes seconds: only a hang takes longer
_numbers = itertools.count()


def _prepared() -> Any:
    """Starts the process that is forked, with one thread and what is imported in it, if there is none yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "pytest", "scipy.sparse", "torch._dynamo"])
    with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), OMP_NUM_THREADS="1"):
        forkserver.ensure_running()
    return context


def _call(texts: list[Path], function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    for stream, text in enumerate(texts, 1):
        os.dup2(os.open(text, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    function(*arguments)


class Fork:
    """A call in a process of its own, used as a ``Popen`` is. Files in a folder take what it prints."""

    def __init__(self, folder: Path, function: Callable[..., object], *arguments: Any) -> None:
        number = next(_numbers)
        self._texts = [folder / f"{number}.{stream}" for stream in ("out", "err")]
        self._process: Any = _prepared().Process(target=_call, args=(self._texts, function, arguments))
        self._process.start()

    def poll(self) -> int | None:
        status: int | None = self._process.exitcode
        return status

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def printed(self) -> str:
        """What it has printed until now."""
        return self._texts[0].read_text() if self._texts[0].exists() else ""

    def communicate(self) -> tuple[str, str]:
        self._process.join(TIMEOUT)
        if self.poll() is None:
            self.kill()
            raise TimeoutError(f"the process hangs: {self._texts[1].read_text()}")
        return self.printed(), self._texts[1].read_text()


def _execute(code: str) -> None:
    exec(compile(code, "<code>", "exec", dont_inherit=True), {"__name__": "__main__"})


def _run(script: Path, arguments: tuple[str, ...]) -> None:
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")


def _run_installed(words: tuple[str, ...]) -> None:
    (script,) = entry_points(group="console_scripts", name=words[0])
    sys.argv = [*words]
    sys.exit(script.load()())


def _launch(function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    two = LaunchConfig(1, 1, 2, run_id=str(os.getpid()), rdzv_backend="c10d", rdzv_endpoint="localhost:0",
                       max_restarts=0, start_method="fork")  # fmt: skip
    elastic_launch(two, function)(*arguments)


def launch(folder: Path, function: Callable[..., object], *arguments: Any) -> Fork:
    """A call in each of two processes that ``torchrun`` starts: its launcher is a fork, and they are forks of that."""
    return Fork(folder, _launch, function, arguments)


def _succeeds(process: Fork) -> str:
    out, err = process.communicate()
    assert process.poll() == 0, err
    return out


def printed(folder: Path, code: str) -> str:
    """What a program prints that runs in a fork, and succeeds."""
    return _succeeds(Fork(folder, _execute, code))


def printed_by_script(folder: Path, script: Path, *arguments: str) -> str:
    """What a script prints that runs in a fork with these arguments, and succeeds."""
    return _succeeds(Fork(folder, _run, script, arguments))


def printed_by_command(folder: Path, *arguments: str) -> str:
    """What ``fastunroll`` prints that runs in a fork with these arguments, and succeeds."""
    return _succeeds(Fork(folder, fastunroll.__main__.main, list(arguments)))


def printed_as_installed(folder: Path, *words: str) -> str:
    """What a command line prints that runs in a fork and succeeds: what is installed under its first word."""
    return _succeeds(Fork(folder, _run_installed, words))
