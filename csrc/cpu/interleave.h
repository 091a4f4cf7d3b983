// Pixels of a row apart, the even and the odd ones, and together again. A pixel is one value, or a pair for a complex
// one.
#pragma once
#include "cpu/simd.h"

namespace fastunroll::FASTUNROLL_SET {

// The pixels 0, 2, 4, ... of a and b, or with Odd the pixels 1, 3, 5, ...
template <class T, int Values, bool Odd> inline Vector<T> every_second(Vector<T> a, Vector<T> b) {
  return rearrange<T>(a, b, [](int i) { return (i / Values * 2 + Odd) * Values + i % Values; });
}

// A pixel of `even`, one of `odd`, and so on: the first vector of them, or the second.
template <class T, int Values, bool Second> inline Vector<T> alternating(Vector<T> even, Vector<T> odd) {
  return rearrange<T>(even, odd, [](int i) {
    const int pixel = i / Values + (Second ? lanes<T> / Values : 0);
    return pixel % 2 * lanes<T> + pixel / 2 * Values + i % Values;
  });
}

}  // namespace fastunroll::FASTUNROLL_SET
