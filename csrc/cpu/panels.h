// Weights as the product kernels read them: panels of 8 vectors, so that the values a sample's nonzero x[k] is
// multiplied with lie side by side, and 64 rows of a panel fill at most a level-1 cache.
#pragma once
#include "cpu/simd.h"
#include "cpu/threads.h"

namespace fastunroll::FASTUNROLL_SET {

constexpr int panel_vectors = 8;
constexpr int block_rows = 64;  // rows of a panel that one mask of x covers
template <class T> constexpr int panel_width = panel_vectors * lanes<T>;
template <class T> constexpr int64_t block_size = block_rows * panel_width<T>;

inline int64_t blocks(int64_t size, int64_t block) { return (size + block - 1) / block; }
template <class T> inline int64_t padded(int64_t columns) { return blocks(columns, panel_width<T>) * panel_width<T>; }

enum class Layout {
  by_column,  // the source is (columns, depth): x W is x times the source, transposed
  by_depth,   // the source is (depth, columns)
};

// Some rows of a panel.
template <class T> struct Block {
  const T* data;
  int64_t stride;
  int64_t columns;  // a panel width, or fewer at the end of a matrix that is not packed
  bool finite;      // skipping a zero of x is exact only against finite weights
};

// The factor W of x W, (depth, columns): packed, or as the caller holds it. Then it is packed block by block as it is
// used, or, if its rows lie as they are needed, read where it is: taken to be finite.
// Packed panel p holds W[k][p * width .. (p + 1) * width) for k = 0 .. depth - 1, padded with zeros.
template <class T> struct Factor {
  int64_t depth, columns;
  const T* panels;  // null if not packed
  bool finite;      // of the packed one
  const T* source;
  Layout layout;
  bool far;  // not used a moment ago, so in no cache

  static int64_t packed_size(int64_t depth, int64_t columns) { return depth * padded<T>(columns); }
  int64_t panel_count() const { return blocks(columns, panel_width<T>); }

  // Rows k .. k + count - 1 of panel p; `buffer` holds count panel widths.
  Block<T> block(int64_t p, int64_t k, int64_t count, T* buffer) const;
};

// Writes rows k .. k + count - 1 of panel p of `source` in squares of lanes by lanes, along the rows of the source;
// false if a value is not finite.
template <class T> bool pack_block(const Factor<T>& w, int64_t p, int64_t k, int64_t count, T* out) {
  constexpr int width = panel_width<T>, side = lanes<T>;
  typename Simd<T>::Integer not_finite{};
  const auto square = [&](int64_t k0, int64_t c0) {
    const int64_t first = p * width + c0, rows_left = count - k0, columns_left = w.columns - first;
    Vector<T> v[side];
    if (w.layout == Layout::by_column) {
      for (int i = 0; i < side; ++i) {
        const T* row = w.source + (first + i) * w.depth + k + k0;
        v[i] = i < columns_left ? load_some(row, rows_left) : Vector<T>{};
        if (w.far) __builtin_prefetch(row + block_rows, 0, 2);  // the next block, which is not in sequence
      }
      transpose<T>(v);
    } else {
      for (int i = 0; i < side; ++i)
        v[i] = i < rows_left ? load_some(w.source + (k + k0 + i) * w.columns + first, columns_left) : Vector<T>{};
    }
    for (int i = 0; i < side && i < rows_left; ++i) {
      store(out + (k0 + i) * width + c0, v[i]);
      not_finite |= v[i] - v[i] != 0;
    }
  };
  if (w.layout == Layout::by_column) {
    for (int64_t c0 = 0; c0 < width; c0 += side)
      for (int64_t k0 = 0; k0 < count; k0 += side) square(k0, c0);
  } else {
    for (int64_t k0 = 0; k0 < count; k0 += side)
      for (int64_t c0 = 0; c0 < width; c0 += side) square(k0, c0);
  }
  return !nonzero_bits((Vector<T>)not_finite);  // all bits set is a NaN
}

template <class T> Block<T> Factor<T>::block(int64_t p, int64_t k, int64_t count, T* buffer) const {
  constexpr int width = panel_width<T>;
  if (panels) return {panels + (p * depth + k) * width, width, width, finite};
  if (layout == Layout::by_depth) {
    const int64_t left = columns - p * width;
    return {source + k * columns + p * width, columns, left < width ? left : width, true};
  }
  const bool all_finite = pack_block(*this, p, k, count, buffer);
  return {buffer, width, width, all_finite};
}

// Packs the sources of `count` factors of one shape into `memory`, one after another, the panels shared out between
// the threads.
template <class T> void pack(Factor<T>* w, int64_t count, T* memory, int threads) {
  if (count == 0) return;
  const int64_t each = w[0].panel_count(), size = Factor<T>::packed_size(w[0].depth, w[0].columns);
  for (int64_t i = 0; i < count; ++i) w[i].finite = true;
  for_each(count * each, threads, [&](int64_t i, int) {
    Factor<T>& f = w[i / each];
    const int64_t p = i % each;
    if (!pack_block(f, p, 0, f.depth, memory + i / each * size + p * f.depth * panel_width<T>))
      __atomic_store_n(&f.finite, false, __ATOMIC_RELAXED);
  });
  for (int64_t i = 0; i < count; ++i) w[i].panels = memory + i * size;
}

}  // namespace fastunroll::FASTUNROLL_SET
