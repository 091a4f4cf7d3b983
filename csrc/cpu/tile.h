// Tiles of samples: the division of a batch, and the start and the destination of the products of a tile.
#pragma once
#include "cpu/product.h"

namespace fastunroll::FASTUNROLL_SET {

// A batch cut into `count` nearly equal tiles.
struct Tiles {
  int64_t batch, count;
  int64_t first(int64_t i) const { return batch * i / count; }
  int64_t rows(int64_t i) const { return first(i + 1) - first(i); }
  int64_t max_rows() const { return blocks(batch, count); }
};

// Tiles of at most `rows` samples, at least one for every thread.
inline Tiles cut(int64_t batch, int64_t rows, int threads) {
  const int64_t count = blocks(blocks(batch, rows), threads) * threads;
  return {batch, count < batch ? count : batch};
}

// Row stride of a tile: whole panels, and not a multiple of 2 KB, which would crowd rows into a few cache sets.
template <class T> inline int64_t tile_stride(int64_t columns) { return padded<T>(columns) + 64 / int64_t(sizeof(T)); }
template <class T> inline int64_t tile_words(int64_t columns) { return blocks(padded<T>(columns), mask_bits); }

// --- where an accumulator starts -----------------------------------------------------------------------------------

template <class T> struct StartFrom {  // a padded tile; zero without one
  const T* data = nullptr;
  int64_t stride = 0;
  template <int Count> __attribute__((always_inline)) void load_at(int64_t row, int64_t column, Vector<T>* v) const {
    if (data)
      for (int j = 0; j < Count; ++j) v[j] = load(data + row * stride + column + j * lanes<T>);
    else
      for (int j = 0; j < Count; ++j) v[j] = Vector<T>{};
  }
};

template <class T> struct StartFromMatrix {  // a matrix that ends at its last column; zero without one
  const T* data = nullptr;
  int64_t columns = 0;
  template <int Count> __attribute__((always_inline)) void load_at(int64_t row, int64_t column, Vector<T>* v) const {
    const int64_t left = columns - column;
    if (data)
      for (int j = 0; j < Count; ++j)
        v[j] = load_some(data + row * columns + column + j * lanes<T>, left - j * lanes<T>);
    else
      for (int j = 0; j < Count; ++j) v[j] = Vector<T>{};
  }
};

// --- where the result goes -----------------------------------------------------------------------------------------

template <class T> struct Store {  // into a padded tile
  T* data;
  int64_t stride;
  template <int Count> void store_at(int64_t row, int64_t column, const Vector<T>* v) const {
    for (int j = 0; j < Count; ++j) store(data + row * stride + column + j * lanes<T>, v[j]);
  }
};

template <class T> struct StoreInMatrix {
  T* data;
  int64_t columns;
  template <int Count> void store_at(int64_t row, int64_t column, const Vector<T>* v) const {
    for (int j = 0; j < Count; ++j) {
      const int64_t c = column + j * lanes<T>;
      store_some(data + row * columns + c, v[j], columns - c);
    }
  }
};

// Fills a padded row with `values`, one or `columns` of them.
template <class T> inline void spread(T* row, const T* values, int64_t size, int64_t columns) {
  for (int64_t c = 0; c < padded<T>(columns); ++c) row[c] = c < columns ? values[size == 1 ? 0 : c] : 0;
}

}  // namespace fastunroll::FASTUNROLL_SET
