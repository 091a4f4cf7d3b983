"""``fastunroll encode`` computes Lasso codes from file to file, for more samples than fit in memory.

:func:`encode` runs the command as a function. :func:`load` and :func:`shards` read its output.
"""

from .codes import Codes as Codes
from .codes import load as load
from .codes import shards as shards
from .errors import EncodeError as EncodeError
from .errors import EncodeInterrupted as EncodeInterrupted
from .run import encode as encode
from .summary import Summary as Summary

__all__ = ["Codes", "EncodeError", "EncodeInterrupted", "Summary", "encode", "load", "shards"]
