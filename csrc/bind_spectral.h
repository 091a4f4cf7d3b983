#pragma once
#include <pybind11/pybind11.h>

// Products with operators that are diagonal in Fourier space.
void bind_spectral(pybind11::module_& module);
