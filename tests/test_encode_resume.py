"""``fastunroll encode`` that is killed, interrupted, out of space, or started several times."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from fastunroll.__main__ import main
from fastunroll.encode import EncodeError, encode, merge
from fastunroll.encode import run as running
from forks import TIMEOUT, Fork, launch

SAMPLES, SIZE = 400, 5
_started: list[Fork] = []


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """Not even by a test that fails."""
    yield
    while _started:
        _started.pop().kill()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dictionary, samples, and their codes: written at one go, and as shards."""
    folder = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(0)
    np.save(folder / "D.npy", random.standard_normal((8, 20)))
    np.save(folder / "Y.npy", random.standard_normal((SAMPLES, 8)))
    main(command(folder, folder / "whole.npz"))
    main(command(folder, folder / "shards.npz", "--shards"))
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where codes go."""
    return tmp_path / "codes.npz"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """The folder of an output, with all shards."""
    return shutil.copytree(made / "shards.npz.parts", tmp_path / "codes.npz.parts")


def command(folder: Path, output: Path, *more: str) -> list[str]:
    files = ["--dictionary", "D.npy", "--input", "Y.npy", "--output", output, "--lam", "0.5", "--shard-size", SIZE]
    return ["encode", *(str(folder / f) if str(f).endswith((".npy", ".npz")) else str(f) for f in files), *more]


def slowed(call: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def slow(*arguments: Any) -> Any:
        time.sleep(seconds)
        return call(*arguments)

    return slow


def slow_main(arguments: list[str], seconds: float, largest_file: int | None = None) -> None:
    """The command, with time to kill it before each shard and in the merge, however fast the machine is."""
    running.shard.make = slowed(running.shard.make, seconds)
    merge.storage.read = slowed(merge.storage.read, 0.001)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    main(arguments)


def start(made: Path, output: Path, *more: str, seconds: float = 0.02, largest_file: int | None = None) -> Fork:
    _started.append(Fork(output.parent, slow_main, command(made, output, *more), seconds, largest_file))
    return _started[-1]


def done(made: Path, output: Path) -> str:
    process = start(made, output, seconds=0)
    out, err = process.communicate()
    assert process.poll() == 0, err
    return out


def wait(process: Fork, until: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not until():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.001)


def shards(output: Path) -> list[str]:
    folder = output.with_name(output.name + ".parts")
    return sorted(p.name for p in folder.glob("shard-*.npz")) if folder.exists() else []


def assert_whole(output: Path, made: Path) -> None:
    """Equal to what was written at one go, to the last byte: rows in order, none lost, none twice. Nothing is left."""
    assert output.read_bytes() == (made / "whole.npz").read_bytes()
    assert scipy.sparse.load_npz(output).shape == (SAMPLES, 20)
    assert not output.with_name(output.name + ".parts").exists()


def test_killed_and_started_again(made: Path, output: Path) -> None:
    for count in (3, 20, 40):
        process = start(made, output)
        wait(process, lambda count=count: len(shards(output)) >= count)
        process.kill()
        assert count <= len(shards(output)) < SAMPLES // SIZE
        assert not output.exists()
    out = done(made, output)
    assert f"codes of {SAMPLES} samples" in out
    assert_whole(output, made)


def test_what_is_done_is_not_done_again(made: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(made, output)
    wait(process, lambda: len(shards(output)) >= 20)
    process.kill()
    there, solved = set(shards(output)), []
    from fastunroll.encode import run

    make = run.shard.make
    monkeypatch.setattr(run.shard, "make", lambda job, parts, i, bar: (solved.append(i), make(job, parts, i, bar)))
    main(command(made, output))
    assert sorted([*(int(name[6:12]) for name in there), *solved]) == list(range(SAMPLES // SIZE))
    assert_whole(output, made)


def test_killed_while_it_merges(made: Path, output: Path, folder: Path) -> None:
    process = start(made, output, seconds=0)
    wait(process, lambda: any(output.parent.glob("codes.npz.*.partial")))
    process.kill()
    assert any(output.parent.glob("codes.npz.*.partial"))
    assert not output.exists()
    assert "codes of" in done(made, output)
    assert_whole(output, made)
    assert not any(output.parent.glob("*.partial"))


def test_killed_while_it_cleans_up(made: Path, output: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The output is there, and so is part of the folder."""
    kept = (folder / "job.json").read_text()
    main(command(made, output))
    assert not folder.exists()
    folder.mkdir()
    (folder / "lock").touch()
    (folder / "job.json").write_text(kept)
    (folder / "shard-000007.npz.partial").write_bytes(b"PK")
    capsys.readouterr()
    main(command(made, output))
    assert "is complete, and nothing is left to solve" in capsys.readouterr().out
    assert_whole(output, made)


def test_interrupted(made: Path, output: Path, tmp_path: Path) -> None:
    process = start(made, output)
    wait(process, lambda: len(shards(output)) >= 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.poll() == 130
    count = len(shards(output)) * SIZE
    assert err.strip() == (
        f"fastunroll encode: interrupted; {count} of {SAMPLES} samples are done, the same command continues from there"
    )
    assert not list(tmp_path.rglob("*.partial"))
    main(command(made, output))
    assert_whole(output, made)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_full_disk(made: Path, output: Path, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Really full: the file that a shard is written to is /dev/full."""
    (folder / "shard-000050.npz").unlink()
    (folder / "shard-000050.npz.partial").symlink_to("/dev/full")
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(command(made, output))
    assert stopped.value.code == 2
    assert capfd.readouterr().err == (
        f"fastunroll encode: cannot write {folder}/shard-000050.npz: No space left on device; {SAMPLES - SIZE} of "
        f"{SAMPLES} samples are done, free disk space, and the same command continues from there\n"
    )
    assert not (folder / "shard-000050.npz").exists()
    assert not list(tmp_path.rglob("*.partial"))
    main(command(made, output))
    assert_whole(output, made)


def test_no_room_for_the_merged_file(made: Path, output: Path, tmp_path: Path) -> None:
    """The shards fit, the whole does not."""
    process = start(made, output, seconds=0, largest_file=20_000)
    _, err = process.communicate()
    assert process.poll() == 2
    assert err == (
        f"fastunroll encode: cannot write {output}: File too large; {SAMPLES} of {SAMPLES} samples are done, free "
        "disk space, and the same command continues from there\n"
    )
    assert not output.exists()
    assert len(shards(output)) == SAMPLES // SIZE
    assert not list(tmp_path.rglob("*.partial"))
    main(command(made, output))
    assert_whole(output, made)


def test_damaged_shards_are_made_again(
    made: Path, output: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (folder / "shard-000003.npz").read_bytes()
    (folder / "shard-000003.npz").write_bytes(whole[:-300])
    (folder / "shard-000004.npz").write_bytes(b"")
    (folder / "shard-000005.npz").write_bytes(whole[:20])
    main(command(made, output))
    err = capsys.readouterr().err
    assert all(f"shard-{i:06d}.npz is damaged and is solved again" in err for i in (3, 4, 5))
    assert_whole(output, made)


CHANGES: dict[str, tuple[list[str], str]] = {
    "lam": (["--lam", "0.25"], "lam was 0.5 and is now 0.25"),
    "tolerance": (["--tol", "1e-3"], "tol was 1e-06 and is now 0.001"),
    "kind of lam": (["--relative-lam", "0.5"], "lam was 0.5 and is now not given, relative lam was not given and is"),
    "dtype": (["--dtype", "float32"], "the content of the dictionary differs, dtype was float64 and is now float32"),
    "shards": (["--shard-size", "6"], "shard size was 5 and is now 6"),
    "sign": (["--nonnegative"], "nonnegative was False and is now True"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.usefixtures("folder")
def test_another_job(made: Path, output: Path, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused beside unfinished work and beside an output, and replaces both if told to."""
    flags, says = CHANGES[change]
    other = [*command(made, output), *flags]
    if "--relative-lam" in flags:
        del other[other.index("--lam") : other.index("--lam") + 2]
    with pytest.raises(SystemExit) as stopped:
        main(other)
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert len(shards(output)) == SAMPLES // SIZE

    main(command(made, output))
    if change == "shards":  # they change nothing in the output
        main(other)
        assert_whole(output, made)
        return
    with pytest.raises(SystemExit):
        main(other)
    assert says in capsys.readouterr().err
    assert_whole(output, made)
    main([*other, "--overwrite"])
    written = output.read_bytes()
    assert written != (made / "whole.npz").read_bytes()
    main([*other, "--overwrite"])  # it is not done twice
    assert "is complete" in capsys.readouterr().out
    assert output.read_bytes() == written


def test_other_samples(made: Path, tmp_path: Path) -> None:
    Y = np.load(made / "Y.npy")
    np.save(tmp_path / "Y.npy", Y)
    arguments: dict[str, Any] = {"lam": 0.5, "shard_size": 100}
    files = (made / "D.npy", tmp_path / "Y.npy", tmp_path / "codes.npz")
    encode(*files, **arguments)
    Y[-1] += 1
    np.save(tmp_path / "Y.npy", Y)
    os.utime(tmp_path / "Y.npy", (1, 1))
    with pytest.raises(
        EncodeError, match=r"the content of the input differs, the time of the input's last change diff"
    ):
        encode(*files, **arguments)
    np.save(tmp_path / "D.npy", 2 * np.load(made / "D.npy"))
    with pytest.raises(EncodeError, match="the content of the dictionary differs"):
        encode(tmp_path / "D.npy", *files[1:], **arguments)


def test_overwritten_work_is_resumed_by_the_same_command(made: Path, output: Path, tmp_path: Path) -> None:
    """--overwrite discards the work of another job once, not its own each time."""
    main([*command(made, output, "--shards"), "--tol", "1e-3"])
    process = start(made, output, "--overwrite")
    manifest = tmp_path / "codes.npz.parts" / "job.json"
    wait(process, lambda: "1e-06" in manifest.read_text() and len(shards(output)) >= 3)
    process.kill()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "codes.npz.parts").glob("shard-*.npz")}
    main(command(made, output, "--overwrite", "--shards"))
    assert all(p.stat().st_mtime_ns == then for p, then in before.items())
    main(command(made, output))
    assert_whole(output, made)


def test_the_shard_size_is_remembered(made: Path, output: Path, folder: Path) -> None:
    arguments = command(made, output)
    at = arguments.index("--shard-size")
    main(arguments[:at] + arguments[at + 2 :])
    assert_whole(output, made)


@pytest.mark.parametrize("killed", [False, True])
def test_three_at_once(made: Path, output: Path, killed: bool) -> None:
    """Without torchrun: they share the shards out, and take over those of one that dies."""
    processes = [start(made, output) for _ in range(3)]
    if killed:
        wait(processes[0], lambda: len(shards(output)) >= 20)
        processes[0].kill()
    for number, process in enumerate(processes):
        _, err = process.communicate()
        assert process.poll() == (-9 if killed and number == 0 else 0), err
    assert_whole(output, made)


def test_torchrun(made: Path, output: Path, tmp_path: Path) -> None:
    """Two processes that a scheduler stops and starts again."""
    _started.append(launch(tmp_path, slow_main, command(made, output), 0.05))
    wait(_started[0], lambda: len(shards(output)) >= 20)
    _started[0].send_signal(signal.SIGTERM)
    _started[0].communicate()
    assert not output.exists()
    assert 20 <= len(shards(output)) < SAMPLES // SIZE
    _started.append(launch(tmp_path, main, command(made, output)))
    out, err = _started[1].communicate()
    assert _started[1].poll() == 0, err
    assert out.count("codes of") == 1
    assert_whole(output, made)


def test_rank_that_does_not_fit(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(SystemExit):
        main(command(made, tmp_path / "codes.npz"))
    assert "fastunroll encode: RANK=2 and WORLD_SIZE=2 in the environment do not fit" in capsys.readouterr().err


def test_at_work_elsewhere(made: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder of another job is not taken from a process that is at work in it."""
    process = start(made, output)
    wait(process, lambda: len(shards(output)) >= 3)
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(SystemExit):
        main([*command(made, output, "--overwrite"), "--tol", "1e-3"])
    assert "another process is at work in" in capsys.readouterr().err
    process.send_signal(signal.SIGCONT)
    assert process.communicate()
    assert_whole(output, made)
