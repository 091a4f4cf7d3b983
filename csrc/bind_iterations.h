#pragma once
#include <pybind11/pybind11.h>

// The iterations of classical solvers.
void bind_iterations(pybind11::module_& module);
