// LAMP and LVAMP on a tile: message passing that estimates the noise from each sample.
#pragma once
#include "cpu/estimate.h"

namespace fastunroll::FASTUNROLL_SET {

constexpr double least_variance = 1e-9, most_variance = 1e9;

template <class T> class Lamp {
 public:
  // Of a layer and sample: v; r; the mean of v^2, and the sum of eta'.
  static int64_t saved_size(const AdaptiveNetwork<T>& net) { return net.m + net.n + 2; }
  // The place in the saved values of a factor of the gradient of W; learned() is the other factor.
  static int64_t of_weights(const AdaptiveNetwork<T>&) { return 0; }

  Lamp(AdaptiveTile<T>& tile, const AdaptiveNetwork<T>& network, Workspace&)
      : t(tile),
        net(network),
        m(network.m),
        n(network.n),
        x(tile.take(n)),
        r(tile.take(n)),
        v(tile.take(m)),
        seen(tile.take(m)),
        to_y(tile.take(m)),
        slopes(tile.numbers()) {}

  void forward() {
    t.begin_with_x0(x);
    for (int64_t i = 0; i < t.count; ++i) slopes[i] = 0, memset(v[i], 0, size_t(v.stride) * sizeof(T));
    next_residual();
  }

  void forward_layer(int64_t k) {
    t.product(t.call.weights(k).adjoint, v, false, r, x.data);
    for (int64_t i = 0; i < t.count; ++i) {
      const T mean = mean_square(v[i]);
      slopes[i] = estimate(k, mean).apply(r[i], x[i]);
      if (T* saved = t.saved_out(k, i)) {
        memcpy(saved, v[i], size_t(m) * sizeof(T));
        memcpy(saved + m, r[i], size_t(n) * sizeof(T));
        saved[m + n] = mean, saved[m + n + 1] = slopes[i];
      }
    }
    t.finish_layer(k, x);
    if (k + 1 < net.layers) next_residual();
  }

  void backward() {
    for (int64_t i = 0; i < t.count; ++i) {
      memset(to_y[i], 0, size_t(to_y.stride) * sizeof(T));
      memset(v[i], 0, size_t(v.stride) * sizeof(T));
    }
  }

  // x and v hold the gradients of the results of layer k.
  void backward_layer(int64_t k) {
    const bool top = k + 1 == net.layers;
    t.enter(k, x, top);
    if (!top) through_residual();
    for (int64_t i = 0; i < t.count; ++i) {
      const T *saved = t.saved(k, i), mean = saved[m + n], share = saved[m + n + 1] / T(m);
      const T to_share =
          top ? T(0) : sum_over_row<T>(m, [&](int64_t c) { return load(v[i] + c) * load_some(saved + c, m - c); });
      const T to_variance = estimate(k, mean).gradient(saved + m, to_share / T(m), x[i], t.to_values(k, i));
      const T to_square = mean >= T(least_variance) ? to_variance * 2 / T(m) : 0;
      over_row<T>(
          m, [&](int64_t c) { store(v[i] + c, share * load(v[i] + c) + to_square * load_some(saved + c, m - c)); });
      if (T* learned = t.learned(k, i)) memcpy(learned, x[i], size_t(n) * sizeof(T));
    }
    t.product(t.call.weights(k).forward, x, false, v, v.data);
  }

  void finish() {
    through_residual();
    t.give(t.call.grad_y, m, to_y);
    t.give(t.call.grad_x0, n, x);
  }

 private:
  Estimate<T> estimate(int64_t k, T mean) const {
    const T variance = mean < T(least_variance) ? T(least_variance) : mean;
    return Estimate<T>(net.prox == AdaptiveProx::soft, n, t.call.values(k), variance);
  }

  T mean_square(const T* row) const {
    return sum_over_row<T>(m, [&](int64_t c) { return load(row + c) * load(row + c); }) / T(m);
  }

  // v+ = y - A x + slopes / m v
  void next_residual() {
    t.product(t.call.factor(0).forward, x, true, seen);
    for (int64_t i = 0; i < t.count; ++i) {
      const T share = slopes[i] / T(m);
      over_row<T>(m, [&](int64_t c) {
        store(v[i] + c, load_some(t.y(i) + c, m - c) - load(seen[i] + c) + share * load(v[i] + c));
      });
    }
  }

  // From the gradient of v+ to those of y and, added, of x.
  void through_residual() {
    for (int64_t i = 0; i < t.count; ++i) {
      over_row<T>(m, [&](int64_t c) {
        store(to_y[i] + c, load(to_y[i] + c) + load(v[i] + c));
        store(seen[i] + c, -load(v[i] + c));
      });
    }
    t.product(t.call.factor(0).adjoint, seen, false, x, x.data);
  }

  AdaptiveTile<T>& t;
  const AdaptiveNetwork<T>& net;
  const int64_t m, n;
  const PaddedRows<T> x, r, v, seen, to_y;
  T* const slopes;
};

// With A = U diag(s) V^T, from r2 = x0 and v2 = |y|^2 / |s|^2:
//
//   c = s v2 / (s^2 v2 + noise), share = sum of s c / n
//   r1 = r2 + V (c (U^T y - s V^T r2)) / share, v1 = v2 (1 - share) / share
//   x = eta(r1; v1), alpha = mean eta'
//   r2 = (x - alpha r1) / (1 - alpha), v2 = v1 alpha / (1 - alpha)
template <class T> class Lvamp {
 public:
  // Of a layer and sample: r1; d = U^T y - s V^T r2; v2; the share, not yet bounded; v1; alpha, not yet bounded.
  static int64_t saved_size(const AdaptiveNetwork<T>& net) { return net.n + net.matrices[0].rows + 4; }
  static int64_t of_weights(const AdaptiveNetwork<T>&) { return 0; }

  Lvamp(AdaptiveTile<T>& tile, const AdaptiveNetwork<T>& network, Workspace&)
      : t(tile),
        net(network),
        m(network.m),
        n(network.n),
        rank(network.matrices[0].rows),
        s(network.matrices[2].source),
        least(T(0.5) / T(n)),
        x(tile.take(n)),
        r1(tile.take(n)),
        r2(tile.take(n)),
        seen(tile.take(rank)),
        d(tile.take(rank)),
        to_y(tile.take(m)),
        v2(tile.numbers()) {
    power = sum_over_row<T>(rank, [&](int64_t c) { return square(load_some(s + c, rank - c)); });
  }

  void forward() {
    t.begin_with_x0(r2);
    t.product(t.call.factor(0).forward, t.all_y(), false, seen);
    for (int64_t i = 0; i < t.count; ++i) v2[i] = start(i);
  }

  void forward_layer(int64_t k) {
    const T noise = t.call.values(k)[0];
    t.product(t.call.factor(1).forward, r2, false, d);
    for (int64_t i = 0; i < t.count; ++i) {
      over_row<T>(rank,
                  [&](int64_t c) { store(d[i] + c, load(seen[i] + c) - load_some(s + c, rank - c) * load(d[i] + c)); });
      const T share = share_of(v2[i], noise), bounded = clamp(share, least, 1 - least);
      if (T* saved = t.saved_out(k, i)) {
        memcpy(saved + n, d[i], size_t(rank) * sizeof(T));
        saved[n + rank] = v2[i], saved[n + rank + 1] = share;
      }
      over_row<T>(rank, [&](int64_t c) { store(d[i] + c, gain(c, v2[i], noise) * load(d[i] + c) / bounded); });
      v2[i] = bounded_variance(v2[i] * (1 - bounded) / bounded);  // v1
    }
    t.product(t.call.factor(1).adjoint, d, false, r1, r2.data);
    for (int64_t i = 0; i < t.count; ++i) {
      const T v1 = v2[i], mean = estimate(k, v1).apply(r1[i], x[i]) / T(n);
      const T alpha = clamp(mean, least, 1 - least);
      if (T* saved = t.saved_out(k, i)) {
        memcpy(saved, r1[i], size_t(n) * sizeof(T));
        saved[n + rank + 2] = v1, saved[n + rank + 3] = mean;
      }
      over_row<T>(n, [&](int64_t c) { store(r2[i] + c, (load(x[i] + c) - alpha * load(r1[i] + c)) / (1 - alpha)); });
      v2[i] = bounded_variance(v1 * alpha / (1 - alpha));
    }
    t.finish_layer(k, x);
  }

  void backward() {
    for (int64_t i = 0; i < t.count; ++i) {
      v2[i] = 0;
      memset(seen[i], 0, size_t(seen.stride) * sizeof(T));
      memset(r2[i], 0, size_t(r2.stride) * sizeof(T));
    }
  }

  // r2 and v2 hold the gradients of the results of layer k.
  void backward_layer(int64_t k) {
    t.enter(k, x, true);
    for (int64_t i = 0; i < t.count; ++i) through_estimate(k, i);
    t.product(t.call.factor(1).forward, r1, false, d);
    for (int64_t i = 0; i < t.count; ++i) through_gains(k, i);
    t.product(t.call.factor(1).adjoint, d, false, r2, r1.data);
  }

  void finish() {
    t.product(t.call.factor(0).adjoint, seen, false, to_y);
    for (int64_t i = 0; i < t.count; ++i) {
      const T raw = energy(i) / power, to_energy = is_bounded(raw) ? 2 * v2[i] / power : 0;
      over_row<T>(m,
                  [&](int64_t c) { store(to_y[i] + c, load(to_y[i] + c) + to_energy * load_some(t.y(i) + c, m - c)); });
    }
    t.give(t.call.grad_y, m, to_y);
    t.give(t.call.grad_x0, n, r2);
  }

 private:
  static Vector<T> square(Vector<T> x) { return x * x; }
  static T bounded_variance(T v) { return clamp(v, T(least_variance), T(most_variance)); }
  static bool is_bounded(T v) { return is_within(v, T(least_variance), T(most_variance)); }

  Estimate<T> estimate(int64_t k, T v1) const { return {net.prox == AdaptiveProx::soft, n, t.call.values(k) + 1, v1}; }
  T energy(int64_t i) const {
    return sum_over_row<T>(m, [&](int64_t c) { return square(load_some(t.y(i) + c, m - c)); });
  }
  T start(int64_t i) const { return bounded_variance(energy(i) / power); }
  Vector<T> gain(int64_t c, T v, T noise) const {
    const Vector<T> values = load_some(s + c, rank - c);
    return values * v / (values * values * v + noise);
  }
  T share_of(T v, T noise) const {
    return sum_over_row<T>(rank, [&](int64_t c) { return load_some(s + c, rank - c) * gain(c, v, noise); }) / T(n);
  }

  // To the gradients of r1, in r1, and of v1, in v2.
  void through_estimate(int64_t k, int64_t i) {
    const T *saved = t.saved(k, i), v1 = saved[n + rank + 2], mean = saved[n + rank + 3];
    const T alpha = clamp(mean, least, 1 - least), rest = 1 - alpha;
    const T raw = v1 * alpha / rest, to_raw = is_bounded(raw) ? v2[i] : 0;
    const T moved = sum_over_row<T>(n, [&](int64_t c) {
      const Vector<T> now = load_some(t.iterate(k, i) + c, n - c), r = load_some(saved + c, n - c);
      return load(r2[i] + c) * (now - r);
    });
    const T to_alpha = (moved + to_raw * v1) / (rest * rest);
    over_row<T>(n, [&](int64_t c) { store(x[i] + c, load(x[i] + c) + load(r2[i] + c) / rest); });
    const T of_slope = is_within(mean, least, 1 - least) ? to_alpha / T(n) : 0;
    const T to_v1 = estimate(k, v1).gradient(saved, of_slope, x[i], t.to_values(k, i) + 1);
    over_row<T>(n, [&](int64_t c) { store(r1[i] + c, load(x[i] + c) - alpha / rest * load(r2[i] + c)); });
    v2[i] = to_raw * alpha / rest + to_v1;
  }

  // d has the gradient of c d / share, v2 that of v1; to those of s V^T r2, in d, and of v2.
  void through_gains(int64_t k, int64_t i) {
    const T noise = t.call.values(k)[0];
    const T *saved = t.saved(k, i) + n, v = saved[rank], raw_share = saved[rank + 1];
    const T share = clamp(raw_share, least, 1 - least), raw = v * (1 - share) / share;
    const T to_raw = is_bounded(raw) ? v2[i] : 0;
    const T along = sum_over_row<T>(
        rank, [&](int64_t c) { return load(d[i] + c) * gain(c, v, noise) * load_some(saved + c, rank - c); });
    const T to_share = -(along + to_raw * v) / (share * share);
    const T to_gain = is_within(raw_share, least, 1 - least) ? to_share / T(n) : 0;
    T sums[2];
    sums_over_row<2>(rank, sums, [&](int64_t c, const auto& add) {
      const Vector<T> values = load_some(s + c, rank - c), scale = values * values * v + noise;
      const Vector<T> g = load(d[i] + c);
      const Vector<T> each = (g * load_some(saved + c, rank - c) / share + to_gain * values) * values / (scale * scale);
      add(0, each * noise);
      add(1, -each * v);
      const Vector<T> to_seen = g * gain(c, v, noise) / share;
      store(seen[i] + c, load(seen[i] + c) + to_seen);
      store(d[i] + c, -values * to_seen);
    });
    v2[i] = to_raw * (1 - share) / share + sums[0];
    t.to_values(k, i)[0] += sums[1];
  }

  AdaptiveTile<T>& t;
  const AdaptiveNetwork<T>& net;
  const int64_t m, n, rank;
  const T* const s;
  const T least;
  T power;
  const PaddedRows<T> x, r1, r2, seen, d, to_y;
  T* const v2;  // of each sample, and v1 in turn
};

}  // namespace fastunroll::FASTUNROLL_SET
