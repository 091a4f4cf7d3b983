"""Trains unrolled networks, with or without ground truth, end to end or layer by layer."""

from .history import History as History
from .losses import Loss as Loss
from .losses import absolute_error as absolute_error
from .losses import kkt as kkt
from .losses import lasso as lasso
from .losses import mean_square as mean_square
from .losses import structural_similarity as structural_similarity
from .losses import supervised as supervised
from .losses import total as total
from .schedule import Stage as Stage
from .schedule import end_to_end as end_to_end
from .schedule import layerwise as layerwise
from .search import search as search
from .self_supervised import equivariance as equivariance
from .self_supervised import measurement_error as measurement_error
from .self_supervised import splitting as splitting
from .self_supervised import sure as sure
from .train import TrainingError as TrainingError
from .train import train as train

__all__ = [
    "History",
    "Stage",
    "TrainingError",
    "absolute_error",
    "end_to_end",
    "equivariance",
    "kkt",
    "lasso",
    "layerwise",
    "mean_square",
    "measurement_error",
    "search",
    "splitting",
    "structural_similarity",
    "supervised",
    "sure",
    "total",
    "train",
]
