// Weights as the product kernels read them: panels of 8 vectors, so that the values a sample's nonzero x[k] is
// multiplied with lie side by side, and 64 rows of a panel fill at most a level-1 cache.
#pragma once
#include "cpu/simd.h"

namespace fastunroll::FASTUNROLL_SET {

constexpr int panel_vectors = 8;
template <class T> constexpr int panel_width = panel_vectors * lanes<T>;

inline int64_t blocks(int64_t size, int64_t block) { return (size + block - 1) / block; }
template <class T> inline int64_t padded(int64_t columns) { return blocks(columns, panel_width<T>) * panel_width<T>; }

// Factor W of x W: panel p holds W[k][p * width .. (p + 1) * width) for k = 0 .. depth - 1, padded with zeros.
template <class T> struct Panels {
  T* data;
  int64_t depth, columns;
  bool finite;  // skipping a zero of x is exact only against finite weights

  static int64_t size(int64_t depth, int64_t columns) { return depth * padded<T>(columns); }
  int64_t count() const { return blocks(columns, panel_width<T>); }
  T* panel(int64_t p) const { return data + p * depth * panel_width<T>; }
};

enum class Layout {
  by_column,  // the source is (columns, depth): x W is x times the source, transposed
  by_depth,   // the source is (depth, columns)
};

// Writes panel p of `w` from `source`; false if a value is not finite.
template <class T> bool pack_panel(const Panels<T>& w, int64_t p, const T* source, Layout layout) {
  constexpr int width = panel_width<T>;
  constexpr int64_t strip = 16;  // rows of the panel written at a time: they stay in the level-1 cache
  const int64_t first = p * width;
  const int64_t columns = w.columns - first < width ? w.columns - first : width;
  T* out = w.panel(p);
  int not_finite = 0;
  for (int64_t k0 = 0; k0 < w.depth; k0 += strip) {
    const int64_t k1 = k0 + strip < w.depth ? k0 + strip : w.depth;
    if (layout == Layout::by_column) {
      for (int64_t c = 0; c < columns; ++c) {
        const T* s = source + (first + c) * w.depth;
        for (int64_t k = k0; k < k1; ++k) out[k * width + c] = s[k];
      }
    } else {
      for (int64_t k = k0; k < k1; ++k) memcpy(out + k * width, source + k * w.columns + first, columns * sizeof(T));
    }
    for (int64_t k = k0; k < k1; ++k) {
      for (int64_t c = columns; c < width; ++c) out[k * width + c] = 0;
      for (int c = 0; c < width; ++c) not_finite |= out[k * width + c] - out[k * width + c] != 0;
    }
  }
  return !not_finite;
}

// Packs `count` matrices of one shape, the panels shared out between the threads.
template <class T> void pack(Panels<T>* w, const T* const* sources, int64_t count, Layout layout, int threads) {
  if (count == 0) return;
  const int64_t each = w[0].count();
  for (int64_t i = 0; i < count; ++i) w[i].finite = true;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t i = 0; i < count * each; ++i) {
    if (!pack_panel(w[i / each], i % each, sources[i / each], layout)) {
#pragma omp atomic write
      w[i / each].finite = false;
    }
  }
}

}  // namespace fastunroll::FASTUNROLL_SET
