// What fastunroll.h says a network computes, in the most obvious way.
#include <algorithm>
#include <cmath>

#include "problem.h"

namespace fastunroll::testing {
namespace {

// x+ = gain P(z) for one sample.
template <class T> Array<double> prox(const Problem<T>& p, int64_t k, const Array<double>& z, double scale) {
  const Parameter<T>&theta = p.given.parameters[3], &gain = p.given.parameters[4];
  const double factor = gain.at(k, k, 1);
  Array<double> x = z;
  if (p.form.prox_kind == ProxKind::identity) {
    for (double& value : x) value *= factor;
    return x;
  }
  const int64_t group = p.form.group, count = p.size.n / group;
  Array<double> sizes(static_cast<size_t>(count));
  std::vector<int64_t> order;
  for (int64_t g = 0; g < count; ++g) {
    double sum = 0;
    for (int64_t i = g * group; i < (g + 1) * group; ++i) sum += z[i] * z[i];
    sizes[g] = p.form.prox_kind == ProxKind::nonnegative ? std::max(z[g], 0.0) : std::sqrt(sum);
    order.push_back(g);
  }
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return sizes[a] > sizes[b]; });
  for (int64_t place = 0; place < count; ++place) {
    const int64_t g = order[place];
    double limit = theta.at(k, g, 0) * scale;
    if (p.form.selects) limit = std::max(limit, 0.0);
    const bool passes = p.form.selects && place < p.support_sizes[k],
               signless = p.form.prox_kind == ProxKind::nonnegative;
    const bool zero = signless ? z[g] <= limit : sizes[g] <= std::max(limit, 0.0);
    for (int64_t i = g * group; i < (g + 1) * group; ++i) {
      const double shrunk = signless ? z[i] - limit : z[i] * (sizes[g] - limit) / sizes[g];
      x[i] = zero ? 0 : factor * (passes ? z[i] : shrunk);
    }
  }
  return x;
}

}  // namespace

template <class T> Reference reference(const Problem<T>& p) {
  const auto [m, n, layers, batch] = p.size;
  const auto& [first, second, step, theta, gain, beta] = p.given.parameters;
  const Parameter<T>& last = second.arrays.empty() ? first : second;
  const auto w = [&](int64_t k, int64_t j, int64_t i) {
    return p.form.linear == LinearStep::gram ? double(i == j) : last.at(k, j * p.size.n + i, 0);
  };
  const Scheme state = p.form.scheme;
  const int64_t state_size = state == Scheme::proximal_gradient ? 0 : state == Scheme::amp ? m : n;
  Reference out{Array<double>(size_t(layers * batch * n)), Array<double>(size_t(batch * state_size))};
  for (int64_t b = 0; b < batch; ++b) {
    const T* y = p.given.y.data() + b * m;
    Array<double> x(static_cast<size_t>(n)), s(static_cast<size_t>(state_size)), v, z(x), r(static_cast<size_t>(m));
    for (int64_t i = 0; i < n && !p.given.x0.empty(); ++i) x[i] = p.given.x0[b * n + i];
    if (state == Scheme::fista) s = x;
    for (int64_t i = 0; i < state_size && !p.given.s0.empty(); ++i) s[i] = p.given.s0[b * state_size + i];
    for (int64_t k = 0; k < layers; ++k) {
      const double mix = beta.at(k, k, 0);
      v = x;
      for (int64_t i = 0; i < n && state == Scheme::fista; ++i) v[i] += mix * (x[i] - s[i]);
      for (int64_t i = 0; i < n && state == Scheme::admm; ++i) v[i] -= s[i];
      double scale = 1;
      if (p.form.linear != LinearStep::affine) {
        double squares = 0;
        for (int64_t j = 0; j < m; ++j) {
          r[j] = y[j] + (state == Scheme::amp ? s[j] : 0);
          for (int64_t i = 0; i < n; ++i) r[j] -= first.at(k, j * n + i, 0) * v[i];
          squares += r[j] * r[j];
        }
        if (state == Scheme::amp) scale = std::sqrt(squares / double(m));
        z = v;
        for (int64_t j = 0; j < m; ++j)
          for (int64_t i = 0; i < n; ++i) z[i] += w(k, j, i) * step.at(k, j, 1) * r[j];
      } else {
        for (int64_t i = 0; i < n; ++i) {
          z[i] = 0;
          for (int64_t j = 0; j < m; ++j) z[i] += first.at(k, i * m + j, 0) * y[j];
          for (int64_t j = 0; j < n; ++j) z[i] += second.at(k, i * n + j, 0) * v[j];
        }
      }
      const Array<double> before = x;
      v = z;
      for (int64_t i = 0; i < n && state == Scheme::admm; ++i) v[i] += s[i];
      x = prox(p, k, v, scale);
      if (state == Scheme::fista) s = before;
      for (int64_t i = 0; i < n && state == Scheme::admm; ++i) s[i] += mix * (z[i] - x[i]);
      if (state == Scheme::amp) {
        const double nonzeros = double(n - std::count(x.begin(), x.end(), 0.0));
        for (int64_t j = 0; j < m; ++j) s[j] = gain.at(k, k, 1) * nonzeros / double(m) * r[j];
      }
      std::copy(x.begin(), x.end(), out.x.begin() + (k * batch + b) * n);
    }
    std::copy(s.begin(), s.end(), out.s.begin() + b * state_size);
  }
  return out;
}

template Reference reference(const Problem<float>&);
template Reference reference(const Problem<double>&);

}  // namespace fastunroll::testing
