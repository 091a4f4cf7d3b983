// The functions of one instruction set.
#pragma once
#include "fastunroll.h"
#include "wavelet_transform.h"

namespace fastunroll {

// Work to measure the machine by, for benchmarks alone: multiply-adds between registers or, with `rows`, with rows of a
// cached block. roof() does it with numbers of the type of its second argument, and returns the number of operations.
struct Roof {
  int threads;
  bool rows;
  int64_t rounds;
};
template <class T> double roof(const Roof&, T);

template <class T> struct Kernels {
  int64_t (*network_packed_size)(const Packing<T>&);
  void (*network_pack)(const Packing<T>&);
  void (*network_forward)(const Forward<T>&);
  void (*network_backward)(const Backward<T>&);
  double (*roof)(const Roof&, T);
  int64_t (*product_packed_size)(const Product<T>&);
  void (*product_pack)(const Product<T>&);
  void (*product)(const Product<T>&);
  void (*outer)(const Outer<T>&);
  int64_t (*adaptive_saved_size)(const AdaptiveNetwork<T>&);
  void (*adaptive_forward)(const AdaptiveForward<T>&);
  void (*adaptive_backward)(const AdaptiveBackward<T>&);
  int64_t (*dictionary_size)(const Dictionary<T>&);
  void (*dictionary_prepare)(const Dictionary<T>&);
  void (*lasso)(const Lasso<T>&);
  void (*lasso_columns)(const LassoColumns<T>&);
  void (*proximal_gradient)(const ProximalGradient<T>&);
  void (*step_ahead)(const StepAhead<T>&);
  void (*residual_ahead)(const ResidualAhead<T>&);
  void (*weighted)(const Weighted<T>&);
  void (*soft_threshold)(const SoftThreshold<T>&);
  void (*soft_threshold_backward)(const SoftThresholdBackward<T>&);
  int64_t (*spectrum_packed_size)(const Spectrum<T>&);
  void (*spectrum_pack)(const Spectrum<T>&);
  void (*fourier_filter)(const FourierFilter<T>&);
  void (*sample_forward)(const SampleForward<T>&);
  void (*sample_backward)(const SampleBackward<T>&);
  void (*picture_forward)(const PictureForward<T>&);
  void (*picture_backward)(const PictureBackward<T>&);
  void (*wavelet_transform)(const WaveletTransform<T>&);
};

struct InstructionSet {
  const char* name;
  Kernels<float> f32;
  Kernels<double> f64;
};

}  // namespace fastunroll
