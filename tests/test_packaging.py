"""What is installed: the native module's dependencies, types, version, and one OpenMP runtime in the process."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import fastunroll as fu
import pytest
import torch
from fastunroll import _fastunroll

NATIVE = Path(_fastunroll.__file__)
EVERYWHERE = _fastunroll.compiled_instruction_sets()[-1]  # the set that every processor of this kind has
ROOT = Path(__file__).parent.parent


def needed() -> list[str]:
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed: cannot read the native module's dependencies")
    dynamic = subprocess.run(["readelf", "-d", str(NATIVE)], capture_output=True, text=True, check=True).stdout
    return re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)


def test_native_module_links_neither_torch_nor_cuda() -> None:
    libraries = needed()
    assert libraries
    assert not [name for name in libraries if re.search(r"torch|c10|cudart|cublas|cufft|python", name)]


HEAVY = "matplotlib", "skimage", "scipy", "sklearn", "tqdm", "jax"
ALONE = f"""
import sys, torch
before = set(sys.modules)
import fastunroll as fu
from fastunroll import _info
fu.nn.LISTA(m=3, n=5)
print(*[m for m in {HEAVY} if m in sys.modules and m not in before])
fu.soft_threshold(torch.randn(100_000), 0.1)
print(*_info.openmp_libraries(), sep="|")
"""


@pytest.fixture(scope="module")
def alone() -> list[str]:
    """What a process loads that uses the package alone: other libraries that tests import load more."""
    return subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True).stdout.split("\n")


def test_one_openmp_runtime(alone: list[str]) -> None:
    libraries = alone[1]
    if not libraries:
        pytest.skip("this system does not list a process's libraries in /proc/self/maps")
    assert len(libraries.split("|")) == 1


def test_typed_and_versioned() -> None:
    assert files("fastunroll").joinpath("py.typed").is_file()
    assert fu.__version__ == version("fastunroll")
    assert f"## {fu.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_import_is_light(alone: list[str]) -> None:
    """Nothing but torch and numpy is needed to import the package and use its networks."""
    assert alone[0] == ""


@pytest.mark.parametrize(("asked", "says"), [(EVERYWHERE, "asks for it"), ("avx9", "not compiled in")])
def test_instruction_set_from_the_environment(asked: str, says: str) -> None:
    """Asked of the native module alone, which starts sooner than torch."""
    code = f"""if True:
    import importlib.util
    spec = importlib.util.spec_from_file_location("_fastunroll", {str(NATIVE)!r})
    native = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native)
    print(native.instruction_set(), native.instruction_set_reason(), sep="|")
    """
    env = {**os.environ, "FASTUNROLL_ISA": asked}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    chosen, reason = out.strip().split("|")
    assert chosen in (_fastunroll.compiled_instruction_sets() if asked == "avx9" else [EVERYWHERE])
    assert says in reason


def test_no_file_is_two_ideas() -> None:
    sources = [p for d in ("csrc", "python", "tests", "bench") for p in (ROOT / d).rglob("*.*")]
    code = [p for p in sources if p.suffix in {".py", ".pyi", ".h", ".cpp", ".cu"}]
    assert len(code) > 30
    assert not [f"{p}: {n} lines" for p in code if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400]


def test_public_names_are_documented() -> None:
    public = [getattr(fu, name) for name in fu.__all__]
    for module in (
        fu.nn,
        fu.operators,
        fu.prox,
        fu.schemes,
        fu.solvers,
        fu.losses,
        fu.metrics,
        fu.reference,
        fu.training,
        fu.data,
        fu.diagnostics,
        fu.convert,
    ):
        names = getattr(module, "__all__", None) or [
            n
            for n, f in vars(module).items()
            if n[0] != "_" and callable(f) and getattr(f, "__module__", "") == module.__name__
        ]
        public += [getattr(module, n) for n in names]
    for thing in public:
        assert thing.__doc__, thing
        if isinstance(thing, type) and issubclass(thing, torch.nn.Module):
            takes_nothing = thing.__init__ is torch.nn.Module.__init__
            assert takes_nothing or "Raises:" in thing.__doc__, thing


@pytest.mark.parametrize(
    "module",
    [fu, fu.convert, fu.data, fu.diagnostics, fu.losses, fu.metrics, fu.nn, fu.operators, fu.solvers, fu.training],
)
def test_public_functions_state_their_arguments_and_errors(module: ModuleType) -> None:
    """Each by its name, in the docstring."""
    names = getattr(module, "__all__", None) or vars(module)
    functions = [f for n in names if inspect.isfunction(f := getattr(module, n)) and n[0] != "_"]
    functions = [f for f in functions if getattr(module, "__all__", None) or f.__module__ == module.__name__]
    assert functions
    for f in functions:
        doc, parameters = inspect.getdoc(f) or "", inspect.signature(f).parameters
        described = doc.partition("Args:")[2].partition("Returns:")[0].partition("Raises:")[0]
        assert not [n for n in parameters if not re.search(rf"^ .*\b{n}\b.*:", described, re.MULTILINE)], f.__name__
        assert not parameters or "Raises:" in doc or f is fu.backend, f.__name__


def test_public_names_are_in_the_pages() -> None:
    pages = "".join(p.read_text(encoding="utf-8") for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    for module in (fu.nn, fu.training, fu.solvers, fu.operators):
        assert not [name for name in module.__all__ if name not in pages]
    assert not [name for name in fu.__all__ if f"{name}" not in pages]


def test_contributing_names_every_file() -> None:
    """By its name or a pattern, so that the map stays true; a network, an operator or a prior names itself."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = {token.split("/")[-1] for token in re.findall(r"`([^`\n]+)`", text)}
    every = [*(ROOT / "python").rglob("*.py"), *(ROOT / "csrc").rglob("*.*")]
    every += [*(ROOT / "tests").glob("*.py"), *(ROOT / "tests/fuzz").glob("*.py"), *(ROOT / "bench").glob("*.py")]
    assert len(every) > 200
    missing = [
        str(file.relative_to(ROOT))
        for file in every
        if not (
            file.name == "__init__.py"
            or file.match("test_*.py")
            or file.match("nn/*.py")
            or file.match("operators/*.py")
            or file.match("prox/*.py")
        )
        and not any(fnmatch(file.name, name) for name in named)
    ]
    assert not missing
