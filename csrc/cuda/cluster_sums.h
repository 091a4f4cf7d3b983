// Sums over rows, in a fixed order: each warp gives its part to all blocks of the cluster, which add the parts after a
// barrier.
#pragma once
#include "cuda/fused_product.h"

namespace fastunroll::cuda {

// Several `Kinds` of sums. A barrier must lie between reading one and sharing the next.
template <class Product, int Kinds> class ClusterSums {
  static constexpr int parts = Product::blocks * Product::warps, rows = Product::samples;
  static constexpr size_t size_of_kind = size_t(parts) * rows * sizeof(float);

 public:
  using Values = float[Product::row_tiles][2];
  static constexpr size_t size = Kinds * size_of_kind;  // bytes of shared memory

  FASTUNROLL_DEVICE explicit ClusterSums(char* memory) : memory_(memory) {}

  FASTUNROLL_DEVICE void share(int kind, const Values& own) const {
    FASTUNROLL_UNROLL for (int i = 0; i < Product::row_tiles; ++i) {
      FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
        float sum = Product::is_writer() ? own[i][h] : 0.0f;
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
