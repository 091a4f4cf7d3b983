// Tensors for the results of calls whose tensors arrive as they are.
#pragma once
#include <pybind11/pybind11.h>

#include "plain_tensor.h"
#include "tensors.h"

namespace fastunroll {

// Bytes from which a result takes fresh memory. A filter leaves it to Python, which says where there is too little.
constexpr size_t huge_result = size_t(1) << 30;

// A DLPack capsule. The library that takes the tensor renames it.
pybind11::object capsule_of(dlpack::ManagedTensor* tensor);

// An uninitialised tensor of the shape and type of a plain one, `like`, which is looked at as `look`. One of `large`
// bytes or more takes memory that earlier ones gave back, but for huge ones.
pybind11::object result_like(pybind11::handle like, const PlainTensor& look, size_t large = large_result);

}  // namespace fastunroll
