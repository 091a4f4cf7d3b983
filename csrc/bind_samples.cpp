#include "bind_samples.h"

#include <pybind11/stl.h>

#include <array>

#include "addresses.h"
#include "fastunroll.h"
#include "interruption.h"

namespace py = pybind11;
using namespace fastunroll;

namespace {

// shape: batch, m, n, layers, values of theta. tensors: A, step, theta, beta, x0.
template <class T>
SampleLayers<T> layers_of(std::array<int64_t, 5> shape, int threads, int64_t prox, std::array<Address, 5> tensors) {
  return {shape[0],
          shape[1],
          shape[2],
          shape[3],
          shape[4],
          threads,
          ProxKind(prox),
          pointer<const T>(tensors[0]),
          pointer<const T>(tensors[1]),
          pointer<const T>(tensors[2]),
          pointer<const T>(tensors[3]),
          pointer<const T>(tensors[4]),
          Interruption::happened};
}

}  // namespace

void bind_samples(py::module_& module) {
  // results: y, x, residuals.
  module.def("sample_forward", [](bool is_double, std::array<int64_t, 5> shape, int threads, int64_t prox,
                                  std::array<Address, 5> tensors, int64_t kept, std::array<Address, 3> results) {
    interruptibly([&] {
      with_type(is_double, [&](auto zero) {
        using T = decltype(zero);
        sample_forward<T>({layers_of<T>(shape, threads, prox, tensors), kept, pointer<const T>(results[0]),
                           pointer<T>(results[1]), pointer<T>(results[2])});
      });
    });
  });
  // saved: x, residuals, and the gradient of x. gradients: A, y, x0, step, theta, beta.
  module.def("sample_backward",
             [](bool is_double, std::array<int64_t, 5> shape, int threads, int64_t prox, std::array<Address, 5> tensors,
                std::array<Address, 3> saved, std::array<Address, 6> gradients) {
               interruptibly([&] {
                 with_type(is_double, [&](auto zero) {
                   using T = decltype(zero);
                   sample_backward<T>({layers_of<T>(shape, threads, prox, tensors), pointer<const T>(saved[0]),
                                       pointer<const T>(saved[1]), pointer<const T>(saved[2]), pointer<T>(gradients[0]),
                                       pointer<T>(gradients[1]), pointer<T>(gradients[2]), pointer<T>(gradients[3]),
                                       pointer<T>(gradients[4]), pointer<T>(gradients[5])});
                 });
               });
             });
}
