"""``fastunroll reproduce`` trains all networks and compares their errors with published errors."""

from .run import reproduce
from .stored import ReproduceError

__all__ = ["ReproduceError", "reproduce"]
