// The words that describe a network, for the CPU and for devices.
#pragma once
#include <cstdint>

namespace fastunroll {

enum class LinearStep : int64_t {
  affine,    // z = W1 y + W2 v
  gradient,  // z = v + W^T (step r), r = y - A v
  gram,      // z = v + step r, r = y - G v
};

enum class Scheme : int64_t { proximal_gradient, fista, admm, amp };

enum class ProxKind : int64_t {
  identity,     // z
  soft,         // sign(z) max(|z| - theta, 0)
  nonnegative,  // max(z - theta, 0)
};

// Of networks whose layers follow statistics of each sample.
enum class AdaptiveScheme : int64_t { glista, hyperlista, lamp, lvamp };
enum class AdaptiveProx : int64_t { soft, bernoulli_gaussian };
enum class Gate : int64_t { relu, inverse, exponential, sigmoid };

}  // namespace fastunroll
