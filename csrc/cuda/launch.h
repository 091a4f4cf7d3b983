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

// A launch as the runtime wants it. No copies: it points into itself.
template <class Kernel> class Configuration {
  const OnDevice here_;
  cudaLaunchAttribute attribute_;

 public:
  cudaError_t status;
  cudaLaunchConfig_t config = {};

  explicit Configuration(const Launch& how) : here_(how.stream.device), status(here_.status) {
    const void* const function = reinterpret_cast<const void*>(entry<Kernel>);
    if (status == cudaSuccess && how.shared > default_shared)
      status = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, int(how.shared));
    if (status == cudaSuccess && Kernel::cluster > 8)
      status = cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    attribute_.id = cudaLaunchAttributeClusterDimension;
    attribute_.val.clusterDim.x = Kernel::cluster;
    attribute_.val.clusterDim.y = attribute_.val.clusterDim.z = 1;
    config.gridDim = dim3(unsigned(how.clusters * Kernel::cluster));
    config.blockDim = dim3(Kernel::threads);
    config.dynamicSmemBytes = how.shared;
    config.stream = static_cast<cudaStream_t>(how.stream.handle);
    config.attrs = &attribute_;
    config.numAttrs = Kernel::cluster > 1;
  }
  Configuration(const Configuration&) = delete;
  Configuration& operator=(const Configuration&) = delete;

  // Null, or one sentence of what went wrong.
  const char* problem() const {
    if (status == cudaSuccess) return nullptr;
    cudaGetLastError();  // so that torch does not find it later
    return cudaGetErrorString(status);
  }
};

// Null, or one sentence of what went wrong. The kernel may not have run yet. No cluster is no launch.
template <class Kernel> const char* launch(const Launch& how, const typename Kernel::Arguments& arguments) {
  if (how.clusters == 0) return nullptr;
  Configuration<Kernel> c(how);
  if (c.status == cudaSuccess) c.status = cudaLaunchKernelEx(&c.config, entry<Kernel>, arguments);
  return c.problem();
}

// How many clusters the device has room for at once: that much memory in a block, and so many processors next to each
// other.
template <class Kernel> int room(const Launch& how) {
  Configuration<Kernel> c(how);
  int clusters = 0;
  if (c.status == cudaSuccess && Kernel::cluster > 1) {
    c.status = cudaOccupancyMaxActiveClusters(&clusters, entry<Kernel>, &c.config);
  } else if (c.status == cudaSuccess) {
    int blocks = 0, processors = 0;
    c.status = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, entry<Kernel>, Kernel::threads, how.shared);
    if (c.status == cudaSuccess)
      c.status = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, how.stream.device);
    clusters = blocks * processors;
  }
  return c.problem() ? 0 : clusters;
}

#else

template <class Kernel> const char* launch(const Launch& how, const typename Kernel::Arguments& arguments) {
  static thread_local unsigned seed = 0;
  emulation::launch(int(how.clusters) * Kernel::cluster, Kernel::threads, Kernel::cluster, how.shared, ++seed,
                    [&] { Kernel::run(arguments); });
  return nullptr;
}

// As on a device of 132 processors.
template <class Kernel> int room(const Launch& how) { return how.shared <= most_shared ? 132 / Kernel::cluster : 0; }

#endif

}  // namespace fastunroll::cuda
