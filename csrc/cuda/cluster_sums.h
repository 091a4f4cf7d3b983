// Sums over the rows of what a cluster's threads have, in one order: each warp's part is given to all, and after a
// barrier added up.
#pragma once
#include "cuda/fused_product.h"

namespace fastunroll::cuda {

// `Kinds` of sums at once. Between the reading of one and the sharing of the next there must be a barrier.
template <class Product, int Kinds> class ClusterSums {
  static constexpr int parts = Product::blocks * Product::warps, rows = Product::samples;
  static constexpr size_t size_of_kind = size_t(parts) * rows * sizeof(float);

 public:
  using Own = float[Product::tall][2];
  static constexpr size_t size = Kinds * size_of_kind;  // bytes of shared memory

  FASTUNROLL_DEVICE explicit ClusterSums(char* memory) : memory_(memory) {}

  FASTUNROLL_DEVICE void share(int kind, const Own& own) const {
    FASTUNROLL_UNROLL for (int i = 0; i < Product::tall; ++i) {
      FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
        float sum = Product::speaks() ? own[i][h] : 0.0f;
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        float* const to = of(kind, cluster_rank<Product::blocks>() * Product::warps + warp()) + Product::row_of(i, h);
        if (lane() % 4 == 0)
          FASTUNROLL_UNROLL for (int block = 0; block < Product::blocks; ++block)
              store_to_peer<Product::blocks>(to, block, sum);
      }
    }
  }
  FASTUNROLL_DEVICE float sum(int kind, int i, int h) const {
    float sum = 0;
    FASTUNROLL_ROLLED for (int part = 0; part < parts; ++part) sum += of(kind, part)[Product::row_of(i, h)];
    return sum;
  }

 private:
  char* const memory_;

  FASTUNROLL_DEVICE float* of(int kind, int part) const {
    return reinterpret_cast<float*>(memory_ + size_t(kind) * size_of_kind) + part * rows;
  }
};

}  // namespace fastunroll::cuda
