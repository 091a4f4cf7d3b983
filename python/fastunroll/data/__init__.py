"""Problems that draw samples for training and testing. All random draws are seeded."""

from .files import PictureError
from .patches import Patches, cosine_dictionary
from .phantoms import Phantoms, shepp_logan
from .photographs import Photographs, photograph
from .problems import Batch, OperatorProblem, Problem, Samples, fixed, stream
from .sparse_recovery import SparseRecovery, sensing_matrix

__all__ = [
    "Batch",
    "OperatorProblem",
    "Patches",
    "Phantoms",
    "Photographs",
    "PictureError",
    "Problem",
    "Samples",
    "SparseRecovery",
    "cosine_dictionary",
    "fixed",
    "photograph",
    "sensing_matrix",
    "shepp_logan",
    "stream",
]
