"""Trains unrolled networks, with or without ground truth, end to end or layer by layer."""

from .history import History
from .losses import Loss as Loss
from .losses import absolute_error, kkt, lasso, mean_square, structural_similarity, supervised, total
from .schedule import Stage, end_to_end, layerwise
from .search import search
from .self_supervised import equivariance, measurement_error, splitting, sure
from .train import TrainingError, train

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
