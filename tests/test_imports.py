"""The modules of the package import each other one way: there is no circle, not even of imports inside functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import fastunroll
import pytest

ROOT = Path(fastunroll.__file__).parent


def module_name(path: Path) -> str:
    parts = (ROOT.name, *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
NATIVE = f"{ROOT.name}._fastunroll"  # imports nothing


def is_for_types(node: ast.AST) -> bool:
    """Whether a statement is ``if TYPE_CHECKING:``."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not is_for_types(node):
            yield node
            yield from statements(node)


def imports(source: str, package: str, *, in_functions: bool = True) -> set[str]:
    """The modules of the package that a source imports from within ``package``.

    A name that is a module counts as that module, any other as the module that it is imported from.
    """
    found = set()
    tree = ast.parse(source)
    for node in statements(tree) if in_functions else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            named = {f"{base}.{alias.name}" for alias in node.names}
            modules = named & {*MODULES, NATIVE}
            found |= modules if modules == named else {*modules, base}
    return found & MODULES.keys()


def graph() -> dict[str, set[str]]:
    edges = {}
    for name, path in MODULES.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        # The base class of operators makes compositions of them: A @ B is a Composed, A.H an Adjoint.
        in_functions = name != "fastunroll.operators.linear_operator"
        edges[name] = imports(path.read_text(encoding="utf-8"), package, in_functions=in_functions) - {name}
    return edges


def circle(edges: dict[str, set[str]]) -> list[str]:
    """A way from a module back to itself; empty if there is none."""
    done: set[str] = set()

    def search(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name not in done:
            for other in sorted(edges[name]):
                if found := search(other, [*way, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in sorted(edges) if (found := search(name, []))), [])


def test_there_is_no_circle_of_imports() -> None:
    edges = graph()
    assert sum(map(len, edges.values())) > len(edges)  # the analysis sees imports
    assert circle(edges) == []


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "a"]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("from . import library", {"fastunroll.ops.library"}),
        ("from .. import reference, _checks as c", {"fastunroll.reference", "fastunroll._checks"}),
        ("from ..reference import prox", {"fastunroll.reference"}),
        ("def late():\n    from .network import network", {"fastunroll.ops.network"}),
        ("if TYPE_CHECKING:\n    from .network import network", set()),
        ("import torch\nfrom torch import Tensor", set()),
    ],
)
def test_imports_are_seen(source: str, wanted: set[str]) -> None:
    assert imports(source, "fastunroll.ops") == wanted


def test_backends_do_not_know_the_operators() -> None:
    edges = graph()
    for name in edges:
        if name.startswith(("fastunroll.ops.cpu.network", "fastunroll.ops.cpu.adaptive", "fastunroll.ops.cuda.")):
            assert not edges[name] & {"fastunroll.ops", "fastunroll.ops.network", "fastunroll.ops.backends"}, name
