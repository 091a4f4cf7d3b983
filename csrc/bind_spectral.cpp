#include "bind_spectral.h"

#include <pybind11/stl.h>

#include <array>

#include "interruption.h"
#include "packed_spectrum.h"

namespace py = pybind11;
using namespace fastunroll;

namespace {

// tensors: x, z, maps, y. maps: coils, number of sets of maps, images in a row with the same set. Does nothing and
// returns false if d was packed for another instruction set.
bool apply(const PackedSpectrum& d, int64_t batch, int threads, bool adjoint, int64_t repeat,
           std::array<int64_t, 3> maps, std::array<Address, 4> tensors) {
  if (!d.is_current()) return false;
  interruptibly([&] {
    with_type(d.is_double(), [&](auto zero) {
      using T = decltype(zero);
      fourier_filter<T>({d.get<T>(), batch, threads, adjoint, repeat, pointer<const T>(tensors[0]),
                         pointer<const T>(tensors[1]), pointer<const T>(tensors[2]), maps[0], maps[1], maps[2],
                         Interruption::happened, pointer<T>(tensors[3])});
    });
  });
  return true;
}

}  // namespace

void bind_spectral(py::module_& module) {
  py::class_<PackedSpectrum>(module, "PackedSpectrum")
      .def(py::init<bool, std::array<int64_t, 3>, bool, bool, bool, int, Address>())
      .def("apply", apply);
}
