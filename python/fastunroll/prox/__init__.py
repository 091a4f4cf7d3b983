"""Proximal operators, the priors of inverse problems: prox_θ(z) = argmin_x ½‖x − z‖² + θ·R(x)."""

from .bernoulli_gaussian import BernoulliGaussian
from .denoiser import Denoiser
from .filter_bank import FilterBank
from .group import GroupL1
from .l1 import L1, ElasticNet, Identity, NonNegativeL1
from .learned_transform import LearnedTransform
from .nonconvex import Box, Firm, HardThreshold
from .per_layer import PerLayer
from .proximal import Kernel, Proximal
from .support_selection import SupportSelection, TopK
from .threshold import soft_threshold
from .total_variation import TotalVariation
from .wavelet_l1 import WaveletL1

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
