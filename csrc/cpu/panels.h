// Weights as the product kernels read them: panels of a few vectors. The values that a nonzero x[k] is multiplied by
// are neighbours in memory, and 64 rows of a panel fit in the level-1 cache.
#pragma once
#include "cpu/simd.h"
#include "cpu/threads.h"

namespace fastunroll::FASTUNROLL_SET {

constexpr int block_rows = 64;  // rows of a panel that one mask of x covers
// The sums of a panel take half of the registers, and a block of it 32 KB at most.
constexpr int panel_bytes = (32 << 10) / block_rows;
constexpr int panel_vectors =
    vector_registers / 2 * vector_bytes < panel_bytes ? vector_registers / 2 : panel_bytes / vector_bytes;
template <class T> constexpr int panel_width = panel_vectors * lanes<T>;
template <class T> constexpr int64_t block_size = block_rows * panel_width<T>;

inline int64_t blocks(int64_t size, int64_t block) { return (size + block - 1) / block; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
template <class T> inline int64_t padded(int64_t columns) { return blocks(columns, panel_width<T>) * panel_width<T>; }

// A packed matrix begins with a flag that says whether it is finite.
template <class T> constexpr int64_t packed_header = 64 / int64_t(sizeof(T));

enum class Layout {
  by_column,  // the source is (columns, depth): x W is x times the source, transposed
  by_depth,   // the source is (depth, columns)
};

// How the rows of a panel are read.
enum class Read {
  packed,
  in_place,  // from a matrix of the caller
  cut,       // from its last panel
  bfloat16,  // packed as bfloat16, two vectors in one: the first in the upper halves, the second in the lower
};

// Vector j of a row; a row that is cut has `left` columns.
template <Read How, class T> inline Vector<T> row_vector(const T* row, int j, int64_t left) {
  if constexpr (How == Read::packed || How == Read::in_place) return load(row + j * lanes<T>);
  if constexpr (How == Read::cut) return load_some(row + j * lanes<T>, left - j * lanes<T>);
  const auto pairs = (typename Simd<T>::Bits)load(row + j / 2 * lanes<T>);
  return (Vector<T>)(j % 2 ? pairs << 16 : pairs >> 16 << 16);
}

// Some rows of a panel.
template <class T> struct Block {
  const T* data;
  int64_t stride;
  int64_t columns;  // a panel width, or fewer at the end of a matrix that is not packed
  bool finite;      // skipping a zero of x is exact only against finite weights
};

// The distance from a row to the next: a constant where the rows are packed, as loops over rows want it.
template <Read How, class T> inline int64_t row_stride(const Block<T>& block) {
  if constexpr (How == Read::packed) return panel_width<T>;
  if constexpr (How == Read::bfloat16) return panel_width<T> / 2;
  return block.stride;
}

// The factor W of x W, (depth, columns): packed, or as the caller holds it. A factor of the caller is packed block by
// block when it is used; or read in place and taken to be finite, if its rows are in the order of panels.
// Packed panel p holds W[k][p * width .. (p + 1) * width) for k = 0 .. depth - 1, padded with zeros.
template <class T> struct Factor {
  int64_t depth, columns;
  const T* panels;  // null if not packed
  bool finite;      // of the packed one
  const T* source;
  Layout layout;
  bool far;               // not used recently, so in no cache
  bool bfloat16 = false;  // when packed

  static int64_t packed_size(int64_t depth, int64_t columns) { return depth * padded<T>(columns); }
  int64_t packed_size() const { return packed_size(depth, columns) / (bfloat16 ? 2 : 1); }
  int64_t packed_width() const { return panel_width<T> / (bfloat16 ? 2 : 1); }
  int64_t panel_count() const { return blocks(columns, panel_width<T>); }

  // Rows k .. k + count - 1 of panel p; `buffer` holds count panel widths.
  Block<T> block(int64_t p, int64_t k, int64_t count, T* buffer) const;
};

// Copies `count` rows, `stride` apart, of which `left` columns are to be in a panel, and puts zeros behind a row that
// is shorter than the panel; false if a value is not finite.
template <class T> bool copy_rows(const T* row, int64_t stride, int64_t left, int64_t count, T* out) {
  constexpr int width = panel_width<T>;
  typename Simd<T>::Integer not_finite{};
  const auto copy = [&](auto whole) {
    for (int64_t i = 0; i < count; ++i, row += stride, out += width) {
#pragma GCC unroll 8
      for (int c = 0; c < width; c += lanes<T>) {
        const Vector<T> v = whole.value ? load(row + c) : load_some(row + c, left - c);
        store(out + c, v);
        not_finite |= v - v != 0;
      }
    }
  };
  if (left >= width)
    copy(Constant<true>());
  else
    copy(Constant<false>());
  return !nonzero_bits((Vector<T>)not_finite);  // all bits set is a NaN
}

// Loads a square of vectors from rows `stride` apart; what is beyond `rows` and `columns` is zero.
template <class T>
__attribute__((always_inline)) inline void load_square(Vector<T>* v, const T* p, int64_t stride, int64_t rows,
                                                       int64_t columns) {
  if (rows >= lanes<T> && columns >= lanes<T>)
    for (int i = 0; i < lanes<T>; ++i) v[i] = load(p + i * stride);
  else
    for (int i = 0; i < lanes<T>; ++i) v[i] = i < rows ? load_some(p + i * stride, columns) : Vector<T>{};
}

// Writes rows k .. k + count - 1 of panel p of a source that is (columns, depth), in squares of lanes by lanes along
// its rows; false if a value is not finite.
template <class T> bool pack_columns(const Factor<T>& w, int64_t p, int64_t k, int64_t count, T* out) {
  constexpr int width = panel_width<T>, side = lanes<T>;
  typename Simd<T>::Integer not_finite{};
  for (int64_t c = 0; c < width; c += side) {
    const int64_t columns_left = w.columns - p * width - c;
    const T* const rows = w.source + (p * width + c) * w.depth + k;
    for (int64_t i = 0; i < count; i += side) {
      const int64_t rows_left = count - i;
      Vector<T> v[side];
      load_square<T>(v, rows + i, w.depth, columns_left, rows_left);
      if (w.far)  // the next block, which is not in sequence
        for (int j = 0; j < side; ++j) __builtin_prefetch(rows + j * w.depth + i + block_rows, 0, 2);
      transpose<T>(v);
      for (int j = 0; j < side && j < rows_left; ++j) {
        store(out + (i + j) * width + c, v[j]);
        not_finite |= v[j] - v[j] != 0;
      }
    }
  }
  return !nonzero_bits((Vector<T>)not_finite);
}

template <class T> bool pack_block(const Factor<T>& w, int64_t p, int64_t k, int64_t count, T* out) {
  if (w.layout == Layout::by_column) return pack_columns(w, p, k, count, out);
  const int64_t first = p * panel_width<T>;
  return copy_rows(w.source + k * w.columns + first, w.columns, w.columns - first, count, out);
}

template <class T> Block<T> Factor<T>::block(int64_t p, int64_t k, int64_t count, T* buffer) const {
  constexpr int width = panel_width<T>;
  if (panels) return {panels + (p * depth + k) * packed_width(), packed_width(), width, finite};
  if (layout == Layout::by_depth) {
    const int64_t left = columns - p * width;
    return {source + k * columns + p * width, columns, left < width ? left : width, true};
  }
  const bool all_finite = pack_block(*this, p, k, count, buffer);
  return {buffer, width, width, all_finite};
}

// Rows of a panel rounded to bfloat16, ties to even; false if a value is not finite.
template <class T> bool halve(const T* rows, int64_t count, T* out) {
  using Bits = typename Simd<T>::Bits;
  Bits not_finite{};
  const auto rounded = [&](const T* p) {
    const Vector<T> v = load(p);
    const Bits bits = (Bits)v, nan = (Bits)(v != v), round = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const Bits found = (nan & 0x7fc0) | (~nan & round);
    not_finite |= (Bits)((found & 0x7f80) == 0x7f80);
    return found;
  };
  for (int64_t i = 0; i < count * panel_vectors; i += 2, rows += 2 * lanes<T>, out += lanes<T>)
    store(out, (Vector<T>)(rounded(rows) << 16 | rounded(rows + lanes<T>)));
  return !nonzero_bits((Vector<T>)not_finite);
}

// Packs panel p to `out`; false if a value is not finite.
template <class T> bool pack_panel(const Factor<T>& w, int64_t p, T* out) {
  if constexpr (sizeof(T) == 4) {
    if (w.bfloat16) {
      alignas(vector_bytes) T block[block_size<T>];
      bool finite = true;
      for (int64_t k = 0; k < w.depth; k += block_rows) {
        const int64_t count = w.depth - k < block_rows ? w.depth - k : block_rows;
        pack_block(w, p, k, count, block);
        finite &= halve(block, count, out + k * w.packed_width());
      }
      return finite;
    }
  }
  return pack_block(w, p, 0, w.depth, out);
}

// Packs the sources of `count` factors of one shape into `memory`, one after another, the panels divided between
// the threads.
template <class T> void pack(Factor<T>* w, int64_t count, T* memory, int threads) {
  if (count == 0) return;
  const int64_t each = w[0].panel_count(), size = w[0].packed_size();
  for (int64_t i = 0; i < count; ++i) w[i].finite = true;
  for_each(count * each, threads, [&](int64_t i, int) {
    Factor<T>& f = w[i / each];
    const int64_t p = i % each;
    if (!pack_panel(f, p, memory + i / each * size + p * f.depth * f.packed_width()))
      __atomic_store_n(&f.finite, false, __ATOMIC_RELAXED);
  });
  for (int64_t i = 0; i < count; ++i) w[i].panels = memory + i * size;
}

template <Read How> struct Reading {
  static constexpr Read value = How;
};

// Calls work with the way to read a block.
template <class T, class Work> inline void with_reading(const Factor<T>& w, const Block<T>& block, const Work& work) {
  if constexpr (sizeof(T) == 4)
    if (w.panels && w.bfloat16) return work(Reading<Read::bfloat16>());
  if (block.columns < panel_width<T>)
    work(Reading<Read::cut>());
  else if (block.stride == panel_width<T>)
    work(Reading<Read::packed>());
  else
    work(Reading<Read::in_place>());
}

}  // namespace fastunroll::FASTUNROLL_SET
