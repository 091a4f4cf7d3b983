"""The native kernels as torch operators, with their fakes and gradients.

Only this package calls the native module. An operator takes and returns batches, (samples, columns), of float32 or
float64 on the CPU, and trusts its arguments: :mod:`fastunroll.prox`, :mod:`fastunroll.unrolling` and
:mod:`fastunroll.iterations` check them, flatten leading dimensions, and use :mod:`fastunroll.reference` where there is
no kernel.

``network.py``, ``products.py`` and ``soft_threshold.py`` define operators (``torch.ops.fastunroll.*``), their fakes and
their gradients once for all devices. ``backends.py`` chooses the implementation by device: ``cpu/`` or ``cuda/``. What
exists on the CPU alone lies in ``cpu/``.
"""

from .adaptive_spec import AdaptiveParameters as AdaptiveParameters
from .adaptive_spec import AdaptiveSpec as AdaptiveSpec
from .backends import is_direct as is_direct
from .backends import is_native as is_native
from .backends import is_supported as is_supported
from .backends import is_supported_on_cpu as is_supported_on_cpu
from .cache import cached as cached
from .cache import entry as entry
from .cache import latest as latest
from .cpu.larger_grid import fast_length as fast_length
from .cpu.lasso import Columns as Columns
from .cpu.lasso import Dictionary as Dictionary
from .cpu.lasso import Samples as Samples
from .cpu.memory import available_memory as available_memory
from .cpu.memory import empty as empty
from .cpu.memory import keep_freed_memory as keep_freed_memory
from .cpu.pictures import PictureLayers as PictureLayers
from .cpu.proximal_gradient import State as State
from .cpu.proximal_gradient import proximal_gradient as proximal_gradient
from .cpu.spectral import is_fft_length as is_fft_length
from .cpu.steps import OperatorPasses as OperatorPasses
from .cpu.steps import Weighting as Weighting
from .cpu.steps import kept_weights as kept_weights
from .cpu.steps import operator_passes as operator_passes
from .cpu.steps import weigh as weigh
from .cuda.device import is_capturing as is_capturing
from .network import network as network
from .network_cache import NetworkCache as NetworkCache
from .picture_prox import picture_prox as picture_prox
from .pictures import fits_pictures as fits_pictures
from .pictures import picture_layers as picture_layers
from .pictures import picture_layers_and_state as picture_layers_and_state
from .pictures import unchecked_picture_layers as unchecked_picture_layers
from .plain_pictures import plain_picture_layers as plain_picture_layers
from .products import outer as outer
from .products import product as product
from .samples import plain_layers as plain_layers
from .samples import sample_layers as sample_layers
from .soft_threshold import soft_threshold as soft_threshold
from .spec import NetworkSpec as NetworkSpec
from .spec import Parameters as Parameters
from .spectral import PackedFilter as PackedFilter
from .spectral import coil_normal as coil_normal
from .spectral import fourier_diagonal as fourier_diagonal
from .spectral import fourier_normal as fourier_normal
from .tensors import differentiable as differentiable
from .tensors import is_plain as is_plain
from .tensors import is_tracing as is_tracing
from .tensors import plain as plain
from .tensors import resolved as resolved
from .wavelet import wavelet_transform as wavelet_transform
