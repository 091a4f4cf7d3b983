"""``fastunroll reproduce``: trains the family and sets what it reaches beside what was published."""

from .run import ReproduceError as ReproduceError
from .run import reproduce as reproduce

__all__ = ["ReproduceError", "reproduce"]
