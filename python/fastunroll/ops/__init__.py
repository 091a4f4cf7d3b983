"""The native kernels as torch operators, with what autograd, torch.compile and torch.export need to know of them.

This package alone calls the native module. An operator takes and returns plain batches, (samples, columns), of float32
or float64 on the CPU, and trusts its arguments: :mod:`fastunroll.prox`, :mod:`fastunroll.unrolling` and
:mod:`fastunroll.iterations` check them, flatten leading dimensions, and go to :mod:`fastunroll.reference` where no
kernel serves.

Each file defines operators (``torch.ops.fastunroll.*``), their autograd functions, and the functions that choose
between them: differentiable where a gradient is asked for, at no cost where none is.
"""

from .adaptive import AdaptiveForm as AdaptiveForm
from .adaptive import PreparedAdaptive as PreparedAdaptive
from .adaptive import adaptive as adaptive
from .adaptive import serves_adaptive as serves_adaptive
from .ahead import residual_ahead as residual_ahead
from .ahead import serves_ahead as serves_ahead
from .ahead import step_ahead as step_ahead
from .cache import kept as kept
from .device import captures as captures
from .form import SHRINKAGES as SHRINKAGES
from .form import Form as Form
from .form import Parameters as Parameters
from .form import sizes as sizes
from .lasso import Columns as Columns
from .lasso import Dictionary as Dictionary
from .lasso import Samples as Samples
from .lasso import serves_lasso as serves_lasso
from .memory import available_memory as available_memory
from .network import network as network
from .prepared import Prepared as Prepared
from .products import outer as outer
from .products import product as product
from .proximal_gradient import State as State
from .proximal_gradient import proximal_gradient as proximal_gradient
from .proximal_gradient import serves_proximal_gradient as serves_proximal_gradient
from .register import differentiable as differentiable
from .register import is_observed as is_observed
from .register import is_plain as is_plain
from .register import plain as plain
from .register import ready as ready
from .register import serves as serves
from .soft_threshold import soft_threshold as soft_threshold
