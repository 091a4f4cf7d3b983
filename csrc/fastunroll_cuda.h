// The native interface to the kernels of a device. The same kernels run on the host, emulated, for tests.
//
// Arrays lie on the device, row-major and contiguous, samples first. A function returns at once, its kernel queued on
// the stream: null, or one sentence of what went wrong. It allocates nothing and waits for nothing.
#pragma once
#include <cstddef>

#include "fastunroll.h"

namespace fastunroll::cuda {

// 16 bits as memory holds them. Kernels compute with float.
struct Bfloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

template <class T> struct ComputedWith {
  using type = float;
};
template <> struct ComputedWith<double> {
  using type = double;
};
template <class T> using Computed = typename ComputedWith<T>::type;

struct Stream {
  int device;
  void* handle;  // null for the default one
};

struct Device {
  int processors;
  bool clusters;  // whether blocks can share their memory
};
const char* describe(int device, Device*);

enum class State : int64_t { none, momentum, splitting, onsager };

// A layer as every sample sees it; fastunroll.h says what it computes. Pointers that are null are not given.
template <class T> struct Layer {
  int m, n, group, passing;
  Shrinkage shrinkage;
  State state;
  const T* theta;  // 1 or n / group values
  int theta_size;
  const T *gain, *blend;  // a value
};

// All that a layer does beside its products. The linear step is step z + start.
template <class T> struct LayerEnd {
  Layer<T> layer;
  const T* z;         // (batch, n): a product
  const T* step;      // a value; 1 if null
  const T* start;     // (batch, n)
  const T* before;    // momentum: x before the layer, (batch, n)
  const T* residual;  // Onsager: r, (batch, m)
  const T* y;         // Onsager: (batch, m)
  const T* next;      // momentum: the blend of the next layer
  T* x;               // (batch, n): x+
  T* input;           // (batch, n): v of the next layer; Onsager: y + s+, (batch, m), where its residual starts
  T* s;               // splitting: s, which becomes s+; Onsager: s+, (batch, m)
  T* moved;           // splitting: z - x+ for the gradient, rows of 2 n
  uint8_t* passed;    // (batch, n / group): 1 where support selection lets one pass; or null
};

// From the gradient of a layer's output, and what the layer above found for its own input, to that of the linear step.
template <class T> struct ProxGradient {
  Layer<T> layer;
  const T* entering;      // (batch, n): the gradient that the caller gives for x+
  const T* above;         // (batch, n): that of the input v of the layer above
  const T* bent;          // momentum: the blend of the layer above
  const T* x;             // (batch, n): x+
  const T* before;        // momentum: x of the layer before, for the blend of the layer above
  const T* residual;      // Onsager, (batch, m)
  const T* moved;         // splitting: z - x+, rows of 2 n
  const uint8_t* passed;  // (batch, n / group): as end_layer left it
  T* g_s;  // the gradient of s+, which becomes that of s where s is not r's: (batch, n), Onsager (batch, m)
  T* g;    // (batch, n): the gradient of z
  // Of small parameters, a number or a row for each sample.
  Computed<T>* to_theta;     // (batch, theta_size)
  Computed<T>* to_gain;      // (batch): times the gain
  Computed<T>* to_blend;     // (batch): splitting, for this layer
  Computed<T>* to_bent;      // (batch): momentum, for the layer above
  Computed<T>*share, *pull;  // (batch): Onsager, what of s+ and of r the gradient of r gets
};

// Coupled: z = v + W^T (t r) with r = y - A v [+ s]. From h = W g to the gradient of r, which is also that of y, and
// minus that of A v.
template <class T> struct ResidualGradient {
  int m;
  const T* h;         // (batch, m)
  const T* residual;  // (batch, m)
  const T* step;      // 1 or m values
  int step_size;
  const Computed<T>*share, *pull;  // (batch): Onsager
  T* g_s;                          // (batch, m): Onsager
  T* g_y;                          // (batch, m), added to
  T* minus;                        // (batch, m)
  T* scaled;                       // (batch, m): t r
  Computed<T>* to_step;            // (batch, step_size)
};

// single: three products of tf32, which together have the precision of float. Sums are float in all of them.
enum class Precision : int64_t { single, tf32, bfloat16 };

// The layers of a network that runs in one launch: without support selection, and of groups of at most 2. T is float,
// or Bfloat16 with that precision. What the layers share has a stride of 0 between them.
template <class T> struct FusedLayers {
  int64_t batch;
  int layers, m, n;
  int padded_m, padded_n;  // multiples of fused_padding
  bool coupled;
  State state;
  Shrinkage shrinkage;
  int group;
  const T *first, *second;
  int64_t first_stride, second_stride;
  const float* step;   // (padded_m), or null
  const float* theta;  // (padded_n / group), or null
  int64_t step_stride, theta_stride;
  const float *gain, *blend;  // (layers), or null
};
constexpr int fused_padding = 32;

// first is, direct, [W1 W2], (padded_n, padded_m + padded_n); coupled, A (padded_m, padded_n), and second is then W^T
// (padded_n, padded_m).
template <class T> struct Fused : FusedLayers<T> {
  const T *y, *x0, *s0;
  T* x;      // (layers, batch, n), or null
  T* last;   // (batch, n), or null
  T* s;      // (batch, state_size), or null
  T* trace;  // splitting: v and z - x+ of each layer, (layers, batch, 2 n); Onsager: r, (layers, batch, m); or null
};

// From the gradient of x to those of z of all layers. What is over samples is left
// for each tile of 16 `tall` of them. first is, direct, W2^T (padded_n, padded_n); coupled, W (padded_m,
// padded_n), and second is then A^T (padded_n, padded_m).
template <class T> struct FusedBackward : FusedLayers<T> {
  const T *x, *x0;  // as fused_network left it, and started from
  const T* trace;   // splitting and Onsager: likewise
  const T* grad;    // of x: (layers, batch, n) if every_layer, else (batch, n)
  bool every_layer;
  T* dz;            // (layers, batch, n): the gradient of z
  T* h;             // (layers, batch, m): coupled, W dz, Onsager the gradient of r; or null
  T* to_start;      // (batch, n): the gradient of x0, or null
  float* to_theta;  // (tiles, layers, padded_n), of groups their first; or null
  float* to_blend;  // (tiles, layers, fused_warps blocks), momentum but for the first layer; or null
  float* to_gain;   // (tiles, layers, fused_warps blocks): times the gain; or null
};
constexpr int fused_warps = 8;

// How the work is shared out: 16 `tall` samples to a cluster of `blocks`, which keeps matrices that all layers share.
struct FusedShape {
  int tall, blocks;
  bool keeps = false;
};

// How many clusters the device of the stream runs at once; none if there is no such kernel or no room for it.
template <class T> int fused_room(const Stream&, Precision, const FusedShape&, const FusedLayers<T>&);
template <class T> const char* fused_network(const Stream&, Precision, const FusedShape&, const Fused<T>&);
template <class T> int fused_gradient_room(const Stream&, Precision, const FusedShape&, const FusedLayers<T>&);
template <class T> const char* fused_gradient(const Stream&, Precision, const FusedShape&, const FusedBackward<T>&);

// out[l][r][c] = from[l][r row_step + c column_step], and zero beyond (rows, columns).
template <class From, class To> struct Pack {
  static constexpr int most = 64;
  const From* from[most];
  int layers, rows, columns;
  int64_t row_step, column_step;
  To* out;
  int padded_rows, padded_columns;
  int64_t layer_stride, row_stride;
};

// From and to float and Bfloat16.
template <class From, class To> const char* pack(const Stream&, const Pack<From, To>&);

// Of float, double, Bfloat16 and Float16.
template <class T> const char* end_layer(const Stream&, int64_t batch, const LayerEnd<T>&);
template <class T> const char* prox_gradient(const Stream&, int64_t batch, const ProxGradient<T>&);
template <class T> const char* residual_gradient(const Stream&, int64_t batch, const ResidualGradient<T>&);

// fastunroll.h's, without threads; the gradient of theta is left as one for each element of x, real if that is complex.
template <class T> const char* soft_threshold(const Stream&, const SoftThreshold<T>&);
template <class T> const char* soft_threshold_gradient(const Stream&, const SoftThresholdBackward<T>&);

}  // namespace fastunroll::cuda
