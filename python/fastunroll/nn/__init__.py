"""Unrolled networks and their layers. Each file has one architecture."""

from .admm_net import ADMMNet as ADMMNet
from .alista import ALISTA as ALISTA
from .alista import analytic_weights as analytic_weights
from .dncnn import DnCNN as DnCNN
from .glista import GLISTA as GLISTA
from .hyperlista import HyperLISTA as HyperLISTA
from .ista_layer import ISTALayer as ISTALayer
from .lamp import LAMP as LAMP
from .lfista import LFISTA as LFISTA
from .lista import LISTA as LISTA
from .lista_cp import LISTACP as LISTACP
from .lista_cpss import LISTACPSS as LISTACPSS
from .lista_ss import LISTASS as LISTASS
from .lvamp import LVAMP as LVAMP
from .network import UnrolledNetwork as UnrolledNetwork
from .soft_threshold import SoftThreshold as SoftThreshold
from .step_lista import StepLISTA as StepLISTA
from .tilista import TiLISTA as TiLISTA
from .unrolled import Unrolled as Unrolled

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
