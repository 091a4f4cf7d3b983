"""The oldest versions that are promised, tested by ``make test-oldest``, and written about are the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastunroll import _files

ROOT = Path(__file__).parent.parent


def promised(package: str) -> str:
    """The least version of a dependency in pyproject.toml."""
    found = re.search(
        rf'^dependencies = .*"{package}>=([0-9.]+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE
    )
    assert found
    return found[1]


@pytest.mark.parametrize(("package", "said"), [("torch", "torch"), ("numpy", "NumPy"), ("tqdm", None)])
def test_the_oldest_versions(package: str, said: str | None) -> None:
    oldest = promised(package)
    assert f"\n{package}=={oldest}.0\n" in (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8")
    if said:
        assert f"{said} ≥ {oldest}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_files_are_read_by_versions_that_run_no_code() -> None:
    assert str(_files._SAFE_LOAD) == promised("torch")
