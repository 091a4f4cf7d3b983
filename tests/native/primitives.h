// Kernels that use what device.h offers, one piece each, rightly and with a fault that a test must see.
#pragma once
#include "cuda/launch.h"

namespace fastunroll::cuda::testing {

// One warp: c (16, 8) = a (16, depth) b (depth, 8), by fragments of the layout that PTX prescribes.
template <bool Half, bool Swapped> struct MultiplyFragments {
  static constexpr int threads = warp_size, cluster = 1, depth = Half ? 16 : 8;
  struct Arguments {
    const float *a, *b;
    float* c;
  };
  FASTUNROLL_DEVICE static uint32_t fragment(const float* from, int step) {
    if constexpr (Half) return bf16_pair(from[0], from[step]);
    return tf32(from[0]);
  }
  FASTUNROLL_DEVICE static void run(const Arguments& p) {
    const int group = lane() / 4, member = lane() % 4, k = Half ? 2 * member : member, next = depth / 2;
    uint32_t a[4], b[2];
    for (int i = 0; i < 4; ++i) a[i] = fragment(p.a + (group + 8 * (i % 2)) * depth + k + next * (i / 2), 1);
    for (int i = 0; i < 2; ++i) b[i] = fragment(p.b + (k + next * i) * 8 + group, 8);
    if (Swapped) {
      const uint32_t first = a[1];
      a[1] = a[2];
      a[2] = first;
    }
    float c[4] = {};
    if constexpr (Half)
      multiply_bf16(c, a, b[0], b[1]);
    else
      multiply_tf32(c, a, b[0], b[1]);
    for (int i = 0; i < 4; ++i) p.c[(group + 8 * (i / 2)) * 8 + 2 * member + i % 2] = c[i];
  }
};

// Each block passes its numbers on to the next of its cluster, which writes them out.
template <int Blocks, bool Unsynchronised> struct PassOn {
  static constexpr int threads = 64, cluster = Blocks;
  struct Arguments {
    const Words4* in;  // threads for each block
    Words4* out;
  };
  FASTUNROLL_DEVICE static void run(const Arguments& p) {
    auto* mine = reinterpret_cast<Words4*>(shared());
    const int rank = cluster_rank<Blocks>(), at = block() * threads + thread();
    sync_cluster<Blocks>();  // all blocks are there
    store_to_peer<Blocks>(mine + thread(), (rank + 1) % Blocks, load_constant(p.in + at));
    if (!Unsynchronised) sync_cluster<Blocks>();
    p.out[at] = mine[thread()];
    sync_cluster<Blocks>();  // a block's memory must outlive what others store in it
  }
};

// Sums rows of 256 bytes that come through a ring of two slots.
template <bool Unawaited, bool Early> struct SumRows {
  static constexpr int threads = 64, cluster = 1, slots = 2;
  static constexpr uint32_t bytes = threads * sizeof(float);
  struct Arguments {
    const float* rows;
    int count;
    float* sums;
  };
  FASTUNROLL_DEVICE static void run(const Arguments& p) {
    auto* ring = reinterpret_cast<float*>(shared());
    auto* arrivals = reinterpret_cast<Arrival*>(shared() + slots * bytes);
    const auto fetch = [&](int row) {
      if (thread() == 0 && row < p.count)
        copy_in_bulk(ring + row % slots * threads, p.rows + row * threads, bytes, arrivals + row % slots);
    };
    if (thread() == 0)
      for (int slot = 0; slot < slots; ++slot) initialise(arrivals + slot);
    sync_block();
    for (int row = 0; row < slots; ++row) fetch(row);
    float sum = 0;
    for (int row = 0; row < p.count; ++row) {
      if (!Unawaited || row != 1) wait_for(arrivals + row % slots, uint32_t(row / slots % 2));
      const float value = ring[row % slots * threads + thread()];
      if (!Early) sync_block();  // all have read the slot
      fetch(row + slots);
      sum += value;
    }
    p.sums[thread()] = sum;
  }
};

// The sum over each warp, in every thread.
struct SumWarps {
  static constexpr int threads = 96, cluster = 1;
  struct Arguments {
    const float* in;
    float* out;
  };
  FASTUNROLL_DEVICE static void run(const Arguments& p) {
    float sum = p.in[thread()];
    for (int bits = 1; bits < warp_size; bits *= 2) sum += shuffle_xor(sum, bits);
    p.out[thread()] = sum;
  }
};

}  // namespace fastunroll::cuda::testing
