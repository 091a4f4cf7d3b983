"""``fastunroll encode`` where a path is a link: to a file, a folder, another file system, itself or nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from encode_job import READ, ROWS, SIZE, assert_right, before_shard, refused, run, write_files
from fastunroll.encode import load, shards


@pytest.fixture(autouse=True)
def _files(tmp_path: Path) -> None:
    write_files(tmp_path)


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def _file_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file can be renamed from one folder to another, as where they are on different file systems."""
    usual = os.replace

    def replace(source: Any, target: Any) -> None:
        if os.path.realpath(os.path.dirname(source)) != os.path.realpath(os.path.dirname(target)):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        usual(source, target)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.usefixtures("_file_systems")
@pytest.mark.parametrize("holds", ["nothing", "a file of the user"])
def test_folder_of_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holds: str) -> None:
    """The shards are in the folder that the link leads to; the link and the folder stay."""
    scratch, link = tmp_path / "scratch", tmp_path / "codes.npz.parts"
    scratch.mkdir()
    link.symlink_to(scratch)
    with monkeypatch.context() as patch:
        before_shard(patch, 3, interrupt)
        with pytest.raises(KeyboardInterrupt, match=f"{3 * SIZE} of {ROWS} samples are done"):
            run(tmp_path)
    assert len(list(scratch.glob("shard-*.npz"))) == 3
    if holds == "a file of the user":
        (scratch / "shard-notes.txt").write_text("precious")
    assert run(tmp_path).solved == ROWS - 3 * SIZE
    assert [p.name for p in scratch.iterdir()] == (["shard-notes.txt"] if holds == "a file of the user" else [])
    assert link.is_symlink()
    assert_right(tmp_path)
    if holds == "nothing":
        assert run(tmp_path).solved == 0
        assert link.is_symlink()
        assert not list(scratch.iterdir())


@pytest.mark.usefixtures("_file_systems")
def test_folder_of_shards_that_are_kept(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "codes.npz.parts").symlink_to("scratch")
    run(tmp_path, keep_shards=True)
    assert [codes.first for codes in shards(tmp_path / "codes.npz")] == list(range(0, ROWS, SIZE))
    assert [codes.first for codes in shards(tmp_path / "scratch")] == list(range(0, ROWS, SIZE))
    run(tmp_path)
    assert_right(tmp_path)


@pytest.mark.parametrize("role", READ)
def test_file_that_is_read(tmp_path: Path, role: str) -> None:
    run(tmp_path, "wanted.npz")
    name = READ[role]
    (tmp_path / "there").mkdir()
    (tmp_path / name).rename(tmp_path / "there" / name)
    (tmp_path / "link.npy").symlink_to(tmp_path / "there" / name)
    (tmp_path / name).symlink_to("link.npy")
    assert run(tmp_path, "wanted.npz").solved == 0
    assert_right(tmp_path, "wanted.npz")


@pytest.mark.parametrize("target", ["nothing.npy", "itself", "there"])
@pytest.mark.parametrize("role", READ)
def test_link_that_leads_to_no_file(tmp_path: Path, role: str, target: str) -> None:
    path = tmp_path / READ[role]
    path.unlink()
    (tmp_path / "there").mkdir()
    path.symlink_to(path if target == "itself" else tmp_path / target)
    before = {*tmp_path.rglob("*")}
    says = {"nothing.npy": "No such file", "itself": "symbolic links", "there": "Is a directory"}
    assert f"cannot read the {role} {path}: " in (message := refused(tmp_path))
    assert says[target] in message
    assert {*tmp_path.rglob("*")} == before


@pytest.mark.usefixtures("_file_systems")
@pytest.mark.parametrize("target", ["there/real.npz", "new/folder/real.npz", "real.bin"])
def test_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """The file that the link leads to is written, and need not be there; its shards lie beside it."""
    link, real = tmp_path / "codes.npz", tmp_path / target
    (tmp_path / "there").mkdir()
    link.symlink_to(target)
    with monkeypatch.context() as patch:
        before_shard(patch, 3, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    assert len(list(real.with_name(real.name + ".parts").glob("shard-*.npz"))) == 3
    assert run(tmp_path).solved == ROWS - 3 * SIZE
    assert link.is_symlink()
    assert [p.name for p in real.parent.iterdir() if p.name.startswith("real")] == [real.name]
    assert (load(link).data == load(real).data).all()
    assert_right(tmp_path)
    assert run(tmp_path).solved == 0
    assert refused(tmp_path, tol=1e-3).startswith(f"{link} exists, from another job: tol was 1e-06")
    run(tmp_path, tol=1e-3, overwrite=True)
    assert link.is_symlink()
    assert real.is_file()


def test_output_that_leads_to_itself(tmp_path: Path) -> None:
    (tmp_path / "codes.npz").symlink_to("codes.npz")
    assert (
        refused(tmp_path)
        == f"the output {tmp_path / 'codes.npz'} must not be a link that leads to itself: remove the link"
    )


@pytest.mark.parametrize("role", READ)
def test_output_that_is_an_input(tmp_path: Path, role: str) -> None:
    """By a link or by name: ``--overwrite`` would replace what is read."""
    path = tmp_path / READ[role]
    content = path.read_bytes()
    (tmp_path / "codes.npz").symlink_to(path)
    message = refused(tmp_path, overwrite=True)
    assert message == f"the output {tmp_path / 'codes.npz'} must not be the {role} itself: give another --output"
    assert path.read_bytes() == content


def test_two_links_to_one_output_share_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.npz", "b.npz"):
        (tmp_path / name).symlink_to("codes.npz")
    with monkeypatch.context() as patch:
        before_shard(patch, 3, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, "a.npz")
    assert run(tmp_path, "b.npz").solved == ROWS - 3 * SIZE
    assert_right(tmp_path)
