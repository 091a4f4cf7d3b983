// Whether this machine has a device that the library could run on.
#include <cuda_runtime.h>

#include <cstdio>

#include "fastunroll_cuda.h"

namespace fastunroll::cuda {

int device_count(char* problem, int size) {
  int driver = 0, count = 0;
  cudaDriverGetVersion(&driver);
  if (driver == 0) {
    std::snprintf(problem, size, "no NVIDIA driver found");
    return 0;
  }
  if (driver < CUDART_VERSION / 1000 * 1000) {  // any driver of the same major version is recent enough
    std::snprintf(problem, size, "the NVIDIA driver supports CUDA %d.%d, but this build needs %d.0: update the driver",
                  driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000);
    return 0;
  }
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    std::snprintf(problem, size, "%s", cudaGetErrorString(status));
    return 0;
  }
  if (count == 0) std::snprintf(problem, size, "no device found");
  return count;
}

const char* describe(int device, Device* found) {
  int processors = 0, major = 0;
  cudaError_t status = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (status == cudaSuccess) status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (status != cudaSuccess) return cudaGetErrorString(status);
  *found = {processors, major >= 9};
  return nullptr;
}

}  // namespace fastunroll::cuda
