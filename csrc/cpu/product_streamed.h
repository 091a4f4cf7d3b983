// x W by the nonzeros of x, for few samples or nonzeros: a sample keeps its accumulators in registers over the whole
// depth.
#pragma once
#include "cpu/rows.h"

namespace fastunroll::FASTUNROLL_SET {

// As many panels are streamed side by side as have their sums in half of the registers.
constexpr int streamed_panels = vector_registers / 2 / panel_vectors;

template <Read How, int Count, class T, class Start, class Finish>
inline void stream_panels(const Factor<T>& w, const Rows<T>& x, int64_t p, const Start& start, const Finish& finish) {
  constexpr int width = panel_width<T>;
  Block<T> block[Count];
  for (int i = 0; i < Count; ++i) block[i] = w.block(p + i, 0, w.depth, nullptr);
  for (int64_t r = 0; r < x.count; ++r) {
    Vector<T> sums[Count][panel_vectors], sum[Count][panel_vectors];
    for (int i = 0; i < Count; ++i) start.template load_at<panel_vectors>(r, (p + i) * width, sums[i]);
    copy_vectors<Count * panel_vectors>(sums[0], sum[0]);
    for (int64_t q = 0; q < blocks(w.depth, mask_bits); ++q) {
      const T* values = x.data + r * x.stride + q * mask_bits;
      uint64_t mask = rows_to_meet(x, r, q, w.depth, w.finite);
      for (; mask; mask &= mask - 1) {
        const int64_t k = __builtin_ctzll(mask);
        const Vector<T> value = broadcast(values[k]);
#pragma GCC unroll 2
        for (int i = 0; i < Count; ++i) {
          const T* row = block[i].data + (q * mask_bits + k) * row_stride<How>(block[i]);
#pragma GCC unroll 16
          for (int j = 0; j < panel_vectors; ++j)
            sum[i][j] = multiply_add(value, row_vector<How>(row, j, 0), sum[i][j]);
        }
      }
    }
    copy_vectors<Count * panel_vectors>(sum[0], sums[0]);
    for (int i = 0; i < Count; ++i) finish.template store_at<panel_vectors>(r, (p + i) * width, sums[i]);
  }
}

// For a packed factor.
template <class T, class Start, class Finish>
void product_streamed(const Factor<T>& w, const Rows<T>& x, Range panels, const Start& start, const Finish& finish) {
  with_reading(w, w.block(panels.first, 0, w.depth, nullptr), [&](auto how) {
    constexpr Read read = decltype(how)::value;
    if constexpr (read == Read::packed || read == Read::bfloat16) {
      int64_t p = panels.first;
      for (; p + streamed_panels <= panels.last; p += streamed_panels)
        stream_panels<read, streamed_panels>(w, x, p, start, finish);
      for (; p < panels.last; ++p) stream_panels<read, 1>(w, x, p, start, finish);
    }
  });
}

}  // namespace fastunroll::FASTUNROLL_SET
