"""Trains unrolled networks, with or without ground truth, end to end or layer by layer."""

from .history import History as History
from .losses import Loss as Loss
from .losses import kkt as kkt
from .losses import lasso as lasso
from .losses import mean_square as mean_square
from .losses import supervised as supervised
from .losses import total as total
from .schedule import Stage as Stage
from .schedule import end_to_end as end_to_end
from .schedule import layerwise as layerwise
from .search import search as search
from .train import TrainingError as TrainingError
from .train import train as train

__all__ = [
    "History",
    "Stage",
    "TrainingError",
    "end_to_end",
    "kkt",
    "lasso",
    "layerwise",
    "mean_square",
    "search",
    "supervised",
    "total",
    "train",
]
