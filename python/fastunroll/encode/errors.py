"""How encoding ends early."""

from __future__ import annotations


class EncodeError(Exception):
    """Files or options that cannot be used, or a disk that cannot be written. The message is one sentence."""


class DamagedError(EncodeError):
    """The content of a file is not what fastunroll encode writes."""


class EncodeInterrupted(KeyboardInterrupt):
    """Ctrl-C. The message says how much is done."""
