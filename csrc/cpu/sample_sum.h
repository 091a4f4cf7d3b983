// Sums over samples, out[i][j] += sum over b of g[b][i] x[b][j]: the gradients of weights.
//
// They are products too: for a chunk of 64 samples, the rows of g transposed times the chunk of x. So they skip the
// zeros of g, split the rows of the output between threads, and add samples in ascending order.
#pragma once
#include "cpu/tile.h"

namespace fastunroll::FASTUNROLL_SET {

constexpr int64_t chunk = 64;

inline int64_t chunk_depth(int64_t batch, int64_t c) { return batch - c * chunk < chunk ? batch - c * chunk : chunk; }

// g of all samples: (rows, 64) for each chunk.
template <class T> struct Transposed {
  T* data;
  int64_t rows;

  static int64_t size(int64_t batch, int64_t rows) { return blocks(batch, chunk) * rows * chunk; }
  T* at(int64_t c, int64_t row) const { return data + (c * rows + row) * chunk; }

  // Writes samples first .. first + count - 1, all of one chunk, from rows of g with their masks.
  void put(int64_t first, const Rows<T>& g) const {
    T* out = at(first / chunk, 0) + first % chunk;
    for (int64_t i = 0; i < rows; ++i) memset(out + i * chunk, 0, size_t(g.count) * sizeof(T));
    for (int64_t r = 0; r < g.count; ++r) {
      for (int64_t q = 0; q < blocks(rows, mask_bits); ++q) {
        for (uint64_t mask = g.masks[r * g.words + q]; mask; mask &= mask - 1) {
          const int64_t i = q * mask_bits + __builtin_ctzll(mask);
          out[i * chunk + r] = g.data[r * g.stride + i];
        }
      }
    }
  }
};

// x of all samples: one set of panels of depth 64, or what is left, for each chunk.
template <class T> struct Chunked {
  T* data;
  int64_t batch, columns;

  static int64_t size(int64_t batch, int64_t columns) { return Factor<T>::packed_size(batch, columns); }
  T* panels(int64_t c) const { return data + c * Factor<T>::packed_size(chunk, columns); }
  Factor<T> at(int64_t c) const {
    return {chunk_depth(batch, c), columns, panels(c), true, nullptr, Layout::by_depth};
  }

  // Writes samples first .. first + count - 1, all of one chunk, from rows of x.
  void put(int64_t first, int64_t count, const T* x, int64_t stride) const {
    constexpr int width = panel_width<T>;
    const int64_t depth = chunk_depth(batch, first / chunk);
    T* out = panels(first / chunk) + first % chunk * width;
    for (int64_t c = 0; c < columns; c += width, out += depth * width)
      for (int64_t r = 0; r < count; ++r)
        for (int j = 0; j < width; j += lanes<T>)
          store(out + r * width + j, load_some(x + r * stride + c + j, columns - c - j));
  }
};

// Writes the sum over all samples, of which there is one at least, to rows first .. last - 1 of out, (g.rows,
// x.columns); or adds it to them. Scratch: `masks` last - first words, `spill` as many panel widths.
template <class T>
void sample_sum(const Transposed<T>& g, const Chunked<T>& x, int64_t first, int64_t last, bool add, T* out,
                uint64_t* masks, T* spill, double above) {
  if (first == last) return;
  T* rows = out + first * x.columns;
  for (int64_t c = 0; c < blocks(x.batch, chunk); ++c) {
    const int64_t depth = chunk_depth(x.batch, c);
    for (int64_t i = first; i < last; ++i) mark_row(masks + (i - first), 1, g.at(c, i), depth);
    const Rows<T> factor{g.at(c, first), chunk, last - first, masks, 1};
    const StoreInMatrix<T> store{rows, x.columns};
    if (c == 0 && !add)
      product(x.at(c), factor, {spill, nullptr}, above, StartAtZero<T>{}, store);
    else
      product(x.at(c), factor, {spill, nullptr}, above, StartFromMatrix<T>{rows, x.columns}, store);
  }
}

// Writes rows first .. last - 1 of x, (rows, columns), as columns of out, (columns, rows).
template <class T>
void transpose_rows(const T* x, int64_t columns, int64_t first, int64_t last, T* out, int64_t rows) {
  constexpr int side = lanes<T>;
  for (int64_t i = first; i < last; i += side) {
    for (int64_t j = 0; j < columns; j += side) {
      Vector<T> v[side];
      for (int r = 0; r < side; ++r)
        v[r] = i + r < last ? load_some(x + (i + r) * columns + j, columns - j) : Vector<T>{};
      transpose<T>(v);
      for (int c = 0; c < side && j + c < columns; ++c) store_some(out + (j + c) * rows + i, v[c], last - i);
    }
  }
}

}  // namespace fastunroll::FASTUNROLL_SET
