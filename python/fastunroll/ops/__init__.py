"""The native kernels as torch operators, with what autograd, torch.compile and torch.export need to know of them.

This package alone calls the native module. An operator takes and returns plain batches, (samples, columns), of float32
or float64 on the CPU, and trusts its arguments: :mod:`fastunroll.prox`, :mod:`fastunroll.unrolling` and
:mod:`fastunroll.iterations` check them, flatten leading dimensions, and go to :mod:`fastunroll.reference` where no
kernel exists.

Each file defines operators (``torch.ops.fastunroll.*``), their autograd functions, and the functions that choose
between them: differentiable where a gradient is asked for, at no cost where none is.
"""

from .adaptive import AdaptiveNetworkCache as AdaptiveNetworkCache
from .adaptive import AdaptiveSpec as AdaptiveSpec
from .adaptive import adaptive as adaptive
from .ahead import is_step_supported as is_step_supported
from .ahead import residual_ahead as residual_ahead
from .ahead import step_ahead as step_ahead
from .cache import cached as cached
from .device import is_capturing as is_capturing
from .lasso import Columns as Columns
from .lasso import Dictionary as Dictionary
from .lasso import Samples as Samples
from .memory import available_memory as available_memory
from .network import network as network
from .prepared import NetworkCache as NetworkCache
from .products import outer as outer
from .products import product as product
from .proximal_gradient import State as State
from .proximal_gradient import proximal_gradient as proximal_gradient
from .register import differentiable as differentiable
from .register import is_plain as is_plain
from .register import is_supported as is_supported
from .register import is_supported_on_cpu as is_supported_on_cpu
from .register import is_tracing as is_tracing
from .register import plain as plain
from .register import ready as ready
from .soft_threshold import soft_threshold as soft_threshold
from .spec import PROXES as PROXES
from .spec import NetworkSpec as NetworkSpec
from .spec import Parameters as Parameters
from .spec import sizes as sizes
