#include "bind_spectral.h"

#include <pybind11/stl.h>

#include <array>
#include <memory>

#include "addresses.h"
#include "cpu/workspace.h"
#include "fastunroll.h"
#include "interruption.h"

namespace py = pybind11;
using namespace fastunroll;

namespace {

// The numbers d of a product F^-1 diag(d) F x as kernels read them.
class PackedSpectrum {
 public:
  // shape: the count of spectra, rows and columns of an image.
  PackedSpectrum(bool is_double, std::array<int64_t, 3> shape, bool real_images, bool complex, bool of_rows,
                 int threads, Address d)
      : is_double_(is_double), shape_(shape), real_images_(real_images), complex_(complex), of_rows_(of_rows) {
    with_type(is_double, [&](auto zero) {
      using T = decltype(zero);
      Spectrum<T> spectrum = get<T>();
      spectrum.threads = threads;
      spectrum.d = pointer<const T>(d);
      memory_ = std::make_unique<Block>(size_t(shape_[0] * spectrum_packed_size(spectrum)) * sizeof(T));
      spectrum.packed = reinterpret_cast<T*>(memory_->data());
      spectrum_pack(spectrum);
    });
  }

  // tensors: x, z, maps, y. maps: coils, number of sets of maps, images in a row with the same set. Does nothing and
  // returns false if d was packed for another instruction set.
  bool apply(int64_t batch, int threads, bool adjoint, int64_t repeat, std::array<int64_t, 3> maps,
             std::array<Address, 4> tensors) const {
    if (set_ != instruction_set()) return false;
    interruptibly([&] {
      with_type(is_double_, [&](auto zero) {
        using T = decltype(zero);
        fourier_filter<T>({get<T>(), batch, threads, adjoint, repeat, pointer<const T>(tensors[0]),
                           pointer<const T>(tensors[1]), pointer<const T>(tensors[2]), maps[0], maps[1], maps[2],
                           Interruption::happened, pointer<T>(tensors[3])});
      });
    });
    return true;
  }

 private:
  template <class T> Spectrum<T> get() const {
    T* packed = memory_ ? reinterpret_cast<T*>(memory_->data()) : nullptr;
    return {shape_[0], shape_[1], shape_[2], real_images_, complex_, of_rows_, 1, nullptr, packed};
  }

  const char* set_ = instruction_set();
  bool is_double_;
  std::array<int64_t, 3> shape_;
  bool real_images_, complex_, of_rows_;
  std::unique_ptr<Block> memory_;
};

}  // namespace

void bind_spectral(py::module_& module) {
  py::class_<PackedSpectrum>(module, "PackedSpectrum")
      .def(py::init<bool, std::array<int64_t, 3>, bool, bool, bool, int, Address>())
      .def("apply", &PackedSpectrum::apply);
}
