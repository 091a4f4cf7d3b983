#include "cpu/workspace.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace fastunroll {
namespace {

constexpr size_t alignment = 64;
constexpr size_t huge_page = size_t(2) << 20;
#ifdef __SANITIZE_ADDRESS__
constexpr bool watched = true;  // every block is an allocation of exact size, so that sanitizers watch its ends
#else
constexpr bool watched = false;
#endif
constexpr size_t kept_at_most = watched ? 0 : size_t(256) << 20;

thread_local Block kept;

}  // namespace

Block::Block(size_t size) {
  const size_t page = size >= huge_page ? huge_page : alignment;
  size_ = watched ? size : (size / page + 1) * page;
  void* p = nullptr;
  if (posix_memalign(&p, page, size_) != 0) throw std::bad_alloc();
  data_ = static_cast<char*>(p);
#ifdef MADV_HUGEPAGE
  if (page == huge_page) madvise(p, size_, MADV_HUGEPAGE);  // only advice: without it all works, but slower
#endif
}

Block& Block::operator=(Block&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Block::~Block() { std::free(data_); }

namespace {

constexpr size_t kept_for_reuse = size_t(512) << 20;
constexpr size_t kept_blocks = 1024;

struct Reusable {
  std::mutex mutex;
  std::vector<Block> blocks;
  size_t total = 0;
};

Reusable& reusable() {
  static Reusable* const r = [] {
    auto* made = new Reusable;  // never destroyed: tensors may outlive static objects
    made->blocks.reserve(kept_blocks);
    return made;
  }();
  return *r;
}

}  // namespace

Block reused_block(size_t size) {
  Reusable& r = reusable();
  {
    const std::lock_guard<std::mutex> lock(r.mutex);
    size_t best = r.blocks.size();
    for (size_t i = 0; i < r.blocks.size(); ++i) {
      const size_t have = r.blocks[i].size();
      if (have > size && have - size <= size / 4 + huge_page &&
          (best == r.blocks.size() || have <= r.blocks[best].size()))
        best = i;  // of equal ones the last to be given back, of which most is in a cache
    }
    if (best < r.blocks.size()) {
      Block found = std::move(r.blocks[best]);
      r.blocks.erase(r.blocks.begin() + long(best));
      r.total -= found.size();
      return found;
    }
  }
  return Block(size);
}

void give_back(Block block) noexcept {
  Reusable& r = reusable();
  const std::lock_guard<std::mutex> lock(r.mutex);
  if (r.total + block.size() > kept_for_reuse || r.blocks.size() == kept_blocks) return;
  r.total += block.size();
  r.blocks.push_back(std::move(block));
}

struct Workspace::Impl {
  Block main;                  // taken from this thread's kept memory, given back at the end
  size_t used = 0, total = 0;  // bytes of `main` handed out; bytes asked for in all
  std::vector<Block> more;     // blocks that did not fit
};

Workspace::Workspace() : impl_(new Impl) { std::swap(impl_->main, kept); }

Workspace::~Workspace() {
  // After a call that needed more memory, keeps enough for the next one. Keeps nothing on failure, and does not throw.
  if (!impl_->more.empty() && impl_->total <= kept_at_most) {
    impl_->main = Block();
    try {
      impl_->main = Block(impl_->total);
    } catch (const std::bad_alloc&) {
      impl_->main = Block();
    }
  }
  kept = std::move(impl_->main);
  delete impl_;
}

void* Workspace::bytes(size_t size) {
  if (!watched) size = (size + alignment - 1) / alignment * alignment;
  impl_->total += size;
  if (size <= impl_->main.size() - impl_->used) {
    void* p = impl_->main.data() + impl_->used;
    impl_->used += size;
    return p;
  }
  impl_->more.emplace_back(size);
  return impl_->more.back().data();
}

}  // namespace fastunroll
