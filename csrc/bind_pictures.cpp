#include "bind_pictures.h"

#include <pybind11/stl.h>

#include <array>

#include "bind_spec.h"
#include "interruption.h"
#include "monitor.h"
#include "packed_spectrum.h"
#include "plain_tensor.h"

namespace py = pybind11;
using namespace fastunroll;

namespace {

// The layers by the names of their fields; the type of the pictures and the size of their grid are those of the
// spectrum, where there is one.
template <class T> PictureLayers<T> layers_of(const PackedSpectrum* packed, const Fields& fields) {
  Spectrum<T> spectrum{};
  if (packed) {
    spectrum = packed->get<T>();
  } else {
    spectrum.rows = fields.number<int64_t>("rows");
    spectrum.columns = fields.number<int64_t>("columns");
    spectrum.real_images = fields.number<bool>("real_images");
  }
  const PictureNormal<T> normal{spectrum,
                                fields.array<const T>("weights"),
                                fields.number<int64_t>("count"),
                                fields.number<int64_t>("repeat"),
                                fields.array<const T>("maps"),
                                fields.number<int64_t>("coils"),
                                fields.number<int64_t>("map_count"),
                                fields.number<int64_t>("map_repeat"),
                                fields.number<int64_t>("factor"),
                                fields.number<int64_t>("top"),
                                fields.number<int64_t>("left"),
                                fields.number<int64_t>("bottom"),
                                fields.number<int64_t>("right"),
                                {fields.number<bool>("is_continued"), fields.number<int64_t>("reflected_top"),
                                 fields.number<int64_t>("reflected_left"), fields.number<int64_t>("reflected_bottom"),
                                 fields.number<int64_t>("reflected_right")}};
  const PictureWavelet<T> wavelet{fields.array<const T>("low_pass"), fields.number<int64_t>("taps"),
                                  fields.number<int64_t>("levels"), fields.array<const int64_t>("moves")};
  const PictureProx<T> prox{PicturePrior(fields.number<int>("prior")),
                            T(fields.number<double>("low")),
                            T(fields.number<double>("high")),
                            fields.number<int64_t>("iterations"),
                            fields.number<int64_t>("thresholds"),
                            fields.array<const T>("filters"),
                            fields.number<int64_t>("filter_count"),
                            fields.number<int64_t>("filter_size"),
                            wavelet};
  return {fields.number<int64_t>("batch"),
          fields.number<int64_t>("layers"),
          fields.number<int>("threads"),
          normal,
          prox,
          PictureStep(fields.number<int>("linear")),
          PictureScheme(fields.number<int>("scheme")),
          fields.array<const T>("step"),
          fields.array<const T>("theta"),
          fields.array<const T>("numbers"),
          fields.array<const T>("z"),
          fields.array<const T>("x0"),
          fields.array<const T>("s0"),
          fields.array<int64_t>("unsolved"),
          Interruption::happened};
}

// Calls work(layers, fields, zero). Does nothing and returns false if the spectrum was packed for another instruction
// set.
template <class Work>
bool with_layers(bool is_double, const PackedSpectrum* packed, const py::kwargs& given, const Work& work) {
  if (packed && !packed->is_current()) return false;
  const Fields fields(given);
  const auto call = [&](auto zero) {
    const auto call_native = work(layers_of<decltype(zero)>(packed, fields), fields, zero);
    interruptibly([&] {
      py::gil_scoped_release release;
      call_native();
    });
  };
  is_double ? call(0.0) : call(0.0f);
  return true;
}

bool forward(bool is_double, const PackedSpectrum* packed, const py::kwargs& given) {
  return with_layers(is_double, packed, given, [](const auto& layers, const Fields& fields, auto zero) {
    using T = decltype(zero);
    const PictureForward<T> p{layers,
                              fields.number<int64_t>("kept"),
                              fields.array<T>("x"),
                              fields.array<T>("s"),
                              fields.number<int64_t>("saved_pictures"),
                              fields.array<T>("saved")};
    return [p] { picture_forward(p); };
  });
}

bool backward(bool is_double, const PackedSpectrum* packed, const py::kwargs& given) {
  return with_layers(is_double, packed, given, [](const auto& layers, const Fields& fields, auto zero) {
    using T = decltype(zero);
    const PictureBackward<T> p{layers,
                               fields.number<int64_t>("kept"),
                               fields.array<const T>("grad"),
                               fields.array<const T>("grad_s"),
                               fields.array<T>("to_z"),
                               fields.array<T>("to_x0"),
                               fields.array<T>("to_s0"),
                               fields.array<T>("to_step"),
                               fields.array<T>("to_theta"),
                               fields.array<T>("to_numbers"),
                               fields.array<T>("to_filters"),
                               fields.number<int64_t>("saved_pictures"),
                               fields.array<const T>("saved")};
    return [p] { picture_backward(p); };
  });
}

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

// Real pictures x by weights, and by z where it is not None. None, and nothing is done, where a tensor is not plain or
// they do not fit each other, or with `records` where one requires a gradient.
py::object weigh(int64_t weighting, py::handle weights, py::handle x, py::handle z, int threads, bool records) {
  const bool has_z = Weighting(weighting) == Weighting::difference || Weighting(weighting) == Weighting::twice;
  const PlainTensor from(x);
  if (has_z == z.is_none() || !from.is_plain || from.is_complex || from.count() == 0 || (records && from.requires_grad))
    return py::none();
  const PlainTensor w(weights);
  std::array<int64_t, 3> layout;
  if (!w.is_plain || w.is_complex || w.is_double != from.is_double || (records && w.requires_grad) ||
      !are_a_line(w, from, layout))
    return py::none();
  Address minus = 0;
  if (has_z) {
    const PlainTensor other(z);
    if (!other.is_like(from) || (records && other.requires_grad)) return py::none();
    minus = other.address;
  }
  py::object out = empty_like(x);
  const Address to = address_of(out.ptr());
  with_type(from.is_double, [&](auto zero) {
    using T = decltype(zero);
    weighted<T>({layout[0], layout[1], layout[2], threads, Weighting(weighting), pointer<const T>(w.address),
                 pointer<const T>(from.address), pointer<const T>(minus), pointer<T>(to)});
  });
  return out;
}

}  // namespace

// The spectrum of the normal operator, or None where it has weights; then the layers by their fields.
void bind_pictures(py::module_& module) {
  module.def("picture_forward", forward);
  module.def("picture_backward", backward);
  module.def("weigh", weigh);
  module.def("is_watched", &is_watched);
}
