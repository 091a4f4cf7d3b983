// Products of few samples with a matrix of the caller, which is read or written once, in the order of memory, and never
// packed: with so few samples the memory takes the time, and not the arithmetic.
//
// Every sum is the same chain as in the other kernels.
#pragma once
#include "cpu/rows.h"

namespace fastunroll::FASTUNROLL_SET {

constexpr int64_t few_in_place = 8;
constexpr int64_t few_by_rows = 4;  // more samples load and store their sums too often

// Calls work with a number from 1 to few_in_place as a constant.
template <class Work> inline void with_count(int64_t count, const Work& work) {
  switch (count) {
    case 1:
      return work(Constant<1>());
    case 2:
      return work(Constant<2>());
    case 3:
      return work(Constant<3>());
    case 4:
      return work(Constant<4>());
    case 5:
      return work(Constant<5>());
    case 6:
      return work(Constant<6>());
    case 7:
      return work(Constant<7>());
    default:
      return work(Constant<8>());
  }
}

// --- a matrix that is (depth, columns) -----------------------------------------------------------------------------

// Adds x[k] times row k, for `Count` of k, to the columns first .. last - 1 of a padded row of sums.
template <int Count, class T>
inline void add_rows(const Factor<T>& w, const int64_t* k, const T* x, int64_t first, int64_t last, T* sums) {
  Vector<T> value[Count];
  const T* row[Count];
#pragma GCC unroll 8
  for (int i = 0; i < Count; ++i) {
    value[i] = broadcast(x[k[i]]);
    row[i] = w.source + k[i] * w.columns;
  }
  const int64_t whole = first + (last - first) / lanes<T> * lanes<T>;
  for (int64_t c = first; c < whole; c += lanes<T>) {
    Vector<T> sum = load(sums + c);
#pragma GCC unroll 8
    for (int i = 0; i < Count; ++i) sum = multiply_add(value[i], load(row[i] + c), sum);
    store(sums + c, sum);
  }
  if (whole == last) return;
  Vector<T> sum = load(sums + whole);
  for (int i = 0; i < Count; ++i) sum = multiply_add(value[i], load_some(row[i] + whole, last - whole), sum);
  store(sums + whole, sum);
}

// Adds x W to rows of a padded tile, for the columns of some panels. Sums wait in the level-1 cache while 8 rows of W
// are added to all of them. Zeros of x are skipped.
template <class T>
void add_product_by_rows(const Factor<T>& w, const Rows<T>& x, Range panels, T* tile, int64_t stride) {
  constexpr int together = 8;
  const int64_t first = panels.first * panel_width<T>, end = panels.last * panel_width<T>;
  const int64_t last = end < w.columns ? end : w.columns;
  for (int64_t q = 0; q < blocks(w.depth, mask_bits); ++q) {
    for (int64_t r = 0; r < x.count; ++r) {
      const T* const values = x.data + r * x.stride;
      int64_t k[mask_bits], count = 0, i = 0;
      for (uint64_t mask = rows_to_meet(x, r, q, w.depth, true); mask; mask &= mask - 1)
        k[count++] = q * mask_bits + __builtin_ctzll(mask);
      for (; i + together <= count; i += together) add_rows<together>(w, k + i, values, first, last, tile + r * stride);
      for (; i < count; ++i) add_rows<1>(w, k + i, values, first, last, tile + r * stride);
    }
  }
}

// --- a matrix that is (columns, depth) -----------------------------------------------------------------------------

// x W for the columns of some panels. A square of W is turned in registers, where all samples use it.
template <int Count, class T, class Start, class Finish>
void product_by_columns(const Factor<T>& w, const Rows<T>& x, Range panels, const Start& start, const Finish& finish) {
  constexpr int side = lanes<T>;
  for (int64_t c = panels.first * panel_width<T>; c < panels.last * panel_width<T>; c += side) {
    Vector<T> sum[Count];
    for (int r = 0; r < Count; ++r) start.template load_at<1>(r, c, sum + r);
    const T *row = w.source + c * w.depth, *values = x.data;
    int64_t left = c < w.columns ? w.depth : 0;
    for (; left >= side; left -= side, row += side, values += side) {
      Vector<T> v[side];
      load_square<T>(v, row, w.depth, w.columns - c, left);
      for (int64_t j = 0; j < side; ++j) __builtin_prefetch(row + (j + 2 * side) * w.depth, 0, 2);
      transpose<T>(v);
#pragma GCC unroll 16
      for (int j = 0; j < side; ++j)
#pragma GCC unroll 8
        for (int r = 0; r < Count; ++r) sum[r] = multiply_add(broadcast(values[r * x.stride + j]), v[j], sum[r]);
    }
    if (left > 0) {  // a square of its own, as one that is read up to a variable place is kept in memory
      Vector<T> v[side];
      load_square<T>(v, row, w.depth, w.columns - c, left);
      transpose<T>(v);
      for (int j = 0; j < left; ++j)
#pragma GCC unroll 8
        for (int r = 0; r < Count; ++r) sum[r] = multiply_add(broadcast(values[r * x.stride + j]), v[j], sum[r]);
    }
    for (int r = 0; r < Count; ++r) finish.template store_at<1>(r, c, sum + r);
  }
}

// --- a result ------------------------------------------------------------------------------------------------------

// Writes g x to `out`, where x has `Count` rows and is packed.
template <int Count, class T> void outer_by_rows(const Rows<T>& g, const Factor<T>& x, T* out) {
  constexpr int width = panel_width<T>;
  for (int64_t i = 0; i < g.count; ++i, out += x.columns) {
    Vector<T> value[Count];
#pragma GCC unroll 8
    for (int b = 0; b < Count; ++b) value[b] = broadcast(g.data[i * g.stride + b]);
    for (int64_t p = 0; p < x.panel_count(); ++p) {
      for (int64_t c = 0; c < width && p * width + c < x.columns; c += lanes<T>) {
        const T* const column = x.panels + p * Count * width + c;
        Vector<T> sum{};
#pragma GCC unroll 8
        for (int b = 0; b < Count; ++b) sum = multiply_add(value[b], load(column + b * width), sum);
        store_some(out + p * width + c, sum, x.columns - p * width - c);
      }
    }
  }
}

}  // namespace fastunroll::FASTUNROLL_SET
