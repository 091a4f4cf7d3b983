// Scratch memory of one call. Blocks are 64-byte aligned, uninitialised, and given back together.
//
// Fresh pages cost more than the arithmetic done on them, so a thread keeps the memory of its largest call, up to
// 256 MB, for the next ones, until it ends.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastunroll {

class Workspace {
 public:
  Workspace();
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <class T> T* take(int64_t count) { return static_cast<T*>(bytes(size_t(count) * sizeof(T))); }

 private:
  void* bytes(size_t size);  // throws std::bad_alloc
  struct Impl;
  Impl* impl_;
};

}  // namespace fastunroll
