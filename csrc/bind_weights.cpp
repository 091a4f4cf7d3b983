#include "bind_weights.h"

#include <array>
#include <utility>

#include "addresses.h"
#include "fastunroll.h"
#include "kept.h"
#include "plain_tensor.h"
#include "results.h"

namespace py = pybind11;
using namespace fastunroll;

namespace {

// The weights of x as (outer, middle, inner), with one for each middle index. False where they broadcast in another
// way.
bool are_a_line(const PlainTensor& weights, const PlainTensor& x, std::array<int64_t, 3>& layout) {
  const int added = x.dimensions - weights.dimensions;
  if (added < 0) return false;
  const auto size = [&](int i) { return i < added ? 1 : weights.shape[size_t(i - added)]; };
  int first = 0, last = x.dimensions;
  while (last > 0 && size(last - 1) == 1) --last;
  while (first < last && size(first) == 1) ++first;
  layout = {1, 1, 1};
  for (int i = 0; i < x.dimensions; ++i) {
    const int64_t length = x.shape[size_t(i)];
    if (first <= i && i < last && size(i) != length) return false;
    layout[i < first ? 0 : i < last ? 1 : 2] *= length;
  }
  if (first == last) layout = {1, 1, layout[0] * layout[2]};
  return true;
}

// Real pictures x by weights, and by z where it is not None, and by a number rho that only a data step reads. None, and
// nothing is done, where a tensor is not plain or they do not fit each other, or with `records` where one requires a
// gradient.
py::object weigh(int64_t weighting, const PlainTensor& w, py::handle x, py::handle z, double rho, int threads,
                 bool records) {
  const bool has_z = Weighting(weighting) != Weighting::product && Weighting(weighting) != Weighting::quotient;
  const PlainTensor from(x);
  std::array<int64_t, 3> layout;
  if (has_z == z.is_none() || !from.is_plain || from.is_complex || from.count() == 0 || !w.is_plain || w.is_complex ||
      w.is_double != from.is_double || (records && (from.requires_grad || w.requires_grad)) ||
      !are_a_line(w, from, layout))
    return py::none();
  Address minus = 0;
  if (has_z) {
    const PlainTensor other(z);
    if (!other.is_like(from) || (records && other.requires_grad)) return py::none();
    minus = other.address;
  }
  py::object out = result_like(x, from);
  const Address to = address_of(out.ptr());
  with_type(from.is_double, [&](auto zero) {
    using T = decltype(zero);
    weighted<T>({layout[0], layout[1], layout[2], threads, Weighting(weighting), T(rho), pointer<const T>(w.address),
                 pointer<const T>(from.address), pointer<const T>(minus), pointer<T>(to)});
  });
  return out;
}

// Weights that were made of a tensor of an operator.
class KeptWeights {
 public:
  explicit KeptWeights(py::object weights) : look_(weights), weights_(std::move(weights)) {}

  py::object weigh(const Monitor& monitor, py::handle tensor, int64_t weighting, py::handle x, py::handle z, double rho,
                   int threads, bool records) const {
    return of_kept(monitor, tensor, records, [&] { return ::weigh(weighting, look_, x, z, rho, threads, records); });
  }

 private:
  PlainTensor look_;
  py::object weights_;
};

}  // namespace

void bind_weights(py::module_& module) {
  module.def("weigh", [](int64_t weighting, py::handle weights, py::handle x, py::handle z, int threads, bool records) {
    return is_direct() ? weigh(weighting, PlainTensor(weights), x, z, 0.0, threads, records) : py::none();
  });
  py::class_<KeptWeights>(module, "KeptWeights").def(py::init<py::object>()).def("weigh", &KeptWeights::weigh);
}
