"""``fastunroll reproduce``: trains the family and sets what it reaches beside what was published."""

from .run import reproduce as reproduce
from .stored import ReproduceError as ReproduceError

__all__ = ["ReproduceError", "reproduce"]
