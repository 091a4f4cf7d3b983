// How a kernel is started, on a device or emulated.
//
// A kernel has besides `Arguments` and `run`: threads, of a block; and cluster, the blocks that share their memory.
#pragma once
#include "cuda/device.h"

namespace fastunroll::cuda {

struct Launch {
  int64_t clusters;
  size_t shared;  // bytes a block
  Stream stream;
};

#if defined(__CUDACC__)

constexpr size_t default_shared = 48 << 10;  // that a kernel may have without asking

// The device of a stream, while this lives.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    status = cudaGetDevice(&before_);
    if (status == cudaSuccess && before_ != device) status = cudaSetDevice(device);
    changed_ = status == cudaSuccess && before_ != device;
  }
  ~OnDevice() {
    if (changed_) cudaSetDevice(before_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  cudaError_t status;

 private:
  int before_ = 0;
  bool changed_ = false;
};

template <class Kernel>
__global__ void __launch_bounds__(Kernel::threads, 1) entry(const __grid_constant__ typename Kernel::Arguments a) {
  if constexpr (Kernel::cluster == 1 || FASTUNROLL_HAS_CLUSTERS) Kernel::run(a);
}

// Null, or one sentence of what went wrong. The kernel may not have run yet. No cluster is no launch.
template <class Kernel> const char* launch(const Launch& how, const typename Kernel::Arguments& arguments) {
  if (how.clusters == 0) return nullptr;
  const void* const function = reinterpret_cast<const void*>(entry<Kernel>);
  const OnDevice here(how.stream.device);
  cudaError_t status = here.status;
  if (status == cudaSuccess && how.shared > default_shared)
    status = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, int(how.shared));
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
    config.stream = static_cast<cudaStream_t>(how.stream.handle);
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
  emulation::launch(int(how.clusters) * Kernel::cluster, Kernel::threads, Kernel::cluster, how.shared, ++seed,
                    [&] { Kernel::run(arguments); });
  return nullptr;
}

#endif

}  // namespace fastunroll::cuda
