// The step ahead of accelerated methods: what follows if the last change goes on.
#pragma once

#include "cpu/simd.h"

namespace fastunroll::FASTUNROLL_SET {

// now + beta (now - before)
template <class T> inline Vector<T> ahead(Vector<T> now, Vector<T> before, Vector<T> beta) {
  return multiply_add(beta, now - before, now);
}

// The same of a residual or gradient. It is infinite at every iterate where y is, and inf - inf would be no number.
template <class T> inline Vector<T> affine_ahead(Vector<T> now, Vector<T> before, Vector<T> beta) {
  return magnitude<T>(now) < broadcast(T(__builtin_inf())) ? ahead<T>(now, before, beta) : now;
}

}  // namespace fastunroll::FASTUNROLL_SET
