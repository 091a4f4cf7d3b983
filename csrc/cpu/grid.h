// Pictures in the workspace of a thread or a team, which vectors read and write without a remainder.
#pragma once
#include "cpu/simd.h"
#include "cpu/threads.h"

namespace fastunroll::FASTUNROLL_SET {

// Rows of a picture, from the first to the one before the last.
struct Band {
  int64_t first, last;

  // The rows of a thread of a team. `unit` rows stay together.
  static Band of(Team team, int64_t rows, int64_t unit = 1) {
    const int64_t units = (rows + unit - 1) / unit;
    const auto end = [&](int64_t rank) { return units * rank / team.size * unit; };
    return {end(team.rank), team.rank + 1 < team.size ? end(team.rank + 1) : rows};
  }
  // With up to `more` rows on both sides.
  Band widened(int64_t more, int64_t rows) const {
    return {first > more ? first - more : 0, last + more < rows ? last + more : rows};
  }
  bool has(int64_t row) const { return first <= row && row < last; }
};

// A row has `width` values, two for a complex pixel, and then zeros up to a whole number of vectors.
template <class T> struct Grid {
  int64_t rows, width;
  int64_t stride = (width + lanes<T> - 1) / lanes<T> * lanes<T>;

  // A few vectors more, so that the same pixel of two pictures lies at different places of a page.
  int64_t size() const { return rows * stride + 5 * lanes<T>; }

  // Calls body(row, c) for the vector of each row from its value c on.
  template <class Body> void each(Band band, const Body& body) const {
    for (int64_t row = band.first; row < band.last; ++row)
      for (int64_t c = 0; c < stride; c += lanes<T>) body(row, c);
  }
  T* at(T* picture, int64_t row, int64_t c) const { return picture + row * stride + c; }
  const T* at(const T* picture, int64_t row, int64_t c) const { return picture + row * stride + c; }

  // Vectors of a picture in the memory of the caller, whose rows have no padding.
  Vector<T> get(const T* from, int64_t row, int64_t c) const { return load_some(from + row * width + c, width - c); }
  void put(T* to, int64_t row, int64_t c, Vector<T> v) const { store_some(to + row * width + c, v, width - c); }

  // What lies behind the last row.
  void clear_behind(T* picture) const {
    for (int64_t c = rows * stride; c < size(); c += lanes<T>) store(picture + c, Vector<T>{});
  }
  void clear(Band band, T* picture) const {
    each(band, [&](int64_t row, int64_t c) { store(at(picture, row, c), Vector<T>{}); });
  }
  // Takes zeros from null.
  void copy_in(Band band, const T* from, T* picture) const {
    each(band, [&](int64_t row, int64_t c) { store(at(picture, row, c), from ? get(from, row, c) : Vector<T>{}); });
  }
  void copy_out(Band band, const T* picture, T* to) const {
    each(band, [&](int64_t row, int64_t c) { put(to, row, c, load(at(picture, row, c))); });
  }
};

template <class T> inline double sum_of_lanes(Vector<T> v) {
  double sum = 0;
  for (int lane = 0; lane < lanes<T>; ++lane) sum += double(v[lane]);
  return sum;
}

// Sums over a picture: of each row for itself, and then of the rows in order, whichever threads have summed them.
template <class T> struct RowSums {
  double* sums;  // (rows)
  Vector<T> row = {};

  void add(Vector<T> v) { row += v; }
  void add(Vector<T> a, Vector<T> b) { row = multiply_add(a, b, row); }
  void end_row(int64_t i) {
    sums[i] = sum_of_lanes<T>(row);
    row = Vector<T>{};
  }
};

inline double total(const double* sums, int64_t rows, int64_t stride = 1) {
  double sum = 0;
  for (int64_t i = 0; i < rows; ++i) sum += sums[i * stride];
  return sum;
}

}  // namespace fastunroll::FASTUNROLL_SET
