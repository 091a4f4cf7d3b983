// The kernels as the host's compiler sees them, where device.h is emulate.h.
#include "cuda/fused_gradient.cu"
#include "cuda/fused_network.cu"
#include "cuda/kernels.cu"
