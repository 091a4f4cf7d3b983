"""Proximal operators, the priors of inverse problems: prox_θ(z) = argmin_x ½‖x − z‖² + θ·R(x)."""

from .bernoulli_gaussian import BernoulliGaussian as BernoulliGaussian
from .denoiser import Denoiser as Denoiser
from .filter_bank import FilterBank as FilterBank
from .group import GroupL1 as GroupL1
from .l1 import L1 as L1
from .l1 import ElasticNet as ElasticNet
from .l1 import Identity as Identity
from .l1 import NonNegativeL1 as NonNegativeL1
from .learned_transform import LearnedTransform as LearnedTransform
from .nonconvex import Box as Box
from .nonconvex import Firm as Firm
from .nonconvex import HardThreshold as HardThreshold
from .per_layer import PerLayer as PerLayer
from .proximal import Kernel as Kernel
from .proximal import Proximal as Proximal
from .support_selection import SupportSelection as SupportSelection
from .support_selection import TopK as TopK
from .threshold import aligned as aligned
from .threshold import soft_threshold as soft_threshold
from .total_variation import TotalVariation as TotalVariation
from .wavelet_l1 import WaveletL1 as WaveletL1

__all__ = [
    "L1",
    "BernoulliGaussian",
    "Box",
    "Denoiser",
    "ElasticNet",
    "FilterBank",
    "Firm",
    "GroupL1",
    "HardThreshold",
    "Identity",
    "Kernel",
    "LearnedTransform",
    "NonNegativeL1",
    "PerLayer",
    "Proximal",
    "SupportSelection",
    "TopK",
    "TotalVariation",
    "WaveletL1",
    "soft_threshold",
]
