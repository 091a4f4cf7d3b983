// The gradient of layer_end.h, from the last layer to the first: what lies between the products.
//
// x+ says what the prox did: where it is zero nothing passes, and the largest of it passed unshrunk. Gradients of small
// parameters are left as a number, or a row, for each sample, to be summed over samples in one order.
#pragma once
#include "cuda/layer_end.h"

namespace fastunroll::cuda {

// From the gradient of a layer's output, and what the layer above found for its own input, to that of z.
template <class T> struct ThroughProx {
  static constexpr int threads = 128, cluster = 1;

  struct Arguments {
    Layer<T> layer;
    const T* entering;  // (batch, n): the gradient that the caller gives for x+
    const T* above;     // (batch, n): that of the input v of the layer above
    const T* bent;      // momentum: the blend of the layer above
    const T* x;         // (batch, n): x+
    const T* before;    // momentum: x of this layer, for the blend of the layer above
    const T* residual;  // Onsager, (batch, m)
    const T* moved;     // splitting: z - x+, rows of 2 n
    T* g_s;           // the gradient of s+, which becomes that of s where s is not r's: (batch, n), Onsager (batch, m)
    T* g;             // (batch, n): the gradient of z
    T* to_theta;      // (batch, theta_size)
    T* to_gain;       // (batch): times the gain
    T* to_blend;      // (batch): splitting, for this layer
    T* to_bent;       // (batch): momentum, for the layer above
    T *share, *pull;  // (batch): Onsager, what of s+ and of r the gradient of r gets
  };

  static size_t shared_size(const Layer<T>& layer) { return EndLayer<T>::shared_size(layer); }

  FASTUNROLL_DEVICE static void run(const Arguments& p) { ThroughProx(p).row_through(); }

 private:
  static constexpr size_t scratch_size = threads / warp_size * sizeof(double);

  const Arguments& p;
  const Layer<T>& layer = p.layer;
  size_t row = size_t(block());
  T gain = layer.gain ? *layer.gain : T(1);
  T to_theta = 0, to_gain = 0, to_blend = 0, to_bent = 0;
  T of_scale = 0;  // Onsager: the gradient of theta's scale
  T scale = 1;
  int nonzeros = 0;

  FASTUNROLL_DEVICE explicit ThroughProx(const Arguments& arguments) : p(arguments) {}

  template <class U> FASTUNROLL_DEVICE U* scratch() const { return reinterpret_cast<U*>(shared()); }
  FASTUNROLL_DEVICE size_t at(int c) const { return row * size_t(layer.n) + size_t(c); }
  FASTUNROLL_DEVICE T sum(T value) const { return sum_over_block<threads>(value, scratch<T>()); }

  // The gradient of x+ at a column. What the layer above did to its input is undone on the way.
  FASTUNROLL_DEVICE T gradient_of_output(int c) {
    const size_t i = at(c);
    T g = p.entering ? p.entering[i] : T(0);
    if (p.above) {
      const T of_input = p.above[i];
      if (layer.state == State::momentum) {  // v = x + b (x - s), where s is x before
        const T step = p.before ? p.x[i] - p.before[i] : p.x[i], back = *p.bent * of_input;
        to_bent = fused_multiply_add(of_input, step, to_bent);
        g += of_input + back + p.g_s[i];
        p.g_s[i] = -back;
      } else {
        g += of_input;
        if (layer.state == State::splitting) p.g_s[i] -= of_input;  // v = x - s
      }
    }
    return layer.state == State::splitting ? g - *layer.blend * p.g_s[i] : g;
  }

  // The gradient of z, from that behind the prox.
  FASTUNROLL_DEVICE void put(int c, T g) {
    const size_t i = at(c);
    if (layer.state == State::splitting) {  // s+ = s + b (z - x+), and x+ sees z + s
      const T of_state = p.g_s[i];
      to_blend = fused_multiply_add(of_state, p.moved[row * 2 * size_t(layer.n) + size_t(c)], to_blend);
      p.g_s[i] = g + of_state;
      g = fused_multiply_add(*layer.blend, of_state, g);
    }
    p.g[i] = g;
  }

  FASTUNROLL_DEVICE void put_theta(int g, T along) {
    if (layer.theta_size > 1) {
      if (p.to_theta) p.to_theta[row * size_t(layer.theta_size) + size_t(g)] = -along * scale;
    } else {
      to_theta -= along * scale;
    }
    if (layer.state == State::onsager) of_scale -= along * layer.theta[layer.theta_size == 1 ? 0 : g];
  }

  FASTUNROLL_DEVICE T size_of_group(int g) const {
    T sum = 0;
    for (int c = g * layer.group; c < (g + 1) * layer.group; ++c) sum = fused_multiply_add(p.x[at(c)], p.x[at(c)], sum);
    return layer.group == 1 ? magnitude(p.x[at(g)]) : square_root(sum);
  }

  // Behind a group of norm r = |x| / gain + theta, with u = x / |x|: (1 - theta / r) g + (theta / r) <u, g> u.
  FASTUNROLL_DEVICE void group_through(int group, bool passed) {
    const T size = size_of_group(group);
    const int first = group * layer.group, last = first + layer.group;
    T along = 0;
    for (int c = first; c < last; ++c) {
      const T x = p.x[at(c)];
      T g = gradient_of_output(c);
      to_gain = fused_multiply_add(g, x, to_gain);
      nonzeros += x != 0;
      g = size == 0 ? T(0) : g * gain;
      along += size == 0 ? T(0) : g * (x / size);
      p.g[at(c)] = g;
    }
    const bool shrank = !passed && size != 0;
    const bool clamped = layer.passing && layer.theta[layer.theta_size == 1 ? 0 : group] < 0;
    put_theta(group, shrank && !clamped ? along : T(0));
    const T limit = shrank && layer.group > 1 ? layer.threshold(group, scale) : T(0);
    const T share = limit == 0 ? T(0) : limit / (size / gain + limit);
    for (int c = first; c < last; ++c) {
      const T g = p.g[at(c)];
      put(c, share == 0 ? g : (1 - share) * g + share * along * (p.x[at(c)] / size));
    }
  }

  FASTUNROLL_DEVICE void element_through(int c) {
    const T x = p.x[at(c)];
    T g = gradient_of_output(c);
    to_gain = fused_multiply_add(g, x, to_gain);
    nonzeros += x != 0;
    g *= gain;
    if (layer.shrinkage != Shrinkage::none) {
      if (x == 0) g = 0;
      put_theta(c, layer.shrinkage == Shrinkage::soft && x < 0 ? -g : g);
    }
    put(c, g);
  }

  FASTUNROLL_DEVICE void finish_onsager() {
    T dot = 0;
    for (int c = thread(); c < layer.m; c += threads) {
      const size_t i = row * size_t(layer.m) + size_t(c);
      dot = fused_multiply_add(p.g_s[i], p.residual[i], dot);
    }
    const T share = gain * T(sum_over_block<threads>(nonzeros, scratch<int>())) / T(layer.m);
    const T scale_gradient = sum(of_scale), aligned = sum(dot);
    if (thread() != 0) return;
    p.share[row] = share;
    p.pull[row] = scale == 0 ? T(0) : scale_gradient / (T(layer.m) * scale);
    to_gain = fused_multiply_add(share, aligned, to_gain);
  }

  FASTUNROLL_DEVICE void row_through() {
    if (layer.state == State::onsager) {
      T squares = 0;
      for (int c = thread(); c < layer.m; c += threads) {
        const T r = p.residual[row * size_t(layer.m) + size_t(c)];
        squares = fused_multiply_add(r, r, squares);
      }
      scale = square_root(sum(squares) / T(layer.m));
    }
    const int groups = layer.n / layer.group;
    if (layer.group == 1 && layer.passing == 0) {
      for (int c = thread(); c < layer.n; c += threads) element_through(c);
    } else if (layer.passing == 0) {
      for (int g = thread(); g < groups; g += threads) group_through(g, false);
    } else {
      T* const sizes = reinterpret_cast<T*>(shared() + scratch_size);
      for (int g = thread(); g < groups; g += threads) sizes[g] = size_of_group(g);
      sync_block();
      const Largest<T> chosen = largest<threads>(sizes, groups, layer.passing, scratch<int>());
      for (int g = thread(); g < groups; g += threads) group_through(g, chosen.takes(sizes[g], g));
    }
    if (layer.state == State::onsager) finish_onsager();
    const auto put_sum = [&](T* out, T value) {
      const T total = sum(value);
      if (out && thread() == 0) out[row] = total;
    };
    if (layer.theta_size == 1) put_sum(p.to_theta, to_theta);
    put_sum(p.to_gain, to_gain);
    put_sum(p.to_blend, to_blend);
    put_sum(p.to_bent, to_bent);
  }
};

// Coupled: z = v + W^T (t r) with r = y - A v [+ s]. From h = W g to the gradient of r, which is also that of y, and
// minus that of A v.
template <class T> struct ThroughResidual {
  static constexpr int threads = 128, cluster = 1;

  struct Arguments {
    int m;
    const T* h;         // (batch, m)
    const T* residual;  // (batch, m)
    const T* step;      // 1 or m values
    int step_size;
    const T *share, *pull;  // (batch): Onsager
    T* g_s;                 // (batch, m): Onsager
    T* g_y;                 // (batch, m), added to
    T* minus;               // (batch, m)
    T* scaled;              // (batch, m): t r
    T* to_step;             // (batch, step_size)
  };

  FASTUNROLL_DEVICE static void run(const Arguments& p) {
    const size_t row = size_t(block());
    T to_step = 0;
    for (int c = thread(); c < p.m; c += threads) {
      const size_t i = row * size_t(p.m) + size_t(c);
      const T r = p.residual ? p.residual[i] : T(0), t = p.step ? p.step[p.step_size == 1 ? 0 : c] : T(1);
      T h = p.h[i];
      if (p.to_step && p.step_size > 1)
        p.to_step[i] = h * r;
      else
        to_step = fused_multiply_add(h, r, to_step);
      h *= t;
      if (p.g_s) {
        h = fused_multiply_add(p.share[row], p.g_s[i], h);
        h = fused_multiply_add(p.pull[row], r, h);
        p.g_s[i] = h;
      }
      if (p.g_y) p.g_y[i] += h;
      p.minus[i] = -h;
      if (p.scaled) p.scaled[i] = t * r;
    }
    to_step = sum_over_block<threads>(to_step, reinterpret_cast<T*>(shared()));
    if (p.to_step && p.step_size == 1 && thread() == 0) p.to_step[row] = to_step;
  }
};

}  // namespace fastunroll::cuda
