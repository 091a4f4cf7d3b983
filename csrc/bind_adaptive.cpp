#include "bind_adaptive.h"

#include <pybind11/stl.h>

#include <array>
#include <stdexcept>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "addresses.h"
#include "bind_spec.h"
#include "fastunroll.h"
#include "interruption.h"
#include "packed_matrix.h"

namespace py = pybind11;
using namespace fastunroll;

namespace {

using Matrix = std::tuple<std::array<int64_t, 2>, Address, const PackedMatrix*, const PackedMatrix*>;

// A network over parameters of Python tensors, which it does not own: valid while they stay where they are.
class AdaptiveView {
 public:
  AdaptiveView(bool is_double, py::handle spec, const py::kwargs& kwargs)
      : is_double_(is_double),
        spec_(spec),
        packed_(kwargs["matrices"]),
        matrices_(packed_.cast<std::vector<Matrix>>()) {
    const Fields of(kwargs);
    m_ = of.number<int64_t>("m"), n_ = of.number<int64_t>("n");
    saved_size_ = of.number<int64_t>("saved_size"), value_count_ = of.number<int64_t>("value_count");
    values_ = of.number<Address>("values");
  }

  void forward(int64_t batch, int threads, Address y, Address x0, Address x, Address last, Address saved) const {
    with_network(batch, threads, y, x0, [&](const auto& net, auto zero) {
      using T = decltype(zero);
      adaptive_forward<T>({net, pointer<T>(x), pointer<T>(last), pointer<T>(saved)});
    });
  }

  void backward(int64_t batch, int threads, Address y, Address x0, const py::kwargs& kwargs) const {
    const Fields of(kwargs);
    const auto grad_W = of.number<std::vector<Address>>("grad_W");
    const Address x = of.number<Address>("x"), saved = of.number<Address>("saved"), grad = of.number<Address>("grad"),
                  grad_y = of.number<Address>("grad_y"), grad_x0 = of.number<Address>("grad_x0"),
                  grad_values = of.number<Address>("grad_values");
    const bool every_layer = of.number<bool>("every_layer");
    with_network(batch, threads, y, x0, [&](const auto& net, auto zero) {
      using T = decltype(zero);
      std::vector<T*> of_W;
      for (Address address : grad_W) of_W.push_back(pointer<T>(address));
      adaptive_backward<T>({net, pointer<const T>(x), pointer<const T>(saved), pointer<const T>(grad), every_layer,
                            pointer<T>(grad_y), pointer<T>(grad_x0), pointer<T>(grad_values),
                            of_W.empty() ? nullptr : of_W.data()});
    });
  }

 private:
  // Calls with the network and a zero of its element type, without the interpreter's lock.
  template <class Call> void with_network(int64_t batch, int threads, Address y, Address x0, const Call& call) const {
    interruptibly([&] {
      with_type(is_double_, [&](auto zero) {
        using T = decltype(zero);
        const auto matrices = matrices_of<T>();
        const AdaptiveNetwork<T> net{spec_.scheme,
                                     spec_.prox,
                                     spec_.gate,
                                     spec_.layers,
                                     m_,
                                     n_,
                                     batch,
                                     threads,
                                     matrices.data(),
                                     int64_t(matrices.size()),
                                     pointer<const T>(values_),
                                     value_count_,
                                     spec_.support_sizes.empty() ? nullptr : spec_.support_sizes.data(),
                                     pointer<const T>(y),
                                     pointer<const T>(x0),
                                     Interruption::happened};
        if (saved_size_ != adaptive_saved_size(net))
          throw std::invalid_argument("the saved values of this network have another size");
        call(net, zero);
      });
    });
  }

  template <class T> std::vector<AdaptiveMatrix<T>> matrices_of() const {
    std::vector<AdaptiveMatrix<T>> found;
    for (const auto& [shape, source, packed, adjoint] : matrices_)
      found.push_back({shape[0], shape[1], pointer<const T>(source), packed ? packed->template panels<T>() : nullptr,
                       adjoint ? adjoint->template panels<T>() : nullptr,
                       (packed && packed->bfloat16()) || (adjoint && adjoint->bfloat16())});
    return found;
  }

  bool is_double_;
  AdaptiveSpec spec_;
  int64_t m_, n_, saved_size_;
  Address values_;
  int64_t value_count_;
  py::object packed_;  // keeps the packed matrices alive
  std::vector<Matrix> matrices_;
};

}  // namespace

void bind_adaptive(py::module_& module) {
  py::class_<AdaptiveView>(module, "AdaptiveNetwork")
      .def(py::init<bool, py::handle, const py::kwargs&>())
      .def("forward", &AdaptiveView::forward)
      .def("backward", &AdaptiveView::backward);
}
