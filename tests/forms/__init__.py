"""One table of the layers that are one native call: operator × proximal operator × scheme, with random parameters.

:func:`build` makes a call of a row, a :class:`Problem`, which runs natively and in plain PyTorch. A suite takes all
rows, or those with a property that it names.
"""

from . import dense, pictures, samples
from .row import Problem as Problem
from .row import Row as Row
from .row import build as build
from .row import covering as covering
from .row import gradients as gradients

ROWS: list[Row] = [*dense.ROWS, *samples.ROWS, *pictures.ROWS]
