"""Calls from other processes and threads, calls that are interrupted, and calls that cannot be served."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import fastunroll as fu
import pytest
import torch
from callers import check_callers
from fastunroll.ops.cpu import memory
from forks import printed, printed_by_script

NETWORK = """
import os, signal, sys, threading, torch, fastunroll as fu
from fastunroll.ops import network_call
torch.set_num_threads(2)
generator = torch.Generator().manual_seed(0)
net = fu.nn.LISTA(torch.randn(33, 129, generator=generator), layers=4)
y = torch.randn(150, 33, generator=generator)

def results():
    with torch.no_grad():
        out = net(y)
    grads = torch.autograd.grad(net(y).square().sum(), list(net.parameters()), allow_unused=True)
    return [out, *(g for g in grads if g is not None)]

def same(a, b):
    return len(a) == len(b) and all(torch.equal(s, t) for s, t in zip(a, b))
"""


def run(tmp_path: Path, code: str) -> str:
    """What a process prints that runs the code: a fork, which starts sooner, by a file if it starts others."""
    code = NETWORK + dedent(code)
    if "__main__" not in code:
        return printed(tmp_path, code)
    script = tmp_path / "script.py"
    script.write_text(code)
    return printed_by_script(tmp_path, script)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_fork_after_use(tmp_path: Path) -> None:
    """The team of threads does not survive a fork: the child works alone, and finds the same."""
    code = """
    before = results()
    child = os.fork()
    if child == 0:
        os._exit(0 if same(results(), before) else 1)
    mine = same(results(), before)
    _, status = os.waitpid(child, 0)
    print(mine, os.waitstatus_to_exitcode(status))
    """
    assert run(tmp_path, code) == "True 0\n"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_fork_while_another_thread_calls(tmp_path: Path) -> None:
    code = """
    before, stop = results(), threading.Event()
    def caller():
        while not stop.is_set():
            results()
    thread = threading.Thread(target=caller)
    thread.start()
    codes = []
    for _ in range(5):
        child = os.fork()
        if child == 0:
            os._exit(0 if same(results(), before) else 1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    stop.set()
    thread.join()
    print(codes)
    """
    assert run(tmp_path, code) == "[0, 0, 0, 0, 0]\n"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_new_processes(tmp_path: Path, method: str) -> None:
    code = f"""
    import multiprocessing

    def work(queue):
        queue.put([t.detach().numpy() for t in results()])

    if __name__ == "__main__":
        before = results()
        context = multiprocessing.get_context("{method}")
        queue = context.Queue()
        child = context.Process(target=work, args=(queue,))
        child.start()
        found = [torch.from_numpy(a) for a in queue.get(timeout=300)]
        child.join()
        print(same([t.detach() for t in before], found), child.exitcode)
    """
    assert run(tmp_path, code) == "True 0\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader(tmp_path: Path, method: str) -> None:
    if method == "fork" and sys.platform == "win32":
        pytest.skip("there is no fork")
    workers = 2 if method == "fork" else 1  # each imports torch
    code = f"""
    class Codes(torch.utils.data.Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, i):
            with torch.no_grad():
                return net(y[i : i + 40])

    if __name__ == "__main__":
        wanted = [Codes()[i] for i in range(12)]
        loader = torch.utils.data.DataLoader(
            Codes(), batch_size=None, num_workers={workers}, multiprocessing_context="{method}", timeout=300
        )
        print(same(list(loader), wanted))
    """
    assert run(tmp_path, code) == "True\n"


def test_callers_on_several_threads() -> None:
    """They share a module, whose packed weights the first of them makes."""
    A, y = torch.randn(33, 129), torch.randn(150, 33)
    wanted = fu.solvers.fista(A, y, 0.1, iterations=20)
    net = fu.nn.LISTA(A, layers=4, lam=0.1)
    out = net(y).detach()

    def wrong(rows: torch.Tensor) -> Iterator[str]:
        with torch.no_grad():
            if not torch.equal(net(y[rows]), out[rows]):
                yield "forward"
        if not torch.equal(net(y[rows].requires_grad_()), out[rows]):
            yield "forward with gradients"
        if not torch.equal(fu.solvers.fista(A, y[rows], 0.1, iterations=20), wanted[rows]):
            yield "fista"

    check_callers(150, wrong, times=20)


def interrupt(tmp_path: Path, before: str, call: str, file: str, after: str) -> str:
    """What a process prints whose ``call`` is ended by Ctrl-C in native code, called from ``file``; ``after`` too."""
    code = """
    import time
    pressed = []
    BEFORE

    def press():  # once the main thread has been in one call of the core for a while
        seen, last = 0, None
        while seen < 15:
            time.sleep(0.02)
            frame = sys._current_frames()[threading.main_thread().ident]
            place = frame.f_code.co_filename, frame.f_lineno
            seen = seen + 1 if place == last and place[0] == FILE else 0
            last = place
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    try:
        CALL
        print("not interrupted")
    except KeyboardInterrupt:
        print("late" if time.monotonic() - pressed[0] > 60 else "stopped", AFTER)
    """
    for name, text in {"BEFORE": before, "CALL": call, "FILE": file, "AFTER": after}.items():
        code = code.replace(name, text)
    return run(tmp_path, code)


# Each is one native call that takes far longer than it is given.
LONG = {
    "solver": "fu.solvers.fista(torch.randn(64, 256), torch.randn(500, 64), 0.1, iterations=10_000_000, step=1e-4)",
    "few layers": """fu.unrolled(
        torch.randn(30_000, 256), fu.GradientStep(1e-4 * torch.randn(256, 2048)), fu.prox.L1(), 0.0, layers=30,
        x0=torch.ones(30_000, 2048),
    )""",
    "team": """torch.ops.fastunroll.network(
        torch.randn(4, 1024), None, None,
        [torch.zeros(1024, 2048), *[torch.zeros(1024, 2048)] * 50_000, torch.ones(())],
        network_call.encode(fu.ops.NetworkSpec(50_000, linear="gradient"), [1, 50_000, 0, 1, 0, 0]),
        False, False, False,
    )""",
    "backward": """torch.ops.fastunroll.network_backward(
        torch.randn(32, 1024), None, torch.randn(32, 4096), None, None,
        [1e-6 * torch.randn(4096, 1024), torch.ones(()), torch.ones(())], torch.ones(3000, 32, 1024),
        torch.zeros(3000, 32, 4096), torch.zeros(3000, 32, 0, dtype=torch.uint8),
        network_call.encode(fu.ops.NetworkSpec(3000, linear="gradient"), [1, 0, 1, 1, 0, 0]),
        [True] * 3 + [True, False, True, True, False, False],
    )""",
}


@pytest.mark.parametrize("call", LONG.values(), ids=list(LONG))
def test_interrupted(tmp_path: Path, call: str) -> None:
    """Ctrl-C ends a call while it is in the core, and the next one works."""
    before = "before = results()"
    file = "fu.ops.cpu.network.__file__"
    assert interrupt(tmp_path, before, " ".join(call.split()), file, "same(results(), before)") == "stopped True\n"


def test_interrupted_from_columns(tmp_path: Path) -> None:
    """Ctrl-C ends a batch of Lasso problems between two of its samples."""
    call = "fu.solvers.Lasso(torch.randn(300, 3000), gram=False).solve(torch.randn(5000, 300), 0.5)"
    file, after = "fu.ops.Columns.solve.__code__.co_filename", "same(results(), before)"
    assert interrupt(tmp_path, "before = results()", call, file, after) == "stopped True\n"


def test_too_large_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_HUGE", 1 << 20)
    monkeypatch.setattr(memory, "available_memory", lambda: 2_000_000)
    net = fu.nn.LISTA(torch.randn(8, 64), layers=3)
    rule = r"a result of shape \(8000, 64\) takes 0\.0 GB of 0\.0 GB available: use a smaller batch, or for training"
    with pytest.raises(MemoryError, match=rule), torch.no_grad():
        net(torch.randn(8000, 8))
    with pytest.raises(MemoryError, match=r"a result of shape \(3, 4000, 64\) takes .* fewer layers at a time"):
        net(torch.randn(4000, 8))
    with pytest.raises(MemoryError, match="use a smaller batch"):
        fu.solvers.fista(torch.randn(8, 64), torch.randn(8000, 8), 0.1, iterations=2)
    assert net(torch.randn(10, 8)).shape == (10, 64)
