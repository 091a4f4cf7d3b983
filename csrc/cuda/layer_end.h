// All that a layer does to a sample beside its products, for networks of any size: a block for each sample.
//
// Products are left to the library that has the tensors. What follows them, the proximal step, the second state and the
// input of the next layer, reads each array once. fastunroll.h says what the layers compute.
#pragma once
#include "cuda/launch.h"
#include "cuda/reduce.h"
#include "fastunroll.h"

namespace fastunroll::cuda {

enum class State { none, momentum, splitting, onsager };

// A layer as every sample sees it; pointers that are null are not given.
template <class T> struct Layer {
  int m, n, group, passing;
  Shrinkage shrinkage;
  State state;
  const T* theta;  // 1 or n / group values
  int theta_size;
  const T *gain, *blend;  // a value

  FASTUNROLL_DEVICE T threshold(int g, T scale) const {
    const T limit = theta[theta_size == 1 ? 0 : g] * scale;
    return passing && limit < 0 ? 0 : limit;
  }
};

template <class T> struct EndLayer {
  static constexpr int threads = 128, cluster = 1;

  struct Arguments {
    Layer<T> layer;
    const T* z;         // (batch, n): the linear step, or only the product that `step` scales and adds to `v`
    const T* step;      // a value
    const T* v;         // (batch, n): the input of the layer
    const T* before;    // momentum: x before the layer, (batch, n)
    const T* residual;  // Onsager: r, (batch, m)
    const T* y;         // Onsager
    const T* next;      // momentum: the blend of the next layer
    T* x;               // (batch, n): x+
    T* input;           // (batch, n): v of the next layer; Onsager: y + s+, (batch, m), where its residual starts
    T* s;               // splitting: s, which becomes s+; Onsager: s+, (batch, m)
    T* moved;           // splitting: z - x+ for the gradient, rows of 2 n
  };

  // Bytes of shared memory.
  static size_t shared_size(const Layer<T>& layer) {
    const size_t magnitudes = layer.passing ? size_t(layer.n / layer.group) : 0;
    return scratch_size + magnitudes * sizeof(T);
  }

  FASTUNROLL_DEVICE static void run(const Arguments& p) { EndLayer{p}.end_row(); }

 private:
  static constexpr size_t scratch_size = threads / warp_size * sizeof(double);

  const Arguments& p;
  const Layer<T>& layer = p.layer;
  size_t row = size_t(block());
  T gain = layer.gain ? *layer.gain : T(1);
  int nonzeros = 0;

  FASTUNROLL_DEVICE explicit EndLayer(const Arguments& arguments) : p(arguments) {}

  template <class U> FASTUNROLL_DEVICE U* scratch() const { return reinterpret_cast<U*>(shared()); }
  FASTUNROLL_DEVICE size_t at(int c) const { return row * size_t(layer.n) + size_t(c); }

  FASTUNROLL_DEVICE T linear(int c) const {
    return p.step ? fused_multiply_add(*p.step, p.z[at(c)], p.v[at(c)]) : p.z[at(c)];
  }
  // What P is taken of.
  FASTUNROLL_DEVICE T before_prox(int c) const {
    return layer.state == State::splitting ? linear(c) + p.s[at(c)] : linear(c);
  }

  // |r| / sqrt(m)
  FASTUNROLL_DEVICE T scale_of_residual() const {
    T sum = 0;
    for (int c = thread(); c < layer.m; c += threads) {
      const T r = p.residual[row * size_t(layer.m) + size_t(c)];
      sum = fused_multiply_add(r, r, sum);
    }
    return square_root(sum_over_block<threads>(sum, scratch<T>()) / T(layer.m));
  }

  FASTUNROLL_DEVICE T size_of_group(int g) const {
    if (layer.group == 1) {
      const T v = before_prox(g);
      return layer.shrinkage == Shrinkage::nonnegative && v < 0 ? T(0) : magnitude(v);
    }
    T sum = 0;
    for (int c = g * layer.group; c < (g + 1) * layer.group; ++c) {
      const T v = before_prox(c);
      sum = fused_multiply_add(v, v, sum);
    }
    return square_root(sum);
  }

  // x+ of a column, and all that follows from it.
  FASTUNROLL_DEVICE void put(int c, T x) {
    const size_t i = at(c);
    const T z = layer.state == State::splitting ? linear(c) : T(0);
    p.x[i] = x;
    nonzeros += x != 0;
    if (layer.state == State::splitting) {
      const T difference = z - x, s = fused_multiply_add(*layer.blend, difference, p.s[i]);
      if (p.moved) p.moved[row * 2 * size_t(layer.n) + size_t(c)] = difference;
      p.s[i] = s;
      if (p.input) p.input[i] = x - s;
    } else if (layer.state == State::momentum && p.input) {
      p.input[i] = fused_multiply_add(*p.next, x - (p.before ? p.before[i] : T(0)), x);
    }
  }

  FASTUNROLL_DEVICE void end_group(int g, T scale, bool chosen) {
    const T size = size_of_group(g), limit = layer.threshold(g, scale);
    const bool zero = size <= (limit < 0 ? 0 : limit), passes = chosen && !zero;
    const T factor = layer.group > 1 && !passes && !zero ? (size - limit) / size : T(1);
    for (int c = g * layer.group; c < (g + 1) * layer.group; ++c) {
      const T v = before_prox(c);
      if (zero)
        put(c, 0);
      else if (layer.group > 1 || passes)
        put(c, v * factor * gain);
      else
        put(c, with_sign(size - limit, v) * gain);
    }
  }

  FASTUNROLL_DEVICE void end_element(int c, T scale) {
    const T v = before_prox(c);
    if (layer.shrinkage == Shrinkage::none) return put(c, v * gain);
    const T limit = layer.threshold(c, scale);
    const T moved = (layer.shrinkage == Shrinkage::soft ? magnitude(v) : v) - limit;
    put(c, moved <= 0 || v == 0 ? T(0) : (layer.shrinkage == Shrinkage::soft ? with_sign(moved, v) : moved) * gain);
  }

  FASTUNROLL_DEVICE void end_row() {
    const T scale = layer.state == State::onsager ? scale_of_residual() : T(1);
    if (layer.group == 1 && layer.passing == 0) {
      for (int c = thread(); c < layer.n; c += threads) end_element(c, scale);
    } else if (layer.passing == 0) {
      for (int g = thread(); g < layer.n / layer.group; g += threads) end_group(g, scale, false);
    } else {
      const int groups = layer.n / layer.group;
      T* const sizes = reinterpret_cast<T*>(shared() + scratch_size);
      for (int g = thread(); g < groups; g += threads) sizes[g] = size_of_group(g);
      sync_block();
      const Largest<T> chosen = largest<threads>(sizes, groups, layer.passing, scratch<int>());
      for (int g = thread(); g < groups; g += threads) end_group(g, scale, chosen.takes(sizes[g], g));
    }
    if (layer.state != State::onsager) return;
    const T share = gain * T(sum_over_block<threads>(nonzeros, scratch<int>())) / T(layer.m);
    for (int c = thread(); c < layer.m; c += threads) {
      const size_t i = row * size_t(layer.m) + size_t(c);
      const T s = share * p.residual[i];
      p.s[i] = s;
      if (p.input) p.input[i] = p.y[i] + s;
    }
  }
};

}  // namespace fastunroll::cuda
