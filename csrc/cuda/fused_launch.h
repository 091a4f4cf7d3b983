// The compiled shapes of a fused kernel, and their launch.
#pragma once
#include <type_traits>

#include "cuda/launch.h"

namespace fastunroll::cuda {

// Precision; row_tiles, chunks, warps, blocks, split, weights_in_smem. HasWide: with the shapes for few samples, where
// outputs are spread over many blocks, and warps share out sums too.
template <template <Precision, int, int, int, int, int, bool> class Kernel, bool HasWide> struct FusedKernels {
  // Calls with the kernel of a precision and shape, if there is one.
  template <class T, class Call>
  static auto with_kernel(Precision precision, const FusedShape& shape, const Call& call) {
    if constexpr (std::is_same_v<T, Bfloat16>) {
      return with_shape<Precision::bfloat16>(shape, call);
    } else {
      return precision == Precision::single ? with_shape<Precision::single>(shape, call)
                                            : with_shape<Precision::tf32>(shape, call);
    }
  }

  template <class T, class Network>
  static size_t shared_size(Precision precision, const FusedShape& shape, const Network& net) {
    return with_kernel<T>(precision, shape, [&](auto* kernel) {
      using Chosen = std::remove_pointer_t<decltype(kernel)>;
      const bool fits = net.padded_n <= Chosen::capacity && (!net.is_gradient_step || net.padded_m <= Chosen::capacity);
      return fits ? Chosen::shared_size(net) : size_t(0);
    });
  }

  template <class T, class Network>
  static int max_active_clusters_for(const Stream& stream, Precision precision, const FusedShape& shape,
                                     const Network& net) {
    const size_t shared = shared_size<T>(precision, shape, net);
    if (shared == 0) return 0;
    return with_kernel<T>(precision, shape, [&](auto* kernel) {
      return max_active_clusters<std::remove_pointer_t<decltype(kernel)>>({1, shared, stream});
    });
  }

  template <class T, class Network>
  static const char* launch_fused(const Stream& stream, Precision precision, const FusedShape& shape,
                                  const Network& net) {
    const size_t shared = shared_size<T>(precision, shape, net);
    if (shared == 0) return "no fused kernel of this shape";
    return with_kernel<T>(precision, shape, [&](auto* kernel) {
      using Chosen = std::remove_pointer_t<decltype(kernel)>;
      const int64_t clusters = (net.batch + Chosen::samples - 1) / Chosen::samples;
      return launch<Chosen>({clusters, shared, stream}, net);
    });
  }

 private:
  template <Precision P, int RowTiles, int Blocks, int Split = 1, bool WeightsInSmem = false>
  static constexpr Kernel<P, RowTiles, 1, fused_warps, Blocks, Split, WeightsInSmem>* kernel = nullptr;

  template <Precision P, class Call> static auto with_shape(const FusedShape& shape, const Call& call) {
    const auto is = [&](int row_tiles, int blocks, bool weights_in_smem = false) {
      return shape.row_tiles == row_tiles && shape.blocks == blocks && shape.weights_in_smem == weights_in_smem;
    };
    constexpr bool half = P == Precision::bfloat16;  // whose columns take twice the registers
    if (is(1, 1)) return call(kernel<P, 1, 1>);
    if (is(1, 2)) return call(kernel<P, 1, 2>);
    if (is(1, 4)) return call(kernel<P, 1, 4>);
    if constexpr (!half) {
      if (is(2, 1)) return call(kernel<P, 2, 1>);
      if (is(2, 2)) return call(kernel<P, 2, 2>);
      if (is(2, 4)) return call(kernel<P, 2, 4>);
    }
    if constexpr (HasWide) {
      if (is(1, 8, true)) return call(kernel < P, 1, 8, half ? 4 : 2, true >);
      if (is(1, 16)) return call(kernel < P, 1, 16, half ? 8 : 4 >);
      if (is(1, 16, true)) return call(kernel < P, 1, 16, half ? 8 : 4, true >);
    }
    return decltype(call(kernel<P, 1, 1>))();
  }
};

}  // namespace fastunroll::cuda
