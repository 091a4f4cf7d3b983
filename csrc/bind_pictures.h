#pragma once
#include <pybind11/pybind11.h>

// Layers over pictures.
void bind_pictures(pybind11::module_& module);
