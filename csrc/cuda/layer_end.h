// A layer between its products, for networks of any size: a block of threads for each sample.
//
// torch computes the products. This kernel computes the proximal step, the second state and the input of the next
// layer, and reads each array once.
#pragma once
#include "cuda/layer_row.h"

namespace fastunroll::cuda {

template <class T> class EndLayer : LayerRow<T> {
  using Row = LayerRow<T>;

 public:
  using Value = typename Row::Value;
  using Arguments = LayerEnd<T>;
  using Row::cluster;
  using Row::threads;

  // The bytes of shared memory. Magnitudes that do not fit are computed again for each comparison.
  static size_t shared_size(const Layer<T>& layer) {
    return Row::scratch_size + (fits_in_smem(layer) ? size_t(layer.n / layer.group) * sizeof(Value) : 0);
  }

  FASTUNROLL_DEVICE static void run(const Arguments& p) { EndLayer(p).end_row(); }

 private:
  using Row::at;
  using Row::at_residual;
  using Row::gain;
  using Row::layer;
  using Row::row;

  const Arguments& p;
  int nonzeros = 0;

  FASTUNROLL_DEVICE explicit EndLayer(const Arguments& arguments) : Row(arguments.layer), p(arguments) {}

  FASTUNROLL_ANYWHERE static bool fits_in_smem(const Layer<T>& layer) {
    return layer.support_size && size_t(layer.n / layer.group) * sizeof(Value) <= (size_t(40) << 10);
  }

  FASTUNROLL_DEVICE Value linear(int c) const {
    const Value start = p.start ? value_of(p.start[at(c)]) : Value(0);
    return p.z ? fused_multiply_add(p.step ? value_of(*p.step) : Value(1), value_of(p.z[at(c)]), start) : start;
  }
  // The argument of P.
  FASTUNROLL_DEVICE Value before_prox(int c) const {
    return layer.scheme == Scheme::admm ? linear(c) + value_of(p.s[at(c)]) : linear(c);
  }

  FASTUNROLL_DEVICE Value size_of_group(int g) const {
    if (layer.group == 1) {
      const Value v = before_prox(g);
      return layer.prox_kind == ProxKind::nonnegative && v < 0 ? Value(0) : magnitude(v);
    }
    Value squares = 0;
    for (int c = g * layer.group; c < (g + 1) * layer.group; ++c) {
      const Value v = before_prox(c);
      squares = fused_multiply_add(v, v, squares);
    }
    return magnitude(square_root(squares));  // NaN may have a sign; it counts as the largest
  }

  // Writes x+ of a column, and its part of the second state and of the next input.
  FASTUNROLL_DEVICE void put(int c, Value exact) {
    const size_t i = at(c);
    const Value z = layer.scheme == Scheme::admm ? linear(c) : Value(0);
    p.x[i] = rounded<T>(exact);
    const Value x = value_of(p.x[i]);
    nonzeros += x != 0;
    if (layer.scheme == Scheme::admm) {
      const Value difference = z - x, s = fused_multiply_add(value_of(*layer.beta), difference, value_of(p.s[i]));
      if (p.dual_residual) p.dual_residual[row * 2 * size_t(layer.n) + size_t(c)] = rounded<T>(difference);
      p.s[i] = rounded<T>(s);
      if (p.input) p.input[i] = rounded<T>(x - s);
    } else if (layer.scheme == Scheme::fista && p.input) {
      const Value before = p.before ? value_of(p.before[i]) : Value(0);
      p.input[i] = rounded<T>(fused_multiply_add(value_of(*p.next_beta), x - before, x));
    }
  }

  FASTUNROLL_DEVICE void end_group(int g, Value scale, bool chosen) {
    const Value size = size_of_group(g), limit = this->threshold(g, scale);
    const bool zero = this->vanishes(size, limit), passes = chosen && size > limit;
    if (p.selected) p.selected[row * size_t(layer.n / layer.group) + size_t(g)] = passes;
    const Value factor = layer.group > 1 && !passes && !zero ? (size - limit) / size : Value(1);
    for (int c = g * layer.group; c < (g + 1) * layer.group; ++c) {
      const Value v = before_prox(c);
      if (zero)
        put(c, 0 * gain);  // NaN if the gain is not finite
      else if (layer.group > 1 || passes)
        put(c, v * factor * gain);
      else
        put(c, with_sign(size - limit, v) * gain);
    }
  }

  FASTUNROLL_DEVICE void end_element(int c, Value scale) {
    const Value v = before_prox(c);
    if (layer.prox_kind == ProxKind::identity) return put(c, v * gain);
    const bool soft = layer.prox_kind == ProxKind::soft;
    const Value size = soft ? magnitude(v) : v, limit = this->threshold(c, scale), shrunk = size - limit;
    const bool zero = soft ? this->vanishes(size, limit) : shrunk <= 0;
    put(c, (zero ? Value(0) : soft ? with_sign(shrunk, v) : shrunk) * gain);
  }

  FASTUNROLL_DEVICE void end_row() {
    const Value scale = layer.scheme == Scheme::amp ? this->scale_of(p.residual) : Value(1);
    const int groups = layer.n / layer.group;
    if (layer.support_size) {
      Value* const sizes = reinterpret_cast<Value*>(shared() + Row::scratch_size);
      const bool kept = fits_in_smem(layer);
      if (kept) {
        for (int g = thread(); g < groups; g += threads) sizes[g] = size_of_group(g);
        sync_block();
      }
      const auto size = [&](int g) { return kept ? sizes[g] : size_of_group(g); };
      const Largest<Value> chosen =
          largest<threads, Value>(size, groups, layer.support_size, this->template scratch<int>());
      for (int g = thread(); g < groups; g += threads) end_group(g, scale, chosen.takes(size(g), g));
    } else if (layer.group > 1) {
      for (int g = thread(); g < groups; g += threads) end_group(g, scale, false);
    } else {
      for (int c = thread(); c < layer.n; c += threads) end_element(c, scale);
    }
    if (layer.scheme != Scheme::amp) return;
    const Value share = gain * Value(sum_over_block<threads>(nonzeros, this->template scratch<int>())) / Value(layer.m);
    for (int c = thread(); c < layer.m; c += threads) {
      const size_t i = at_residual(c);
      const Value s = share * value_of(p.residual[i]);
      p.s[i] = rounded<T>(s);
      if (p.input) p.input[i] = rounded<T>(value_of(p.y[i]) + s);
    }
  }
};

}  // namespace fastunroll::cuda
