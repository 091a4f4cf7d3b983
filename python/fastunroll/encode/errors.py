"""The exceptions that end encoding early."""

from __future__ import annotations


class EncodeError(Exception):
    """A file or option cannot be used, or the disk cannot be written. The message is one sentence."""


class DamagedError(EncodeError):
    """A file is damaged, or fastunroll encode has not written it."""


class EncodeInterrupted(KeyboardInterrupt):
    """The user has pressed Ctrl-C. The message says how many samples are done."""
