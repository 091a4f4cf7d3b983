#pragma once
#include <pybind11/pybind11.h>

// Layers over pictures, and the wavelet transform.
void bind_pictures(pybind11::module_& module);
