"""From other people's networks to these: their saved weights, and their modules where they stand."""

from .accelerate import accelerate as accelerate
from .load import load_lista as load_lista

__all__ = ["accelerate", "load_lista"]
