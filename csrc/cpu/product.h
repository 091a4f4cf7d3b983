// x W for a tile of samples: the one product behind every operation, in two kernels that give the same bits.
//
//   masked  steps through the nonzeros of x by a 64-bit mask for each sample and block of 64 rows of W. A block of
//           64 rows by 8 vectors stays in the level-1 cache while all samples of the tile pass over it; a sample's
//           accumulators wait in memory between blocks.
//   dense   keeps 6 samples by a few vectors in registers over the whole depth.
//
// Both add k in ascending order into one accumulator an output, starting from start(row, column), so that skipping
// the zeros changes nothing. finish.store_at(row, column, accumulators) stores what comes out.
#pragma once
#include "cpu/panels.h"

namespace fastunroll::FASTUNROLL_SET {

constexpr int mask_bits = 64;

// The left factor: `count` rows of `depth` values, and where they are not zero.
template <class T> struct Rows {
  const T* data;
  int64_t stride;
  int64_t count;
  const uint64_t* masks;  // count rows of `words`
  int64_t words;          // at least blocks(depth, mask_bits)
};

// Sets bit c of `words` for each nonzero lane of `Count` vectors that begin at `column`; the bits must be clear.
template <int Count, class T> inline void mark(uint64_t* words, int64_t column, const Vector<T>* v) {
  uint64_t word = 0;
  for (int j = 0; j < Count; ++j) {
    const int64_t c = column + j * lanes<T>;
    word |= uint64_t(nonzero_bits(v[j])) << (c % mask_bits);
    if (j + 1 == Count || (c + lanes<T>) % mask_bits == 0) {
      words[c / mask_bits] |= word;
      word = 0;
    }
  }
}

// Marks the nonzeros of a row of `size` values that was written without marking.
template <class T> inline void mark_row(uint64_t* words, int64_t count, const T* x, int64_t size) {
  memset(words, 0, size_t(count) * sizeof(uint64_t));
  for (int64_t c = 0; c < size; c += lanes<T>) {
    const Vector<T> v = load_some(x + c, size - c);
    mark<1, T>(words, c, &v);
  }
}

template <class T, class Start, class Finish>
void product_masked(const Panels<T>& w, const Rows<T>& x, T* spill, const Start& start, const Finish& finish) {
  constexpr int width = panel_width<T>;
  const int64_t words = blocks(w.depth, mask_bits);
  for (int64_t p = 0; p < w.count(); ++p) {
    for (int64_t q = 0; q < words; ++q) {
      // Columns that only pad a tile may hold the NaN of a sample: they must not be followed into memory.
      const uint64_t inside = ~uint64_t(0) >> (q + 1 < words ? 0 : words * mask_bits - w.depth);
      const T* block = w.panel(p) + q * mask_bits * width;
      for (int64_t r = 0; r < x.count; ++r) {
        Vector<T> sum[panel_vectors];
        for (int j = 0; j < panel_vectors; ++j)
          sum[j] = q ? load(spill + r * width + j * lanes<T>) : start(r, p * width + j * lanes<T>);
        const T* values = x.data + r * x.stride + q * mask_bits;
        for (uint64_t mask = x.masks[r * x.words + q] & inside; mask; mask &= mask - 1) {
          const int64_t k = __builtin_ctzll(mask);
          const Vector<T> value = broadcast(values[k]);
          const T* row = block + k * width;
#pragma GCC unroll 8
          for (int j = 0; j < panel_vectors; ++j) sum[j] = multiply_add(value, load(row + j * lanes<T>), sum[j]);
        }
        if (q + 1 < words)
          for (int j = 0; j < panel_vectors; ++j) store(spill + r * width + j * lanes<T>, sum[j]);
        else
          finish.template store_at<panel_vectors>(r, p * width, sum);
      }
    }
  }
}

template <class T> constexpr int dense_vectors = vector_registers == 32 ? 4 : 2;
constexpr int dense_rows = 6;

template <int R, class T, class Start, class Finish>
inline void dense_block(const T* panel, int64_t depth, const Rows<T>& x, int64_t first, int64_t column,
                        const Start& start, const Finish& finish) {
  constexpr int count = dense_vectors<T>;
  Vector<T> sum[R][count];
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < count; ++j) sum[r][j] = start(first + r, column + j * lanes<T>);
  const T* values = x.data + first * x.stride;
  for (int64_t k = 0; k < depth; ++k) {
    Vector<T> weights[count];
    for (int j = 0; j < count; ++j) weights[j] = load(panel + k * panel_width<T> + j * lanes<T>);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const Vector<T> value = broadcast(values[r * x.stride + k]);
#pragma GCC unroll 4
      for (int j = 0; j < count; ++j) sum[r][j] = multiply_add(value, weights[j], sum[r][j]);
    }
  }
  for (int r = 0; r < R; ++r) finish.template store_at<count>(first + r, column, sum[r]);
}

template <class T, class Start, class Finish>
void product_dense(const Panels<T>& w, const Rows<T>& x, const Start& start, const Finish& finish) {
  constexpr int count = dense_vectors<T>;
  const int64_t groups = blocks(x.count, dense_rows);
  for (int64_t c = 0; c < padded<T>(w.columns); c += count * lanes<T>) {
    const T* panel = w.panel(c / panel_width<T>) + c % panel_width<T>;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t first = x.count * g / groups;
      const auto block = [&](auto rows) {
        dense_block<decltype(rows)::value>(panel, w.depth, x, first, c, start, finish);
      };
      switch (x.count * (g + 1) / groups - first) {
        case 1:
          block(Constant<1>());
          break;
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

template <class T> inline bool is_dense(const Rows<T>& x, int64_t depth, double above) {
  int64_t nonzeros = 0;
  for (int64_t r = 0; r < x.count; ++r)
    for (int64_t q = 0; q < blocks(depth, mask_bits); ++q) nonzeros += __builtin_popcountll(x.masks[r * x.words + q]);
  return double(nonzeros) > above * double(x.count * depth);
}

// `spill` holds x.count panel widths; `above` is the density from which the dense kernel is faster.
template <class T, class Start, class Finish>
void product(const Panels<T>& w, const Rows<T>& x, T* spill, double above, const Start& start, const Finish& finish) {
  if (!w.finite || !x.masks || is_dense(x, w.depth, above))
    product_dense(w, x, start, finish);
  else
    product_masked(w, x, spill, start, finish);
}

}  // namespace fastunroll::FASTUNROLL_SET
