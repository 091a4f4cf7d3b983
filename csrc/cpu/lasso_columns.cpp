// The Lasso of a few samples, or of more columns than a Gram matrix has room for: a working set of columns is solved by
// itself, in Gram form and double precision, and grows by those columns that violate their constraint most, until the
// gap of the whole problem is small enough (Johnson and Guestrin 2015; Massias, Gramfort and Salmon 2018).
#include <memory>

#include "cpu/dictionary.h"
#include "cpu/kept_columns.h"
#include "cpu/lasso_sample.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

constexpr double infinity = __builtin_inf();

// The working set of one sample, and the solver for it. Rows are padded with zeros. Memory that a set has outgrown is
// given back.
struct WorkingSet {
  int64_t count = 0, stride = 0;
  int32_t* index = nullptr;
  double *x = nullptr, *r = nullptr, *c = nullptr, *limit = nullptr, *one_over_limit = nullptr, *best = nullptr;
  double* gram = nullptr;  // (stride, stride)

  // Makes room for `needed` columns.
  void grow(int64_t needed) {
    if (needed <= stride) return;
    const int64_t wide = needed > stride * 3 / 2 ? needed : stride * 3 / 2, before = stride;
    const int64_t size = code_stride<double>(wide);
    fastunroll::Block values{size_t(size * (size + row_count) + size) * sizeof(double)};
    double* next = reinterpret_cast<double*>(values.data());
    memset(next, 0, size_t(size * (size + row_count) + size) * sizeof(double));
    double* const wider = next;
    for (int64_t i = 0; i < count; ++i) memcpy(wider + i * size, gram + i * before, size_t(count) * sizeof(double));
    next += size * size;
    double** const rows[row_count] = {&x, &r, &c, &limit, &one_over_limit, &best};
    for (double** row : rows) {
      if (before) memcpy(next, *row, size_t(before) * sizeof(double));
      *row = next;
      next += size;
    }
    if (before) memcpy(next, index, size_t(before) * sizeof *index);
    index = reinterpret_cast<int32_t*>(next);
    gram = wider;
    stride = size;
    for (int64_t i = count; i < stride; ++i) limit[i] = infinity;
    values_ = static_cast<fastunroll::Block&&>(values);
  }

 private:
  static constexpr int row_count = 6;
  fastunroll::Block values_;
};

// A solver for working sets of one stride, with its memory.
struct WorkingSolver {
  Workspace memory;
  SampleSolver<double> solver;
  WorkingSolver(const WorkingSet& w, int64_t most, bool nonnegative)
      : solver({w.gram, w.stride}, most, nonnegative, memory) {}
};

template <class T> class ColumnsLasso {
 public:
  explicit ColumnsLasso(const LassoColumns<T>& a) : a_(a), kept_(a.a, a.ridge, a.threads, *a.store) {}
  void run();

 private:
  // Coordinate descent ends at moves below this part of the smallest limit, lambda times weight and scale.
  static constexpr double rough = 0.2;
  // A working set is solved to this part of the gap of the whole problem, or in the end to that part of the tolerance.
  static constexpr double part = 0.1, margin = 0.25;
  static constexpr double largest_score = 1e300, least_lambda = 1e-307;
  // A start with a larger gap makes more work than it saves.
  static constexpr double worthless = 0.02;
  static constexpr int patience = 20;  // looks that do not halve the gap
  static constexpr int bins = 512;

  const LassoColumns<T>& a_;
  KeptColumns<T> kept_;
  double *y_, *residual_, *correlation_;
  int32_t* chosen_;
  bool* inside_;  // of the working set
  WorkingSet w_;
  bool interrupted_ = false;
  double unit_, lam_, energy_, power_, worst_;

  double weight(int64_t j) const { return a_.weights ? double(a_.weights[j]) : 1.0; }
  // How near a column is to its constraint, which is violated above 1.
  double score(int64_t j) const {
    const double c = correlation_[j], found = (a_.nonnegative ? c : __builtin_fabs(c)) / (lam_ * weight(j));
    return found < largest_score ? found : largest_score;
  }
  void solve(int64_t sample);
  bool begin(int64_t sample, Workspace& memory);
  void take_start(int64_t sample, Workspace& memory);
  void admit(int64_t count, Workspace& memory);
  double look();
  int64_t choose(int64_t wanted);
  void finish(int64_t sample, double gap, int64_t steps);
  double residual_of(const double* x, double* out) const;
};

// y in units of a power of two; false if there is nothing to do.
template <class T> bool ColumnsLasso<T>::begin(int64_t sample, Workspace& memory) {
  const int64_t m = a_.a.m, n = a_.a.n;
  const T* given = a_.y + sample * m;
  const double largest = double(largest_magnitude(given, m));
  if (largest == 0 || largest - largest != 0) {
    const T nothing = T(largest - largest);
    for (int64_t j = 0; j < n; ++j) a_.x[sample * n + j] = nothing;
    a_.gap[sample] = nothing;
    a_.steps[sample] = 0;
    return false;
  }
  int exponent;
  (void)__builtin_frexp(largest, &exponent);
  unit_ = __builtin_ldexp(1.0, exponent - 1);
  y_ = memory.take<double>(m);
  residual_ = memory.take<double>(m);
  correlation_ = memory.take<double>(n);
  chosen_ = memory.take<int32_t>(n);
  inside_ = memory.take<bool>(n);
  memset(inside_, 0, size_t(n) * sizeof(bool));
  for (int64_t i = 0; i < m; ++i) y_[i] = double(given[i]) / unit_;
  energy_ = inner_product(y_, y_, m);
  lam_ = double(a_.lam[sample]) / unit_;
  lam_ = lam_ > least_lambda ? lam_ : least_lambda;
  return true;
}

// The chosen columns enter the working set.
template <class T> void ColumnsLasso<T>::admit(int64_t count, Workspace& memory) {
  if (count == 0) return;
  const int64_t before = w_.count;
  if (before == 0) kept_.renew(chosen_, count);
  kept_.keep(chosen_, count, memory);
  w_.grow(before + count);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t j = chosen_[i], at = before + i;
    inside_[j] = true;
    w_.index[at] = int32_t(j);
    w_.limit[at] = lam_ * weight(j) * kept_.scale()[j];
    w_.one_over_limit[at] = 1 / w_.limit[at];
    w_.c[at] = kept_.dot(j, y_);
  }
  w_.count = before + count;
  for (int64_t at = before; at < w_.count; ++at) {
    const double* row = kept_.gram_row(kept_.slot_of(w_.index[at]));
    for (int64_t i = 0; i <= at; ++i)
      w_.gram[at * w_.stride + i] = w_.gram[i * w_.stride + at] = row[kept_.slot_of(w_.index[i])];
  }
}

// The nonzeros of x0, unless it has more than a solution need have: their Gram matrix would cost more than it saves.
template <class T> void ColumnsLasso<T>::take_start(int64_t sample, Workspace& memory) {
  const T* start = a_.x0 + sample * a_.a.n;
  const auto value = [&](int64_t j) {
    const double s = kept_.scale()[j], v = s > 0 ? double(start[j]) / unit_ / s : 0;
    return v - v != 0 || (a_.nonnegative && v < 0) ? 0 : v;
  };
  const int64_t enough = a_.a.m + 32, most = enough < a_.max_columns / 2 ? enough : a_.max_columns / 2;
  int64_t count = 0;
  for (int64_t j = 0; j < a_.a.n && count <= most; ++j)
    if (value(j) != 0) chosen_[count++] = int32_t(j);
  if (count > most) return;
  admit(count, memory);
  for (int64_t i = 0; i < count; ++i) w_.x[i] = value(w_.index[i]);
}

// out = y - A x, and |out|^2 with what the ridge adds to it.
template <class T> double ColumnsLasso<T>::residual_of(const double* x, double* out) const {
  memcpy(out, y_, size_t(a_.a.m) * sizeof(double));
  double ridged = 0;
  for (int64_t i = 0; i < w_.count; ++i) {
    if (x[i] == 0) continue;
    kept_.add(w_.index[i], -x[i], out);
    const double value = x[i] * kept_.scale()[w_.index[i]];
    if (a_.ridge > 0) ridged += a_.ridge * value * value;
  }
  return inner_product(out, out, a_.a.m) + ridged;
}

// The relative gap of the whole problem; r of the working set is exact then.
template <class T> double ColumnsLasso<T>::look() {
  power_ = residual_of(w_.x, residual_);
  correlate(a_.a, residual_, correlation_, a_.threads);
  for (int64_t i = 0; i < w_.count; ++i) {
    const int64_t j = w_.index[i];
    correlation_[j] -= a_.ridge * w_.x[i] * kept_.scale()[j];
    w_.r[i] = correlation_[j] * kept_.scale()[j];
  }
  worst_ = 0;
  for (int64_t j = 0; j < a_.a.n; ++j) {
    const double found = score(j);
    worst_ = found > worst_ ? found : worst_;
  }
  const double inner = inner_product(w_.x, w_.r, w_.count), best = power_ > 0 ? 1 + inner / power_ : 1;
  const double scale = worst_ * best > 1 ? 1 / worst_ : best > 0 ? best : 0;
  double slack = 0;
  for (int64_t i = 0; i < w_.count; ++i) slack += w_.limit[i] * __builtin_fabs(w_.x[i]) - scale * w_.x[i] * w_.r[i];
  const double gap = (1 - scale) * (1 - scale) * power_ / 2 + slack + gap_rounding<double> * __builtin_fabs(inner);
  return gap / (energy_ / 2);
}

// About as many columns as are wanted, those of the largest scores, in ascending order.
template <class T> int64_t ColumnsLasso<T>::choose(int64_t wanted) {
  constexpr double near = 0.9;  // a column nearly violates its constraint, and may do so next time
  const double from = near * (worst_ < 1 ? worst_ : 1);
  int64_t at_least[bins] = {};
  const double scale = bins / (worst_ - from);
  if (!(worst_ > from)) return 0;
  const auto bin_of = [&](int64_t j) {
    const double found = score(j);
    if (!(found > from) || inside_[j]) return -1;
    const int bin = int((found - from) * scale);
    return bin < bins ? bin : bins - 1;
  };
  for (int64_t j = 0; j < a_.a.n; ++j)
    if (const int bin = bin_of(j); bin >= 0) ++at_least[bin];
  int lowest = bins - 1;
  for (int64_t sum = at_least[lowest]; lowest > 0 && sum + at_least[lowest - 1] <= wanted; sum += at_least[lowest])
    --lowest;
  int64_t count = 0;
  for (int64_t j = 0; j < a_.a.n && count < 2 * wanted; ++j)
    if (bin_of(j) >= lowest) chosen_[count++] = int32_t(j);
  return count;
}

template <class T> void ColumnsLasso<T>::solve(int64_t sample) {
  Workspace memory;
  w_ = WorkingSet();
  if (!begin(sample, memory)) return;
  if (a_.x0) take_start(sample, memory);
  const int64_t m = a_.a.m, n = a_.a.n;
  double gap = look();
  if (a_.x0 && !(gap <= worthless)) {
    if (w_.stride) memset(w_.x, 0, size_t(w_.stride) * sizeof(double));
    gap = look();
  }
  double best = infinity, lowest = infinity, enough = infinity;
  int64_t steps = 0, first = 64;
  while (first * first < 2 * n) first += 16;
  int stalls = 0;
  for (std::unique_ptr<WorkingSolver> solver;;) {
    if (gap < best) {
      best = gap;
      if (w_.count) memcpy(w_.best, w_.x, size_t(w_.stride) * sizeof(double));
    }
    stalls = gap <= lowest / 2 ? 0 : stalls + 1;
    lowest = gap < lowest ? gap : lowest;
    if (gap <= a_.tol || steps >= a_.max_steps || stalls > patience || !(gap <= 2)) break;
    interrupted_ = a_.interrupted && a_.interrupted();
    if (interrupted_) break;
    int64_t nonzeros = 0;
    for (int64_t i = 0; i < w_.count; ++i) nonzeros += w_.x[i] != 0;
    const int64_t fresh = choose(first > nonzeros ? first : nonzeros);
    if (w_.count + fresh > a_.max_columns) {
      *a_.crowded = true;
      break;
    }
    const int64_t stride = w_.stride;
    admit(fresh, memory);
    if (w_.count == 0) break;
    for (int64_t i = w_.count - fresh; i < w_.count; ++i)
      w_.r[i] = correlation_[w_.index[i]] * kept_.scale()[w_.index[i]];
    if (!solver || w_.stride != stride) {
      const int64_t most = a_.ridge > 0 || w_.stride < m + 32 ? w_.stride : m + 32;
      solver.reset();
      solver = std::make_unique<WorkingSolver>(w_, most, a_.nonnegative);
    }
    double least = infinity;
    for (int64_t i = 0; i < w_.count; ++i) least = w_.limit[i] < least ? w_.limit[i] : least;
    enough = enough < rough * least ? enough : rough * least;
    double wanted = part * gap;
    wanted =
        fresh ? (wanted > margin * a_.tol ? wanted : margin * a_.tol) : part * margin * (gap < a_.tol ? gap : a_.tol);
    steps += solver->solver.improve({w_.x, w_.r, w_.c, w_.limit, w_.one_over_limit, energy_}, wanted * energy_ / 2,
                                    &enough, a_.max_steps - steps, w_.count == fresh);
    gap = look();
  }
  finish(sample, best, steps);
}

// The best that was seen, rounded, and what rounding adds to its gap.
template <class T> void ColumnsLasso<T>::finish(int64_t sample, double gap, int64_t steps) {
  const int64_t n = a_.a.n;
  T* out = a_.x + sample * n;
  memset(out, 0, size_t(n) * sizeof(T));
  double rise = 0, before = 0;
  if (sizeof(T) == 4 && w_.count) before = residual_of(w_.best, residual_) / 2;
  for (int64_t i = 0; i < w_.count; ++i) {
    const double s = kept_.scale()[w_.index[i]], value = w_.best[i] * s * unit_;
    out[w_.index[i]] = T(value);
    const double rounded = double(T(value)) / s / unit_;
    rise += w_.limit[i] * (__builtin_fabs(rounded) - __builtin_fabs(w_.best[i]));
    w_.best[i] = rounded;
  }
  if (sizeof(T) == 4 && w_.count) gap += (residual_of(w_.best, residual_) / 2 - before + rise) / (energy_ / 2);
  a_.gap[sample] = T(gap > 0 ? gap : gap == gap ? 0 : gap);
  const T largest = largest_magnitude(out, n);
  a_.gap[sample] += largest - largest;  // NaN where it is too large a number
  a_.steps[sample] = steps;
}

template <class T> void ColumnsLasso<T>::run() {
  for (int64_t i = 0; i < a_.batch; ++i) {
    solve(i);
    interrupted_ = interrupted_ || (a_.interrupted && a_.interrupted());
    if (*a_.crowded || interrupted_) return;
  }
}

}  // namespace

template <class T> void lasso_columns(const LassoColumns<T>& a) {
  if (a.batch > 0) ColumnsLasso<T>(a).run();
}

template void lasso_columns(const LassoColumns<float>&);
template void lasso_columns(const LassoColumns<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
