#include "bind_pictures.h"

#include <pybind11/stl.h>

#include <array>
#include <vector>

#include "bind_spec.h"
#include "interruption.h"
#include "monitor.h"
#include "packed_spectrum.h"
#include "plain_tensor.h"
#include "wavelet_transform.h"

namespace py = pybind11;
using namespace fastunroll;

namespace {

Margins margins_of(const Fields& fields, const char* name) {
  const auto [top, left, bottom, right] = fields.number<std::array<int64_t, 4>>(name);
  return {top, left, bottom, right};
}

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
                                margins_of(fields, "margins"),
                                margins_of(fields, "around"),
                                margins_of(fields, "copied"),
                                fields.number<bool>("periodic")};
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
          T(fields.number<double>("relaxation")),
          fields.array<const T>("step"),
          fields.array<const T>("theta"),
          fields.array<const T>("numbers"),
          fields.number<int64_t>("theta_count"),
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

// shape: batch, rows, columns. tensors: x, y.
void transform(bool is_double, std::array<int64_t, 3> shape, bool is_real, const std::vector<double>& low_pass,
               int64_t levels, bool adjoint, int threads, std::array<Address, 2> tensors) {
  interruptibly([&] {
    with_type(is_double, [&](auto zero) {
      using T = decltype(zero);
      const std::vector<T> low(low_pass.begin(), low_pass.end());
      constexpr int64_t at_rest[2] = {0, 0};
      wavelet_transform<T>({shape[0], shape[1], shape[2], is_real, threads,
                            PictureWavelet<T>{low.data(), int64_t(low.size()), levels, at_rest}, adjoint,
                            Interruption::happened, pointer<const T>(tensors[0]), pointer<T>(tensors[1])});
    });
  });
}

}  // namespace

// The spectrum of the normal operator, or None where it has weights; then the layers by their fields.
void bind_pictures(py::module_& module) {
  module.def("picture_forward", forward);
  module.def("picture_backward", backward);
  module.def("wavelet_transform", transform);
}
