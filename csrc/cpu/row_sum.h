// Sums along a padded row, in 16 chains side by side: the same on every instruction set.
#pragma once
#include "cpu/simd.h"

namespace fastunroll::FASTUNROLL_SET {

constexpr int row_chains = 16;
template <class T> constexpr int row_parts = row_chains / lanes<T>;

// Calls body(column, part) for the vectors of a row of `size` values and of its padding to whole chains.
template <class T, class Body> inline void along_row(int64_t size, const Body& body) {
  for (int64_t c = 0; c < size; c += row_chains)
    for (int j = 0; j < row_parts<T>; ++j) body(c + j * lanes<T>, j);
}

template <class T> struct RowSum {
  Vector<T> part[row_parts<T>] = {};

  void add(int j, Vector<T> a, Vector<T> b) { part[j] = multiply_add(a, b, part[j]); }
  void add(int j, Vector<T> a) { part[j] += a; }
  T total() const {
    T sum[row_chains];
    for (int j = 0; j < row_parts<T>; ++j) store(sum + j * lanes<T>, part[j]);
    for (int width = row_chains / 2; width > 0; width /= 2)
      for (int i = 0; i < width; ++i) sum[i] += sum[i + width];
    return sum[0];
  }
};

// Sums of rows of any length.
template <class T> inline T inner_product(const T* a, const T* b, int64_t count) {
  RowSum<T> sum;
  along_row<T>(count, [&](int64_t c, int j) { sum.add(j, load_some(a + c, count - c), load_some(b + c, count - c)); });
  return sum.total();
}

// The largest magnitude; not finite if a value is not. Larger magnitudes have larger bits, as integers.
template <class T> inline T largest_magnitude(const T* a, int64_t count) {
  typename Simd<T>::Integer most{};
  for (int64_t i = 0; i < count; i += lanes<T>) {
    const auto bits = (typename Simd<T>::Integer)magnitude<T>(load_some(a + i, count - i));
    most = bits > most ? bits : most;
  }
  int first = 0;
  for (int i = 1; i < lanes<T>; ++i)
    if (most[i] > most[first]) first = i;
  return ((Vector<T>)most)[first];
}

}  // namespace fastunroll::FASTUNROLL_SET
