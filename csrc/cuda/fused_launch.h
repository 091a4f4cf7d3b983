// Which shapes of a fused kernel are compiled, and how the one asked for is launched.
#pragma once
#include <type_traits>

#include "cuda/launch.h"

namespace fastunroll::cuda {

// Calls with the kernel of a precision and shape, if there is one.
template <template <Precision, int, int, int, int> class Kernel, Precision P, class Call>
auto with_shape(const FusedShape& shape, const Call& call) {
#define FASTUNROLL_SHAPE(TALL, BLOCKS)              \
  if (shape.tall == TALL && shape.blocks == BLOCKS) \
    return call(static_cast<Kernel<P, TALL, 1, fused_warps, BLOCKS>*>(nullptr));
  FASTUNROLL_SHAPE(1, 1)
  FASTUNROLL_SHAPE(1, 2)
  FASTUNROLL_SHAPE(1, 4)
  FASTUNROLL_SHAPE(2, 4)
  if constexpr (P != Precision::bfloat16) {
    FASTUNROLL_SHAPE(4, 1)
    FASTUNROLL_SHAPE(4, 2)
    FASTUNROLL_SHAPE(4, 4)
  }
#undef FASTUNROLL_SHAPE
  return decltype(call(static_cast<Kernel<P, 1, 1, fused_warps, 1>*>(nullptr)))();
}

template <template <Precision, int, int, int, int> class Kernel, class T, class Call>
auto with_kernel(Precision precision, const FusedShape& shape, const Call& call) {
  if constexpr (std::is_same_v<T, Bfloat16>) {
    return with_shape<Kernel, Precision::bfloat16>(shape, call);
  } else {
    return precision == Precision::single ? with_shape<Kernel, Precision::single>(shape, call)
                                          : with_shape<Kernel, Precision::tf32>(shape, call);
  }
}

template <template <Precision, int, int, int, int> class Kernel, class T, class Network>
size_t shared_size(Precision precision, const FusedShape& shape, const Network& net) {
  return with_kernel<Kernel, T>(precision, shape, [&](auto* kernel) {
    using Chosen = std::remove_pointer_t<decltype(kernel)>;
    const bool fits = net.padded_n <= Chosen::capacity && (!net.coupled || net.padded_m <= Chosen::capacity);
    return fits ? Chosen::shared_size(net) : size_t(0);
  });
}

template <template <Precision, int, int, int, int> class Kernel, class T, class Network>
const char* launch_fused(const Stream& stream, Precision precision, const FusedShape& shape, const Network& net) {
  const size_t shared = shared_size<Kernel, T>(precision, shape, net);
  if (shared == 0) return "no fused kernel of this shape";
  return with_kernel<Kernel, T>(precision, shape, [&](auto* kernel) {
    using Chosen = std::remove_pointer_t<decltype(kernel)>;
    const int64_t clusters = (net.batch + Chosen::samples - 1) / Chosen::samples;
    return launch<Chosen>({clusters, shared, stream}, net);
  });
}

}  // namespace fastunroll::cuda
