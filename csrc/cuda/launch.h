// How a kernel is started, on a device or emulated.
//
// A kernel has besides `Arguments` and `run`: threads, of a block; and cluster, the blocks that share their memory.
#pragma once
#include "cuda/device.h"

namespace fastunroll::cuda {

struct Launch {
  int clusters;
  size_t shared;  // bytes a block
  void* stream;   // of the device; null for its default one
};

#if defined(__CUDACC__)

template <class Kernel>
__global__ void __launch_bounds__(Kernel::threads, 1) entry(const __grid_constant__ typename Kernel::Arguments a) {
  Kernel::run(a);
}

// Null, or one sentence of what went wrong. The kernel may not have run yet.
template <class Kernel> const char* launch(const Launch& how, const typename Kernel::Arguments& arguments) {
  const void* const function = reinterpret_cast<const void*>(entry<Kernel>);
  cudaError_t status = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, int(how.shared));
  if (status == cudaSuccess && Kernel::cluster > 8)
    status = cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  if (status == cudaSuccess) {
    cudaLaunchAttribute attribute;
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = Kernel::cluster;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(unsigned(how.clusters * Kernel::cluster));
    config.blockDim = dim3(Kernel::threads);
    config.dynamicSmemBytes = how.shared;
    config.stream = static_cast<cudaStream_t>(how.stream);
    config.attrs = &attribute;
    config.numAttrs = Kernel::cluster > 1;
    status = cudaLaunchKernelEx(&config, entry<Kernel>, arguments);
  }
  if (status == cudaSuccess) return nullptr;
  cudaGetLastError();  // so that torch does not find it later
  return cudaGetErrorString(status);
}

#else

template <class Kernel> const char* launch(const Launch& how, const typename Kernel::Arguments& arguments) {
  static thread_local unsigned seed = 0;
  emulation::launch(how.clusters * Kernel::cluster, Kernel::threads, Kernel::cluster, how.shared, ++seed,
                    [&] { Kernel::run(arguments); });
  return nullptr;
}

#endif

}  // namespace fastunroll::cuda
