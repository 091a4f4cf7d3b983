"""``fastunroll reproduce --imaging``: compressed sensing of photographs against ISTA-Net⁺ and DeepInverse."""

from .run import reproduce_imaging as reproduce_imaging
from .settings import Settings as Settings

__all__ = ["Settings", "reproduce_imaging"]
