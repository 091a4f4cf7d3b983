// The left factor of a product: rows of samples, with masks of their nonzeros.
#pragma once
#include <cstring>

#include "cpu/panels.h"

namespace fastunroll::FASTUNROLL_SET {

constexpr int mask_bits = block_rows;

// The left factor: `count` rows of `depth` values, with masks of their nonzeros.
template <class T> struct Rows {
  const T* data;
  int64_t stride;
  int64_t count;
  const uint64_t* masks;  // count rows of `words`, or null if there is nothing to skip
  int64_t words;          // at least blocks(depth, mask_bits)
};

// The panels first .. last - 1 of a factor.
struct Range {
  int64_t first, last;
};

// The memory of products of x with up to `rows` rows, whose number times their depth is up to `values`.
template <class T> struct ProductScratch {
  T* spill;         // a panel width for each row of x
  uint64_t* masks;  // of each block of 64 columns of x, one for each row
  T* values;        // those of x that the masks select, in the same order
  T* buffer;        // a packed panel of the factor, unless all factors are packed

  template <class Memory>
  static ProductScratch make(int64_t rows, int64_t values, Memory& memory, T* buffer = nullptr) {
    const int64_t count = values / mask_bits + rows;  // of masks
    return {memory.template take<T>(rows * panel_width<T>), memory.template take<uint64_t>(count),
            memory.template take<T>(count * mask_bits + lanes<T>), buffer};
  }
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
  const int64_t whole = size / mask_bits;
  for (int64_t q = 0; q < count; ++q) {
    const T* const block = x + q * mask_bits;
    uint64_t word = 0;
    if (q < whole)
      for (int c = 0; c < mask_bits; c += lanes<T>) word |= uint64_t(nonzero_bits(load(block + c))) << c;
    else
      for (int64_t c = 0; c < size - q * mask_bits; c += lanes<T>)
        word |= uint64_t(nonzero_bits(load_some(block + c, size - q * mask_bits - c))) << c;
    words[q] = word;
  }
}

// The bits of word q of a mask that stand for columns. The padding of a tile may hold NaN or old memory: its bits are
// not counted, and no kernel reads rows for them.
inline uint64_t inside(int64_t q, int64_t columns) {
  const int64_t left = columns - q * mask_bits;
  return ~uint64_t(0) >> (left < mask_bits ? mask_bits - left : 0);
}

inline int64_t count_nonzeros(const uint64_t* masks, int64_t columns) {
  int64_t count = 0;
  for (int64_t q = 0; q < blocks(columns, mask_bits); ++q) count += __builtin_popcountll(masks[q] & inside(q, columns));
  return count;
}

// The rows of word q by which a value of x is multiplied.
template <class T> inline uint64_t rows_to_meet(const Rows<T>& x, int64_t r, int64_t q, int64_t depth, bool finite) {
  return x.masks && finite ? x.masks[r * x.words + q] & inside(q, depth) : inside(q, depth);
}

// The fraction of x that is not zero.
template <class T> inline double density(const Rows<T>& x, int64_t depth) {
  if (!x.masks) return 1;
  int64_t nonzeros = 0;
  for (int64_t r = 0; r < x.count; ++r) nonzeros += count_nonzeros(x.masks + r * x.words, depth);
  return double(nonzeros) / double(x.count * depth);
}

}  // namespace fastunroll::FASTUNROLL_SET
