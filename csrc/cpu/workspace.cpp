#include "cpu/workspace.h"

#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace fastunroll {
namespace {

constexpr size_t alignment = 64;
constexpr size_t kept_at_most = size_t(256) << 20;

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Block = std::unique_ptr<char, Free>;

Block allocate(size_t size) {
  void* p = nullptr;
  if (posix_memalign(&p, alignment, size ? size : alignment) != 0) throw std::bad_alloc();
  return Block(static_cast<char*>(p));
}

struct Kept {
  Block block;
  size_t size = 0;
};
thread_local Kept kept;

}  // namespace

struct Workspace::Impl {
  Kept main;                   // taken from this thread's kept memory, given back at the end
  size_t used = 0, total = 0;  // bytes of `main` handed out; bytes asked for in all
  std::vector<Block> more;     // what did not fit
};

Workspace::Workspace() : impl_(new Impl) {
  impl_->main = std::move(kept);
  kept = Kept{};
}

Workspace::~Workspace() {
  // A call that outgrew its memory leaves room for its like; this must not throw, so a failure keeps nothing.
  if (!impl_->more.empty() && impl_->total <= kept_at_most) {
    impl_->main = Kept{};
    void* p = nullptr;
    if (posix_memalign(&p, alignment, impl_->total) == 0)
      impl_->main = Kept{Block(static_cast<char*>(p)), impl_->total};
  }
  kept = std::move(impl_->main);
  delete impl_;
}

void* Workspace::bytes(size_t size) {
  size = (size + alignment - 1) / alignment * alignment;
  impl_->total += size;
  if (size <= impl_->main.size - impl_->used) {
    void* p = impl_->main.block.get() + impl_->used;
    impl_->used += size;
    return p;
  }
  impl_->more.push_back(allocate(size));
  return impl_->more.back().get();
}

}  // namespace fastunroll
