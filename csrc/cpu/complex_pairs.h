// Complex numbers as pairs of neighbouring lanes, as they lie in memory.
#pragma once
#include "cpu/simd.h"

namespace fastunroll::FASTUNROLL_SET {

// Lane i of the result is lane i & And ^ Xor of v.
template <class T, int And, int Xor> inline Vector<T> rearrange_pairs(Vector<T> v) {
  return rearrange<T>(v, v, [](int i) { return (i & And) ^ Xor; });
}

template <class T> inline Vector<T> swap_pairs(Vector<T> v) { return rearrange_pairs<T, ~0, 1>(v); }
template <class T> inline Vector<T> real_parts(Vector<T> v) { return rearrange_pairs<T, ~1, 0>(v); }
template <class T> inline Vector<T> imaginary_parts(Vector<T> v) { return rearrange_pairs<T, ~1, 1>(v); }

// a w, or a conj(w)
template <class T, bool Conjugate> inline Vector<T> times_pairs(Vector<T> a, Vector<T> w) {
  using Integer = typename Simd<T>::Integer;
  Integer negated;  // the sign of a.im w.im and of a.re w.im
  for (int i = 0; i < lanes<T>; ++i) negated[i] = i % 2 == int(Conjugate) ? Simd<T>::sign_bit : 0;
  const Vector<T> crossed = (Vector<T>)((Integer)imaginary_parts<T>(w) ^ negated);
  return multiply_add(a, real_parts<T>(w), swap_pairs<T>(a) * crossed);
}

}  // namespace fastunroll::FASTUNROLL_SET
