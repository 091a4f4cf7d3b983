#pragma once
#include <pybind11/pybind11.h>

// Layers over a matrix for each sample.
void bind_samples(pybind11::module_& module);
