// All that a layer does to a sample beside its products, for networks of any size: a block for each sample.
//
// Products are left to the library that has the tensors. What follows them, the proximal step, the second state and the
// input of the next layer, reads each array once.
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

  // Bytes of shared memory. Magnitudes that do not fit are computed again whenever they are compared.
  static size_t shared_size(const Layer<T>& layer) {
    return Row::scratch_size + (keeps_sizes(layer) ? size_t(layer.n / layer.group) * sizeof(Value) : 0);
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

  FASTUNROLL_ANYWHERE static bool keeps_sizes(const Layer<T>& layer) {
    return layer.passing && size_t(layer.n / layer.group) * sizeof(Value) <= (size_t(40) << 10);
  }

  FASTUNROLL_DEVICE Value linear(int c) const {
    const Value start = p.start ? value_of(p.start[at(c)]) : Value(0);
    return p.z ? fused_multiply_add(p.step ? value_of(*p.step) : Value(1), value_of(p.z[at(c)]), start) : start;
  }
  // What P is taken of.
  FASTUNROLL_DEVICE Value before_prox(int c) const {
    return layer.state == State::splitting ? linear(c) + value_of(p.s[at(c)]) : linear(c);
  }

  FASTUNROLL_DEVICE Value size_of_group(int g) const {
    if (layer.group == 1) {
      const Value v = before_prox(g);
      return layer.shrinkage == Shrinkage::nonnegative && v < 0 ? Value(0) : magnitude(v);
    }
    Value squares = 0;
    for (int c = g * layer.group; c < (g + 1) * layer.group; ++c) {
      const Value v = before_prox(c);
      squares = fused_multiply_add(v, v, squares);
    }
    return magnitude(square_root(squares));  // a NaN may have a sign, and counts as the largest
  }

  // x+ of a column, and all that follows from it.
  FASTUNROLL_DEVICE void put(int c, Value exact) {
    const size_t i = at(c);
    const Value z = layer.state == State::splitting ? linear(c) : Value(0);
    p.x[i] = rounded<T>(exact);
    const Value x = value_of(p.x[i]);
    nonzeros += x != 0;
    if (layer.state == State::splitting) {
      const Value difference = z - x, s = fused_multiply_add(value_of(*layer.blend), difference, value_of(p.s[i]));
      if (p.moved) p.moved[row * 2 * size_t(layer.n) + size_t(c)] = rounded<T>(difference);
      p.s[i] = rounded<T>(s);
      if (p.input) p.input[i] = rounded<T>(x - s);
    } else if (layer.state == State::momentum && p.input) {
      const Value before = p.before ? value_of(p.before[i]) : Value(0);
      p.input[i] = rounded<T>(fused_multiply_add(value_of(*p.next), x - before, x));
    }
  }

  FASTUNROLL_DEVICE void end_group(int g, Value scale, bool chosen) {
    const Value size = size_of_group(g), limit = this->threshold(g, scale);
    const bool zero = this->vanishes(size, limit), passes = chosen && size > limit;
    if (p.passed) p.passed[row * size_t(layer.n / layer.group) + size_t(g)] = passes;
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
    if (layer.shrinkage == Shrinkage::none) return put(c, v * gain);
    const bool soft = layer.shrinkage == Shrinkage::soft;
    const Value size = soft ? magnitude(v) : v, limit = this->threshold(c, scale), moved = size - limit;
    const bool zero = soft ? this->vanishes(size, limit) : moved <= 0;
    put(c, (zero ? Value(0) : soft ? with_sign(moved, v) : moved) * gain);
  }

  FASTUNROLL_DEVICE void end_row() {
    const Value scale = layer.state == State::onsager ? this->scale_of(p.residual) : Value(1);
    const int groups = layer.n / layer.group;
    if (layer.passing) {
      Value* const sizes = reinterpret_cast<Value*>(shared() + Row::scratch_size);
      const bool kept = keeps_sizes(layer);
      if (kept) {
        for (int g = thread(); g < groups; g += threads) sizes[g] = size_of_group(g);
        sync_block();
      }
      const auto size = [&](int g) { return kept ? sizes[g] : size_of_group(g); };
      const Largest<Value> chosen = largest<threads, Value>(size, groups, layer.passing, this->template scratch<int>());
      for (int g = thread(); g < groups; g += threads) end_group(g, scale, chosen.takes(size(g), g));
    } else if (layer.group > 1) {
      for (int g = thread(); g < groups; g += threads) end_group(g, scale, false);
    } else {
      for (int c = thread(); c < layer.n; c += threads) end_element(c, scale);
    }
    if (layer.state != State::onsager) return;
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
