// The wavelet transform of pictures by itself.
#pragma once
#include "picture_layers.h"

namespace fastunroll {

// y = W x of pictures, or W^T x, in Mallat's layout: the approximation of the last level comes first in both
// directions, and the details of each level surround it.
template <class T> struct WaveletTransform {
  int64_t batch, rows, columns;
  bool real_images;
  int threads;
  PictureWavelet<T> wavelet;  // of one layer
  bool adjoint;
  bool (*interrupted)();  // as in Forward
  const T* x;             // (batch, rows, columns), pairs unless images are real
  T* y;
};

template <class T> void wavelet_transform(const WaveletTransform<T>&);

}  // namespace fastunroll
