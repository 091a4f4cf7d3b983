// Sums and choices over the threads of a block. All threads call them together and get the same result.
#pragma once
#include "cuda/device.h"

namespace fastunroll::cuda {

// The sum in an order that no device changes. `scratch` holds a value of each warp in shared memory.
template <int Threads, class T> FASTUNROLL_DEVICE T sum_over_block(T value, T* scratch) {
  constexpr int warps = Threads / warp_size;
  for (int bits = warp_size / 2; bits > 0; bits /= 2) value += shuffle_xor(value, bits);
  if (lane() == 0) scratch[warp()] = value;
  sync_block();
  T sum = 0;
  for (int w = 0; w < warps; ++w) sum += scratch[w];
  sync_block();
  return sum;
}

// The largest `k` of `count` non-negative magnitudes: those whose bits exceed `cut`, and of those equal to it the ones
// that come before `end`. Bits order non-negative numbers as the numbers do; a NaN counts as the largest.
template <class T> struct Largest {
  Bits<T> cut;
  int end;
  FASTUNROLL_DEVICE bool takes(T magnitude, int at) const {
    const Bits<T> bits = as_bits(magnitude);
    return bits > cut || (bits == cut && at < end);
  }
};

// By halving, first an interval of bits and then, if several are equal, one of places.
template <int Threads, class T, class Magnitude>
FASTUNROLL_DEVICE Largest<T> largest(const Magnitude& magnitude_at, int count, int k, int* scratch) {
  const auto count_if = [&](auto holds) {
    int found = 0;
    for (int i = thread(); i < count; i += Threads) found += holds(as_bits(magnitude_at(i)), i);
    return sum_over_block<Threads>(found, scratch);
  };
  Bits<T> low = 0, high = ~Bits<T>(0) >> 1;  // at least k have the bits `low` or more, fewer `high` or more
  while (high - low > 1) {
    const Bits<T> middle = low + (high - low) / 2;
    if (count_if([&](Bits<T> bits, int) { return bits >= middle; }) >= k)
      low = middle;
    else
      high = middle;
  }
  const int above = count_if([&](Bits<T> bits, int) { return bits > low; });
  int none = 0, end = count;  // fewer than k - above are equal to `low` before `none`
  while (end - none > 1) {
    const int middle = none + (end - none) / 2;
    if (count_if([&](Bits<T> bits, int i) { return bits == low && i < middle; }) >= k - above)
      end = middle;
    else
      none = middle;
  }
  return {low, end};
}

}  // namespace fastunroll::cuda
