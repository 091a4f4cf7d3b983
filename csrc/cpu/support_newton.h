// Newton's method on the support S of one sample: with the signs of x_S as they are, x_S solves linear equations.
//
// Along the line towards that solution the objective is a parabola and, where an x_i changes its sign, a kink of
// 2 l_i |d_i|. The step ends at its lowest point: at the solution; at a kink, where x_i = 0 leaves S; or between kinks,
// past some of them. Each step lowers the objective, so the steps end.
#pragma once
#include "cpu/coordinate_descent.h"
#include "cpu/row_sum.h"

namespace fastunroll::FASTUNROLL_SET {

// What is on the support, in its order; rows of whole vectors.
template <class T> struct NewtonScratch {
  T *x, *before, *residual, *limit, *force, *step, *share, *change;
  T* moved;  // G times the step, everywhere
  int32_t *index, *kinks;

  template <class Memory> static NewtonScratch make(int64_t most, int64_t stride, Memory& memory) {
    const int64_t room = blocks(most + 1, 16) * 16;
    NewtonScratch s;
    T** const rows[] = {&s.x, &s.before, &s.residual, &s.limit, &s.force, &s.step, &s.share, &s.change};
    for (T** row : rows) *row = memory.template take<T>(room);
    s.moved = memory.template take<T>(stride);
    s.index = memory.template take<int32_t>(room);
    s.kinks = memory.template take<int32_t>(room);
    return s;
  }
};

// How far to go along the step, 1 being to the solution; `turn` is the position whose x becomes zero there, or -1.
template <class T> struct LineSearch {
  T share;
  int64_t turn;
  bool crossed;  // whether a sign changes on the way
};

// The objective falls by `fall` a share at the start and has the second derivative `curvature`. share[i] is where x_i
// becomes zero, for the `count` positions of `kinks`, which are used up.
template <class T>
LineSearch<T> search_line(const NewtonScratch<T>& s, int64_t count, T fall, T curvature, bool nonnegative) {
  LineSearch<T> found{fall / curvature, -1, false};
  while (count > 0) {
    int64_t first = 0;
    for (int64_t q = 1; q < count; ++q)
      if (s.share[s.kinks[q]] < s.share[s.kinks[first]]) first = q;
    const int32_t i = s.kinks[first];
    if (s.share[i] >= fall / curvature) break;
    s.kinks[first] = s.kinks[--count];
    fall -= 2 * s.limit[i] * __builtin_fabs(s.step[i]);
    if (nonnegative || fall <= s.share[i] * curvature) return {s.share[i], i, found.crossed};
    found.crossed = true;
  }
  found.share = fall / curvature;
  return found;
}

// The step on k positions; the sum of what it gains.
template <class T> T newton_step(SupportFactor<T>& support, const NewtonScratch<T>& s, int64_t k) {
  for (int64_t i = 0; i < k; i += lanes<T>) {
    const Vector<T> force = load(s.residual + i) - with_sign_of<T>(load(s.limit + i), load(s.x + i));
    store(s.force + i, force);
    store(s.step + i, force);
  }
  support.solve(s.step);
  return inner_product(s.step, s.force, k);
}

// The positions whose sign would change before `far`; their number.
template <class T> int64_t find_kinks(const NewtonScratch<T>& s, int64_t k, T far) {
  int64_t count = 0;
  for (int64_t i = 0; i < k; i += lanes<T>) {
    const Vector<T> share = -load(s.x + i) / load(s.step + i);
    store(s.share + i, share);
    unsigned found = nonzero_bits((Vector<T>)((share > 0) & (share < far)));
    for (; found; found &= found - 1) {
      const int64_t position = i + __builtin_ctz(found);
      if (position < k) s.kinks[count++] = int32_t(position);
    }
  }
  return count;
}

template <class T> void leave_out(const NewtonScratch<T>& s, int64_t position, int64_t k) {
  T* const rows[] = {s.x, s.residual, s.limit};
  for (T* row : rows)
    for (int64_t i = position; i + 1 < k; ++i) row[i] = row[i + 1];
}

// Moves x on its support to where its signs hold, and updates r = c - Gx; returns the number of steps.
template <class T>
int64_t newton(const Gram<T>& gram, SupportFactor<T>& support, T* x, T* r, const T* limit, bool nonnegative,
               const NewtonScratch<T>& s, int64_t max_steps) {
  const int64_t members = support.count();
  for (int64_t i = 0; i < members; ++i) {
    const int32_t j = support.index()[i];
    s.index[i] = j;
    s.before[i] = s.x[i] = x[j];
    s.residual[i] = r[j];
    s.limit[i] = limit[j];
  }
  int64_t steps = 0;
  for (int64_t k; (k = support.count()) > 0 && steps < max_steps; ++steps) {
    const T fall = newton_step(support, s, k);
    if (!(fall > 0)) break;
    T curvature = fall;
    const bool weak = support.is_weak();
    if (weak) {  // the step is a direction, and what it does has to be computed
      for (int64_t j = 0; j < gram.stride; ++j) s.moved[j] = 0;
      for (int64_t i = 0; i < k; ++i) s.step[i] = -s.step[i];
      subtract_rows(gram, support.index(), s.step, k, s.moved);
      for (int64_t i = 0; i < k; ++i) s.step[i] = -s.step[i];
      for (int64_t i = 0; i < k; ++i) s.force[i] = s.moved[support.index()[i]];
      curvature = inner_product(s.step, s.force, k);
      if (!(curvature > fall)) curvature = fall;
    }
    const int64_t kinks = find_kinks(s, k, fall / curvature);
    const LineSearch<T> line = search_line(s, kinks, fall, curvature, nonnegative);
    for (int64_t i = 0; i < k; i += lanes<T>) {
      store(s.x + i, multiply_add(broadcast(line.share), load(s.step + i), load(s.x + i)));
      store(s.residual + i, multiply_add(broadcast(-line.share), load(s.force + i), load(s.residual + i)));
    }
    if (line.turn >= 0) {
      x[support.index()[line.turn]] = 0;
      support.remove(line.turn);
      leave_out(s, line.turn, k);
    } else if (!line.crossed && !weak) {
      ++steps;
      break;
    }
  }
  for (int64_t i = 0; i < support.count(); ++i) x[support.index()[i]] = s.x[i];
  for (int64_t i = 0; i < members; ++i) s.change[i] = x[s.index[i]] - s.before[i];
  subtract_rows(gram, s.index, s.change, members, r);
  return steps;
}

}  // namespace fastunroll::FASTUNROLL_SET
