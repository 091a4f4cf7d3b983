// The launch of a kernel, on a device or emulated.
//
// A kernel is a struct with `Arguments`, `run`, the `threads` of a block, and the blocks of a `cluster`.
#pragma once
#include "cuda/device.h"

namespace fastunroll::cuda {

struct Launch {
  int64_t clusters;
  size_t shared;  // bytes a block
  Stream stream;
};

#if defined(__CUDACC__)

constexpr size_t default_shared = 48 << 10;  // bytes that every kernel may have

// Makes a device the current one during its lifetime.
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

// The configuration of a launch for the CUDA runtime. It cannot be copied, since it points into itself.
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
    cudaGetLastError();  // clears the error, which torch would report later
    return cudaGetErrorString(status);
  }
};

// Queues a kernel, and returns null or one sentence of what went wrong. Without clusters it launches nothing.
template <class Kernel> const char* launch(const Launch& how, const typename Kernel::Arguments& arguments) {
  if (how.clusters == 0) return nullptr;
  Configuration<Kernel> c(how);
  if (c.status == cudaSuccess) c.status = cudaLaunchKernelEx(&c.config, entry<Kernel>, arguments);
  return c.problem();
}

// The number of clusters that the device runs at once.
template <class Kernel> int max_active_clusters(const Launch& how) {
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

// The same for an emulated device of 132 processors.
template <class Kernel> int max_active_clusters(const Launch& how) {
  return how.shared <= max_shared ? 132 / Kernel::cluster : 0;
}

#endif

}  // namespace fastunroll::cuda
