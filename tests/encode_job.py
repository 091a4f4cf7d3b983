"""A small job of ``fastunroll encode`` that reads every kind of file, for the tests of what happens to these files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastunroll.encode import EncodeError, Summary, encode, load
from fastunroll.encode import run as running

ROWS, SIZE = 20, 4  # samples, and samples a shard
READ = {"input": "Y.npy", "dictionary": "D.npy", "lam file": "L.npy", "file of weights": "W.npy"}


def write_files(folder: Path, seed: int = 0) -> None:
    """Writes the files that the job reads."""
    random = np.random.default_rng(seed)
    np.save(folder / "D.npy", random.standard_normal((4, 6)))
    np.save(folder / "Y.npy", random.standard_normal((ROWS, 4)))
    np.save(folder / "L.npy", random.uniform(0.1, 0.5, ROWS))
    np.save(folder / "W.npy", random.uniform(0.5, 2, 6))
    for name in READ.values():
        os.utime(folder / name, (1e9, 1e9))  # a change has another time, even on a file system with coarse times


def run(folder: Path, output: str = "codes.npz", **options: Any) -> Summary:
    """Runs the job on the files of a folder."""
    usual: dict[str, Any] = {"lam_file": folder / "L.npy", "weights": folder / "W.npy", "shard_size": SIZE}
    summary = encode(folder / "D.npy", folder / "Y.npy", folder / output, **{**usual, **options})
    assert summary is not None
    return summary


def refused(folder: Path, **options: Any) -> str:
    """What the job says that refuses to run: one sentence on one line."""
    with pytest.raises(EncodeError) as error:
        run(folder, **options)
    message = str(error.value)
    assert message
    assert message.isprintable(), message
    return message


def assert_right(folder: Path, output: str = "codes.npz") -> None:
    """The output is what a run at one go writes for the files as they are, to the last byte."""
    target = Path(os.path.realpath(folder / output))
    run(folder, "fresh.npz")
    assert target.read_bytes() == (folder / "fresh.npz").read_bytes()
    (folder / "fresh.npz").unlink()
    assert load(target).converged.all()


def before_shard(monkeypatch: pytest.MonkeyPatch, index: int, act: Callable[[], Any]) -> None:
    """Acts once, just before a shard is made. The shards before it are done, the later ones are not."""
    usual = running.shard.make

    def make(job: Any, parts: Any, i: int, progress: Any) -> None:
        if i == index:
            monkeypatch.setattr(running.shard, "make", usual)
            act()
        usual(job, parts, i, progress)

    monkeypatch.setattr(running.shard, "make", make)


def before(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, act: Callable[[], Any]) -> None:
    """Acts once, just before a function of a module is called."""
    usual = getattr(module, name)

    def acting(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(module, name, usual)
        act()
        return usual(*arguments, **options)

    monkeypatch.setattr(module, name, acting)
