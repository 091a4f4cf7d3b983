// A matrix prepared for Lasso problems, in one block of memory.
#pragma once
#include "cpu/support_factor.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

// Rows for coordinate descent are padded to whole groups of vectors, the same for every instruction set.
template <class T> inline int64_t code_stride(int64_t n) {
  constexpr int64_t unit = 256 / int64_t(sizeof(T));
  return blocks(n, unit) * unit;
}

template <class T> struct PreparedDictionary {
  T* scale;       // one over the norm of each column, with the ridge in it; zero for a column of zeros
  T* gram;        // of the columns times their scales, (stride, stride)
  T* to_samples;  // packed: x to A x
  T* to_codes;    // and y to A^T y

  static PreparedDictionary in(T* memory, int64_t m, int64_t n) {
    const int64_t stride = code_stride<T>(n);
    T* const gram = memory + stride;
    T* const to_samples = gram + stride * stride;
    return {memory, gram, to_samples, to_samples + Factor<T>::packed_size(n, m)};
  }
  static int64_t size(int64_t m, int64_t n) {
    const int64_t stride = code_stride<T>(n);
    return stride + stride * stride + Factor<T>::packed_size(n, m) + Factor<T>::packed_size(m, n);
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
