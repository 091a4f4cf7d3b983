// The k largest magnitudes of a row, exactly and without sorting. Bisection over bit patterns, which order non-negative
// numbers as the numbers do, finds the least of them.
#pragma once
#include "cpu/simd.h"

namespace fastunroll::FASTUNROLL_SET {

// The elements above `cut`, and the first `ties` of those equal to it.
template <class T> struct Largest {
  using Bits = typename Simd<T>::Index;
  Bits cut;
  int64_t ties;

  bool take(T magnitude) {
    Bits bits;
    memcpy(&bits, &magnitude, sizeof bits);
    return bits > cut || (bits == cut && ties-- > 0);
  }
};

// Of `count` magnitudes, padded to whole vectors with negative numbers. A NaN counts as the largest.
template <class T> Largest<T> largest(const T* magnitudes, int64_t count, int64_t k) {
  using Integer = typename Simd<T>::Integer;
  using Bits = typename Largest<T>::Bits;
  const auto at_least = [&](Bits bits) {
    Integer found{};
    const Integer limit = bits - Integer{};
    for (int64_t i = 0; i < count; i += lanes<T>) found -= (Integer)load(magnitudes + i) >= limit;
    int64_t sum = 0;
    for (int j = 0; j < lanes<T>; ++j) sum += found[j];
    return sum;
  };
  if (k >= count) return {-1, 0};
  Bits low = 0, high = ~Simd<T>::sign_bit;  // at least k are as large as `low`, fewer are as large as `high`
  int64_t above = 0;                        // the number of elements as large as `high`
  while (high - low > 1) {
    const Bits middle = low + (high - low) / 2;
    const int64_t found = at_least(middle);
    if (found == k) return {middle - 1, 0};
    (found > k ? low : high) = middle;
    if (found < k) above = found;
  }
  return {low, k - above};
}

}  // namespace fastunroll::FASTUNROLL_SET
