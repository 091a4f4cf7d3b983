// The description of a network, read by field from the dataclasses of fastunroll.ops.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "addresses.h"
#include "network_spec.h"

namespace fastunroll {

template <class T> T field(pybind11::handle from, const char* name) { return from.attr(name).cast<T>(); }

// The enumerator of a field that holds its name.
template <class Enum, size_t Count>
Enum choice(pybind11::handle from, const char* name, const char* const (&names)[Count]) {
  const auto given = field<std::string>(from, name);
  for (size_t i = 0; i < Count; ++i)
    if (given == names[i]) return Enum(i);
  throw pybind11::value_error(std::string(name) + " cannot be '" + given + "'");
}

struct NetworkSpec {
  int64_t layers, group;
  LinearStep linear;
  Scheme scheme;
  ProxKind prox;
  std::vector<int64_t> support_sizes;  // a number for each layer, or none

  explicit NetworkSpec(pybind11::handle spec)
      : layers(field<int64_t>(spec, "layers")),
        group(field<int64_t>(spec, "group")),
        linear(choice<LinearStep>(spec, "linear", {"affine", "gradient", "gram"})),
        scheme(choice<Scheme>(spec, "scheme", {"proximal_gradient", "fista", "admm", "amp"})),
        prox(choice<ProxKind>(spec, "prox", {"identity", "soft", "nonnegative"})),
        support_sizes(field<std::vector<int64_t>>(spec, "support_sizes")) {}
};

struct AdaptiveSpec {
  int64_t layers;
  AdaptiveScheme scheme;
  AdaptiveProx prox;
  Gate gate;
  std::vector<int64_t> support_sizes;

  explicit AdaptiveSpec(pybind11::handle spec)
      : layers(field<int64_t>(spec, "layers")),
        scheme(choice<AdaptiveScheme>(spec, "scheme", {"glista", "hyperlista", "lamp", "lvamp"})),
        prox(choice<AdaptiveProx>(spec, "prox", {"soft", "bernoulli_gaussian"})),
        gate(choice<Gate>(spec, "gate", {"relu", "inverse", "exponential", "sigmoid"})),
        support_sizes(field<std::vector<int64_t>>(spec, "support_sizes")) {}
};

// Keyword arguments by the names of native structs: numbers, and addresses of arrays.
class Fields {
 public:
  explicit Fields(const pybind11::kwargs& given) : given_(given) {}
  template <class T> T number(const char* name) const { return given_[name].cast<T>(); }
  template <class T> T* array(const char* name) const { return pointer<T>(number<Address>(name)); }

 private:
  const pybind11::kwargs& given_;
};

}  // namespace fastunroll
