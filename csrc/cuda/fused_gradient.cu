#include "cuda/fused_gradient.h"
#include "cuda/fused_launch.h"

namespace fastunroll::cuda {

template <class T>
int fused_gradient_max_active_clusters(const Stream& stream, Precision precision, const FusedShape& shape,
                                       const FusedLayers<T>& net) {
  return FusedKernels<FusedGradient, false>::template max_active_clusters_for<T>(stream, precision, shape, net);
}
template <class T>
const char* fused_gradient(const Stream& stream, Precision precision, const FusedShape& shape,
                           const FusedBackward<T>& net) {
  return FusedKernels<FusedGradient, false>::launch_fused<T>(stream, precision, shape, net);
}

template int fused_gradient_max_active_clusters(const Stream&, Precision, const FusedShape&, const FusedLayers<float>&);
template int fused_gradient_max_active_clusters(const Stream&, Precision, const FusedShape&,
                                                const FusedLayers<Bfloat16>&);
template const char* fused_gradient(const Stream&, Precision, const FusedShape&, const FusedBackward<float>&);
template const char* fused_gradient(const Stream&, Precision, const FusedShape&, const FusedBackward<Bfloat16>&);

}  // namespace fastunroll::cuda
