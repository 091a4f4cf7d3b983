// The numbers d of a product F^-1 diag(d) F x as kernels read them.
#pragma once
#include <array>
#include <memory>

#include "addresses.h"
#include "cpu/workspace.h"
#include "fastunroll.h"

namespace fastunroll {

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

  bool is_double() const { return is_double_; }
  // Whether it was packed for the instruction set in use.
  bool is_current() const { return set_ == instruction_set(); }
  template <class T> Spectrum<T> get() const {
    T* packed = memory_ ? reinterpret_cast<T*>(memory_->data()) : nullptr;
    return {shape_[0], shape_[1], shape_[2], real_images_, complex_, of_rows_, 1, nullptr, packed};
  }

 private:
  const char* set_ = instruction_set();
  bool is_double_;
  std::array<int64_t, 3> shape_;
  bool real_images_, complex_, of_rows_;
  std::unique_ptr<Block> memory_;
};

}  // namespace fastunroll
