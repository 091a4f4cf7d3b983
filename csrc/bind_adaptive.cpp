#include "bind_adaptive.h"

#include <pybind11/stl.h>

#include <array>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "addresses.h"
#include "fastunroll.h"
#include "interruption.h"
#include "packed_matrix.h"

namespace py = pybind11;
using namespace fastunroll;

namespace {

using Matrix = std::tuple<std::array<int64_t, 2>, Address, const PackedMatrix*, const PackedMatrix*>;

// What both passes are told: kind, option, layers, m, n, batch, values of a layer and of a sample's trace.
struct Call {
  std::array<int64_t, 8> numbers;
  std::vector<int64_t> passing;
  int threads;
  std::vector<Matrix> matrices;
  std::array<Address, 3> inputs;  // values, y, x0

  template <class T> std::vector<AdaptiveMatrix<T>> arrays() const {
    std::vector<AdaptiveMatrix<T>> found;
    for (const auto& [shape, source, packed, adjoint] : matrices)
      found.push_back({shape[0], shape[1], pointer<const T>(source), packed ? packed->template panels<T>() : nullptr,
                       adjoint ? adjoint->template panels<T>() : nullptr,
                       (packed && packed->halved()) || (adjoint && adjoint->halved())});
    return found;
  }

  template <class T> AdaptiveNetwork<T> network(const std::vector<AdaptiveMatrix<T>>& arrays) const {
    AdaptiveNetwork<T> net{Adaptive(numbers[0]),
                           numbers[1],
                           numbers[2],
                           numbers[3],
                           numbers[4],
                           numbers[5],
                           threads,
                           arrays.data(),
                           int64_t(arrays.size()),
                           pointer<const T>(inputs[0]),
                           numbers[6],
                           passing.empty() ? nullptr : passing.data(),
                           pointer<const T>(inputs[1]),
                           pointer<const T>(inputs[2]),
                           Interruption::happened};
    if (numbers[7] != adaptive_trace_size(net)) throw std::invalid_argument("a trace of this network has another size");
    return net;
  }
};

}  // namespace

void bind_adaptive(py::module_& module) {
  module.def(
      "adaptive_forward", [](bool is_double, std::array<int64_t, 8> numbers, std::vector<int64_t> passing, int threads,
                             std::vector<Matrix> matrices, std::array<Address, 3> inputs, std::array<Address, 3> out) {
        const Call call{numbers, std::move(passing), threads, std::move(matrices), inputs};
        interruptibly([&] {
          with_type(is_double, [&](auto zero) {
            using T = decltype(zero);
            const auto arrays = call.template arrays<T>();
            adaptive_forward<T>({call.network(arrays), pointer<T>(out[0]), pointer<T>(out[1]), pointer<T>(out[2])});
          });
        });
      });
  // known: x, trace, grad. out: gradients of y, x0 and values. learned: those of each W, or none.
  module.def(
      "adaptive_backward", [](bool is_double, std::array<int64_t, 8> numbers, std::vector<int64_t> passing, int threads,
                              std::vector<Matrix> matrices, std::array<Address, 3> inputs, std::array<Address, 3> known,
                              bool every_layer, std::array<Address, 3> out, std::vector<Address> learned) {
        const Call call{numbers, std::move(passing), threads, std::move(matrices), inputs};
        interruptibly([&] {
          with_type(is_double, [&](auto zero) {
            using T = decltype(zero);
            const auto arrays = call.template arrays<T>();
            std::vector<T*> of_weights;
            for (Address address : learned) of_weights.push_back(pointer<T>(address));
            adaptive_backward<T>({call.network(arrays), pointer<const T>(known[0]), pointer<const T>(known[1]),
                                  pointer<const T>(known[2]), every_layer, pointer<T>(out[0]), pointer<T>(out[1]),
                                  pointer<T>(out[2]), learned.empty() ? nullptr : of_weights.data()});
          });
        });
      });
}
