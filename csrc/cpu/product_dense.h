// x W by all values of x: 6 samples by a few vectors stay in registers over the whole depth.
#pragma once
#include "cpu/rows.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> constexpr int dense_vectors = vector_registers == 32 ? 4 : 2;
constexpr int dense_rows = 6;

template <int R, Read How, class T, class Start, class Finish>
inline void dense_block(const Block<T>& panel, int64_t depth, int64_t offset, const Rows<T>& x, int64_t first,
                        int64_t column, const Start& start, const Finish& finish) {
  constexpr int count = dense_vectors<T>;
  Vector<T> sums[R][count], sum[R][count];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) start.template load_at<count>(first + r, column, sums[r]);
  copy_vectors<R * count>(sums[0], sum[0]);
  const T* values = x.data + first * x.stride;
  const T* row = panel.data + (How == Read::bfloat16 ? offset / 2 : offset);
  for (int64_t k = 0; k < depth; ++k, row += row_stride<How>(panel)) {
    Vector<T> weights[count];
    for (int j = 0; j < count; ++j) weights[j] = row_vector<How>(row, j, panel.columns - offset);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const Vector<T> value = broadcast(values[r * x.stride + k]);
#pragma GCC unroll 4
      for (int j = 0; j < count; ++j) sum[r][j] = multiply_add(value, weights[j], sum[r][j]);
    }
  }
  copy_vectors<R * count>(sum[0], sums[0]);
  for (int r = 0; r < R; ++r) finish.template store_at<count>(first + r, column, sums[r]);
}

// For two samples or more.
template <class T, class Start, class Finish>
void product_dense(const Factor<T>& w, const Rows<T>& x, Range panels, const ProductScratch<T>& scratch,
                   const Start& start, const Finish& finish) {
  constexpr int width = panel_width<T>;
  const int64_t groups = blocks(x.count, dense_rows);
  for (int64_t p = panels.first; p < panels.last; ++p) {
    const Block<T> panel = w.block(p, 0, w.depth, scratch.buffer);
    for (int64_t c = 0; c < width; c += dense_vectors<T> * lanes<T>) {
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t first = x.count * g / groups;
        const auto block = [&](auto rows) {
          constexpr int count = decltype(rows)::value;
          with_reading(w, panel, [&](auto how) {
            dense_block<count, decltype(how)::value>(panel, w.depth, c, x, first, p * width + c, start, finish);
          });
        };
        switch (x.count * (g + 1) / groups - first) {
          case 2:
            block(Constant<2>());
            break;
          case 3:
            block(Constant<3>());
            break;
          case 4:
            block(Constant<4>());
            break;
          case 5:
            block(Constant<5>());
            break;
          default:
            block(Constant<6>());
            break;
        }
      }
    }
  }
}

}  // namespace fastunroll::FASTUNROLL_SET
