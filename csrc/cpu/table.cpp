// This instruction set's kernels, for dispatch.cpp to choose from.
#include "cpu/kernels.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> int64_t network_packed_size(const Packing<T>&);
template <class T> void network_pack(const Packing<T>&);
template <class T> void network_forward(const Forward<T>&);
template <class T> void network_backward(const Backward<T>&);
template <class T> double roof(const Roof&, T);
template <class T> int64_t product_packed_size(const Product<T>&);
template <class T> void product_pack(const Product<T>&);
template <class T> void product(const Product<T>&);
template <class T> void outer(const Outer<T>&);
template <class T> int64_t adaptive_saved_size(const AdaptiveNetwork<T>&);
template <class T> void adaptive_forward(const AdaptiveForward<T>&);
template <class T> void adaptive_backward(const AdaptiveBackward<T>&);
template <class T> int64_t dictionary_size(const Dictionary<T>&);
template <class T> void dictionary_prepare(const Dictionary<T>&);
template <class T> void lasso(const Lasso<T>&);
template <class T> void lasso_columns(const LassoColumns<T>&);
template <class T> void proximal_gradient(const ProximalGradient<T>&);
template <class T> void step_ahead(const StepAhead<T>&);
template <class T> void residual_ahead(const ResidualAhead<T>&);
template <class T> void weighted(const Weighted<T>&);
template <class T> void soft_threshold(const SoftThreshold<T>&);
template <class T> void soft_threshold_backward(const SoftThresholdBackward<T>&);
template <class T> int64_t spectrum_packed_size(const Spectrum<T>&);
template <class T> void spectrum_pack(const Spectrum<T>&);
template <class T> void fourier_filter(const FourierFilter<T>&);
template <class T> void sample_forward(const SampleForward<T>&);
template <class T> void sample_backward(const SampleBackward<T>&);
template <class T> void picture_forward(const PictureForward<T>&);
template <class T> void picture_backward(const PictureBackward<T>&);
template <class T> void wavelet_transform(const WaveletTransform<T>&);

#define FASTUNROLL_TEXT_(x) #x
#define FASTUNROLL_TEXT(x) FASTUNROLL_TEXT_(x)

template <class T> constexpr Kernels<T> all() {
  return {network_packed_size,
          network_pack,
          network_forward,
          network_backward,
          roof,
          product_packed_size,
          product_pack,
          product,
          outer,
          adaptive_saved_size,
          adaptive_forward,
          adaptive_backward,
          dictionary_size,
          dictionary_prepare,
          lasso,
          lasso_columns,
          proximal_gradient,
          step_ahead,
          residual_ahead,
          weighted,
          soft_threshold,
          soft_threshold_backward,
          spectrum_packed_size,
          spectrum_pack,
          fourier_filter,
          sample_forward,
          sample_backward,
          picture_forward,
          picture_backward,
          wavelet_transform};
}

extern const InstructionSet kernels;
const InstructionSet kernels = {FASTUNROLL_TEXT(FASTUNROLL_SET), all<float>(), all<double>()};

}  // namespace fastunroll::FASTUNROLL_SET
