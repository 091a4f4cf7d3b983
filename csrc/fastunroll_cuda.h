// The native interface to the kernels of a device. The same kernels run on the host, emulated, for tests.
//
// Arrays lie on the device, row-major and contiguous, samples first. A function queues its kernel on the stream and
// returns null, or one sentence of what went wrong. It allocates nothing and waits for nothing.
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

// A layer of a network, without its matrices; fastunroll.h has its formula. A null pointer stands for a parameter that
// is not given.
template <class T> struct Layer {
  int m, n, group, support_size;
  ProxKind prox_kind;
  Scheme scheme;
  const T* theta;  // 1 or n / group values
  int theta_size;
  const T *gain, *beta;  // a value
};

// A layer between its products. Its linear step is z = step z + start.
template <class T> struct LayerEnd {
  Layer<T> layer;
  const T* z;          // (batch, n): a product
  const T* step;       // a value; 1 if null
  const T* start;      // (batch, n)
  const T* before;     // fista: x before the layer, (batch, n)
  const T* residual;   // amp: r, (batch, m)
  const T* y;          // amp: (batch, m)
  const T* next_beta;  // fista: the beta of the next layer
  T* x;                // (batch, n): x+
  T* input;            // (batch, n): v of the next layer; amp: y + s+, (batch, m), where its residual starts
  T* s;                // admm: s, which becomes s+; amp: s+, (batch, m)
  T* dual_residual;    // admm: z - x+ for the gradient, in rows of 2 n
  uint8_t* selected;   // (batch, n / group): 1 where support selection leaves an element unshrunk; or null
};

// From the gradients of a layer's output and of the input of the layer above to the gradient of the linear step.
template <class T> struct ProxGradient {
  Layer<T> layer;
  const T* grad_x;          // (batch, n): the gradient that the caller gives for x+
  const T* grad_v;          // (batch, n): the gradient of the input v of the layer above
  const T* next_beta;       // fista: the beta of the layer above
  const T* x;               // (batch, n): x+
  const T* before;          // fista: x before the layer, for the beta of the layer above
  const T* residual;        // amp: (batch, m)
  const T* dual_residual;   // admm: z - x+, in rows of 2 n
  const uint8_t* selected;  // (batch, n / group): the result of end_layer
  T* grad_s;  // the gradient of s+, (batch, n), for amp (batch, m); for fista and admm it becomes the gradient of s
  T* grad_z;  // (batch, n)
  // The gradients of small parameters, a number or a row for each sample.
  Computed<T>* grad_theta;      // (batch, theta_size)
  Computed<T>* grad_gain;       // (batch): times the gain
  Computed<T>* grad_beta;       // (batch): admm
  Computed<T>* grad_next_beta;  // (batch): fista
  Computed<T>*from_s, *from_r;  // (batch): amp, the factors of grad_s and of r in the gradient of r
};

// Gradient steps z = v + W^T (step r), r = y - A v [+ s]: from W grad_z to the gradient of r, which is also that of y,
// and to the gradient of A v.
template <class T> struct ResidualGradient {
  int m;
  const T* Wz;        // (batch, m): W grad_z
  const T* residual;  // (batch, m): r
  const T* step;      // 1 or m values
  int step_size;
  const Computed<T>*from_s, *from_r;  // (batch): amp
  T* grad_s;                          // (batch, m): amp
  T* grad_y;                          // (batch, m): the gradient is added to it
  T* grad_Av;                         // (batch, m)
  T* stepped;                         // (batch, m): step r
  Computed<T>* grad_step;             // (batch, step_size)
};

// single: three products of tf32, which together have the precision of float. Sums are float in all of them.
enum class Precision : int64_t { single, tf32, bfloat16 };

// The layers of a network that runs in one launch: without support selection, in groups of at most 2. T is float, or
// Bfloat16 for that precision. The stride of an array that all layers share is 0.
template <class T> struct FusedLayers {
  int64_t batch;
  int layers, m, n;
  int padded_m, padded_n;  // multiples of fused_padding
  bool is_gradient_step;
  Scheme scheme;
  ProxKind prox_kind;
  int group;
  const T *first, *second;  // the matrices of the first and of the second product
  int64_t first_stride, second_stride;
  const float* step;   // (padded_m), or null
  const float* theta;  // (padded_n / group), or null
  int64_t step_stride, theta_stride;
  const float *gain, *beta;  // (layers), or null
};
constexpr int fused_padding = 32;

// Affine steps: first is [W1 W2], (padded_n, padded_m + padded_n). Gradient steps: first is A, (padded_m, padded_n),
// and second is W^T, (padded_n, padded_m).
template <class T> struct Fused : FusedLayers<T> {
  const T *y, *x0, *s0;
  T* x;      // (layers, batch, n), or null
  T* last;   // (batch, n), or null
  T* s;      // (batch, state_size), or null
  T* saved;  // admm: v and z - x+ of each layer, (layers, batch, 2 n); amp: r, (layers, batch, m); or null
};

// From the gradient of x to the gradients of z of all layers. Each tile of 16 row_tiles samples leaves its sums over
// samples. Affine steps: first is W2^T, (padded_n, padded_n). Gradient steps: first is W, (padded_m, padded_n), and
// second is A^T, (padded_n, padded_m).
template <class T> struct FusedBackward : FusedLayers<T> {
  const T *x, *x0;  // the result and the start of fused_network
  const T* saved;   // admm, amp: the result of fused_network
  const T* grad;    // of x: (layers, batch, n) if every_layer, else (batch, n)
  bool every_layer;
  T* grad_z;          // (layers, batch, n)
  T* Wz;              // (layers, batch, m): gradient steps, W grad_z; amp: the gradient of r; or null
  T* grad_x0;         // (batch, n), or null
  float* grad_theta;  // (tiles, layers, padded_n), a group's in its first column; or null
  float* grad_beta;   // (tiles, layers, fused_warps blocks), not of the first layer of fista; or null
  float* grad_gain;   // (tiles, layers, fused_warps blocks): times the gain; or null
};
constexpr int fused_warps = 8;

// The division of the work: a cluster of `blocks` computes 16 row_tiles samples, and may keep matrices that all layers
// share in shared memory.
struct FusedShape {
  int row_tiles, blocks;
  bool weights_in_smem = false;
};

// The number of clusters that the device of the stream runs at once; 0 if there is no such kernel or no memory for it.
template <class T> int fused_max_active_clusters(const Stream&, Precision, const FusedShape&, const FusedLayers<T>&);
template <class T> const char* fused_network(const Stream&, Precision, const FusedShape&, const Fused<T>&);
template <class T>
int fused_gradient_max_active_clusters(const Stream&, Precision, const FusedShape&, const FusedLayers<T>&);
template <class T> const char* fused_gradient(const Stream&, Precision, const FusedShape&, const FusedBackward<T>&);

// out[l][r][c] = from[l][r row_step + c column_step], and zero beyond (rows, columns).
template <class From, class To> struct Pack {
  static constexpr int max = 64;
  const From* from[max];
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

// Those of fastunroll.h, without threads. The gradient of theta has a real number for each element of x, to be summed.
template <class T> const char* soft_threshold(const Stream&, const SoftThreshold<T>&);
template <class T> const char* soft_threshold_gradient(const Stream&, const SoftThresholdBackward<T>&);

}  // namespace fastunroll::cuda
