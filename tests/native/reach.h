// Memory for arrays that kernels reach: the host's, as they are emulated; in device_tests a device's.
#pragma once
#include <vector>

#ifdef FASTUNROLL_ON_DEVICE
#include <cuda_runtime_api.h>

#include <new>

namespace fastunroll::testing {

template <class T> struct Reachable {
  using value_type = T;
  Reachable() = default;
  template <class U> Reachable(const Reachable<U>&) {}
  T* allocate(size_t count) {
    void* memory = nullptr;
    if (cudaMallocHost(&memory, count * sizeof(T)) != cudaSuccess) throw std::bad_alloc();
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t) { cudaFreeHost(memory); }
  bool operator==(const Reachable&) const { return true; }
  bool operator!=(const Reachable&) const { return false; }
};

template <class T> using Array = std::vector<T, Reachable<T>>;

// Null, or what went wrong in the kernels launched so far, which have then run.
inline const char* finished() {
  const cudaError_t status = cudaDeviceSynchronize();
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace fastunroll::testing

#else

namespace fastunroll::testing {

// Exactly as long on the heap as it is: what is read or written beyond its ends, the address sanitizer sees.
template <class T> using Array = std::vector<T>;

inline const char* finished() { return nullptr; }

}  // namespace fastunroll::testing

#endif
