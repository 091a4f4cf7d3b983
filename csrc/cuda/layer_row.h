// The common part of the kernels between products: a block of threads for a sample's row of a layer.
#pragma once
#include "cuda/reduce.h"
#include "fastunroll_cuda.h"

namespace fastunroll::cuda {

template <class T> class LayerRow {
 public:
  using Value = Computed<T>;
  static constexpr int threads = 128, cluster = 1;

 protected:
  static constexpr size_t scratch_size = threads / warp_size * sizeof(double);

  const Layer<T>& layer;
  const size_t row = size_t(block());
  const Value gain = layer.gain ? value_of(*layer.gain) : Value(1);

  FASTUNROLL_DEVICE explicit LayerRow(const Layer<T>& of) : layer(of) {}

  template <class U> FASTUNROLL_DEVICE U* scratch() const { return reinterpret_cast<U*>(shared()); }
  FASTUNROLL_DEVICE size_t at(int c) const { return row * size_t(layer.n) + size_t(c); }
  FASTUNROLL_DEVICE size_t at_residual(int c) const { return row * size_t(layer.m) + size_t(c); }
  FASTUNROLL_DEVICE Value sum(Value value) const { return sum_over_block<threads>(value, scratch<Value>()); }

  FASTUNROLL_DEVICE Value theta(int g) const { return value_of(layer.theta[layer.theta_size == 1 ? 0 : g]); }
  FASTUNROLL_DEVICE Value threshold(int g, Value scale) const {
    const Value limit = theta(g) * scale;
    return layer.support_size && limit < 0 ? Value(0) : limit;
  }

  // Whether P makes a magnitude zero; false if it or theta is NaN, or both are infinite.
  FASTUNROLL_DEVICE static bool vanishes(Value size, Value limit) { return size - (limit < 0 ? 0 : limit) <= 0; }

  // |r| / sqrt(m), of squares in double precision, where those of single precision neither overflow nor vanish.
  FASTUNROLL_DEVICE Value scale_of(const T* residual) const {
    double squares = 0;
    for (int c = thread(); c < layer.m; c += threads) {
      const double r = double(value_of(residual[at_residual(c)]));
      squares = fused_multiply_add(r, r, squares);
    }
    return Value(square_root(sum_over_block<threads>(squares, scratch<double>()) / double(layer.m)));
  }
};

}  // namespace fastunroll::cuda
