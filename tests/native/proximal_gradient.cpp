// ISTA and FISTA until convergence: values against loops, bits over settings, blocks, and calls that are ended.
#include <algorithm>
#include <atomic>
#include <limits>

#include "check.h"
#include "fastunroll.h"

namespace fastunroll::testing {
namespace {

struct Kind {
  const char* name;
  bool momentum, restarts, monotone, nonnegative;
};
const Kind kinds[] = {{"ista", false, false, false, false},   {"fista", true, false, false, false},
                      {"restarts", true, true, false, false}, {"monotone", true, false, true, false},
                      {"both", true, true, true, false},      {"nonnegative ista", false, false, false, true},
                      {"nonnegative", true, true, true, true}};

struct Size {
  int64_t batch, m, n, lam_rows, lam_columns;
};

template <class T> struct State {
  Array<T> x, other, g_other, gap;
  Array<double> momentum;
  Array<int64_t> made;
};

template <class T> class Lasso {
 public:
  explicit Lasso(const Size& s) : size(s) {
    Random random(uint64_t(s.batch + 7 * s.m + s.n));
    a = random.normals<T>(s.m * s.n, 1 / std::sqrt(double(s.m)));
    y = random.normals<T>(s.batch * s.m, 1);
    lam.resize(size_t(s.lam_rows * s.lam_columns));
    for (T& value : lam) value = T(0.1 + 0.4 * random.uniform());
    double bound = 0;  // of |A|^2, by its Frobenius norm
    for (T value : a) bound += double(value) * value;
    step = T(0.99 / bound);
  }

  State<T> begin(const Kind& kind) const {
    State<T> s;
    s.x.resize(size_t(size.batch * size.n));
    s.gap.assign(size_t(size.batch), std::numeric_limits<T>::infinity());
    s.made.resize(size_t(size.batch));
    if (!kind.momentum) return s;
    s.other = s.g_other = s.x;
    for (int64_t b = 0; b < size.batch; ++b)
      for (double value : {1.0, 0.0, std::numeric_limits<double>::infinity()}) s.momentum.push_back(value);
    return s;
  }

  void advance(State<T>& s, const Kind& kind, double tol, int64_t iterations, int threads,
               bool (*interrupted)() = nullptr) const {
    const auto data = [](auto& array) { return array.empty() ? nullptr : array.data(); };
    proximal_gradient<T>({size.batch,       size.m,      size.n,        threads,
                          iterations,       10,          kind.restarts, kind.monotone,
                          kind.nonnegative, step,        T(tol),        a.data(),
                          data(y),          lam.data(),  size.lam_rows, size.lam_columns,
                          interrupted,      data(s.x),   data(s.other), data(s.g_other),
                          data(s.momentum), data(s.gap), data(s.made)});
  }

  T lam_at(int64_t b, int64_t c) const {
    return lam[size_t((size.lam_rows == 1 ? 0 : b) * size.lam_columns + (size.lam_columns == 1 ? 0 : c))];
  }

  Size size;
  Array<T> a, y, lam;
  T step;
};

// One sample in double precision, as the papers write it.
struct Reference {
  std::vector<double> x;
  double gap;
};

template <class T> Reference reference(const Lasso<T>& p, int64_t b, const Kind& kind, int64_t iterations) {
  const int64_t m = p.size.m, n = p.size.n;
  using Row = std::vector<double>;
  const auto residual = [&](const Row& x) {
    Row r(static_cast<size_t>(m));
    for (int64_t i = 0; i < m; ++i) {
      r[i] = -double(p.y[b * m + i]);
      for (int64_t c = 0; c < n; ++c) r[i] += double(p.a[i * n + c]) * x[c];
    }
    return r;
  };
  const auto gradient = [&](const Row& r) {
    Row g(static_cast<size_t>(n));
    for (int64_t i = 0; i < m; ++i)
      for (int64_t c = 0; c < n; ++c) g[c] += double(p.a[i * n + c]) * r[i];
    return g;
  };
  const auto objective = [&](const Row& x) {
    double sum = 0;
    for (double r : residual(x)) sum += r * r / 2;
    for (int64_t c = 0; c < n; ++c) sum += double(p.lam_at(b, c)) * std::abs(x[c]);
    return sum;
  };
  Row x(static_cast<size_t>(n)), v = x;
  double t = 1, lowest = std::numeric_limits<double>::infinity();
  for (int64_t k = 0; k < iterations; ++k) {
    const Row g = gradient(residual(v));
    Row z = v, next = x;
    double uphill = 0;
    for (int64_t c = 0; c < n; ++c) {
      const double moved = v[c] - p.step * g[c], theta = double(p.lam_at(b, c)) * p.step;
      z[c] = moved > theta ? moved - theta : moved < -theta && !kind.nonnegative ? moved + theta : 0;
      uphill += (v[c] - z[c]) * (z[c] - x[c]);
    }
    if (k == 0) lowest = objective(x);
    const double value = objective(z);
    if (!kind.monotone || value <= lowest * (1 + 1e-15)) next = z;
    lowest = std::min(lowest, value);
    const double following = (1 + std::sqrt(1 + 4 * t * t)) / 2;
    for (int64_t c = 0; c < n; ++c)
      v[c] = kind.momentum ? next[c] + t / following * (z[c] - next[c]) + (t - 1) / following * (next[c] - x[c]) : z[c];
    t = following;
    if (kind.restarts && uphill > 0) t = 1, v = next;
    x = next;
  }
  const Row r = residual(x), g = gradient(r);
  constexpr double infinity = std::numeric_limits<double>::infinity();
  double square = 0, along = 0, size = 0, most = infinity, back = infinity, dual = 0;
  for (int64_t i = 0; i < m; ++i) {
    const double value = p.y[b * m + i];
    square += r[i] * r[i];
    along -= r[i] * value;
    size += value * value / 2;
  }
  for (int64_t c = 0; c < n; ++c) {
    const double ratio = double(p.lam_at(b, c)) / std::abs(g[c]);
    if (g[c] < 0 || !kind.nonnegative) most = std::min(most, ratio);
    if (g[c] > 0 || !kind.nonnegative) back = std::min(back, ratio);
  }
  const double s = std::max(-back, std::min(most, along / square));
  for (int64_t i = 0; i < m; ++i) dual += (double(p.y[b * m + i]) + s * r[i]) * (double(p.y[b * m + i]) + s * r[i]) / 2;
  return {x, (objective(x) - size + dual) / size};
}

std::string text(const Size& s, const Kind& kind) {
  return std::string("proximal_gradient ") + kind.name + " " + std::to_string(s.batch) + " " + std::to_string(s.m) +
         " " + std::to_string(s.n) + " " + std::to_string(s.lam_rows) + " " + std::to_string(s.lam_columns);
}

template <class T> bool same(const State<T>& a, const State<T>& b) {
  return same_bits(a.x, b.x) && same_bits(a.gap, b.gap) && same_bits(a.made, b.made) && same_bits(a.other, b.other) &&
         same_bits(a.g_other, b.g_other) && same_bits(a.momentum, b.momentum);
}

void compare_with_loops(const Size& size, const Kind& kind) {
  const Settings restored;
  const Lasso<double> p(size);
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    State<double> s = p.begin(kind);
    p.advance(s, kind, 0, 13, 2);
    Array<double> wanted, gaps;
    for (int64_t b = 0; b < size.batch; ++b) {
      const Reference one = reference(p, b, kind, 13);
      wanted.insert(wanted.end(), one.x.begin(), one.x.end());
      gaps.push_back(one.gap);
    }
    CHECK(close(s.x, wanted, 1e-11), text(size, kind) + " " + set);
    CHECK(close(s.gap, gaps, 1e-11), text(size, kind) + " " + set + ": gap");
    CHECK(std::count(s.made.begin(), s.made.end(), 13) == size.batch, text(size, kind) + ": iterations");
  }
}

template <class T> void compare_settings(const Size& size, const Kind& kind) {
  const Settings restored;
  const Lasso<T> p(size);
  const double tol = 0.03;
  State<T> fused;
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    const std::string what = text(size, kind) + " " + set + " " + type_name<T> + ": ";
    State<T> wanted = p.begin(kind);
    p.advance(wanted, kind, tol, 60, 1);
    record("proximal_gradient", wanted.x);
    record("proximal_gradient", wanted.gap);
    if (is_fused(set)) {
      if (fused.x.empty()) fused = wanted;
      CHECK(same(fused, wanted), what + "another instruction set");
    }
    for (int threads : {2, 5}) {
      State<T> s = p.begin(kind);
      p.advance(s, kind, tol, 60, threads);
      CHECK(same(s, wanted), what + "threads");
    }
    State<T> s = p.begin(kind);
    for (int block : {20, 10, 30}) p.advance(s, kind, tol, block, 2);
    CHECK(same(s, wanted), what + "blocks");
    if (quick) continue;
    for (double above : {0.0, 2.0}) {
      set_dense_above(above);
      s = p.begin(kind);
      p.advance(s, kind, tol, 60, 1);
      CHECK(same(s, wanted), what + "dense above " + std::to_string(above));
    }
  }
}

std::atomic<int> asked{0};
bool is_enough() { return ++asked >= 3; }

void interrupt(int threads) {
  const Kind& kind = kinds[1];
  Lasso<float> p({6, 9, 30, 1, 1});
  std::fill(p.y.begin(), p.y.begin() + 3 * 9, 0.f);  // some are done at once, and one thread with them
  State<float> s = p.begin(kind);
  asked = 0;
  p.advance(s, kind, 1e-30, int64_t(1) << 60, threads, is_enough);
  CHECK(asked >= 3, "proximal_gradient: ended while it ran");
}

}  // namespace

void test_proximal_gradient() {
  for (const Kind& kind : kinds) {
    for (const Size& size : {Size{3, 1, 1, 1, 1}, {2, 1, 17, 2, 1}, {5, 17, 3, 1, 3}, {4, 9, 66, 4, 66}})
      compare_with_loops(size, kind);
    compare_settings<float>({150, 9, 66, 150, 1}, kind);
    compare_settings<double>({70, 5, 131, 1, 131}, kind);
    if (quick) continue;
    compare_settings<float>({1, 3, 17, 1, 1}, kind);
    compare_settings<double>({66, 20, 7, 66, 7}, kind);
    compare_settings<float>({0, 3, 17, 1, 1}, kind);
  }
  for (int threads : {1, 3}) interrupt(threads);
}

}  // namespace fastunroll::testing
