// A device on the host, for tests: the functions of device.h, with a fiber for each thread.
//
// The clusters of a launch run one after another. Within a cluster the warps run in random order, each until it waits.
// The emulation finds mistakes that a device may hide: shared memory starts as NaN, a copy takes place only when a
// thread waits for it, and a barrier that not all threads reach is an error, as is an address that is not aligned. It
// finds no mistakes that only weakly ordered memory shows, and no wrong PTX.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "cuda/emulate_halves.h"

namespace fastunroll::cuda {

struct Words4;
struct Arrival;

namespace emulation {

constexpr int warp_size = 32;
constexpr size_t stack_size = 96 << 10;

struct Barrier {
  int size = 0, here = 0;
  unsigned turn = 0;
};

// The operands of the threads of a warp, and their results.
struct Warp {
  Barrier barrier;
  uint32_t in[warp_size][12], out[warp_size][4];
};

struct Cluster;

struct Block {
  int index, rank;
  std::vector<char> shared;
  Barrier barrier;
  std::vector<Warp> warps;
  Cluster* cluster;
};

// Copies to shared memory; they stay `pending` until a thread waits for them.
struct Transfer {
  unsigned phases = 0;
  size_t expected = 0, bytes = 0;
  std::vector<std::function<void()>> pending;
};

struct Cluster {
  std::vector<Block> blocks;
  Barrier barrier;
  std::map<const void*, Transfer> transfers;
};

struct Fiber {
  ucontext_t context;
  jmp_buf resumption;
  bool started = false;
  std::unique_ptr<char[]> stack{new char[stack_size]};
  int thread = 0;
  Block* block = nullptr;
  bool done = false;
};

struct Machine {
  ucontext_t scheduler;
  jmp_buf after_yield;
  Fiber* current = nullptr;
  unsigned long progress = 0;
  const std::function<void()>* kernel = nullptr;
  std::exception_ptr failure;
};

inline thread_local Machine machine;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

inline void yield() { swapcontext(&machine.current->context, &machine.scheduler); }
inline void resume(Fiber& fiber) {
  machine.current = &fiber;
  swapcontext(&machine.scheduler, &fiber.context);
}

#else  // without the system calls of swapcontext, twice as fast

inline void yield() {
  if (!_setjmp(machine.current->resumption)) _longjmp(machine.after_yield, 1);
}
__attribute__((noinline)) inline void resume(Fiber& fiber) {
  machine.current = &fiber;
  if (_setjmp(machine.after_yield)) return;
  if (fiber.started) _longjmp(fiber.resumption, 1);
  fiber.started = true;
  setcontext(&fiber.context);
}

#endif

inline void wait(Barrier& barrier) {
  const unsigned turn = barrier.turn;
  ++machine.progress;
  if (++barrier.here == barrier.size) {
    barrier.here = 0;
    ++barrier.turn;
  }
  while (barrier.turn == turn) yield();
}

inline void run_fiber() {
  try {
    (*machine.kernel)();
  } catch (...) {  // no exception may leave the stack of a fiber
    if (!machine.failure) machine.failure = std::current_exception();
  }
  machine.current->done = true;
  ++machine.progress;
  yield();
}

// Fibers to use again, since new stacks take longer than most kernels.
inline thread_local std::vector<std::unique_ptr<Fiber>> idle;

inline std::unique_ptr<Fiber> fiber_of(Block& block, int thread) {
  std::unique_ptr<Fiber> fiber;
  if (idle.empty()) {
    fiber = std::make_unique<Fiber>();
  } else {
    fiber = std::move(idle.back());
    idle.pop_back();
  }
  fiber->started = fiber->done = false;
  fiber->thread = thread;
  fiber->block = &block;
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack.get();
  fiber->context.uc_stack.ss_size = stack_size;
  fiber->context.uc_link = &machine.scheduler;
  makecontext(&fiber->context, run_fiber, 0);
  return fiber;
}

inline void run_cluster(Cluster& cluster, int threads, std::mt19937& random) {
  std::vector<std::unique_ptr<Fiber>> fibers;
  for (Block& block : cluster.blocks)
    for (int t = 0; t < threads; ++t) fibers.push_back(fiber_of(block, t));
  std::vector<size_t> warps(fibers.size() / warp_size);
  for (size_t w = 0; w < warps.size(); ++w) warps[w] = w;
  size_t left = fibers.size();
  while (left > 0) {
    const unsigned long before = machine.progress;
    std::shuffle(warps.begin(), warps.end(), random);
    for (const size_t w : warps) {
      for (unsigned long seen = ~machine.progress; seen != machine.progress;) {  // until it can go no further
        seen = machine.progress;
        for (size_t f = w * warp_size; f < (w + 1) * warp_size; ++f) {
          if (fibers[f]->done) continue;
          resume(*fibers[f]);
          left -= machine.current->done;
        }
      }
    }
    if (machine.failure) std::rethrow_exception(std::exchange(machine.failure, nullptr));
    if (machine.progress == before) throw std::runtime_error("deadlock: not all threads come to a barrier");
  }
  for (auto& fiber : fibers) idle.push_back(std::move(fiber));
}

// `blocks` blocks of `threads` threads, in clusters of `cluster` blocks, with `shared` bytes of memory for each block.
inline void launch(int blocks, int threads, int cluster, size_t shared, unsigned seed,
                   const std::function<void()>& kernel) {
  if (blocks % cluster || threads % warp_size || threads > 1024 || cluster > 16)
    throw std::runtime_error("a launch of whole clusters and warps, at most 1024 threads and 16 blocks in each");
  if (shared > (size_t(227) << 10)) throw std::runtime_error("more than 227 KB of shared memory");
  std::mt19937 random(seed);
  machine.kernel = &kernel;
  for (int first = 0; first < blocks; first += cluster) {
    Cluster c;
    c.barrier.size = cluster * threads;
    c.blocks.resize(size_t(cluster));
    for (int rank = 0; rank < cluster; ++rank) {
      Block& b = c.blocks[size_t(rank)];
      b.index = first + rank;
      b.rank = rank;
      b.shared.assign(shared, char(0xff));  // NaN
      b.barrier.size = threads;
      b.warps.resize(size_t(threads / warp_size));
      for (Warp& w : b.warps) w.barrier.size = warp_size;
      b.cluster = &c;
    }
    run_cluster(c, threads, random);
    for (const auto& [address, transfer] : c.transfers)
      if (!transfer.pending.empty()) throw std::runtime_error("a copy was still under way at the end");
  }
}

// Every thread of the warp gives some words, of which `combine` makes 4 words for each.
template <class Combine>
void collectively(const uint32_t* in, int count, uint32_t* out, int out_count, const Combine& combine) {
  const Fiber& fiber = *machine.current;
  Warp& warp = fiber.block->warps[size_t(fiber.thread / warp_size)];
  const int lane = fiber.thread % warp_size;
  std::memcpy(warp.in[lane], in, size_t(count) * sizeof *in);
  if (warp.barrier.here + 1 == warp.barrier.size) combine(warp);
  wait(warp.barrier);
  std::memcpy(out, warp.out[lane], size_t(out_count) * sizeof *out);
}

inline void require_aligned(const void* p, size_t size) {
  if (reinterpret_cast<uintptr_t>(p) % size) throw std::runtime_error("an address is not aligned");
}

// Rounds towards zero, as tensor cores round their sums.
inline float truncated(double v) {
  const float nearest = float(v);
  return std::fabs(double(nearest)) > std::fabs(v) ? std::nextafter(nearest, 0.0f) : nearest;
}

// c += a b with matrices of a warp's fragments: a is (16, Depth), b (Depth, 8).
template <int Depth> void multiply(Warp& w, const float (&a)[16][Depth], const float (&b)[Depth][8]) {
  for (int l = 0; l < warp_size; ++l) {
    for (int i = 0; i < 4; ++i) {
      const int row = l / 4 + 8 * (i / 2), column = l % 4 * 2 + i % 2;
      double sum = as_float(w.in[l][6 + i]);
      for (int k = 0; k < Depth; ++k) sum += double(a[row][k]) * b[k][column];
      w.out[l][i] = as_bits(truncated(sum));
    }
  }
}

}  // namespace emulation

inline int thread() { return emulation::machine.current->thread; }
inline int block() { return emulation::machine.current->block->index; }
inline char* shared() { return emulation::machine.current->block->shared.data(); }
inline void keep_order() {}
inline void sync_block() { emulation::wait(emulation::machine.current->block->barrier); }

template <int Blocks> int cluster_rank() { return emulation::machine.current->block->rank; }
template <int Blocks> void sync_cluster() { emulation::wait(emulation::machine.current->block->cluster->barrier); }

template <int Blocks, class Words> void store_to_peer(Words* p, int rank, Words v) {
  emulation::require_aligned(p, sizeof v);
  emulation::Block& peer = emulation::machine.current->block->cluster->blocks.at(size_t(rank));
  const auto offset = size_t(reinterpret_cast<char*>(p) - shared());
  if (offset + sizeof v > peer.shared.size()) throw std::runtime_error("a store beyond a peer's shared memory");
  std::memcpy(peer.shared.data() + offset, &v, sizeof v);
}

inline void initialise(Arrival* a) {
  emulation::require_aligned(a, 8);
  emulation::machine.current->block->cluster->transfers[a] = {};
}

inline emulation::Transfer& transfer_of(const Arrival* a) {
  auto& all = emulation::machine.current->block->cluster->transfers;
  const auto found = all.find(a);
  if (found == all.end()) throw std::runtime_error("an arrival was used before it was initialised");
  return found->second;
}

inline void copy_in_bulk(void* to, const void* from, uint32_t bytes, Arrival* a) {
  emulation::require_aligned(to, 16);
  emulation::require_aligned(from, 16);
  emulation::Transfer& t = transfer_of(a);
  if (bytes % 16) throw std::runtime_error("a bulk copy of a number of bytes that is no multiple of 16");
  if (!t.pending.empty()) throw std::runtime_error("a copy began before that of the last phase was waited for");
  t.pending.push_back([=] { std::memcpy(to, from, bytes); });
  ++emulation::machine.progress;
}

inline void wait_for(Arrival* a, uint32_t parity) {
  emulation::Transfer& t = transfer_of(a);
  while (t.phases % 2 == parity) {
    if (t.pending.empty()) {
      emulation::yield();
      continue;
    }
    for (const auto& copy : t.pending) copy();
    t.pending.clear();
    ++t.phases;
    ++emulation::machine.progress;
  }
}

inline uint64_t as_bits(double v) {
  uint64_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  return bits;
}
template <class T> T magnitude(T v) { return std::fabs(v); }
template <class T> T with_sign(T v, T sign) { return std::copysign(v, sign); }
template <class T> T fused_multiply_add(T a, T b, T c) { return std::fma(a, b, c); }
template <class T> T square_root(T v) { return std::sqrt(v); }

inline void multiply_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  uint32_t in[10] = {a[0], a[1], a[2], a[3], b0, b1}, out[4];
  std::memcpy(in + 6, c, sizeof c);
  emulation::collectively(in, 10, out, 4, [](emulation::Warp& w) {
    const auto seen = [](uint32_t bits) { return as_float(bits & 0xffffe000u); };
    float left[16][8], right[8][8];
    for (int l = 0; l < emulation::warp_size; ++l) {
      const int group = l / 4, member = l % 4;
      for (int i = 0; i < 4; ++i) left[group + 8 * (i % 2)][member + 4 * (i / 2)] = seen(w.in[l][i]);
      for (int i = 0; i < 2; ++i) right[member + 4 * i][group] = seen(w.in[l][4 + i]);
    }
    emulation::multiply(w, left, right);
  });
  std::memcpy(c, out, sizeof c);
}

inline void multiply_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  uint32_t in[10] = {a[0], a[1], a[2], a[3], b0, b1}, out[4];
  std::memcpy(in + 6, c, sizeof c);
  emulation::collectively(in, 10, out, 4, [](emulation::Warp& w) {
    const auto half = [](uint32_t pair, int which) { return as_float(pair >> 16 * which << 16); };
    float left[16][16], right[16][8];
    for (int l = 0; l < emulation::warp_size; ++l) {
      const int group = l / 4, member = l % 4;
      for (int h = 0; h < 2; ++h) {
        for (int i = 0; i < 4; ++i) left[group + 8 * (i % 2)][2 * member + h + 8 * (i / 2)] = half(w.in[l][i], h);
        for (int i = 0; i < 2; ++i) right[2 * member + h + 8 * i][group] = half(w.in[l][4 + i], h);
      }
    }
    emulation::multiply(w, left, right);
  });
  std::memcpy(c, out, sizeof c);
}

template <class T> T shuffle_xor(T v, int bits) {
  constexpr int words = sizeof(T) / 4;
  uint32_t in[words + 1], out[words];
  std::memcpy(in, &v, sizeof v);
  in[words] = uint32_t(bits);
  emulation::collectively(in, words + 1, out, words, [](emulation::Warp& w) {
    for (uint32_t l = 0; l < emulation::warp_size; ++l) std::memcpy(w.out[l], w.in[l ^ w.in[l][words]], sizeof(T));
  });
  std::memcpy(&v, out, sizeof v);
  return v;
}

// Needs the whole Words4, which device.h defines.
template <class Words = Words4> Words load_constant(const void* p) {
  emulation::require_aligned(p, sizeof(Words));
  Words v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

}  // namespace fastunroll::cuda
