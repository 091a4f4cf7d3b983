// Elements with thresholds, cut into runs of at most 4096 whose threshold is one value or one row of values.
#pragma once
#include <cstdint>

#include "cpu/simd.h"

namespace fastunroll::FASTUNROLL_SET {

constexpr int64_t run_length = 4096;

// (outer, middle, inner) as runs: along the inner axis with one threshold, or along the middle axis with a row of them.
struct Runs {
  int64_t outer, middle, inner;
  bool along_inner;
  int64_t each;  // runs in a line

  Runs(int64_t o, int64_t m, int64_t i) : outer(o), middle(m), inner(i), along_inner(i != 1 || m == 1) {
    each = (line() + run_length - 1) / run_length;
  }
  int64_t line() const { return along_inner ? inner : middle; }
  int64_t count() const { return (along_inner ? outer * middle : outer) * each; }
  int64_t offset(int64_t run) const { return run / each * line() + run % each * run_length; }
  int64_t length(int64_t run) const {
    const int64_t left = line() - run % each * run_length;
    return left < run_length ? left : run_length;
  }
  int64_t theta(int64_t run) const { return along_inner ? run / each % middle : run % each * run_length; }
  // A thread takes at least 32768 elements, as in PyTorch: fewer take less time than another thread needs to begin.
  int useful_threads(int threads, int64_t at_least = 32768) const {
    const int64_t useful = outer * middle * inner / at_least;
    return int(useful < 1 ? 1 : useful < threads ? useful : threads);
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
