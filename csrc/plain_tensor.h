// What native code has to know of a tensor before it reads its values, asked of the Python object.
#pragma once
#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>

#include "tensors.h"

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
  size_t bytes() const;

 private:
  bool read(PyObject* tensor);
};

// Whether PyTorch traces, transforms or watches this thread's calls, of which native code must then make none. It
// cannot ask whether torch.compile does.
bool is_watched();

// An uninitialised tensor of the shape and type of a contiguous one.
pybind11::object empty_like(pybind11::handle tensor);

// A DLPack capsule. The library that takes the tensor renames it.
pybind11::object capsule_of(dlpack::ManagedTensor* tensor);

// The same as empty_like: a large one takes memory that earlier ones gave back. `like`: what is known of the tensor.
pybind11::object result_like(pybind11::handle tensor, const PlainTensor& like);

}  // namespace fastunroll
