// Tensors arrive from Python as addresses, with their element type.
#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>

namespace fastunroll {

using Address = std::uintptr_t;

template <class T> T* pointer(Address a) { return reinterpret_cast<T*>(a); }

// Runs `call` with a zero of the element type, without the interpreter's lock.
template <class Call> void with_type(bool is_double, const Call& call) {
  pybind11::gil_scoped_release release;
  if (is_double)
    call(0.0);
  else
    call(0.0f);
}

}  // namespace fastunroll
