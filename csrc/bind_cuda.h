#pragma once
#include <pybind11/pybind11.h>

// Puts the kernels of a device into a module.
void bind_cuda(pybind11::module_ module);
