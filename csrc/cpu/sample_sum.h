// Sums over samples, out[i][j] = sum over b of g[b][i] x[b][j]: the gradients of weights.
//
// They are products of the transposed g with x. They skip the zeros of g, divide the rows of the output between
// threads, and add samples in ascending order.
#pragma once
#include "cpu/tile.h"

namespace fastunroll::FASTUNROLL_SET {

// Samples are put in place by runs that begin at a multiple of this.
constexpr int64_t strip = 16;

// g of up to `most` samples, transposed, with masks of its nonzeros.
template <class T> struct Transposed {
  T* data;  // null if there is none
  uint64_t* masks;
  int64_t rows, stride, words;

  template <class Memory> static Transposed make(int64_t rows, int64_t most, Memory& memory) {
    const int64_t words = blocks(most, mask_bits);
    const int64_t stride = words * mask_bits + 16;  // not a multiple of 2 KB, see tile_stride
    const int64_t room = blocks(rows, lanes<T>) * lanes<T>;
    return {memory.template take<T>(room * stride), memory.template take<uint64_t>(room * words), rows, stride, words};
  }

  Rows<T> part(int64_t first, int64_t last) const {
    return {data + first * stride, stride, last - first, masks + first * words, words};
  }

  // Writes samples first .. first + count - 1.
  void put(int64_t first, int64_t count, const T* g, int64_t g_stride) const {
    constexpr int side = lanes<T>;
    for (int64_t r = 0; r < count; r += strip) {
      for (int64_t i = 0; i < rows; i += side) {
        uint16_t bits[side] = {};
        for (int64_t part = 0; part < strip; part += side) {
          Vector<T> v[side];
          load_square<T>(v, g + (r + part) * g_stride + i, g_stride, count - r - part, rows - i);
          transpose<T>(v);
          for (int j = 0; j < side; ++j) {
            store(data + (i + j) * stride + first + r + part, v[j]);
            bits[j] = uint16_t(bits[j] | nonzero_bits(v[j]) << part);
          }
        }
        // Threads write other strips of the same word.
        for (int j = 0; j < side; ++j)
          memcpy(reinterpret_cast<char*>(masks + (i + j) * words) + (first + r) / 8, &bits[j], sizeof bits[j]);
      }
    }
  }
};
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "masks are written by their bytes");

// x of up to `most` samples as panels, a row for each sample.
template <class T> struct Stacked {
  T* data;  // null if there is none
  int64_t most, columns;
  bool* finite;  // whether all values are finite; otherwise zeros of g are not skipped, since 0 times NaN is NaN

  template <class Memory> static Stacked make(int64_t columns, int64_t most, Memory& memory) {
    bool* const finite = memory.template take<bool>(1);
    *finite = true;
    return {memory.template take<T>(Factor<T>::packed_size(most, columns)), most, columns, finite};
  }

  // The first `count` samples, if there are no more.
  Factor<T> factor(int64_t count) const {
    return {count, columns, data, __atomic_load_n(finite, __ATOMIC_RELAXED), nullptr, Layout::by_depth, false};
  }

  // Writes samples first .. first + count - 1 of `all`, and zeros for those up to first + room - 1.
  void put(int64_t first, int64_t count, int64_t room, int64_t all, const T* x, int64_t x_stride) const {
    constexpr int width = panel_width<T>;
    T* out = data + first * width;
    bool all_finite = true;
    for (int64_t c = 0; c < columns; c += width, out += all * width) {
      all_finite &= copy_rows(x + c, x_stride, columns - c, count, out);
      memset(out + count * width, 0, size_t((room - count) * width) * sizeof(T));
    }
    if (!all_finite) __atomic_store_n(finite, false, __ATOMIC_RELAXED);
  }
};

// Writes the sum over `count` samples, at least one, to rows first .. last - 1 of out, (g.rows, x.columns); or adds it
// to them. `scratch` is for last - first rows of `count` values.
template <class T>
void sample_sum(const Transposed<T>& g, const Stacked<T>& x, int64_t count, int64_t first, int64_t last, bool add,
                T* out, const ProductScratch<T>& scratch, double above) {
  if (first == last) return;
  T* rows = out + first * x.columns;
  product(x.factor(count), g.part(first, last), scratch, above, StartFromMatrix<T>{add ? rows : nullptr, x.columns},
          StoreInMatrix<T>{rows, x.columns});
}

// Writes rows first .. last - 1 of x, (rows, columns), as columns of out, (columns, rows).
template <class T> void transpose_rows(const T* x, int64_t columns, int64_t first, int64_t last, T* out, int64_t rows) {
  constexpr int side = lanes<T>;
  for (int64_t i = first; i < last; i += side) {
    for (int64_t j = 0; j < columns; j += side) {
      Vector<T> v[side];
      load_square<T>(v, x + i * columns + j, columns, last - i, columns - j);
      transpose<T>(v);
      for (int c = 0; c < side && j + c < columns; ++c) store_some(out + (j + c) * rows + i, v[c], last - i);
    }
  }
}

}  // namespace fastunroll::FASTUNROLL_SET
