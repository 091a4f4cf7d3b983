"""Files that ``fastunroll encode`` reads, with any content: each is refused in one sentence, or made again."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encode_job import READ, ROWS, SIZE, assert_right, refused, run, write_files
from fastunroll.encode import Codes, EncodeError, load
from fastunroll.encode.array_file import ArrayFile

SHARD = "kept.npz.parts/shard-000001.npz"
JOB_FILE = "kept.npz.parts/job.json"
NPY = [*READ.values()]
FILES = [*NPY, "done.npz", SHARD, JOB_FILE]
DEEP = 100_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of a job, an output, and shards that were kept."""
    folder = tmp_path_factory.mktemp("made")
    write_files(folder)
    run(folder, "done.npz")
    run(folder, "kept.npz", keep_shards=True)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "files")


def sentence(attempt: Callable[[], Any]) -> str:
    """What is said of the files, which is one sentence on one line; empty if they are used."""
    try:
        attempt()
    except EncodeError as error:
        said = str(error)
    else:
        return ""
    assert said.isprintable(), said
    assert 0 < len(said) < 1000
    return said


def tried(folder: Path, name: str) -> str:
    """What is said where the codes are loaded, or else where the job is run on a file."""
    output = "done.npz" if name == "done.npz" else "kept.npz"
    loading = sentence(lambda: load(folder / output))
    return loading or sentence(lambda: run(folder, output, keep_shards=output == "kept.npz"))


def exchanged(path: Path, content: bytes) -> None:
    """Gives a file another content, and its old time."""
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


CONTENTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda old: b"",
    "a quarter": lambda old: old[: len(old) // 4],
    "half": lambda old: old[: len(old) // 2],
    "all but a byte": lambda old: old[:-1],
    "all but the first byte": lambda old: old[1:],
    "too long": lambda old: old + b"\x01more",
    "zeros": lambda old: bytes(len(old)),
    "garbage": lambda old: np.random.default_rng(len(old)).bytes(len(old)),
    "text": lambda old: b"1,2,3\n" * 50,
    "deep JSON": lambda old: b"[" * DEEP,
    "deep JSON objects": lambda old: b'{"a":' * DEEP,
    "a number of many digits": lambda old: b"9" * 10_000,
    "not UTF-8": lambda old: b'{"version": "\xff\xfe"}',
    "magic alone": lambda old: b"\x93NUMPY",
    "archive of nothing": lambda old: b"PK\x05\x06" + bytes(18),
    "archive alone": lambda old: b"PK\x03\x04",
}


# Archives may have more after their end, and JSON may end without an empty line.
HARMLESS_CONTENTS = {("done.npz", "too long"), (SHARD, "too long"), (JOB_FILE, "all but a byte")}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", FILES)
def test_content(folder: Path, name: str, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / name
    whole = path.read_bytes()
    damaged = CONTENTS[content](whole)
    exchanged(path, damaged)
    if (name, content) in HARMLESS_CONTENTS:
        assert not tried(folder, name)
        return
    assert str(path) in tried(folder, name)
    assert path.read_bytes() == damaged
    said = sentence(lambda: run(folder, "done.npz" if name == "done.npz" else "kept.npz", keep_shards=name == SHARD))
    if f"{path} is damaged and is solved again\n" == capsys.readouterr().err:
        assert path.read_bytes() == whole
    else:
        assert str(path) in said
        assert path.read_bytes() == damaged


def put_pipe(path: Path) -> None:
    os.mkfifo(path)


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "folder": (Path.mkdir, "directory|folder"),
    "pipe": (put_pipe, "it is a pipe or a device, not a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is a pipe or a device, not a file"),
    "link to itself": (lambda path: path.symlink_to(path), "links|leads to itself|missing"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file(folder: Path, name: str, kind: str) -> None:
    """A pipe would be waited for, a device read without end."""
    path = folder / name
    path.unlink()
    KINDS[kind][0](path)
    output = "done.npz" if name == "done.npz" else "kept.npz"
    loading = sentence(lambda: load(folder / output)) if name not in NPY else ""
    running = sentence(lambda: run(folder, output)) if (name, kind) != (SHARD, "link to itself") else ""
    for message in filter(None, (loading, running)):
        assert (path.parent.name if name == SHARD else str(path)) in message
        assert any(says in message for says in KINDS[kind][1].split("|")), message
    assert running or (name, kind) == (SHARD, "link to itself")  # which is replaced by the shard


@pytest.mark.parametrize("kind", KINDS)
def test_lock_that_is_no_file(folder: Path, kind: str) -> None:
    lock = folder / "kept.npz.parts" / "lock"
    lock.unlink()
    KINDS[kind][0](lock)
    assert "holds other files" in refused(folder, output="kept.npz")


def header(text: bytes, version: bytes = b"\x01\x00", length: int | None = None) -> bytes:
    """The beginning of a ``.npy`` file with this header, and room for any data."""
    size = len(text) if length is None else length
    return b"\x93NUMPY" + version + struct.pack("<H" if version == b"\x01\x00" else "<I", size) + text + bytes(1000)


def described(shape: str = "(20, 4)", descr: str = "'<f8'", order: str = "False") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()


HEADERS: dict[str, bytes] = {
    "nested parentheses": header(described("(" * 5000 + ")" * 5000)),
    "nested signs": header(described("-" * 9000 + "1")),
    "nested lists": header(described("[" * 90 + "]" * 90)),
    "many digits": header(described("(" + "9" * 9000 + ",)")),
    "two of many digits": header(described("(" + "9" * 4000 + "," + "9" * 4000 + ")")),
    "huge": header(described("(10000000000000000000000000000000, 4)")),
    "huge and empty": header(described("(10000000000000000000000000000000, 0)")),
    "product beyond 64 bits": header(described("(4611686018427387904, 4611686018427387904)")),
    "negative": header(described("(-20, 4)")),
    "both negative": header(described("(-20, -4)")),
    "fractions": header(described("(20.0, 4)")),
    "truths": header(described("(True, 4)")),
    "strings": header(described("('20', '4')")),
    "no tuple": header(described("20")),
    "no order": header(described(order="'C'")),
    "no such type": header(described(descr="'<q9'")),
    "type of a list": header(described(descr="[" * 50 + "]" * 50)),
    "type of nothing": header(described(descr="None")),
    "object": header(described(descr="'|O'")),
    "empty type": header(described(descr="'|V0'")),
    "large type": header(described(descr="'|V2147483647'")),
    "fields": header(described(descr="[('a', '<f8'), ('b', '<f8')]")),
    "no dictionary": header(b"[1, 2, 3]\n"),
    "keys that cannot be": header(b"{[]: 1}\n"),
    "other keys": header(b"{'a': 1, 3: 2}\n"),
    "call": header(b"__import__('os').abort()\n"),
    "null": header(b"\x00" * 100),
    "not text": header(b"\xff" * 100),
    "version 3": header(described(), b"\x03\x00"),
    "version 9": header(described(), b"\x09\x09"),
    "long": header(described() + b" " * 20_000),
    "longer than the file": header(described(), b"\x02\x00", 2**32 - 1),
    "without length": b"\x93NUMPY\x01\x00",
}


@pytest.mark.parametrize("case", HEADERS)
@pytest.mark.parametrize("name", NPY)
def test_header(folder: Path, name: str, case: str) -> None:
    exchanged(folder / name, HEADERS[case])
    assert str(folder / name) in tried(folder, name)


def with_member(path: Path, name: str, array: Any) -> None:
    """Writes an archive again with another array in it, and right checksums; None leaves the array out."""
    with zipfile.ZipFile(path) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    if array is None:
        del members[name + ".npy"]
    else:
        stream = io.BytesIO()
        np.save(stream, array)
        members[name + ".npy"] = stream.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in members.items():
            archive.writestr(zipfile.ZipInfo(entry), content)


ARRAYS: dict[str, Callable[[np.ndarray[Any, Any]], Any]] = {
    "missing": lambda old: None,
    "number": lambda old: np.array(3),
    "matrix": lambda old: np.zeros((2, 2)),
    "longer": lambda old: np.append(old, old[-1:]),
    "empty": lambda old: old[:0],
    "strings": lambda old: old.astype(str),
    "complex": lambda old: old.astype(complex),
    "large": lambda old: np.full_like(old, True if old.dtype == bool else 2**30),
    "negative": lambda old: np.full_like(old, True if old.dtype == bool else -1),
    "falling": lambda old: old[::-1],
}
CSR = ("data", "indices", "indptr", "shape", "gap", "iterations", "converged", "lam")
HARMLESS = {"large", "negative", "falling"}  # of arrays that hold any numbers: that these were not written here


@pytest.mark.parametrize("case", ARRAYS)
@pytest.mark.parametrize("member", CSR)
@pytest.mark.parametrize("name", ["done.npz", SHARD])
def test_array_of_codes(folder: Path, name: str, member: str, case: str) -> None:
    """The checksums are right, so that only a look at the array tells."""
    path = folder / name
    with np.load(path) as arrays:
        other = ARRAYS[case](arrays[member])
    with_member(path, member, other)
    output = folder / ("done.npz" if name == "done.npz" else "kept.npz")
    if case in HARMLESS and member not in ("indices", "indptr", "shape"):
        load(output)
    elif (member, case) == ("indices", "falling"):
        assert load(output).to_scipy().shape == (ROWS, 6)
    else:
        with pytest.raises(EncodeError, match="is damaged, or fastunroll encode did not write it"):
            load(output)
    tried(folder, name)


TEXTS: dict[str, Any] = {
    "nothing": None, "list": [], "string": "a", "number": 3, "empty": {}, "infinite": float("inf"),
    "deep": b"[" * DEEP, "deep objects": b'{"a":' * DEEP, "nested": json.loads("[" * 300 + "]" * 300),
    "huge": 10**400, "digits": b"9" * 5000, "no JSON": b"{'a'}", "not UTF-8": b'"\xff"', "surrogate": "\ud800",
    "lines": "a\nb\x1b[31m", "long": "a" * 10**6,
}  # fmt: skip


def texts(usual: dict[str, Any]) -> dict[str, Any]:
    """Wrong content for JSON: in place of all of it, of each entry, and of each entry of an entry."""
    found = {f"all: {name}": value for name, value in TEXTS.items()}
    for key, inner in usual.items():
        places = [(key,), *((key, part) for part in inner)] if isinstance(inner, dict) else [(key,)]
        for place in places:
            for name, value in TEXTS.items():
                if not isinstance(value, bytes):
                    other = json.loads(json.dumps(usual))
                    parent = other if len(place) == 1 else other[key]
                    parent[place[-1]] = value
                    if other != usual:
                        found[f"{'/'.join(place)}: {name}"] = other
    return found


def as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def test_text_of_the_job_file(folder: Path) -> None:
    """No content makes anything but one sentence, or the same job."""
    path = folder / JOB_FILE
    for case, value in texts(json.loads(path.read_bytes())).items():
        path.write_bytes(as_bytes(value))
        message = tried(folder, JOB_FILE)
        assert message or case.startswith("fastunroll: "), case  # the version that wrote it is for the reader only
        assert str(folder / "kept.npz.parts") in message or not message, case


def test_text_in_an_output(folder: Path) -> None:
    path = folder / "done.npz"
    with np.load(path) as arrays:
        usual = json.loads(arrays["job"].tobytes())
    for case, value in texts(usual).items():
        with_member(path, "job", np.array(as_bytes(value)))
        content = path.read_bytes()
        tried(folder, "done.npz")
        assert path.read_bytes() == content, case


def test_text_in_a_shard(folder: Path) -> None:
    path = folder / SHARD
    whole = path.read_bytes()
    with np.load(path) as arrays:
        usual = json.loads(arrays["fastunroll"].tobytes())
    for case, value in texts(usual).items():
        path.write_bytes(whole)
        with_member(path, "fastunroll", np.array(as_bytes(value)))
        tried(folder, SHARD)
        path.unlink(missing_ok=True)
        run(folder, "kept.npz", keep_shards=True)
        assert path.read_bytes() == whole, case


@pytest.mark.parametrize("name", ["done.npz", SHARD])
def test_bits_that_flip(folder: Path, name: str) -> None:
    """Anywhere in the file: what is used after that is right, or is refused."""
    path = folder / name
    whole = path.read_bytes()
    with np.load(folder / "done.npz") as arrays:
        right = {member: arrays[member] for member in CSR}
    random = np.random.default_rng(0)
    output = folder / ("done.npz" if name == "done.npz" else "kept.npz")
    found: list[Codes] = []
    for position in random.integers(len(whole), size=150):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << int(random.integers(8))
        exchanged(path, bytes(flipped))
        found.clear()
        said = sentence(lambda: found.append(load(output)))
        assert str(path) in said or found
        assert all(np.array_equal(getattr(codes, member), right[member]) for codes in found for member in CSR), position


def test_dictionary_that_does_not_fit_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = ArrayFile.rows

    def rows(self: ArrayFile, start: int, stop: int) -> Any:
        if self.role == "dictionary":
            raise MemoryError
        return usual(self, start, stop)

    monkeypatch.setattr(ArrayFile, "rows", rows)
    assert refused(folder) == (
        f"the dictionary {folder / 'D.npy'}, (4, 6) float64, does not fit in memory: give a smaller one"
    )


def test_shards_are_whole_again(folder: Path) -> None:
    """What was made again is what was there."""
    (folder / SHARD).write_bytes(b"")
    assert run(folder, "kept.npz").solved == SIZE
    assert_right(folder, "kept.npz")
