// Sums over samples that keep columns apart, for the gradients of thresholds, steps and other small parameters.
//
// The order of a sum does not depend on tiles and threads: first samples in strips of 16, then the strips of a layer,
// then the layers that share a parameter, then its columns.
#pragma once
#include "cpu/sample_sum.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> void clear(const PerLayer<T>& out) {
  for (int64_t k = 0; k < out.count; ++k) memset(out.arrays[k], 0, size_t(out.size) * sizeof(T));
}

template <class T> struct ColumnSums {
  int64_t columns, stride;
  T* strips;  // (strips, stride), or null if nothing is to be summed
  T* layers;  // (layers, stride)

  // For at most `max` samples at a time.
  template <class Memory>
  static ColumnSums make(bool wanted, int64_t columns, int64_t max, int64_t layers, Memory& memory) {
    const int64_t stride = tile_stride<T>(columns);
    if (!wanted) return {columns, stride, nullptr, nullptr};
    T* sums = memory.template take<T>(layers * stride);
    memset(sums, 0, size_t(layers * stride) * sizeof(T));
    return {columns, stride, memory.template take<T>(blocks(max, strip) * stride), sums};
  }

  // The row to which sample b adds its values, in ascending order within a strip; null if the sum is not wanted.
  T* at(int64_t b) const {
    T* const sums = again_at(b);
    if (sums && b % strip == 0) memset(sums, 0, size_t(stride) * sizeof(T));
    return sums;
  }
  T* again_at(int64_t b) const { return strips ? strips + b / strip * stride : nullptr; }

  void add_strips(int64_t k, int64_t samples) const {
    if (!strips) return;
    T* sum = layers + k * stride;
    for (int64_t i = 0; i < blocks(samples, strip); ++i)
      for (int64_t c = 0; c < columns; ++c) sum[c] += strips[i * stride + c];
  }

  void divide(int64_t k, T divisor) const {
    for (int64_t c = 0; strips && c < columns; ++c) layers[k * stride + c] /= divisor;
  }

  // Writes the sums to a parameter with one value, or one for each column.
  void write_columns(const PerLayer<T>& out, int64_t layer_count) const {
    if (!strips) return;
    clear(out);
    for (int64_t k = 0; k < layer_count; ++k)
      for (int64_t c = 0; c < columns; ++c) out.of(k)[out.size == 1 ? 0 : c] += layers[k * stride + c];
  }

  // Writes the sums to a parameter with one value a layer.
  void write_values(const PerLayer<T>& out, int64_t layer_count) const {
    if (!strips) return;
    clear(out);
    for (int64_t k = 0; k < layer_count; ++k)
      for (int64_t c = 0; c < columns; ++c) out.value(k) += layers[k * stride + c];
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
