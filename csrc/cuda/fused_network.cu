#include "cuda/fused_launch.h"
#include "cuda/fused_network.h"

namespace fastunroll::cuda {

template <class T>
int fused_max_active_clusters(const Stream& stream, Precision precision, const FusedShape& shape,
                              const FusedLayers<T>& net) {
  return FusedKernels<FusedNetwork, true>::template max_active_clusters_for<T>(stream, precision, shape, net);
}
template <class T>
const char* fused_network(const Stream& stream, Precision precision, const FusedShape& shape, const Fused<T>& net) {
  return FusedKernels<FusedNetwork, true>::launch_fused<T>(stream, precision, shape, net);
}

template int fused_max_active_clusters(const Stream&, Precision, const FusedShape&, const FusedLayers<float>&);
template int fused_max_active_clusters(const Stream&, Precision, const FusedShape&, const FusedLayers<Bfloat16>&);
template const char* fused_network(const Stream&, Precision, const FusedShape&, const Fused<float>&);
template const char* fused_network(const Stream&, Precision, const FusedShape&, const Fused<Bfloat16>&);

}  // namespace fastunroll::cuda
