// Tensors as Python hands them over: addresses of elements of one type.
#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>

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
