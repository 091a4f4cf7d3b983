// The steps of ISTA and FISTA between the products with an operator, in one pass before and one after.
#include "cpu/extrapolate.h"
#include "cpu/runs.h"
#include "cpu/threads.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

// A product has just run on these threads, which are awake, and each has a part of it in its cache.
constexpr int64_t elements_of_thread = 8192;

template <class T> void step_ahead(const StepAhead<T>& p) {
  const Runs runs(p.outer, p.middle, p.inner);
  const Vector<T> beta = broadcast(p.beta), back = broadcast(-p.step);
  for_each_in_shares(runs.count(), runs.useful_threads(p.threads, elements_of_thread), [&](int64_t run) {
    const int64_t at = runs.offset(run), count = runs.length(run);
    const T *x = p.x + at, *other = p.other + at, *slope = p.slope + at, *theta = p.theta + runs.theta(run);
    T* const out = p.out + at;
    for (int64_t i = 0; i < count; i += lanes<T>) {
      const int64_t left = count - i;
      const Vector<T> now = load_some(x + i, left);
      const Vector<T> v = p.beta == 0 ? now : ahead<T>(now, load_some(other + i, left), beta);
      const Vector<T> moved = multiply_add(back, load_some(slope + i, left), v);
      const Vector<T> t = runs.along_inner ? broadcast(*theta) : load_some(theta + i, left);
      store_some(out + i, p.nonnegative ? shrink_nonnegative<T>(moved, t) : shrink<T>(moved, t), left);
    }
  });
}

template <class T> void residual_ahead(const ResidualAhead<T>& p) {
  const Runs runs(1, 1, p.count);
  const Vector<T> beta = broadcast(p.beta);
  for_each_in_shares(runs.count(), runs.useful_threads(p.threads, elements_of_thread), [&](int64_t run) {
    const int64_t at = runs.offset(run), count = runs.length(run);
    for (int64_t i = at; i < at + count; i += lanes<T>) {
      const int64_t left = at + count - i;
      const Vector<T> residual = load_some(p.product + i, left) - load_some(p.y + i, left);
      const Vector<T> further = p.beta == 0 ? residual : affine_ahead<T>(residual, load_some(p.before + i, left), beta);
      store_some(p.residual + i, residual, left);  // may overwrite the residual before
      store_some(p.ahead + i, further, left);
    }
  });
}

template void step_ahead(const StepAhead<float>&);
template void step_ahead(const StepAhead<double>&);
template void residual_ahead(const ResidualAhead<float>&);
template void residual_ahead(const ResidualAhead<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
