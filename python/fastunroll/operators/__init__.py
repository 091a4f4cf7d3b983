"""Linear operators: of imaging, of matrices, of other libraries, and your own with ``forward`` and ``adjoint``."""

from .blocks import BlockDCT, Blocks
from .blur import Blur
from .check import check
from .composition import Adjoint, Composed, Sum
from .convert import as_operator
from .convolution import Convolution
from .cosine import DCT
from .dense import Dense
from .differences import Gradient
from .downsample import Downsample
from .fourier import Fourier
from .linear_operator import LinearOperator
from .mask import Mask
from .multi_coil import MultiCoilFourier
from .scaled import Identity, Scaled
from .stack import Stack
from .wavelet import Wavelet

__all__ = [
    "DCT", "Adjoint", "BlockDCT", "Blocks", "Blur", "Composed", "Convolution", "Dense", "Downsample", "Fourier",
    "Gradient", "Identity", "LinearOperator", "Mask", "MultiCoilFourier", "Scaled", "Stack", "Sum", "Wavelet",
    "as_operator", "check",
]  # fmt: skip
