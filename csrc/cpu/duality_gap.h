// The duality gap of a Lasso problem at x, with the best scaling of the residual as dual point.
#pragma once
#include "cpu/row_sum.h"

namespace fastunroll::FASTUNROLL_SET {

// The largest |r|/l, and x'r.
template <class T> struct Feasibility {
  T worst, inner;
};

template <class T>
Feasibility<T> feasibility(const T* x, const T* r, const T* one_over_limit, int64_t stride, bool nonnegative) {
  Vector<T> worst{};
  RowSum<T> inner;
  along_row<T>(stride, [&](int64_t c, int j) {
    const Vector<T> residual = load(r + c);
    const Vector<T> ratio = (nonnegative ? residual : magnitude<T>(residual)) * load(one_over_limit + c);
    worst = ratio > worst ? ratio : worst;
    inner.add(j, load(x + c), residual);
  });
  return {largest_lane<T>(worst), inner.total()};
}

// What rounding can add to the gap, over the sum of l|x|, if r is exact to rounding where x is not zero.
template <class T> constexpr T gap_rounding = sizeof(T) == 4 ? T(2.4e-7) : T(4.5e-16);

// P - D = 1/2 (1 - s)^2 |R|^2 + sum l|x| - s x'r: the difference with what cancels left out. R = y - A x has the square
// `power`, r = A^T R, and s R is the dual point, s the best that is feasible.
template <class T>
T duality_gap(const T* x, const T* r, const T* limit, const T* one_over_limit, int64_t stride, T power,
              bool nonnegative) {
  const Feasibility<T> f = feasibility(x, r, one_over_limit, stride, nonnegative);
  const T best = power > 0 ? 1 + f.inner / power : 1;
  T scale = f.worst * best > 1 ? 1 / f.worst : best;
  scale = scale > 0 ? scale : 0;
  RowSum<T> slack;
  along_row<T>(stride, [&](int64_t c, int j) {
    const Vector<T> value = load(x + c);
    const Vector<T> left = with_sign_of<T>(load(limit + c), value) - scale * load(r + c);
    slack.add(j, where_nonzero<T>(value, left), value);
  });
  const T gap = (1 - scale) * (1 - scale) * power / 2 + slack.total();
  return gap + gap_rounding<T> * (f.inner > 0 ? f.inner : -f.inner);
}

}  // namespace fastunroll::FASTUNROLL_SET
