// The gradient of layer_end.h.
//
// No gradient passes where x+ is zero. Forward has recorded the elements that support selection left unshrunk. The
// gradient of a small parameter is a number, or a row, for each sample; torch sums over samples in a fixed order.
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
  Value grad_theta = 0, grad_gain = 0, grad_beta = 0, grad_next_beta = 0;
  Value of_scale = 0;  // amp: the gradient of the scale of theta
  Value scale = 1;
  int nonzeros = 0;

  FASTUNROLL_DEVICE explicit ThroughProx(const Arguments& arguments) : Row(arguments.layer), p(arguments) {}

  FASTUNROLL_DEVICE Value x_of(int c) const { return value_of(p.x[at(c)]); }

  // The gradient of x+ at a column, through the input of the layer above.
  FASTUNROLL_DEVICE Value gradient_of_output(int c) {
    const size_t i = at(c);
    Value g = p.grad_x ? value_of(p.grad_x[i]) : Value(0);
    if (p.grad_v) {
      const Value of_input = value_of(p.grad_v[i]);
      if (layer.scheme == Scheme::fista) {  // v = x + b (x - s), where s is x before
        const Value step = p.before ? x_of(c) - value_of(p.before[i]) : x_of(c),
                    back = value_of(*p.next_beta) * of_input;
        grad_next_beta = fused_multiply_add(of_input, step, grad_next_beta);
        g += of_input + back + value_of(p.grad_s[i]);
        p.grad_s[i] = rounded<T>(-back);
      } else {
        g += of_input;
        if (layer.scheme == Scheme::admm) p.grad_s[i] = rounded<T>(value_of(p.grad_s[i]) - of_input);  // v = x - s
      }
    }
    return layer.scheme == Scheme::admm ? g - value_of(*layer.beta) * value_of(p.grad_s[i]) : g;
  }

  // Writes the gradient of z, from the gradient before P.
  FASTUNROLL_DEVICE void put(int c, Value g) {
    const size_t i = at(c);
    if (layer.scheme == Scheme::admm) {  // s+ = s + b (z - x+), and x+ sees z + s
      const Value of_state = value_of(p.grad_s[i]);
      grad_beta =
          fused_multiply_add(of_state, value_of(p.dual_residual[row * 2 * size_t(layer.n) + size_t(c)]), grad_beta);
      p.grad_s[i] = rounded<T>(g + of_state);
      g = fused_multiply_add(value_of(*layer.beta), of_state, g);
    }
    p.grad_z[i] = rounded<T>(g);
  }

  FASTUNROLL_DEVICE void put_theta(int g, Value along) {
    if (layer.theta_size > 1) {
      if (p.grad_theta) p.grad_theta[row * size_t(layer.theta_size) + size_t(g)] = -along * scale;
    } else {
      grad_theta -= along * scale;
    }
    if (layer.scheme == Scheme::amp) of_scale -= along * this->theta(g);
  }

  FASTUNROLL_DEVICE Value size_of_group(int g) const {
    if (layer.group == 1) return magnitude(x_of(g));
    Value squares = 0;
    for (int c = g * layer.group; c < (g + 1) * layer.group; ++c)
      squares = fused_multiply_add(x_of(c), x_of(c), squares);
    return square_root(squares);
  }

  // The gradient of a group before P: (1 - theta / r) g + (theta / r) <u, g> u, u = x / |x|, r = |x| / gain + theta.
  FASTUNROLL_DEVICE void group_through(int group, bool selected) {
    const Value size = size_of_group(group);
    const int first = group * layer.group, last = first + layer.group;
    Value along = 0;
    for (int c = first; c < last; ++c) {
      const Value x = x_of(c);
      Value g = gradient_of_output(c);
      grad_gain = fused_multiply_add(g, x, grad_gain);
      nonzeros += x != 0;
      g = size == 0 ? Value(0) : g * gain;
      along += size == 0 ? Value(0) : g * (x / size);
      p.grad_z[at(c)] = rounded<T>(g);
    }
    const bool shrank = !selected && size != 0;
    const bool clamped = layer.support_size && this->theta(group) < 0;
    put_theta(group, shrank && !clamped ? along : Value(0));
    const Value limit = shrank && layer.group > 1 ? this->threshold(group, scale) : Value(0);
    const Value share = limit == 0 ? Value(0) : limit / (size / gain + limit);
    for (int c = first; c < last; ++c) {
      const Value g = value_of(p.grad_z[at(c)]);
      put(c, share == 0 ? g : (1 - share) * g + share * along * (x_of(c) / size));
    }
  }

  FASTUNROLL_DEVICE void element_through(int c) {
    const Value x = x_of(c);
    Value g = gradient_of_output(c);
    grad_gain = fused_multiply_add(g, x, grad_gain);
    nonzeros += x != 0;
    g *= gain;
    if (layer.prox_kind != ProxKind::identity) {
      if (x == 0) g = 0;
      put_theta(c, layer.prox_kind == ProxKind::soft && x < 0 ? -g : g);
    }
    put(c, g);
  }

  FASTUNROLL_DEVICE void finish_amp() {
    Value dot = 0;
    for (int c = thread(); c < layer.m; c += threads) {
      const size_t i = at_residual(c);
      dot = fused_multiply_add(value_of(p.grad_s[i]), value_of(p.residual[i]), dot);
    }
    const Value share = gain * Value(sum_over_block<threads>(nonzeros, this->template scratch<int>())) / Value(layer.m);
    const Value scale_gradient = sum(of_scale), aligned = sum(dot);
    if (thread() != 0) return;
    p.from_s[row] = share;
    p.from_r[row] = scale == 0 ? Value(0) : scale_gradient / (Value(layer.m) * scale);
    grad_gain = fused_multiply_add(share, aligned, grad_gain);
  }

  FASTUNROLL_DEVICE void row_through() {
    if (layer.scheme == Scheme::amp) scale = this->scale_of(p.residual);
    const int groups = layer.n / layer.group;
    if (layer.support_size || layer.group > 1) {
      for (int g = thread(); g < groups; g += threads)
        group_through(g, layer.support_size && p.selected[row * size_t(groups) + size_t(g)]);
    } else {
      for (int c = thread(); c < layer.n; c += threads) element_through(c);
    }
    if (layer.scheme == Scheme::amp) finish_amp();
    const auto put_sum = [&](Value* out, Value value) {
      const Value total = sum(value);
      if (out && thread() == 0) out[row] = total;
    };
    if (layer.theta_size == 1) put_sum(p.grad_theta, grad_theta);
    put_sum(p.grad_gain, grad_gain);
    put_sum(p.grad_beta, grad_beta);
    put_sum(p.grad_next_beta, grad_next_beta);
  }
};

template <class T> struct ThroughResidual {
  using Value = Computed<T>;
  using Arguments = ResidualGradient<T>;
  static constexpr int threads = 128, cluster = 1;
  static constexpr size_t shared_size = threads / warp_size * sizeof(Value);

  FASTUNROLL_DEVICE static void run(const Arguments& p) {
    const size_t row = size_t(block());
    Value grad_step = 0;
    for (int c = thread(); c < p.m; c += threads) {
      const size_t i = row * size_t(p.m) + size_t(c);
      const Value r = p.residual ? value_of(p.residual[i]) : Value(0);
      const Value t = p.step ? value_of(p.step[p.step_size == 1 ? 0 : c]) : Value(1);
      Value h = value_of(p.Wz[i]);
      if (p.grad_step && p.step_size > 1)
        p.grad_step[i] = h * r;
      else
        grad_step = fused_multiply_add(h, r, grad_step);
      h *= t;
      if (p.grad_s) {
        h = fused_multiply_add(p.from_s[row], value_of(p.grad_s[i]), h);
        h = fused_multiply_add(p.from_r[row], r, h);
        p.grad_s[i] = rounded<T>(h);
      }
      if (p.grad_y) p.grad_y[i] = rounded<T>(value_of(p.grad_y[i]) + h);
      p.grad_Av[i] = rounded<T>(-h);
      if (p.stepped) p.stepped[i] = rounded<T>(t * r);
    }
    grad_step = sum_over_block<threads>(grad_step, reinterpret_cast<Value*>(shared()));
    if (p.grad_step && p.step_size == 1 && thread() == 0) p.grad_step[row] = grad_step;
  }
};

}  // namespace fastunroll::cuda
