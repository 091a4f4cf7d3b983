#pragma once
#include <pybind11/pybind11.h>

// Networks whose layers follow statistics of each sample.
void bind_adaptive(pybind11::module_& module);
