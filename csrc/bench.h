// Work to measure the machine by, for benchmarks alone.
#pragma once
#include <cstdint>

namespace fastunroll {

// Multiply-adds between registers or, with `rows`, with rows of a cached block.
struct Roof {
  int threads;
  bool rows;
  int64_t rounds;
};

// Does the work with numbers of the type of the second argument, and returns the number of operations.
template <class T> double roof(const Roof&, T);

}  // namespace fastunroll
