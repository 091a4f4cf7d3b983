// HyperLISTA on a tile: the residual of each sample determines its thresholds, momentum and support sizes.
#pragma once
#include "cpu/adaptive.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> class Hyperlista {
 public:
  // Of a layer and sample: A^+ r; 1 where z was shrunk, 0 where it selected, NaN where that is not known; |x|_0.
  static int64_t saved_size(const AdaptiveNetwork<T>& net) { return 2 * net.n + 1; }
  // The place in the saved values of a factor of the gradient of W; learned() is the other factor.
  static int64_t of_weights(const AdaptiveNetwork<T>&) { return 0; }

  Hyperlista(AdaptiveTile<T>& tile, const AdaptiveNetwork<T>& network, Workspace& memory)
      : t(tile),
        net(network),
        n(network.n),
        x(tile.take(n)),
        before(tile.take(n)),
        seen(tile.take(n)),
        moved(tile.take(n)),
        r(tile.take(network.m)),
        from_seen(tile.take(network.m)),
        to_y(tile.take(network.m)),
        at_start(memory.take<double>(tile.most)) {}

  void forward() {
    t.begin_with_x0(x);
    t.begin_with_x0(before);
    t.product(pinv().forward, t.all_y(), false, seen);
    for (int64_t i = 0; i < t.count; ++i) at_start[i] = sum_of_magnitudes(seen[i]);
  }

  void forward_layer(int64_t k) {
    t.product(t.call.factor(0).forward, x, true, r);
    for (int64_t i = 0; i < t.count; ++i)
      over_row<T>(net.m, [&](int64_t c) { store(r[i] + c, load(r[i] + c) - load_some(t.y(i) + c, net.m - c)); });
    t.product(pinv().forward, r, false, seen);
    t.product(t.call.factor(1).adjoint, r, false, moved);
    for (int64_t i = 0; i < t.count; ++i) step(k, i);
    t.finish_layer(k, x);
  }

  void backward() {
    for (int64_t i = 0; i < t.count; ++i) {
      memset(to_y[i], 0, size_t(to_y.stride) * sizeof(T));
      memset(before[i], 0, size_t(before.stride) * sizeof(T));
    }
  }

  void backward_layer(int64_t k) {
    t.enter(k, x, k + 1 == net.layers);
    for (int64_t i = 0; i < t.count; ++i) through_step(k, i);
    t.product(t.call.factor(1).forward, moved, true, r);
    t.product(pinv().adjoint, seen, false, from_seen);
    for (int64_t i = 0; i < t.count; ++i) {
      over_row<T>(net.m, [&](int64_t c) {
        const Vector<T> g = load(from_seen[i] + c) - load(r[i] + c);
        store(r[i] + c, g);
        store(to_y[i] + c, load(to_y[i] + c) - g);
      });
    }
    t.product(t.call.factor(0).adjoint, r, false, x, x.data);
  }

  void finish() {
    for (int64_t i = 0; i < t.count; ++i)
      over_row<T>(n, [&](int64_t c) { store(x[i] + c, load(x[i] + c) + load(before[i] + c)); });
    t.give(t.call.grad_y, net.m, to_y);
    t.give(t.call.grad_x0, n, x);
  }

 private:
  const AdaptiveFactors<T>& pinv() const { return t.call.factor(2); }

  // In double precision, where a sum of large numbers does not overflow.
  double sum_of_magnitudes(const T* row) const {
    double part[row_chains] = {}, sum = 0;
    for (int64_t c = 0; c < n; c += row_chains)
      for (int64_t j = 0; j < row_chains && c + j < n; ++j) part[j] += __builtin_fabs(double(row[c + j]));
    for (double p : part) sum += p;
    return sum;
  }

  // How many pass; NaN if that is not known.
  T support_size(double c3, double gained) const {
    const double bounded = gained != gained ? 0 : clamp(gained, -__DBL_MAX__, __DBL_MAX__);
    return T(__builtin_floor(clamp(c3 * bounded, 0.0, double(n))));
  }

  // From moved = W^T r and seen = A^+ r to x+.
  void step(int64_t k, int64_t i) {
    const T* c = t.call.values(k);
    const double error = sum_of_magnitudes(seen[i]);
    const T theta = T(c[0] * error);
    const T nonzeros =
        sum_over_row<T>(n, [&](int64_t j) { return load(x[i] + j) == 0 ? Vector<T>{} : broadcast(T(1)); });
    const T momentum = c[1] * nonzeros;
    const T count = support_size(c[2], __builtin_log(at_start[i] / error));
    over_row<T>(n, [&](int64_t j) {
      const Vector<T> now = load(x[i] + j), z = now - load(moved[i] + j) + momentum * (now - load(before[i] + j));
      store(before[i] + j, now);
      store(moved[i] + j, z);
      store(t.magnitudes + j, magnitude<T>(z));
    });
    for (int64_t j = n; j % lanes<T>; ++j) t.magnitudes[j] = -1;
    const bool known = count == count;
    const Largest<T> chosen = known && count > 0 ? largest(t.magnitudes, n, int64_t(count)) : Largest<T>{};
    for (int64_t j = 0; j < n; ++j) {
      Largest<T> equals = chosen;  // all that equal the least that passes pass too
      const bool passes = known && count > 0 && equals.take(t.magnitudes[j]) && t.magnitudes[j] > theta;
      t.magnitudes[j] = known ? T(!passes) : count;
    }
    over_row<T>(n, [&](int64_t j) {
      const Vector<T> z = load(moved[i] + j), shrunk = load(t.magnitudes + j);
      const Vector<T> soft = shrink<T>(z, broadcast(theta));
      store(x[i] + j, shrunk == 0 ? z : shrunk == 1 ? soft : shrunk);
    });
    if (T* saved = t.saved_out(k, i)) {
      memcpy(saved, seen[i], size_t(n) * sizeof(T));
      memcpy(saved + n, t.magnitudes, size_t(n) * sizeof(T));
      saved[2 * n] = nonzeros;
    }
  }

  // From the gradient of x+, in x, to those of z, in moved, and of A^+ r, in seen. `before` has, when a layer begins,
  // the gradient of the iterate before that the layer above left, and then the layer's own.
  void through_step(int64_t k, int64_t i) {
    const T *saved = t.saved(k, i), *shrunk = saved + n, *out = t.iterate(k, i), *c = t.call.values(k);
    const T *now = t.iterate(k - 1, i), *then = k ? t.iterate(k - 2, i) : now;
    const T nonzeros = saved[2 * n], momentum = c[1] * nonzeros;
    T sums[2];
    sums_over_row<2>(n, sums, [&](int64_t j, const auto& add) {
      const Vector<T> x_out = load_some(out + j, n - j), was_shrunk = load_some(shrunk + j, n - j);
      const Vector<T> behind = x_out == 0 || was_shrunk != was_shrunk ? Vector<T>{} : load(x[i] + j);
      const Vector<T> a = now ? load_some(now + j, n - j) : Vector<T>{};
      const Vector<T> b = then ? load_some(then + j, n - j) : Vector<T>{};
      add(0, was_shrunk == 1 ? -sign_of<T>(x_out) * behind : Vector<T>{});
      add(1, behind * (a - b));
      store(moved[i] + j, behind);
      store(x[i] + j, behind * (1 + momentum) + load(before[i] + j));
      store(before[i] + j, -momentum * behind);
    });
    T* const to = t.to_values(k, i);
    to[0] += T(sums[0] * sum_of_magnitudes(saved));
    to[1] += sums[1] * nonzeros;
    over_row<T>(n, [&](int64_t j) { store(seen[i] + j, sums[0] * c[0] * sign_of<T>(load_some(saved + j, n - j))); });
  }

  AdaptiveTile<T>& t;
  const AdaptiveNetwork<T>& net;
  const int64_t n;
  const PaddedRows<T> x, before, seen, moved, r, from_seen, to_y;  // backwards: their gradients
  double* const at_start;
};

}  // namespace fastunroll::FASTUNROLL_SET
