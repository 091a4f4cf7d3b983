// The Lasso, tile after tile of samples. Work on a sample uses the Gram matrix; whether it is done, residuals computed
// from A decide, for all of a tile that are not done yet at once.
#include <new>

#include "cpu/dictionary.h"
#include "cpu/lasso_sample.h"
#include "cpu/tile.h"
#include "cpu/workspace.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

// A product's accumulators times a factor for each of the columns there are.
template <class T> struct StoreScaled {
  T* data;
  int64_t stride;
  const T* factors;
  template <int Count> void store_at(int64_t row, int64_t column, const Vector<T>* v) const {
    for (int j = 0; j < Count; ++j) {
      const int64_t c = column + j * lanes<T>;
      if (c < stride) store(data + row * stride + c, v[j] * load(factors + c));
    }
  }
};

constexpr double infinity = __builtin_inf();

// What is known of a sample besides its rows.
template <class T> struct Progress {
  int64_t sample;
  T unit;    // a power of two near the largest |y|: the sample is solved in units of it
  T energy;  // |y|^2
  T power;   // |y - Ax|^2, of what the ridge adds to it too
  T enough;  // the move at which coordinate descent ends
  T best;    // the least gap seen
  T lowest;  // the least since coordinate descent began
  int stalls;
  int64_t steps;
  bool is_started;  // from somewhere else than zero
  bool is_first;    // coordinate descent has not been yet
};

template <class T> class LassoTile {
 public:
  LassoTile(const Lasso<T>& arguments, int64_t rows, Workspace& memory)
      : a_(arguments),
        m_(a_.dictionary.m),
        n_(a_.dictionary.n),
        stride_(code_stride<T>(n_)),
        stride_y_(tile_stride<T>(m_)),
        words_(blocks(stride_, mask_bits)),
        p_(PreparedDictionary<T>::in(a_.dictionary.prepared, m_, n_)),
        solver_({p_.gram, stride_}, max_columns(), a_.nonnegative, memory) {
    T** const codes[] = {&x_, &r_, &c_, &scaled_, &best_};
    for (T** row : codes) *row = memory.take<T>(rows * stride_);
    T* const products[] = {r_, c_};  // which may end before the padding does
    for (T* row : products)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = padded<T>(n_); j < stride_; ++j) row[i * stride_ + j] = 0;
    T** const of_all[] = {&limit_of_one_, &limit_, &one_over_limit_};
    for (T** row : of_all) *row = memory.take<T>(stride_);
    residual_ = memory.take<T>(rows * stride_y_);
    y_ = memory.take<T>(rows * stride_y_);
    scratch_ = ProductScratch<T>::make(rows, rows * m_, memory);
    masks_ = memory.take<uint64_t>(rows * words_);
    progress_ = memory.take<Progress<T>>(rows);
    for (int64_t j = 0; j < stride_; ++j)
      limit_of_one_[j] = j < n_ && p_.scale[j] > 0 ? p_.scale[j] * (a_.weights ? a_.weights[j] : T(1)) : T(infinity);
  }

  // Solves samples first .. first + count - 1, or some of them if stops() says so.
  template <class Stops> void run(int64_t first, int64_t count, const Stops& stops) {
    int64_t active = 0;
    for (int64_t i = 0; i < count; ++i) active += begin(first + i, active);
    for (bool at_first = true; active > 0; at_first = false) {
      compute_residuals(active, at_first);
      int64_t left = 0;
      for (int64_t i = 0; i < active; ++i) {
        set_limit(progress_[i]);
        bool done = is_done(i);
        if (leads_nowhere(progress_[i], done, at_first)) {
          start_anew(i);
          done = is_done(i);  // zero may be the best that is seen
        }
        if (done) {
          finish(i);
        } else {
          move_row(i, left);
          improve(left++);
        }
        if (stops()) return;
      }
      active = left;
    }
  }

 private:
  // Coordinate descent ends at moves below this part of lambda.
  static constexpr T rough = T(0.2);
  // The gap from r is to be this part of the tolerance, to be within it for certain when it is looked at.
  static constexpr T margin = T(0.5);
  // A start with a larger gap makes more work than it saves: measured with FISTA's iterates.
  static constexpr T worthless = T(0.02);
  // Looks that do not halve the gap. What single precision cannot do is left to double, where gaps of coherent columns
  // stay large for a while.
  static constexpr int patience = sizeof(T) == 4 ? 4 : 40;
  // Zero has a gap of at most 1, and no step raises the objective unless rounding does: Newton's steps diverge.
  static constexpr T diverged = 2;

  // No solution need have more nonzeros than A has rows, unless there is a ridge.
  int64_t max_columns() const {
    const int64_t enough = m_ + 32;
    return a_.dictionary.ridge > 0 || n_ < enough ? n_ : enough;
  }

  // Row i for a sample; false if there is nothing to do for it.
  bool begin(int64_t sample, int64_t i) {
    T* y = y_ + i * stride_y_;
    const T* given = a_.y + sample * m_;
    const T largest = largest_magnitude(given, m_);
    T* x = a_.x + sample * n_;
    if (largest == 0 || largest - largest != 0) {
      const T nothing = largest - largest;
      for (int64_t j = 0; j < n_; ++j) x[j] = nothing;
      a_.gap[sample] = nothing;
      a_.steps[sample] = 0;
      return false;
    }
    int exponent;
    (void)__builtin_frexp(double(largest), &exponent);
    const T unit = T(__builtin_ldexp(1.0, exponent - 1));  // of a normal number, so it and its inverse are too
    for (int64_t j = 0; j < stride_y_; ++j) y[j] = j < m_ ? given[j] / unit : T(0);
    progress_[i] = {sample, unit, inner_product(y, y, m_), 0, 0, T(infinity), T(infinity), 0, 0, false, true};
    begin_at_zero(progress_[i]);
    T* row = x_ + i * stride_;
    memset(row, 0, size_t(stride_) * sizeof(T));
    memset(best_ + i * stride_, 0, size_t(stride_) * sizeof(T));
    if (a_.x0) {
      progress_[i].is_started = true;
      const T* start = a_.x0 + sample * n_;
      for (int64_t j = 0; j < n_; ++j) {
        const T value = p_.scale[j] > 0 ? start[j] / unit / p_.scale[j] : T(0);
        row[j] = value - value != 0 || (a_.nonnegative && value < 0) ? T(0) : value;
      }
    }
    return true;
  }

  void set_limit(const Progress<T>& of) {
    const T lam = a_.lam[of.sample] / of.unit;
    for (int64_t j = 0; j < stride_; ++j) {
      limit_[j] = lam * limit_of_one_[j];
      one_over_limit_[j] = 1 / limit_[j];
    }
  }

  // r = A^T (y - A x) - ridge x of the first `count` rows, in units of the scales.
  void compute_residuals(int64_t count, bool at_first) {
    const double above = dense_above();
    const Rows<T> residuals{residual_, stride_y_, count, nullptr, 0};
    for (int64_t i = 0; i < count; ++i) {
      const T* x = x_ + i * stride_;
      T* scaled = scaled_ + i * stride_;
      for (int64_t j = 0; j < stride_; j += lanes<T>) store(scaled + j, -load(x + j) * load(p_.scale + j));
      mark_row(masks_ + i * words_, words_, scaled, stride_);
    }
    for (int64_t i = 0; i < count; ++i) subtract_codes(i);
    const Factor<T> to_codes{m_, n_, p_.to_codes, true, nullptr, Layout::by_depth, false};
    product(to_codes, residuals, scratch_, above, StartFrom<T>{}, StoreScaled<T>{r_, stride_, p_.scale});
    if (at_first) {  // c = A^T y, which the gap of a sample in Gram form needs
      if (a_.x0)
        product(to_codes, Rows<T>{y_, stride_y_, count, nullptr, 0}, scratch_, above, StartFrom<T>{},
                StoreScaled<T>{c_, stride_, p_.scale});
      else
        memcpy(c_, r_, size_t(count * stride_) * sizeof(T));
    }
    const T ridge = a_.dictionary.ridge;
    for (int64_t i = 0; i < count; ++i) {
      const T *residual = residual_ + i * stride_y_, *scaled = scaled_ + i * stride_;
      T* r = r_ + i * stride_;
      correlate_codes(i);
      progress_[i].power = inner_product(residual, residual, m_);
      if (ridge > 0) {
        for (int64_t j = 0; j < stride_; ++j) r[j] += ridge * p_.scale[j] * scaled[j];
        progress_[i].power += ridge * inner_product(scaled, scaled, stride_);
      }
    }
  }

  // y - A x, its sums in double precision: in single they would be most of the error of the gap.
  void subtract_codes(int64_t i) {
    constexpr int width = panel_width<T>;
    const T *scaled = scaled_ + i * stride_, *y = y_ + i * stride_y_;
    const uint64_t* mask = masks_ + i * words_;
    for (int64_t p = 0; p * width < m_; ++p) {
      alignas(64) double sum[width];
      for (int c = 0; c < width; ++c) sum[c] = double(y[p * width + c]);
      for (int64_t q = 0; q < words_; ++q) {
        for (uint64_t left = mask[q]; left; left &= left - 1) {
          const int64_t k = q * mask_bits + __builtin_ctzll(left);
          const double value = double(scaled[k]);
          const T* row = p_.to_samples + (p * n_ + k) * width;
          for (int c = 0; c < width; ++c) sum[c] += value * double(row[c]);
        }
      }
      for (int c = 0; c < width; ++c) residual_[i * stride_y_ + p * width + c] = T(sum[c]);
    }
  }

  // The entries of A^T residual that the gap multiplies with x, also in double precision: by them it is certain to much
  // less than the rounding of all others.
  void correlate_codes(int64_t i) {
    constexpr int width = panel_width<T>, parts = 16;
    const T* residual = residual_ + i * stride_y_;
    const uint64_t* mask = masks_ + i * words_;
    for (int64_t q = 0; q < words_; ++q) {
      for (uint64_t left = mask[q]; left; left &= left - 1) {
        const int64_t k = q * mask_bits + __builtin_ctzll(left);
        double part[parts] = {};
        for (int64_t p = 0; p * width < m_; ++p) {
          const T* row = p_.to_samples + (p * n_ + k) * width;
          for (int c = 0; c < width; c += parts)
            for (int j = 0; j < parts; ++j) part[j] += double(row[c + j]) * double(residual[p * width + c + j]);
        }
        for (int some = parts / 2; some > 0; some /= 2)
          for (int j = 0; j < some; ++j) part[j] += part[j + some];
        r_[i * stride_ + k] = T(part[0] * double(p_.scale[k]));
      }
    }
  }

  bool is_done(int64_t i) {
    Progress<T>& of = progress_[i];
    const T* x = x_ + i * stride_;
    const T* r = r_ + i * stride_;
    const T gap = duality_gap(x, r, limit_, one_over_limit_, stride_, of.power, a_.nonnegative) / (of.energy / 2);
    of.stalls = gap <= of.lowest / 2 ? 0 : of.stalls + 1;
    of.lowest = gap < of.lowest ? gap : of.lowest;
    if (gap < of.best) {
      of.best = gap;
      memcpy(best_ + i * stride_, x, size_t(stride_) * sizeof(T));
    }
    return gap <= a_.tol || of.steps >= a_.max_steps || of.stalls > patience || !(gap <= diverged);
  }

  // A start that is worth less than zero: its gap is large, or it went wrong later.
  bool leads_nowhere(const Progress<T>& of, bool done, bool at_first) const {
    if (!of.is_started || of.best <= a_.tol || of.steps >= a_.max_steps) return false;
    return done || (at_first && of.best > worthless);
  }

  void start_anew(int64_t i) {
    memset(x_ + i * stride_, 0, size_t(stride_) * sizeof(T));
    memcpy(r_ + i * stride_, c_ + i * stride_, size_t(stride_) * sizeof(T));
    progress_[i].power = progress_[i].energy;
    begin_at_zero(progress_[i]);
  }

  void begin_at_zero(Progress<T>& of) {
    of.is_started = false;
    of.is_first = true;
    of.enough = rough * a_.lam[of.sample] / of.unit;
    of.lowest = T(infinity);
    of.stalls = 0;
  }

  // The best that was seen.
  void finish(int64_t i) {
    const Progress<T>& of = progress_[i];
    T* out = a_.x + of.sample * n_;
    const T* x = best_ + i * stride_;
    for (int64_t j = 0; j < n_; ++j) out[j] = x[j] * p_.scale[j] * of.unit;
    const T largest = largest_magnitude(out, n_);
    a_.gap[of.sample] = of.best + (largest - largest);  // NaN where it is too large a number
    a_.steps[of.sample] = of.steps;
  }

  void move_row(int64_t from, int64_t to) {
    if (from == to) return;
    T* const codes[] = {x_, r_, c_, best_};
    for (T* rows : codes) memcpy(rows + to * stride_, rows + from * stride_, size_t(stride_) * sizeof(T));
    memcpy(y_ + to * stride_y_, y_ + from * stride_y_, size_t(stride_y_) * sizeof(T));
    progress_[to] = progress_[from];
  }

  void improve(int64_t i) {
    Progress<T>& of = progress_[i];
    const int64_t row = i * stride_;
    of.steps += solver_.improve({x_ + row, r_ + row, c_ + row, limit_, one_over_limit_, of.energy},
                                margin * a_.tol * of.energy / 2, &of.enough, a_.max_steps - of.steps, of.is_first);
    of.is_first = false;
  }

  const Lasso<T>& a_;
  int64_t m_, n_, stride_, stride_y_, words_;
  PreparedDictionary<T> p_;
  SampleSolver<T> solver_;
  T *x_, *r_, *c_;  // (rows, stride): codes in units of their scales
  T* scaled_;       // minus the codes themselves
  T* best_;         // the x of least gap
  T *y_, *residual_;
  T *limit_of_one_, *limit_, *one_over_limit_;
  ProductScratch<T> scratch_;
  uint64_t* masks_;
  Progress<T>* progress_;
};

}  // namespace

template <class T> void lasso(const Lasso<T>& a) {
  if (a.batch == 0) return;
  const Tiles tiles = cut(a.batch, 64, a.threads);
  const int threads = int(a.threads < tiles.count ? a.threads : tiles.count);
  // Memory is taken here: where threads are at work, an exception could not be caught.
  Workspace memory;
  LassoTile<T>* const of_thread = memory.take<LassoTile<T>>(threads);
  for (int t = 0; t < threads; ++t) new (of_thread + t) LassoTile<T>(a, tiles.max_rows(), memory);
  Queue queue;
  bool stopped = false;
  int working = 0;
  in_parallel(threads, [&](Team team) {
    // The calling thread alone can hear that all should stop.
    const auto stops = [&] {
      if (team.rank == 0 && a.interrupted && a.interrupted()) __atomic_store_n(&stopped, true, __ATOMIC_RELAXED);
      return __atomic_load_n(&stopped, __ATOMIC_RELAXED);
    };
    __atomic_add_fetch(&working, 1, __ATOMIC_RELAXED);
    for (int64_t i; !stops() && queue.take(i, tiles.count);)
      of_thread[team.rank].run(tiles.first(i), tiles.rows(i), stops);
    __atomic_sub_fetch(&working, 1, __ATOMIC_RELAXED);
    while (team.rank == 0 && __atomic_load_n(&working, __ATOMIC_RELAXED) > 0 && !stops()) let_others_run();
  });
}

template void lasso(const Lasso<float>&);
template void lasso(const Lasso<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
