// The Lasso to a certified gap: gaps against loops, bits over settings, what is not finite, and calls that are ended.
#include <algorithm>
#include <atomic>
#include <limits>

#include "check.h"
#include "fastunroll.h"

namespace fastunroll::testing {
namespace {

struct Kind {
  bool nonnegative, weighted, starts;
  double ridge, share;  // of the lambda that makes x zero
};

struct Shape {
  int64_t batch, m, n;
};

// From the Gram matrix of all columns, or from a working set of columns of a matrix that lies in one of three ways.
enum class Way { gram, rows, columns, sparse };
const Way all_ways[] = {Way::gram, Way::rows, Way::columns, Way::sparse};
const char* const way_names[] = {"lasso-gram", "lasso-rows", "lasso-columns", "lasso-sparse"};

template <class T> struct Found {
  Array<T> x, gap;
  Array<int64_t> steps;
};

template <class T> bool same(const Found<T>& a, const Found<T>& b) {
  return same_bits(a.x, b.x) && same_bits(a.gap, b.gap) && same_bits(a.steps, b.steps);
}

template <class T> class Samples {
 public:
  Samples(const Shape& s, const Kind& k, Way w = Way::gram) : shape(s), kind(k), way(w) {
    Random random(uint64_t(s.batch + 7 * s.m + 1000 * s.n));
    a = random.normals<T>(s.m * s.n, 1);
    for (int64_t i = 0; i < s.m; ++i) {
      if (s.n > 2) a[i * s.n + 1] = 0;
      if (s.n > 6) a[i * s.n + s.n - 1] = a[i * s.n];
      if (s.n > 6) a[i * s.n + 3] *= T(0.001);
    }
    y = random.normals<T>(s.batch * s.m, 1);
    for (int64_t b = 0; b < s.batch; ++b)  // each sample in units of its own
      for (int64_t i = 0; i < s.m; ++i) y[b * s.m + i] *= T(std::ldexp(1.0, int(b % 5) * 7 - 14));
    if (k.weighted) weights.resize(size_t(s.n));
    for (T& value : weights) value = T(0.2 + random.uniform());
    for (int64_t b = 0; b < s.batch; ++b) lam.push_back(T(k.share * largest(b)));
    if (!k.starts || s.batch == 0) return;
    x0 = random.normals<T>(s.batch * s.n, 0.01);
    x0[0] = std::numeric_limits<T>::quiet_NaN();
    if (s.batch > 1)  // a start whose squares overflow
      for (int64_t j = 0; j < s.n; ++j) x0[s.n + j] = std::numeric_limits<T>::max() / 4;
  }

  Found<T> solve(int threads, T tol, int64_t max_steps = 10000, bool (*interrupted)() = nullptr) const {
    return way == Way::gram ? from_gram(threads, tol, max_steps, interrupted)
                            : from_columns(threads, tol, max_steps, interrupted);
  }

  Found<T> from_gram(int threads, T tol, int64_t max_steps, bool (*interrupted)()) const {
    Dictionary<T> d{shape.m, shape.n, threads, T(kind.ridge), a.data(), nullptr};
    Array<T> prepared(size_t(dictionary_size(d)), std::numeric_limits<T>::quiet_NaN());
    d.prepared = prepared.data();
    dictionary_prepare(d);
    d.a = nullptr;  // it is not needed any more
    Found<T> f = room();
    lasso<T>({d, shape.batch, threads, kind.nonnegative, tol, max_steps, data(y), data(lam), data(weights), data(x0),
              interrupted, data(f.x), data(f.gap), data(f.steps)});
    return f;
  }

  Found<T> from_columns(int threads, T tol, int64_t max_steps, bool (*interrupted)()) const {
    const int64_t m = shape.m, n = shape.n;
    Array<T> values;
    std::vector<int32_t> first{0}, rows;
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t i = 0; i < m; ++i) {
        if (way == Way::sparse && a[i * n + j] == 0) continue;
        values.push_back(a[i * n + j]);
        rows.push_back(int32_t(i));
      }
      first.push_back(int32_t(rows.size()));
    }
    const bool sparse = way == Way::sparse, by_row = way == Way::rows;
    const Columns<T> columns{m,
                             n,
                             by_row ? a.data() : values.data(),
                             by_row ? n : 1,
                             by_row ? 1 : m,
                             sparse ? first.data() : nullptr,
                             sparse ? rows.data() : nullptr,
                             false};
    ColumnStore store;
    bool crowded = false;
    Found<T> f = room();
    // The second time columns are found where the first has left them.
    for (int turn = 0; turn < 2; ++turn)
      lasso_columns<T>({columns, kind.ridge, &store, shape.batch, threads, kind.nonnegative, double(tol), max_steps,
                        1 << 20, data(y), data(lam), data(weights), data(x0), interrupted, data(f.x), data(f.gap),
                        data(f.steps), &crowded});
    CHECK(!crowded, "lasso: there was room");
    return f;
  }

  Found<T> room() const {
    return {Array<T>(size_t(shape.batch * shape.n)), Array<T>(size_t(shape.batch), T(-1)),
            Array<int64_t>(size_t(shape.batch))};
  }

  // (P - D) / (|y|^2 / 2), by its definition.
  double gap(int64_t b, const T* x) const {
    const std::vector<double> residual = residual_of(b, x);
    double power = 0, along = 0, energy = 0, bound = std::numeric_limits<double>::infinity(), one_norm = 0;
    for (int64_t i = 0; i < shape.m; ++i) {
      power += residual[i] * residual[i];
      energy += double(y[b * shape.m + i]) * double(y[b * shape.m + i]);
      along += residual[i] * double(y[b * shape.m + i]);
    }
    for (int64_t j = 0; j < shape.n; ++j) {
      const double limit = limit_of(b, j), r = correlation(residual, j) - kind.ridge * double(x[j]);
      const double size = kind.nonnegative ? r : std::abs(r);
      if (size > 0) bound = std::min(bound, limit / size);
      one_norm += limit * std::abs(double(x[j]));
      power += kind.ridge * double(x[j]) * double(x[j]);
    }
    const double s = std::max(0.0, std::min(power > 0 ? along / power : 1.0, bound));
    return (power / 2 + one_norm - (s * along - s * s * power / 2)) / (energy / 2);
  }

  Shape shape;
  Kind kind;
  Way way;
  Array<T> a, y, lam, weights, x0;

 private:
  template <class Values> static auto data(Values& array) { return array.empty() ? nullptr : array.data(); }
  std::vector<double> residual_of(int64_t b, const T* x) const {
    std::vector<double> r(static_cast<size_t>(shape.m));
    for (int64_t i = 0; i < shape.m; ++i) {
      r[i] = double(y[b * shape.m + i]);
      for (int64_t j = 0; x && j < shape.n; ++j) r[i] -= double(a[i * shape.n + j]) * double(x[j]);
    }
    return r;
  }
  double correlation(const std::vector<double>& r, int64_t j) const {
    double sum = 0;
    for (int64_t i = 0; i < shape.m; ++i) sum += double(a[i * shape.n + j]) * r[i];
    return sum;
  }
  double weight(int64_t j) const { return weights.empty() ? 1.0 : double(weights[j]); }
  double limit_of(int64_t b, int64_t j) const { return double(lam[b]) * weight(j); }
  double largest(int64_t b) const {
    const std::vector<double> r = residual_of(b, nullptr);
    double most = 1e-3;
    for (int64_t j = 0; j < shape.n; ++j) most = std::max(most, std::abs(correlation(r, j)) / weight(j));
    return most;
  }
};

template <class T> constexpr T tolerance = sizeof(T) == 4 ? T(1e-5) : T(1e-9);
template <class T> constexpr double error_of_gap = sizeof(T) == 4 ? 1e-5 : 1e-12;

template <class T> std::string text(const Shape& s, const Kind& k) {
  return std::string("lasso ") + type_name<T> + " " + std::to_string(s.batch) + " " + std::to_string(s.m) + " " +
         std::to_string(s.n) + (k.nonnegative ? " nonnegative" : "") + (k.weighted ? " weights" : "") +
         (k.starts ? " x0" : "") + " ridge " + std::to_string(k.ridge) + " share " + std::to_string(k.share);
}

template <class T> void check_found(const Samples<T>& p, const Found<T>& f, const std::string& what) {
  for (int64_t b = 0; b < p.shape.batch; ++b) {
    const T* x = f.x.data() + b * p.shape.n;
    const double gap = p.gap(b, x);
    const std::string found = what + ": gap " + std::to_string(1e6 * gap) + "e-6 of sample " + std::to_string(b);
    CHECK(f.gap[b] <= tolerance<T>, found + " does not reach the tolerance");
    CHECK(std::abs(gap - double(f.gap[b])) <= error_of_gap<T> + 1e-3 * gap,
          found + " was said to be " + std::to_string(1e6 * double(f.gap[b])) + "e-6");
    bool right = true;
    for (int64_t j = 0; j < p.shape.n; ++j) {
      right = right && !(p.kind.nonnegative && x[j] < 0);
      right = right && (p.shape.n < 3 || j != 1 || x[j] == 0);  // a column of zeros
    }
    CHECK(right, what + ": signs, or a column of zeros");
  }
}

template <class T> void compare(const Shape& shape, const Kind& kind, Way way) {
  const Settings restored;
  const Samples<T> p(shape, kind, way);
  Found<T> fused;
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    const std::string what = text<T>(shape, kind) + " " + way_names[int(way)] + " " + set;
    const Found<T> one = p.solve(1, tolerance<T>);
    record(way_names[int(way)], one.x);
    record(way_names[int(way)], one.gap);
    check_found(p, one, what);
    for (int threads : {2, 5}) {
      set_dense_above(threads == 2 ? 0.0 : 2.0);
      CHECK(same(p.solve(threads, tolerance<T>), one), what + ": bits over threads or density");
    }
    if (!is_fused(set)) continue;
    if (fused.x.empty()) fused = one;
    CHECK(same(one, fused), what + ": bits over instruction sets");
  }
}

// A sample gives the same bits whatever is beside it, and what is not finite stays in its sample.
template <class T> void compare_neighbours(const Kind& kind, Way way) {
  const Samples<T> p({70, 17, 65}, kind, way);
  const Found<T> whole = p.solve(2, tolerance<T>);
  Samples<T> turned = p;
  const int64_t m = p.shape.m, n = p.shape.n, batch = p.shape.batch;
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t from = batch - 1 - b;
    std::copy_n(&p.y[size_t(from * m)], m, &turned.y[size_t(b * m)]);
    turned.lam[b] = p.lam[from];
    if (kind.starts) std::copy_n(&p.x0[size_t(from * n)], n, &turned.x0[size_t(b * n)]);
  }
  turned.y[3 * m + 5] = std::numeric_limits<T>::quiet_NaN();
  turned.y[68 * m] = std::numeric_limits<T>::infinity();
  std::fill_n(&turned.y[size_t(40 * m)], m, T(0));
  const Found<T> found = turned.solve(2, tolerance<T>);
  const std::string what = text<T>(p.shape, kind);
  for (int64_t b = 0; b < batch; ++b) {
    const T *x = &found.x[size_t(b * n)], *wanted = &whole.x[size_t((batch - 1 - b) * n)];
    if (b == 3 || b == 68)
      CHECK(std::isnan(found.gap[b]) && std::all_of(x, x + n, [](T v) { return std::isnan(v); }),
            what + ": not finite");
    else if (b == 40)
      CHECK(found.gap[b] == 0 && std::all_of(x, x + n, [](T v) { return v == 0; }), what + ": y of zeros");
    else
      CHECK(std::memcmp(x, wanted, size_t(n) * sizeof(T)) == 0 && found.gap[b] == whole.gap[batch - 1 - b],
            what + ": bits over batches");
  }
}

template <class T> void limit_steps(Way way) {
  const Samples<T> p({5, 65, 130}, {false, false, false, 0, 0.01}, way);
  for (int64_t most : {1, 2, 9, 40}) {
    const Found<T> f = p.solve(1, tolerance<T>, most);
    const int64_t taken = *std::max_element(f.steps.begin(), f.steps.end());
    CHECK(taken <= most, "lasso: " + std::to_string(taken) + " steps of " + std::to_string(most));
    CHECK(*std::max_element(f.gap.begin(), f.gap.end()) > tolerance<T>, "lasso: converged before its last step");
  }
}

std::atomic<int> asked{0}, patience{0};
bool is_enough() { return ++asked >= patience; }

template <class T> void interrupt(int threads) {
  const Samples<T> p({300, 17, 65}, {false, false, false, 0, 0.1});
  const Found<T> wanted = p.solve(threads, tolerance<T>);
  for (int after : {1, 3, 40}) {
    patience = after;
    asked = 0;
    const Found<T> part = p.solve(threads, tolerance<T>, 10000, is_enough);
    const std::string what = "lasso on " + std::to_string(threads) + " threads, asked " + std::to_string(asked);
    // Leaving a tile and the last look at the queue ask once more each. Other threads may have done all the work.
    CHECK(asked <= after + 2 && (threads > 1 || asked >= after),
          what + " times, to end after " + std::to_string(after));
    if (threads == 1) CHECK(part.gap.back() == T(-1), what + ": more was begun after the interruption");
  }
  CHECK(same(p.solve(threads, tolerance<T>), wanted), "lasso: a call after one that was ended");
}

template <class T> void lasso_of_type() {
  const Kind kinds[] = {{false, false, false, 0, 0.1},  {true, false, false, 0, 0.1},  {false, true, false, 0, 0.5},
                        {false, false, true, 0, 0.2},   {true, true, true, 0.5, 0.1},  {false, false, false, 2, 0.1},
                        {false, false, false, 0, 0.99}, {false, true, true, 0.1, 1.5}, {true, false, true, 0, 0.3}};
  const Shape shapes[] = {{3, 1, 1},    {5, 1, 17},   {3, 7, 2},    {2, 17, 64}, {70, 7, 65},
                          {1, 65, 130}, {130, 2, 17}, {4, 130, 65}, {3, 64, 7},  {0, 7, 17}};
  for (const Shape& shape : shapes) {
    if (quick && shape.batch != 70) continue;
    for (const Kind& kind : kinds)
      for (Way way : all_ways) compare<T>(shape, kind, way);
  }
  for (Way way : all_ways) {
    for (int i : {0, 3, 4}) compare_neighbours<T>(kinds[i], way);
    if (!quick) limit_steps<T>(way);
  }
  for (int threads : {1, 3}) interrupt<T>(threads);
}

}  // namespace

void test_lasso() {
  lasso_of_type<float>();
  lasso_of_type<double>();
}

}  // namespace fastunroll::testing
