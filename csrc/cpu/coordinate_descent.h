// Coordinate descent on min 1/2 x'Gx - c'x + sum l|x| for one sample, G having ones on its diagonal: the greedy rule,
// which moves the coordinate that moves furthest. Everything about a sample is in rows padded with zeros.
#pragma once
#include "cpu/support_factor.h"

namespace fastunroll::FASTUNROLL_SET {

// The coordinate that would move furthest, and by how much.
template <class T> struct Move {
  T size;
  int64_t index;
};

template <class T> inline T soft(T z, T limit, bool nonnegative) {
  if (z > limit) return z - limit;
  return !nonnegative && z < -limit ? z + limit : 0;
}

constexpr int row_unit = 4;  // vectors by which rows are padded

// r -= change G_j, given row j of G, and the next move.
template <bool NonNegative, class T>
inline Move<T> pass(T change, const T* row, T* r, const T* x, const T* limit, int64_t stride) {
  using Integer = typename Simd<T>::Integer;
  const Vector<T> factor = broadcast(-change);
  Vector<T> best[row_unit];
  Integer at[row_unit], here;
  for (int v = 0; v < row_unit; ++v) best[v] = broadcast(T(-1)), at[v] = Integer{};
  for (int i = 0; i < lanes<T>; ++i) here[i] = i;
  for (int64_t i = 0; i < stride; i += row_unit * lanes<T>) {
#pragma GCC unroll 4
    for (int v = 0; v < row_unit; ++v) {
      const int64_t j = i + v * lanes<T>;
      const Vector<T> residual = multiply_add(factor, load(row + j), load(r + j));
      store(r + j, residual);
      const Vector<T> z = load(x + j) + residual, most = load(limit + j);
      Vector<T> kept = z < most ? z : most;  // z less what soft thresholding leaves
      if (!NonNegative) kept = kept > -most ? kept : -most;
      const Vector<T> size = magnitude<T>(residual - kept);
      const Integer better = size > best[v];
      best[v] = better ? size : best[v];
      at[v] = better ? here : at[v];
    }
    here += row_unit * lanes<T>;
  }
  for (int v = 1; v < row_unit; ++v) {
    const Integer place = at[v] + v * lanes<T>;
    const Integer better = (best[v] > best[0]) | ((best[v] == best[0]) & (place < at[0]));
    best[0] = better ? best[v] : best[0];
    at[0] = better ? place : at[0];
  }
  const T size = largest_lane<T>(best[0]);
  unsigned found = nonzero_bits((Vector<T>)(best[0] == broadcast(size)));
  alignas(vector_bytes) decltype(at[0][0] + at[0][0]) places[lanes<T>];
  __builtin_memcpy(places, &at[0], sizeof at[0]);
  int64_t index = found ? places[__builtin_ctz(found)] : 0;
  for (found &= found - 1; found; found &= found - 1) {  // of equals the first
    const int64_t other = places[__builtin_ctz(found)];
    index = other < index ? other : index;
  }
  return {size, index};
}

// r -= sum of changes[i] G_index[i]
template <class T>
inline void subtract_rows(const Gram<T>& gram, const int32_t* index, const T* changes, int64_t count, T* r) {
  constexpr int each = 8;
  for (int64_t j = 0; j < gram.stride; j += each * lanes<T>) {
    const int64_t left = (gram.stride - j) / lanes<T>;
    Vector<T> sum[each];
    if (left >= each) {
      for (int v = 0; v < each; ++v) sum[v] = load(r + j + v * lanes<T>);
      for (int64_t i = 0; i < count; ++i) {
        const T* row = gram.row(index[i]) + j;
        const Vector<T> factor = broadcast(-changes[i]);
#pragma GCC unroll 8
        for (int v = 0; v < each; ++v) sum[v] = multiply_add(factor, load(row + v * lanes<T>), sum[v]);
      }
      for (int v = 0; v < each; ++v) store(r + j + v * lanes<T>, sum[v]);
    } else {
      for (int64_t i = 0; i < count; ++i) subtract(r + j, gram.row(index[i]) + j, changes[i], 0, left * lanes<T>);
    }
  }
}

}  // namespace fastunroll::FASTUNROLL_SET
