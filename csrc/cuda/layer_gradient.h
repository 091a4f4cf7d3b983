// The gradient of layer_end.h, from the last layer to the first: what lies between the products.
//
// Where x+ is zero no gradient passes; what support selection let pass is on record. Gradients of small
// parameters are left as a number, or a row, for each sample, to be summed over samples in one order.
#pragma once
#include "cuda/layer_row.h"

namespace fastunroll::cuda {

template <class T> class ThroughProx : LayerRow<T> {
  using Row = LayerRow<T>;

 public:
  using Value = typename Row::Value;
  using Arguments = ProxGradient<T>;
  using Row::cluster;
  using Row::threads;
  static constexpr size_t shared_size = Row::scratch_size;

  FASTUNROLL_DEVICE static void run(const Arguments& p) { ThroughProx(p).row_through(); }

 private:
  using Row::at;
  using Row::at_residual;
  using Row::gain;
  using Row::layer;
  using Row::row;
  using Row::sum;

  const Arguments& p;
  Value to_theta = 0, to_gain = 0, to_blend = 0, to_bent = 0;
  Value of_scale = 0;  // Onsager: the gradient of theta's scale
  Value scale = 1;
  int nonzeros = 0;

  FASTUNROLL_DEVICE explicit ThroughProx(const Arguments& arguments) : Row(arguments.layer), p(arguments) {}

  FASTUNROLL_DEVICE Value x_of(int c) const { return value_of(p.x[at(c)]); }

  // The gradient of x+ at a column. What the layer above did to its input is undone on the way.
  FASTUNROLL_DEVICE Value gradient_of_output(int c) {
    const size_t i = at(c);
    Value g = p.entering ? value_of(p.entering[i]) : Value(0);
    if (p.above) {
      const Value of_input = value_of(p.above[i]);
      if (layer.state == State::momentum) {  // v = x + b (x - s), where s is x before
        const Value step = p.before ? x_of(c) - value_of(p.before[i]) : x_of(c), back = value_of(*p.bent) * of_input;
        to_bent = fused_multiply_add(of_input, step, to_bent);
        g += of_input + back + value_of(p.g_s[i]);
        p.g_s[i] = rounded<T>(-back);
      } else {
        g += of_input;
        if (layer.state == State::splitting) p.g_s[i] = rounded<T>(value_of(p.g_s[i]) - of_input);  // v = x - s
      }
    }
    return layer.state == State::splitting ? g - value_of(*layer.blend) * value_of(p.g_s[i]) : g;
  }

  // The gradient of z, from that behind the prox.
  FASTUNROLL_DEVICE void put(int c, Value g) {
    const size_t i = at(c);
    if (layer.state == State::splitting) {  // s+ = s + b (z - x+), and x+ sees z + s
      const Value of_state = value_of(p.g_s[i]);
      to_blend = fused_multiply_add(of_state, value_of(p.moved[row * 2 * size_t(layer.n) + size_t(c)]), to_blend);
      p.g_s[i] = rounded<T>(g + of_state);
      g = fused_multiply_add(value_of(*layer.blend), of_state, g);
    }
    p.g[i] = rounded<T>(g);
  }

  FASTUNROLL_DEVICE void put_theta(int g, Value along) {
    if (layer.theta_size > 1) {
      if (p.to_theta) p.to_theta[row * size_t(layer.theta_size) + size_t(g)] = -along * scale;
    } else {
      to_theta -= along * scale;
    }
    if (layer.state == State::onsager) of_scale -= along * this->theta(g);
  }

  FASTUNROLL_DEVICE Value size_of_group(int g) const {
    if (layer.group == 1) return magnitude(x_of(g));
    Value squares = 0;
    for (int c = g * layer.group; c < (g + 1) * layer.group; ++c)
      squares = fused_multiply_add(x_of(c), x_of(c), squares);
    return square_root(squares);
  }

  // Behind a group of norm r = |x| / gain + theta, with u = x / |x|: (1 - theta / r) g + (theta / r) <u, g> u.
  FASTUNROLL_DEVICE void group_through(int group, bool passed) {
    const Value size = size_of_group(group);
    const int first = group * layer.group, last = first + layer.group;
    Value along = 0;
    for (int c = first; c < last; ++c) {
      const Value x = x_of(c);
      Value g = gradient_of_output(c);
      to_gain = fused_multiply_add(g, x, to_gain);
      nonzeros += x != 0;
      g = size == 0 ? Value(0) : g * gain;
      along += size == 0 ? Value(0) : g * (x / size);
      p.g[at(c)] = rounded<T>(g);
    }
    const bool shrank = !passed && size != 0;
    const bool clamped = layer.passing && this->theta(group) < 0;
    put_theta(group, shrank && !clamped ? along : Value(0));
    const Value limit = shrank && layer.group > 1 ? this->threshold(group, scale) : Value(0);
    const Value share = limit == 0 ? Value(0) : limit / (size / gain + limit);
    for (int c = first; c < last; ++c) {
      const Value g = value_of(p.g[at(c)]);
      put(c, share == 0 ? g : (1 - share) * g + share * along * (x_of(c) / size));
    }
  }

  FASTUNROLL_DEVICE void element_through(int c) {
    const Value x = x_of(c);
    Value g = gradient_of_output(c);
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
    Value dot = 0;
    for (int c = thread(); c < layer.m; c += threads) {
      const size_t i = at_residual(c);
      dot = fused_multiply_add(value_of(p.g_s[i]), value_of(p.residual[i]), dot);
    }
    const Value share = gain * Value(sum_over_block<threads>(nonzeros, this->template scratch<int>())) / Value(layer.m);
    const Value scale_gradient = sum(of_scale), aligned = sum(dot);
    if (thread() != 0) return;
    p.share[row] = share;
    p.pull[row] = scale == 0 ? Value(0) : scale_gradient / (Value(layer.m) * scale);
    to_gain = fused_multiply_add(share, aligned, to_gain);
  }

  FASTUNROLL_DEVICE void row_through() {
    if (layer.state == State::onsager) scale = this->scale_of(p.residual);
    const int groups = layer.n / layer.group;
    if (layer.passing || layer.group > 1) {
      for (int g = thread(); g < groups; g += threads)
        group_through(g, layer.passing && p.passed[row * size_t(groups) + size_t(g)]);
    } else {
      for (int c = thread(); c < layer.n; c += threads) element_through(c);
    }
    if (layer.state == State::onsager) finish_onsager();
    const auto put_sum = [&](Value* out, Value value) {
      const Value total = sum(value);
      if (out && thread() == 0) out[row] = total;
    };
    if (layer.theta_size == 1) put_sum(p.to_theta, to_theta);
    put_sum(p.to_gain, to_gain);
    put_sum(p.to_blend, to_blend);
    put_sum(p.to_bent, to_bent);
  }
};

template <class T> struct ThroughResidual {
  using Value = Computed<T>;
  using Arguments = ResidualGradient<T>;
  static constexpr int threads = 128, cluster = 1;
  static constexpr size_t shared_size = threads / warp_size * sizeof(Value);

  FASTUNROLL_DEVICE static void run(const Arguments& p) {
    const size_t row = size_t(block());
    Value to_step = 0;
    for (int c = thread(); c < p.m; c += threads) {
      const size_t i = row * size_t(p.m) + size_t(c);
      const Value r = p.residual ? value_of(p.residual[i]) : Value(0);
      const Value t = p.step ? value_of(p.step[p.step_size == 1 ? 0 : c]) : Value(1);
      Value h = value_of(p.h[i]);
      if (p.to_step && p.step_size > 1)
        p.to_step[i] = h * r;
      else
        to_step = fused_multiply_add(h, r, to_step);
      h *= t;
      if (p.g_s) {
        h = fused_multiply_add(p.share[row], value_of(p.g_s[i]), h);
        h = fused_multiply_add(p.pull[row], r, h);
        p.g_s[i] = rounded<T>(h);
      }
      if (p.g_y) p.g_y[i] = rounded<T>(value_of(p.g_y[i]) + h);
      p.minus[i] = rounded<T>(-h);
      if (p.scaled) p.scaled[i] = rounded<T>(t * r);
    }
    to_step = sum_over_block<threads>(to_step, reinterpret_cast<Value*>(shared()));
    if (p.to_step && p.step_size == 1 && thread() == 0) p.to_step[row] = to_step;
  }
};

}  // namespace fastunroll::cuda
