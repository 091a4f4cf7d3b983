"""Converts networks of other packages, from their saved weights or inside a module."""

from .accelerate import accelerate
from .load import load_lista

__all__ = ["accelerate", "load_lista"]
