// Layers over a matrix for each sample, and their gradient.
#pragma once
#include <cstdint>

#include "network_spec.h"

namespace fastunroll {

// Layers over a matrix for each sample: v = x + beta (x - before), r = y - A v, x = P(v + step A^T r). The first layer
// has before = x.
template <class T> struct SampleLayers {
  int64_t batch, m, n, layers;
  int64_t thetas;  // 1, or n: the values of theta of each layer
  int threads;
  ProxKind prox_kind;
  const T* a;                    // (batch, m, n)
  const T *step, *theta, *beta;  // (layers), (layers, thetas), (layers); beta is null for zero
  const T* x0;                   // (batch, n), or null for zero
  bool (*interrupted)();         // as in Forward
};

template <class T> struct SampleForward {
  SampleLayers<T> of;
  int64_t kept;
  const T* y;    // (batch, m)
  T* x;          // (kept, batch, n): the last layers
  T* residuals;  // (layers, batch, m), or null
};

// The gradients, from those of all layers. The ones of step, theta and beta are those of each sample. A gradient that
// nobody needs is null.
template <class T> struct SampleBackward {
  SampleLayers<T> of;
  const T *x, *residuals;  // those of Forward, where all layers are kept
  const T* grad;           // (layers, batch, n)
  T *a, *y, *x0;           // as what they are the gradients of
  T *step, *theta, *beta;  // (layers, batch), (layers, batch, thetas), (layers, batch)
};

template <class T> void sample_forward(const SampleForward<T>&);
template <class T> void sample_backward(const SampleBackward<T>&);

}  // namespace fastunroll
