// Coordinate descent on min 1/2 x'Gx - c'x + sum l|x| for one sample, G having ones on its diagonal: by the greedy
// rule, those coordinates that move furthest. Everything about a sample is in rows padded with zeros.
#pragma once
#include "cpu/support_factor.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> inline T soft(T z, T limit, bool nonnegative) {
  T kept = z < limit ? z : limit;
  if (!nonnegative) kept = kept > -limit ? kept : -limit;
  return z - kept;
}

constexpr int row_unit = 4;       // vectors by which rows are padded
constexpr int most_together = 4;  // coordinates that move between two passes over all

// The number of classes of coordinates. A class holds the coordinates with the same remainder, and its candidate is the
// coordinate that moves furthest. The candidates are the same with every instruction set.
template <class T> constexpr int classes = 64 / int(sizeof(T));

template <class T> struct Candidates {
  alignas(64) T size[classes<T>];
  alignas(64) typename Simd<T>::Index index[classes<T>];

  T largest() const {
    Vector<T> most = load(size);
    for (int c = lanes<T>; c < classes<T>; c += lanes<T>) most = load(size + c) > most ? load(size + c) : most;
    return largest_lane<T>(most);
  }
  // The classes of size at least `least`, as bits.
  unsigned above(T least) const {
    unsigned found = 0;
    for (int c = 0; c < classes<T>; c += lanes<T>)
      found |= nonzero_bits((Vector<T>)(load(size + c) >= broadcast(least))) << c;
    return found;
  }
};

// Coordinates that move, and what each adds to x.
template <class T> struct Moves {
  int count = 0;
  int64_t index[most_together];
  T change[most_together];
};

// r -= sum of changes, and who would move next.
template <bool NonNegative, int Count, class T>
inline Candidates<T> pass(const Gram<T>& gram, const Moves<T>& moves, T* r, const T* x, const T* limit) {
  using Integer = typename Simd<T>::Integer;
  const T* rows[Count + 1];
  Vector<T> factor[Count + 1], best[row_unit];
  Integer at[row_unit], here;
  for (int q = 0; q < Count; ++q) rows[q] = gram.row(moves.index[q]), factor[q] = broadcast(-moves.change[q]);
  for (int v = 0; v < row_unit; ++v) best[v] = broadcast(T(-1)), at[v] = Integer{};
  for (int i = 0; i < lanes<T>; ++i) here[i] = i;
  for (int64_t i = 0; i < gram.stride; i += row_unit * lanes<T>) {
#pragma GCC unroll 4
    for (int v = 0; v < row_unit; ++v) {
      const int64_t j = i + v * lanes<T>;
      Vector<T> residual = load(r + j);
#pragma GCC unroll 4
      for (int q = 0; q < Count; ++q) residual = multiply_add(factor[q], load(rows[q] + j), residual);
      if (Count > 0) store(r + j, residual);
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
  Candidates<T> found;
  constexpr int parts = classes<T> / lanes<T>;
  for (int v = 0; v < row_unit; ++v) {
    const int into = v % parts;
    at[v] += v * lanes<T>;
    const Integer better = (best[v] > best[into]) | ((best[v] == best[into]) & (at[v] < at[into]));
    best[into] = better ? best[v] : best[into];
    at[into] = better ? at[v] : at[into];
  }
  for (int v = 0; v < parts; ++v) {
    store(found.size + v * lanes<T>, best[v]);
    __builtin_memcpy(found.index + v * lanes<T>, &at[v], sizeof at[v]);
  }
  return found;
}

template <bool NonNegative, class T>
Candidates<T> pass(const Gram<T>& gram, const Moves<T>& moves, T* r, const T* x, const T* limit) {
  static_assert(most_together == 4);
  switch (moves.count) {
    case 0:
      return pass<NonNegative, 0>(gram, moves, r, x, limit);
    case 1:
      return pass<NonNegative, 1>(gram, moves, r, x, limit);
    case 2:
      return pass<NonNegative, 2>(gram, moves, r, x, limit);
    case 3:
      return pass<NonNegative, 3>(gram, moves, r, x, limit);
    default:
      return pass<NonNegative, 4>(gram, moves, r, x, limit);
  }
}

// Moves x at the candidate of size `largest`, the first of equals, and at others whose moves are not much smaller even
// after those before them; r is left as it was.
template <bool NonNegative, class T>
Moves<T> move(const Gram<T>& gram, const Candidates<T>& from, T largest, int most, const T* r, T* x, const T* limit) {
  constexpr T comparable = T(0.7);
  Moves<T> moves;
  const T least = comparable * largest;
  const auto try_one = [&](int64_t j) {
    T residual = r[j];
    for (int q = 0; q < moves.count; ++q) residual -= moves.change[q] * gram.row(moves.index[q])[j];
    const T after = soft(x[j] + residual, limit[j], NonNegative), change = after - x[j];
    if (!(__builtin_fabs(change) >= least)) return;
    x[j] = after;
    moves.index[moves.count] = j;
    moves.change[moves.count++] = change;
  };
  const unsigned first = from.above(largest) & -from.above(largest);
  try_one(from.index[__builtin_ctz(first)]);
  for (unsigned rest = from.above(least) & ~first; rest && moves.count < most; rest &= rest - 1)
    try_one(from.index[__builtin_ctz(rest)]);
  return moves;
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
