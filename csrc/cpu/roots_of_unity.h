// Roots of unity, the same bits on every machine: a C library may round sines and cosines as it likes.
#pragma once
#include <cstdint>

namespace fastunroll {

struct Root {
  double re, im;
};

// exp(2 pi i k / n), n > 0: its parts are the nearest numbers, but for ties to within 1e-25.
Root root_of_unity(int64_t k, int64_t n);

}  // namespace fastunroll
