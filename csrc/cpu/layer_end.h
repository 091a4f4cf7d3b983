// What becomes of the sums of a product of a layer. Kernels are compiled once for each of these two types, and not for
// each product.
#pragma once
#include "cpu/prox.h"

namespace fastunroll::FASTUNROLL_SET {

// Records values in rows of a matrix, `columns` of each row; or nothing.
template <class T> struct Record {
  T* data = nullptr;
  int64_t stride = 0, columns = 0;
  void put(int64_t row, int64_t column, Vector<T> v) const {
    if (data) store_some(data + row * stride + column, v, columns - column);
  }
};

// Stores the sums in a padded tile. With a proximal operator it stores P of them, and marks what is not zero.
template <class T> struct StoreSum {
  T* data = nullptr;
  int64_t stride = 0;
  const Prox<T>* prox = nullptr;
  const T* scales = nullptr;  // of theta, one for each row, or null
  uint64_t* masks = nullptr;  // cleared rows of `words`
  int64_t words = 0;
  template <int Count>
  __attribute__((always_inline)) void store_at(int64_t row, int64_t column, const Vector<T>* v) const {
    T* const to = data + row * stride + column;
    if (!prox) {
      for (int j = 0; j < Count; ++j) store(to + j * lanes<T>, v[j]);
      return;
    }
    Vector<T> x[Count];
    for (int j = 0; j < Count; ++j) x[j] = v[j];
    prox->template apply<Count>(x, column, scales ? scales[row] : T(1));
    for (int j = 0; j < Count; ++j) store(to + j * lanes<T>, x[j]);
    mark<Count, T>(masks + row * words, column, x);
  }
};

// The same with x - sum in the place of the sum, where x is zero without a tile, and the sum is multiplied by a factor
// for each column if there are factors. Records minus the sum.
template <class T> struct SubtractSum {
  const T* x;  // a padded tile, with the stride of the other one
  const T* factors;
  Record<T> record;
  StoreSum<T> end;
  template <int Count>
  __attribute__((always_inline)) void store_at(int64_t row, int64_t column, const Vector<T>* v) const {
    Vector<T> z[Count];
    for (int j = 0; j < Count; ++j) record.put(row, column + j * lanes<T>, -v[j]);
    const int64_t at = row * end.stride + column;
    if (x && factors)
      for (int j = 0; j < Count; ++j)
        z[j] = multiply_add(-v[j], load(factors + column + j * lanes<T>), load(x + at + j * lanes<T>));
    else if (x)
      for (int j = 0; j < Count; ++j) z[j] = load(x + at + j * lanes<T>) - v[j];
    else if (factors)
      for (int j = 0; j < Count; ++j) z[j] = -v[j] * load(factors + column + j * lanes<T>);
    else
      for (int j = 0; j < Count; ++j) z[j] = -v[j];
    end.template store_at<Count>(row, column, z);
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
