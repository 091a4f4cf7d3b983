// GLISTA on a tile: a gain before each layer, an overshoot after it.
#pragma once
#include "cpu/adaptive.h"
#include "cpu/exponential.h"

namespace fastunroll::FASTUNROLL_SET {

// G(z), and its derivative.
template <class T> struct GainAt {
  Vector<T> value, slope;
  GainAt(Gate gate, Vector<T> z) {
    if (gate == Gate::relu) {
      const Vector<T> left = 1 - z;
      value = left <= 0 ? Vector<T>{} : left;
      slope = left <= 0 ? Vector<T>{} : broadcast(T(-1));
    } else if (gate == Gate::inverse) {
      value = T(0.2) / (T(0.001) + z);
      slope = -value / (T(0.001) + z);
    } else if (gate == Gate::exponential) {
      value = exp_of_negative<T>(-z);
      slope = -value;
    } else {
      value = sigmoid<T>(-z);
      slope = -value * (1 - value);
    }
  }
};

template <class T> class Glista {
 public:
  // Of a layer and sample: x', 1 where it was shrunk, r = y - A v.
  static int64_t saved_size(const AdaptiveNetwork<T>& net) { return 2 * net.n + net.m; }
  // The place in the saved values of a factor of the gradient of W; learned() is the other factor.
  static int64_t of_weights(const AdaptiveNetwork<T>& net) { return 2 * net.n; }

  Glista(AdaptiveTile<T>& tile, const AdaptiveNetwork<T>& network, Workspace&)
      : t(tile),
        net(network),
        n(network.n),
        x(tile.take(n)),
        v(tile.take(n)),
        z(tile.take(n)),
        r(tile.take(network.m)),
        to_y(tile.take(network.m)),
        theta(tile.take(n).data) {}

  void forward() { t.begin_with_x0(x); }

  void forward_layer(int64_t k) {
    const Layer layer = of(k);
    for (int64_t i = 0; i < t.count; ++i) {
      over_row<T>(n, [&](int64_t c) {
        const Vector<T> value = load(x[i] + c);
        store(v[i] + c, value * (1 + layer.kappa * layer.gain(value).value));
      });
    }
    t.product(t.call.factor(0).forward, v, true, r);
    for (int64_t i = 0; i < t.count; ++i) {
      over_row<T>(net.m, [&](int64_t c) { store(r[i] + c, load_some(t.y(i) + c, net.m - c) - load(r[i] + c)); });
      if (T* saved = t.saved_out(k, i)) memcpy(saved + 2 * n, r[i], size_t(net.m) * sizeof(T));
    }
    t.product(t.call.weights(k).adjoint, r, false, z, v.data);
    const Prox<T> prox{ProxKind::soft, n, 1, net.support_sizes ? net.support_sizes[k] : 0, 1, theta};
    for (int64_t i = 0; i < t.count; ++i) {
      memset(t.selected, 0, size_t(n));
      prox.apply_to_row(z[i], 1, t.magnitudes, t.selected);
      for (int64_t c = 0; c < n; ++c) t.magnitudes[c] = T(1 - t.selected[c]);
      over_row<T>(n, [&](int64_t c) {
        const Vector<T> found = load(z[i] + c), before = load(x[i] + c);
        const Vector<T> far = magnitude<T>(found - before) + T(0.1);
        const Vector<T> o = 1 - layer.a * load(theta + c) * load(t.magnitudes + c) / far;
        store(x[i] + c, o * found + (1 - o) * before);
      });
      if (T* saved = t.saved_out(k, i)) {
        memcpy(saved, z[i], size_t(n) * sizeof(T));
        memcpy(saved + n, t.magnitudes, size_t(n) * sizeof(T));
      }
    }
    t.finish_layer(k, x);
  }

  void backward() {
    for (int64_t i = 0; i < t.count; ++i) memset(to_y[i], 0, size_t(to_y.stride) * sizeof(T));
  }

  void backward_layer(int64_t k) {
    const Layer layer = of(k);
    t.enter(k, x, k + 1 == net.layers);
    for (int64_t i = 0; i < t.count; ++i) through_overshoot(k, i, layer);
    t.product(t.call.weights(k).forward, z, true, r);
    for (int64_t i = 0; i < t.count; ++i) {
      over_row<T>(net.m, [&](int64_t c) { store(to_y[i] + c, load(to_y[i] + c) + load(r[i] + c)); });
      if (T* learned = t.learned(k, i)) memcpy(learned, z[i], size_t(n) * sizeof(T));
    }
    t.product(t.call.factor(0).adjoint, r, false, v);
    for (int64_t i = 0; i < t.count; ++i) through_gain(k, i, layer);
  }

  void finish() {
    t.give(t.call.grad_y, net.m, to_y);
    t.give(t.call.grad_x0, n, x);
  }

 private:
  struct Layer {
    Gate gate;
    T d, kappa, a;
    GainAt<T> gain(Vector<T> x) const { return GainAt<T>(gate, d * magnitude<T>(x)); }
  };

  // The numbers of a layer; spreads its thresholds.
  Layer of(int64_t k) {
    const T* values = t.call.values(k);
    sizes = net.value_count - 3;
    spread(theta, values, sizes, n);
    return {net.gate, values[sizes], values[sizes + 1], values[sizes + 2]};
  }

  // From the gradient of x+, in x, to those of z and, by the overshoot alone, of x.
  void through_overshoot(int64_t k, int64_t i, const Layer& layer) {
    const T *found = t.saved(k, i), *shrunk = found + n, *before = t.iterate(k - 1, i);
    T* const to = t.to_values(k, i);
    T sums[2];
    sums_over_row<2>(n, sums, [&](int64_t c, const auto& add) {
      const Vector<T> now = load_some(found + c, n - c), then = before ? load_some(before + c, n - c) : Vector<T>{};
      const Vector<T> g = load(x[i] + c), was_shrunk = load_some(shrunk + c, n - c), limit = load(theta + c);
      const Vector<T> moved = now - then, far = magnitude<T>(moved) + T(0.1);
      const Vector<T> each = was_shrunk / far, less = layer.a * limit * each, o = 1 - less;
      const Vector<T> to_o = g * moved, of_moved = to_o * less / far * sign_of<T>(moved);
      const Vector<T> to_found = g * o + of_moved;
      const Vector<T> behind = now == 0 ? Vector<T>{} : to_found;
      const Vector<T> to_theta = -to_o * layer.a * each - was_shrunk * (sign_of<T>(now) * behind);
      add(0, -to_o * limit * each);
      add(1, to_theta);
      if (sizes > 1) store_some(to + c, load_some(to + c, n - c) + to_theta, n - c);
      store(z[i] + c, behind);
      store(x[i] + c, g * (1 - o) - of_moved);
    });
    to[sizes + 2] += sums[0];
    if (sizes == 1) to[0] += sums[1];
  }

  // Adds to the gradient of x that which comes through v, whose gradient is z - v.
  void through_gain(int64_t k, int64_t i, const Layer& layer) {
    const T* before = t.iterate(k - 1, i);
    T sums[2];
    sums_over_row<2>(n, sums, [&](int64_t c, const auto& add) {
      const Vector<T> then = before ? load_some(before + c, n - c) : Vector<T>{}, g = load(z[i] + c) - load(v[i] + c);
      const GainAt<T> gain = layer.gain(then);
      const Vector<T> of_gain = g * then * layer.kappa * gain.slope;
      add(0, of_gain * magnitude<T>(then));
      add(1, g * then * gain.value);
      const Vector<T> through = g * (1 + layer.kappa * gain.value) + of_gain * layer.d * sign_of<T>(then);
      store(x[i] + c, load(x[i] + c) + through);
    });
    T* const to = t.to_values(k, i) + sizes;
    to[0] += sums[0];
    to[1] += sums[1];
  }

  AdaptiveTile<T>& t;
  const AdaptiveNetwork<T>& net;
  const int64_t n;
  int64_t sizes = 1;                     // of theta
  const PaddedRows<T> x, v, z, r, to_y;  // backwards: gradients of x, of z and of what A makes of it
  T* const theta;
};

}  // namespace fastunroll::FASTUNROLL_SET
