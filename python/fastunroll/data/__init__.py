"""Problems that draw samples for training and testing. All random draws are seeded."""

from .files import PictureError as PictureError
from .patches import Patches as Patches
from .patches import cosine_dictionary as cosine_dictionary
from .phantoms import Phantoms as Phantoms
from .phantoms import shepp_logan as shepp_logan
from .photographs import Photographs as Photographs
from .photographs import photograph as photograph
from .problems import Batch as Batch
from .problems import OperatorProblem as OperatorProblem
from .problems import Problem as Problem
from .problems import Samples as Samples
from .problems import fixed as fixed
from .problems import stream as stream
from .sparse_recovery import SparseRecovery as SparseRecovery
from .sparse_recovery import sensing_matrix as sensing_matrix

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
