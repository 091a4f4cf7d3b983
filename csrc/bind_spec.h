// The description of a network, read by field from the dataclasses of fastunroll.ops.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "network_spec.h"

namespace fastunroll {

struct NetworkSpec {
  int64_t layers, group;
  LinearStep linear;
  Scheme scheme;
  ProxKind prox;
  std::vector<int64_t> support_sizes;  // a number for each layer, or none

  int64_t support_size(int64_t layer) const { return support_sizes.empty() ? 0 : support_sizes[size_t(layer)]; }
};

struct AdaptiveSpec {
  int64_t layers;
  AdaptiveScheme scheme;
  AdaptiveProx prox;
  Gate gate;
  std::vector<int64_t> support_sizes;
};

template <class T> T field(pybind11::handle from, const char* name) { return from.attr(name).cast<T>(); }

// The enumerator of a field that holds its name.
template <class Enum, size_t Count>
Enum choice(pybind11::handle from, const char* name, const char* const (&names)[Count]) {
  const auto given = field<std::string>(from, name);
  for (size_t i = 0; i < Count; ++i)
    if (given == names[i]) return Enum(i);
  throw pybind11::value_error(std::string(name) + " cannot be '" + given + "'");
}

}  // namespace fastunroll

namespace pybind11::detail {

template <> struct type_caster<fastunroll::NetworkSpec> {
  PYBIND11_TYPE_CASTER(fastunroll::NetworkSpec, const_name("NetworkSpec"));

  bool load(handle from, bool) {
    using namespace fastunroll;
    value.layers = field<int64_t>(from, "layers");
    value.group = field<int64_t>(from, "group");
    value.linear = choice<LinearStep>(from, "linear", {"affine", "gradient", "gram"});
    value.scheme = choice<Scheme>(from, "scheme", {"proximal_gradient", "fista", "admm", "amp"});
    value.prox = choice<ProxKind>(from, "prox", {"identity", "soft", "nonnegative"});
    value.support_sizes = field<std::vector<int64_t>>(from, "support_sizes");
    return true;
  }
};

template <> struct type_caster<fastunroll::AdaptiveSpec> {
  PYBIND11_TYPE_CASTER(fastunroll::AdaptiveSpec, const_name("AdaptiveSpec"));

  bool load(handle from, bool) {
    using namespace fastunroll;
    value.layers = field<int64_t>(from, "layers");
    value.scheme = choice<AdaptiveScheme>(from, "scheme", {"glista", "hyperlista", "lamp", "lvamp"});
    value.prox = choice<AdaptiveProx>(from, "prox", {"soft", "bernoulli_gaussian"});
    value.gate = choice<Gate>(from, "gate", {"relu", "inverse", "exponential", "sigmoid"});
    value.support_sizes = field<std::vector<int64_t>>(from, "support_sizes");
    return true;
  }
};

}  // namespace pybind11::detail
