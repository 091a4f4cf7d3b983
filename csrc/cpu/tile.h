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

template <class T> struct StartAtZero {
  Vector<T> operator()(int64_t, int64_t) const { return Vector<T>{}; }
};

template <class T> struct StartFrom {  // a padded tile
  const T* data;
  int64_t stride;
  Vector<T> operator()(int64_t row, int64_t column) const { return load(data + row * stride + column); }
};

template <class T> struct StartFromMatrix {  // a matrix that ends at its last column
  const T* data;
  int64_t columns;
  Vector<T> operator()(int64_t row, int64_t column) const {
    return load_some(data + row * columns + column, columns - column);
  }
};

// --- where the result goes
// -------------------------------------------------------------------------------------------------

template <class T> struct Store {  // into a padded tile
  T* data;
  int64_t stride;
  template <int Count> void store_at(int64_t row, int64_t column, const Vector<T>* v) const {
    for (int j = 0; j < Count; ++j) store(data + row * stride + column + j * lanes<T>, v[j]);
  }
};

// Records values in rows of a matrix, `columns` of each row; or nothing.
template <class T> struct Record {
  T* data;
  int64_t stride, columns;
  void put(int64_t row, int64_t column, Vector<T> v) const {
    if (data) store_some(data + row * stride + column, v, columns - column);
  }
};

template <class T>
struct StoreNegated {  // times a factor for each column, if there are factors; the record is without them
  T* data;
  int64_t stride;
  const T* factors;
  Record<T> record;
  template <int Count> void store_at(int64_t row, int64_t column, const Vector<T>* v) const {
    for (int j = 0; j < Count; ++j) {
      const int64_t c = column + j * lanes<T>;
      record.put(row, c, -v[j]);
      store(data + row * stride + c, factors ? -v[j] * load(factors + c) : -v[j]);
    }
  }
};

// --- what happens to it before -------------------------------------------------------------------------------------

template <class T> struct AsItIs {
  template <class Place> const Place& before(const Place& place) const { return place; }
};

template <class T, class Place> struct SteppedBack {
  const T *from, *factors;
  int64_t stride;
  Record<T> record;
  const Place& place;
  template <int Count> void store_at(int64_t row, int64_t column, const Vector<T>* v) const {
    Vector<T> z[Count];
    for (int j = 0; j < Count; ++j) {
      const int64_t c = column + j * lanes<T>;
      const Vector<T> x = load(from + row * stride + c);
      record.put(row, c, -v[j]);
      z[j] = factors ? multiply_add(-v[j], load(factors + c), x) : x - v[j];
    }
    place.template store_at<Count>(row, column, z);
  }
};

// z = x - sum, times a factor for each column if there are factors, with x from a padded tile. Records minus the sum.
template <class T> struct StepBack {
  const T* from;
  int64_t stride;
  const T* factors;
  Record<T> record;
  template <class Place> SteppedBack<T, Place> before(const Place& place) const {
    return {from, factors, stride, record, place};
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
