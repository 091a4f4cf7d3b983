"""``fastunroll reproduce`` trains all networks and compares their errors with published errors."""

from .run import reproduce as reproduce
from .stored import ReproduceError as ReproduceError

__all__ = ["ReproduceError", "reproduce"]
