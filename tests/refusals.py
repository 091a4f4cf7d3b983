"""What a refused call says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Refused = tuple[Callable[[], object], type[Exception], str]  # a call, what it raises, and words of its message


def check_refused(case: Refused) -> None:
    """One line, with the words of the case in it."""
    call, kind, message = case
    with pytest.raises(kind) as raised:
        call()
    said = str(raised.value)
    assert message in said
    assert "\n" not in said
