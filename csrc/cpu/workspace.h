// Scratch memory of one call. Blocks are 64-byte aligned, uninitialised, and given back together.
//
// Fresh pages cost more than the arithmetic on them. A thread therefore keeps the memory of its largest call, up to 256
// MB, for later calls, until it ends.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastunroll {

// Memory of at least one byte, 64-byte aligned; in huge pages if it is large.
class Block {
 public:
  Block() = default;
  explicit Block(size_t size);  // throws std::bad_alloc
  Block(Block&& other) noexcept : data_(other.data_), size_(other.size_) { other.data_ = nullptr, other.size_ = 0; }
  Block& operator=(Block&& other) noexcept;
  ~Block();
  char* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
};

// A block of at least `size` bytes, one that was given back if it fits. Up to 512 MB are kept.
Block reused_block(size_t size);
void give_back(Block block) noexcept;

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
