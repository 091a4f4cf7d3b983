"""Unrolled networks and their layers: one architecture a file."""

from .ista_layer import ISTALayer as ISTALayer
from .lista import LISTA as LISTA
from .soft_threshold import SoftThreshold as SoftThreshold

__all__ = ["LISTA", "ISTALayer", "SoftThreshold"]
