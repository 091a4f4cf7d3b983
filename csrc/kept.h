// What was made of a tensor of an operator is kept until that changes: whether a call may use it.
#pragma once
#include <pybind11/pybind11.h>

#include "monitor.h"
#include "plain_tensor.h"

namespace fastunroll {

// What `product()` returns, where `monitor` finds its tensor unchanged. False, and nothing is done, where that has
// changed; None where something else has to see the call, or with `records` where the tensor requires a gradient.
template <class Product>
pybind11::object of_kept(const Monitor& monitor, pybind11::handle tensor, bool records, const Product& product) {
  if (!is_direct() || (records && requires_grad(tensor))) return pybind11::none();
  pybind11::list alone(1);
  alone[0] = tensor;
  if (!monitor.is_current(alone)) return pybind11::bool_(false);
  return product();
}

}  // namespace fastunroll
