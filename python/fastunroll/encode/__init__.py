"""``fastunroll encode`` computes Lasso codes from file to file, for more samples than fit in memory.

:func:`encode` runs the command as a function. :func:`load` and :func:`shards` read its output.
"""

from .codes import Codes, load, shards
from .errors import EncodeError, EncodeInterrupted
from .run import encode
from .summary import Summary

__all__ = ["Codes", "EncodeError", "EncodeInterrupted", "Summary", "encode", "load", "shards"]
