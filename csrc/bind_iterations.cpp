#include "bind_iterations.h"

#include <pybind11/stl.h>

#include <array>

#include "addresses.h"
#include "fastunroll.h"
#include "interruption.h"

namespace py = pybind11;
using namespace fastunroll;

void bind_iterations(py::module_& module) {
  // shape: batch, m, n, and the rows and columns of lam. state: x, other, g_other, momentum, gap, made.
  module.def("proximal_gradient", [](bool is_double, std::array<int64_t, 5> shape, int threads, int64_t iterations,
                                     int64_t every, bool restarts, bool monotone, bool nonnegative, double step,
                                     double tol, Address a, Address y, Address lam, std::array<Address, 6> state) {
    interruptibly([&] {
      with_type(is_double, [&](auto zero) {
        using T = decltype(zero);
        proximal_gradient<T>({shape[0],
                              shape[1],
                              shape[2],
                              threads,
                              iterations,
                              every,
                              restarts,
                              monotone,
                              nonnegative,
                              T(step),
                              T(tol),
                              pointer<const T>(a),
                              pointer<const T>(y),
                              pointer<const T>(lam),
                              shape[3],
                              shape[4],
                              Interruption::happened,
                              pointer<T>(state[0]),
                              pointer<T>(state[1]),
                              pointer<T>(state[2]),
                              pointer<double>(state[3]),
                              pointer<T>(state[4]),
                              pointer<int64_t>(state[5])});
      });
    });
  });
  // shape: outer, middle, inner. tensors: x, other, slope, theta, out.
  module.def("step_ahead", [](bool is_double, std::array<int64_t, 3> shape, int threads, bool nonnegative, double beta,
                              double step, std::array<Address, 5> tensors) {
    with_type(is_double, [&](auto zero) {
      using T = decltype(zero);
      step_ahead<T>({shape[0], shape[1], shape[2], threads, nonnegative, T(beta), T(step), pointer<const T>(tensors[0]),
                     pointer<const T>(tensors[1]), pointer<const T>(tensors[2]), pointer<const T>(tensors[3]),
                     pointer<T>(tensors[4])});
    });
  });
  // tensors: product, y, before, residual, ahead.
  module.def("residual_ahead",
             [](bool is_double, int64_t count, int threads, double beta, std::array<Address, 5> tensors) {
               with_type(is_double, [&](auto zero) {
                 using T = decltype(zero);
                 residual_ahead<T>({count, threads, T(beta), pointer<const T>(tensors[0]), pointer<const T>(tensors[1]),
                                    pointer<const T>(tensors[2]), pointer<T>(tensors[3]), pointer<T>(tensors[4])});
               });
             });
}
