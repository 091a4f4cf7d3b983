// Whether this machine has a device that the library could run on.
#include <cuda_runtime.h>

#include <cstdio>

#include "fastunroll.h"

namespace fastunroll::cuda {

int device_count(char* problem, int size) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess) {
    if (count == 0) std::snprintf(problem, size, "no device found");
    return count;
  }
  std::snprintf(problem, size, "%s", cudaGetErrorString(status));
  return 0;
}

}  // namespace fastunroll::cuda
