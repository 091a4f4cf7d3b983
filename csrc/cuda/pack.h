// Copies the parameters of all layers to padded arrays, as the fused kernels read them: a thread for each value.
#pragma once
#include "cuda/launch.h"

namespace fastunroll::cuda {

template <class From, class To> struct PackMatrices {
  using Arguments = Pack<From, To>;
  static constexpr int threads = 256, cluster = 1;

  static int64_t blocks(const Arguments& p) {
    return (int64_t(p.layers) * p.padded_rows * p.padded_columns + threads - 1) / threads;
  }

  FASTUNROLL_DEVICE static void run(const Arguments& p) {
    const int64_t i = int64_t(block()) * threads + thread(), column = i % p.padded_columns;
    const int64_t row = i / p.padded_columns % p.padded_rows, layer = i / p.padded_columns / p.padded_rows;
    if (layer >= p.layers) return;
    float value = 0;
    if (row < p.rows && column < p.columns)
      value = quiet(value_of(p.from[layer][row * p.row_step + column * p.column_step]));
    round_to(p.out[layer * p.layer_stride + row * p.row_stride + column], value);
  }
};

}  // namespace fastunroll::cuda
