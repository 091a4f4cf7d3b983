// The compiled kernels between products, and the sizes of their launches.
#include "cuda/layer_end.h"
#include "cuda/layer_gradient.h"
#include "cuda/pack.h"
#include "cuda/soft_threshold.h"

namespace fastunroll::cuda {
namespace {

int64_t blocks_for(int64_t elements) { return (elements + elements_of_a_block - 1) / elements_of_a_block; }

template <class T> constexpr bool has_complex = std::is_same_v<T, Computed<T>>;

}  // namespace

template <class T> const char* end_layer(const Stream& stream, int64_t batch, const LayerEnd<T>& layer) {
  return launch<EndLayer<T>>({batch, EndLayer<T>::shared_size(layer.layer), stream}, layer);
}

template <class T> const char* prox_gradient(const Stream& stream, int64_t batch, const ProxGradient<T>& layer) {
  return launch<ThroughProx<T>>({batch, ThroughProx<T>::shared_size, stream}, layer);
}

template <class T> const char* residual_gradient(const Stream& stream, int64_t batch, const ResidualGradient<T>& r) {
  return launch<ThroughResidual<T>>({batch, ThroughResidual<T>::shared_size, stream}, r);
}

template <class T> const char* soft_threshold(const Stream& stream, const SoftThreshold<T>& of) {
  const Launch how{blocks_for(of.outer * of.middle * of.inner), 0, stream};
  if constexpr (has_complex<T>)
    if (of.complex) return launch<SoftThresholdElement<T, true>>(how, of);
  return launch<SoftThresholdElement<T, false>>(how, of);
}

template <class T> const char* soft_threshold_gradient(const Stream& stream, const SoftThresholdBackward<T>& of) {
  const Launch how{blocks_for(of.outer * of.middle * of.inner), 0, stream};
  if constexpr (has_complex<T>)
    if (of.complex) return launch<SoftThresholdGradient<T, true>>(how, of);
  return launch<SoftThresholdGradient<T, false>>(how, of);
}

template <class From, class To> const char* pack(const Stream& stream, const Pack<From, To>& what) {
  using Kernel = PackMatrices<From, To>;
  return launch<Kernel>({Kernel::blocks(what), 0, stream}, what);
}

#define FASTUNROLL_OF(T)                                                                      \
  template const char* end_layer(const Stream&, int64_t, const LayerEnd<T>&);                 \
  template const char* prox_gradient(const Stream&, int64_t, const ProxGradient<T>&);         \
  template const char* residual_gradient(const Stream&, int64_t, const ResidualGradient<T>&); \
  template const char* soft_threshold(const Stream&, const SoftThreshold<T>&);                \
  template const char* soft_threshold_gradient(const Stream&, const SoftThresholdBackward<T>&);
FASTUNROLL_OF(float)
FASTUNROLL_OF(double)
FASTUNROLL_OF(Bfloat16)
FASTUNROLL_OF(Float16)
#undef FASTUNROLL_OF

template const char* pack(const Stream&, const Pack<float, float>&);
template const char* pack(const Stream&, const Pack<float, Bfloat16>&);
template const char* pack(const Stream&, const Pack<Bfloat16, float>&);
template const char* pack(const Stream&, const Pack<Bfloat16, Bfloat16>&);

}  // namespace fastunroll::cuda
