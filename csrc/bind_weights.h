#pragma once
#include <pybind11/pybind11.h>

// Pictures and weights.
void bind_weights(pybind11::module_& module);
