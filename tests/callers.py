"""Several threads at work on one object."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

TIMEOUT = 300.0  # only a hang takes longer


def check_callers(samples: int, wrong: Callable[[Tensor], Iterator[str]], *, count: int = 6, times: int = 10) -> None:
    """Threads that start together and each take other samples: ``wrong(rows)`` gives what was not as it should be."""
    problems: list[str] = []
    ready = threading.Barrier(count)

    def work(seed: int) -> None:
        ready.wait()
        for i in range(times):
            rows = torch.randperm(samples, generator=torch.Generator().manual_seed(100 * seed + i))[: 1 + 7 * i]
            problems.extend(wrong(rows))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert problems == []
