"""``fastunroll reproduce --imaging``: compressed sensing of photographs against ISTA-Net⁺ and DeepInverse."""

from .run import reproduce_imaging
from .settings import Settings

__all__ = ["Settings", "reproduce_imaging"]
