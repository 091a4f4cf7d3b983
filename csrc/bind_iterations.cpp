#include "bind_iterations.h"

#include <pybind11/stl.h>

#include <array>
#include <memory>
#include <utility>

#include "addresses.h"
#include "fastunroll.h"
#include "interruption.h"
#include "monitor.h"
#include "plain_tensor.h"
#include "results.h"

namespace py = pybind11;
using namespace fastunroll;

namespace {

// Bytes from which glibc takes fresh pages for each tensor of PyTorch. Below it the results of passes and what products
// need for a while share memory, of which more stays in the caches.
constexpr size_t mapped_result = size_t(32) << 20;

// ISTA or FISTA over an operator whose products Python makes: a pass after each product, which looks at it itself.
class OperatorPasses {
 public:
  // x: the start. residual: A x - y there. theta: `layout` is x as (outer, middle, inner), with a value for each middle
  // index. All are real and of one type.
  OperatorPasses(py::object x, py::object y, py::object residual, py::object theta, std::array<int64_t, 3> layout,
                 double step, bool nonnegative)
      : like_x_(x),
        like_y_(y),
        x_(x),
        before_(x),
        y_(std::move(y)),
        residual_(std::move(residual)),
        theta_(std::move(theta)),
        layout_(layout),
        step_(step),
        nonnegative_(nonnegative) {}

  // Whether native code may read them.
  bool fit() const {
    return like_x_.is_plain && like_y_.is_plain && PlainTensor(residual_).is_like(like_y_) &&
           PlainTensor(theta_).is_plain && like_x_.is_double == like_y_.is_double && !like_x_.is_complex &&
           !like_y_.is_complex;
  }

  // The next iterate P(v - step slope), v = x + beta (x - before). None, and nothing is done, where the slope is no
  // plain tensor of the shape and type of x, or requires a gradient.
  py::object iterate(py::handle slope, double beta, int threads) {
    const PlainTensor given(slope);
    if (!given.is_like(like_x_) || given.requires_grad) return py::none();
    py::object out = result_like(x_, like_x_, mapped_result);
    const Address x = address_of(x_.ptr()), before = address_of(before_.ptr()), theta = address_of(theta_.ptr()),
                  next = address_of(out.ptr());
    with_type(given.is_double, [&](auto zero) {
      using T = decltype(zero);
      step_ahead<T>({layout_[0], layout_[1], layout_[2], threads, nonnegative_, T(beta), T(step_), pointer<const T>(x),
                     pointer<const T>(before), pointer<const T>(given.address), pointer<const T>(theta),
                     pointer<T>(next)});
    });
    before_ = std::exchange(x_, out);
    return out;
  }

  // The residual at the next v, from A x at the new iterate. None likewise, where that is not of the shape and type of
  // y.
  py::object residual_at(py::handle product, double beta, int threads) {
    const PlainTensor given(product);
    if (!given.is_like(like_y_) || given.requires_grad) return py::none();
    py::object out = result_like(y_, like_y_, mapped_result);
    py::object residual = is_own_ ? residual_ : result_like(y_, like_y_, mapped_result);
    const Address y = address_of(y_.ptr()), before = address_of(residual_.ptr()), next = address_of(residual.ptr()),
                  ahead = address_of(out.ptr());
    with_type(given.is_double, [&](auto zero) {
      using T = decltype(zero);
      residual_ahead<T>({given.count(), threads, T(beta), pointer<const T>(given.address), pointer<const T>(y),
                         pointer<const T>(before), pointer<T>(next), pointer<T>(ahead)});
    });
    residual_ = residual;
    is_own_ = true;
    return out;
  }

  // A x - y at the iterate. Who has it may keep it: the next one is another tensor.
  py::object residual() {
    is_own_ = false;
    return residual_;
  }

 private:
  PlainTensor like_x_, like_y_;
  py::object x_, before_, y_, residual_, theta_;
  std::array<int64_t, 3> layout_;
  double step_;
  bool nonnegative_;
  bool is_own_ = false;  // whether the residual is a tensor that a pass has made, and may write to
};

}  // namespace

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
  py::class_<OperatorPasses>(module, "OperatorPasses")
      .def("iterate", &OperatorPasses::iterate)
      .def("residual_at", &OperatorPasses::residual_at)
      .def_property_readonly("residual", &OperatorPasses::residual);
  module.def("operator_passes", [](py::object x, py::object y, py::object residual, py::object theta,
                                   std::array<int64_t, 3> layout, double step, bool nonnegative) {
    auto passes = std::make_unique<OperatorPasses>(x, y, residual, theta, layout, step, nonnegative);
    return passes->fit() ? py::cast(std::move(passes)) : py::none();
  });
}
