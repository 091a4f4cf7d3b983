"""The demo: compressed sensing of photographs with trained networks and classical solvers, from start to end."""

from .main import DemoError as DemoError
from .main import run as run

__all__ = ["DemoError", "run"]
