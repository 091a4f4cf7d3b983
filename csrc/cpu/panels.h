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

// Writes panel p of `w` from `source` in squares of lanes by lanes, along the rows of the source; false if a value is
// not finite.
template <class T> bool pack_panel(const Panels<T>& w, int64_t p, const T* source, Layout layout) {
  constexpr int width = panel_width<T>, side = lanes<T>;
  T* out = w.panel(p);
  typename Simd<T>::Integer not_finite{};
  const auto square = [&](int64_t k0, int64_t c0) {
    const int64_t first = p * width + c0, depth_left = w.depth - k0, columns_left = w.columns - first;
    Vector<T> v[side];
    if (layout == Layout::by_column) {
      for (int i = 0; i < side; ++i)
        v[i] = i < columns_left ? load_some(source + (first + i) * w.depth + k0, depth_left) : Vector<T>{};
      transpose<T>(v);
    } else {
      for (int i = 0; i < side; ++i)
        v[i] = i < depth_left ? load_some(source + (k0 + i) * w.columns + first, columns_left) : Vector<T>{};
    }
    for (int i = 0; i < side && i < depth_left; ++i) {
      store(out + (k0 + i) * width + c0, v[i]);
      not_finite |= v[i] - v[i] != 0;
    }
  };
  if (layout == Layout::by_column) {
    for (int64_t c0 = 0; c0 < width; c0 += side)
      for (int64_t k0 = 0; k0 < w.depth; k0 += side) square(k0, c0);
  } else {
    for (int64_t k0 = 0; k0 < w.depth; k0 += side)
      for (int64_t c0 = 0; c0 < width; c0 += side) square(k0, c0);
  }
  return !nonzero_bits((Vector<T>)not_finite);  // all bits set is a NaN
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
