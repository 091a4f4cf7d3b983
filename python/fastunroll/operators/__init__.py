"""Linear operators: of imaging, of matrices, of other libraries, and your own with ``forward`` and ``adjoint``."""

from .blocks import BlockDCT as BlockDCT
from .blocks import Blocks as Blocks
from .blur import Blur as Blur
from .check import check as check
from .composition import Adjoint as Adjoint
from .composition import Composed as Composed
from .composition import Sum as Sum
from .convert import as_operator as as_operator
from .convolution import Convolution as Convolution
from .cosine import DCT as DCT
from .dense import Dense as Dense
from .differences import Gradient as Gradient
from .downsample import Downsample as Downsample
from .fourier import Fourier as Fourier
from .linear_operator import LinearOperator as LinearOperator
from .mask import Mask as Mask
from .multi_coil import MultiCoilFourier as MultiCoilFourier
from .scaled import Identity as Identity
from .scaled import Scaled as Scaled
from .stack import Stack as Stack
from .wavelet import Wavelet as Wavelet

__all__ = [
    "DCT", "Adjoint", "BlockDCT", "Blocks", "Blur", "Composed", "Convolution", "Dense", "Downsample", "Fourier",
    "Gradient", "Identity", "LinearOperator", "Mask", "MultiCoilFourier", "Scaled", "Stack", "Sum", "Wavelet",
    "as_operator", "check",
]  # fmt: skip
