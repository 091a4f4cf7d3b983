"""Unrolled networks and their layers. Each file has one architecture."""

from .admm_net import ADMMNet
from .alista import ALISTA, analytic_weights
from .dncnn import DnCNN
from .glista import GLISTA
from .hyperlista import HyperLISTA
from .ista_layer import ISTALayer
from .lamp import LAMP
from .lfista import LFISTA
from .lista import LISTA
from .lista_cp import LISTACP
from .lista_cpss import LISTACPSS
from .lista_ss import LISTASS
from .lvamp import LVAMP
from .network import UnrolledNetwork
from .soft_threshold import SoftThreshold
from .step_lista import StepLISTA
from .tilista import TiLISTA
from .unrolled import Unrolled

__all__ = [
    "ALISTA",
    "GLISTA",
    "LAMP",
    "LFISTA",
    "LISTA",
    "LISTACP",
    "LISTACPSS",
    "LISTASS",
    "LVAMP",
    "ADMMNet",
    "DnCNN",
    "HyperLISTA",
    "ISTALayer",
    "SoftThreshold",
    "StepLISTA",
    "TiLISTA",
    "Unrolled",
    "UnrolledNetwork",
    "analytic_weights",
]
