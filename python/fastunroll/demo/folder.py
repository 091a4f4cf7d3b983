"""The folder of the results of a demo, and the error of a demo that cannot run."""

from __future__ import annotations

from pathlib import Path


class DemoError(Exception):
    """The demo cannot run with these arguments. The message is one sentence."""


def require_writable(out: Path) -> None:
    """Makes a folder where there is none.

    Raises:
        DemoError: nothing can be written there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DemoError(f"cannot write to {out}: {error.strerror}") from error
