// Sums over a row that are the same for vectors of every width: 64 bytes of partial sums, added up in order.
#pragma once
#include "cpu/simd.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> struct FixedSum {
  static constexpr int values = 64 / int(sizeof(T)), vectors = values / lanes<T>;
  Vector<T> part[vectors] = {};

  void add(int v, Vector<T> a, Vector<T> b) { part[v] = multiply_add(a, b, part[v]); }
  T total() const {
    T all[values], sum = 0;
    for (int v = 0; v < vectors; ++v) store(all + v * lanes<T>, part[v]);
    for (int i = 0; i < values; ++i) sum += all[i];
    return sum;
  }
};

template <class T> inline T inner_product(const T* a, const T* b, int64_t count) {
  FixedSum<T> sum;
  for (int64_t i = 0; i < count; i += FixedSum<T>::values)
    for (int v = 0; v < FixedSum<T>::vectors; ++v) {
      const int64_t j = i + v * lanes<T>;
      sum.add(v, load_some(a + j, count - j), load_some(b + j, count - j));
    }
  return sum.total();
}

}  // namespace fastunroll::FASTUNROLL_SET
