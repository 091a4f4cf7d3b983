// What native code has to know of a tensor before it reads its values, asked of the Python object.
#pragma once
#include <pybind11/pybind11.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace fastunroll {

// Any object, looked at as a tensor. Where `is_plain` native code may read its values at its address: it is a Tensor or
// Parameter itself, since the values of a subclass may lie elsewhere; it lies in this processor's memory, row after
// row; its numbers are of 32 or 64 bits, real or complex; and PyTorch has postponed no negation or conjugation of it.
struct PlainTensor {
  static constexpr int most_dimensions = 8;

  bool is_plain = false;
  bool is_double = false, is_complex = false, requires_grad = false;
  std::uintptr_t address = 0;
  int dimensions = 0;
  std::array<int64_t, most_dimensions> shape{};

  explicit PlainTensor(pybind11::handle object);

  // Whether both are plain, and have one shape and type.
  bool is_like(const PlainTensor& other) const;
  int64_t count() const;
  size_t bytes() const { return size_t(count()) * (is_double ? 8 : 4) * (is_complex ? 2 : 1); }

 private:
  bool read(PyObject* tensor);
};

// Whether PyTorch traces, transforms or watches this thread's calls, of which native code must then make none. It
// cannot ask whether torch.compile does.
bool is_watched();

// Whether nothing has to see a call with plain tensors, neither PyTorch nor forward-mode differentiation.
bool is_direct();

bool requires_grad(pybind11::handle tensor);

}  // namespace fastunroll
