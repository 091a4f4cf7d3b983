// What the kernels between products share: a block of threads for a sample's row of a layer.
#pragma once
#include "cuda/reduce.h"
#include "fastunroll_cuda.h"

namespace fastunroll::cuda {

template <class T> class LayerRow {
 public:
  using Value = Computed<T>;
  static constexpr int threads = 128, cluster = 1;

  // Bytes of shared memory. Magnitudes that do not fit are computed again whenever they are compared.
  static size_t shared_size(const Layer<T>& layer) {
    return scratch_size + (keeps_sizes(layer) ? size_t(layer.n / layer.group) * sizeof(Value) : 0);
  }

 protected:
  static constexpr size_t scratch_size = threads / warp_size * sizeof(double);

  const Layer<T>& layer;
  const size_t row = size_t(block());
  const Value gain = layer.gain ? value_of(*layer.gain) : Value(1);

  FASTUNROLL_DEVICE explicit LayerRow(const Layer<T>& of) : layer(of) {}

  FASTUNROLL_ANYWHERE static bool keeps_sizes(const Layer<T>& layer) {
    return layer.passing && size_t(layer.n / layer.group) * sizeof(Value) <= (size_t(40) << 10);
  }

  template <class U> FASTUNROLL_DEVICE U* scratch() const { return reinterpret_cast<U*>(shared()); }
  FASTUNROLL_DEVICE size_t at(int c) const { return row * size_t(layer.n) + size_t(c); }
  FASTUNROLL_DEVICE size_t at_residual(int c) const { return row * size_t(layer.m) + size_t(c); }
  FASTUNROLL_DEVICE Value sum(Value value) const { return sum_over_block<threads>(value, scratch<Value>()); }

  FASTUNROLL_DEVICE Value theta(int g) const { return value_of(layer.theta[layer.theta_size == 1 ? 0 : g]); }
  FASTUNROLL_DEVICE Value threshold(int g, Value scale) const {
    const Value limit = theta(g) * scale;
    return layer.passing && limit < 0 ? Value(0) : limit;
  }

  // |r| / sqrt(m)
  FASTUNROLL_DEVICE Value scale_of(const T* residual) const {
    Value squares = 0;
    for (int c = thread(); c < layer.m; c += threads) {
      const Value r = value_of(residual[at_residual(c)]);
      squares = fused_multiply_add(r, r, squares);
    }
    return square_root(sum(squares) / Value(layer.m));
  }

  // Each element that shrinks alone, or each group, with whether it is one of the largest, which pass.
  template <class Element, class Group, class Size>
  FASTUNROLL_DEVICE void for_each(const Element& element, const Group& group, const Size& size) const {
    const int groups = layer.n / layer.group;
    if (layer.passing) {
      Value* const sizes = reinterpret_cast<Value*>(shared() + scratch_size);
      const bool kept = keeps_sizes(layer);
      if (kept) {
        for (int g = thread(); g < groups; g += threads) sizes[g] = size(g);
        sync_block();
      }
      const auto size_again = [&](int g) { return kept ? sizes[g] : size(g); };
      const Largest<Value> chosen = largest<threads, Value>(size_again, groups, layer.passing, scratch<int>());
      for (int g = thread(); g < groups; g += threads) group(g, chosen.takes(size_again(g), g));
    } else if (layer.group > 1) {
      for (int g = thread(); g < groups; g += threads) group(g, false);
    } else {
      for (int c = thread(); c < layer.n; c += threads) element(c);
    }
  }
};

}  // namespace fastunroll::cuda
