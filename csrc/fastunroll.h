// The whole native interface: plain structs of pointers and sizes, and functions over them.
//
// Every matrix is row-major and contiguous; samples come first: y is (batch, m), x is (batch, n), A is (m, n).
// Every element of a product is one chain of fused multiply-adds over the reduction index, ascending, starting from
// its start value; chains are never split. A result therefore does not depend on the batch a sample came in, on
// the number of threads, on the instruction set, or on whether zeros were skipped.
//
// The functions are thread-safe, keep no pointer after they return, and throw only std::bad_alloc.
#pragma once
#include <cstdint>

#include "column_store.h"
#include "network_spec.h"
#include "picture_layers.h"
#include "sample_layers.h"

namespace fastunroll {

// A parameter of the layers of a network: one array that all layers share, one for each layer, or none.
template <class T> struct PerLayer {
  T* const* arrays;
  int64_t count;  // 0, 1 or layers
  int64_t size;   // values of an array

  bool given() const { return count > 0; }
  bool shared() const { return count == 1; }
  int64_t index(int64_t layer) const { return count == 1 ? 0 : layer; }
  T* of(int64_t layer) const { return arrays[index(layer)]; }
  // The value of a parameter with one value a layer; one array may hold the values of all layers.
  T& value(int64_t layer) const { return shared() && size > 1 ? arrays[0][layer] : *of(layer); }
};

// The layers of a network, which compute x+ from x, y and a second state s. s is zero at first unless it is given.
//
//   input    v = x                                  proximal_gradient
//            v = x + beta (x - s)                   fista: s is the iterate before, at first x itself
//            v = x - s                              admm: s is the scaled dual variable
//   linear   z = W1 y + W2 v                        affine: W1 is (n, m), W2 is (n, n)
//            z = v + W^T (step r), r = y - A v      gradient: W1 is A (m, n), W2 is W (m, n), or A if it is not given
//            with r = y - A v + s                   amp: s+ = gain |x+|_0 / m r, and theta is relative: theta
//                                                   |r|_2 / sqrt(m)
//            z = v + step r, r = y - G v            gram: W1 is G (n, n), and m = n
//   prox     x+ = gain P(z)                         admm: x+ = gain P(z + s) and s+ = s + beta (z - x+)
//
// P shrinks the magnitude of `group` neighbours by theta. The largest magnitudes of a sample that exceed theta stay
// unshrunk, as many as the support size of the layer; of equal ones those with the lower index. A negative theta then
// acts as zero.
template <class T> struct Network {
  int64_t layers, m, n;
  LinearStep linear;
  Scheme scheme;
  ProxKind prox_kind;
  int64_t group;                 // 1, or a divisor of n
  const int64_t* support_sizes;  // a number for each layer, or null for none
  PerLayer<const T> W1, W2;
  PerLayer<const T> step;   // 1 or m values
  PerLayer<const T> theta;  // 1 or n / group values
  PerLayer<const T> gain;   // 1 value a layer, positive
  PerLayer<const T> beta;   // 1 value a layer

  int64_t support_size(int64_t layer) const { return support_sizes ? support_sizes[layer] : 0; }
  bool is_gradient_step() const { return linear != LinearStep::affine; }
  // Whether A takes the place of W too.
  bool is_own_adjoint() const { return linear == LinearStep::gradient && !W2.given(); }
  int64_t state_size() const { return scheme == Scheme::amp ? m : scheme == Scheme::proximal_gradient ? 0 : n; }
  // The gradient needs of a layer and sample, besides x+: for admm v and z - x+; then, for gradient steps, r.
  int64_t residual_at() const { return scheme == Scheme::admm ? 2 * n : 0; }
  int64_t saved_size() const { return residual_at() + (is_gradient_step() ? m : 0); }
};

template <class T> struct Packing {
  Network<T> net;
  bool bfloat16;  // round to bfloat16, in half the memory: for float alone
  int threads;
  T* packed;
};

template <class T> struct Forward {
  Network<T> net;
  int64_t batch;
  int threads;
  const T* packed;        // as network_pack left it, or null
  bool bfloat16;          // whether the packed matrices are rounded to bfloat16
  const T* y;             // (batch, m)
  const T* x0;            // (batch, n), or null for zero
  const T* s0;            // (batch, state_size), or null
  bool (*interrupted)();  // asked now and then by the calling thread: true ends the call, x unfinished; or null
  T* x;                   // (layers, batch, n): every layer, or null
  T* last;                // (batch, n): the last alone, or null
  T* s;                   // (batch, state_size) after the last layer, or null
  T* saved;               // layers of (batch, saved_size), or null
  uint8_t* selected;      // (layers, batch, n / group): 1 where support selection let one pass; or null
};

// The gradient of Forward. An output that is null, or a list without arrays, is not computed.
template <class T> struct Backward {
  Network<T> net;
  int64_t batch;
  int threads;
  const T* y;
  const T* x0;
  const T* s0;
  const T* x;               // as Forward left it
  const T* saved;           // as Forward left it
  const uint8_t* selected;  // as Forward left it; null without support selection
  const T* grad;            // gradient of x: (layers, batch, n) if every_layer, else (batch, n)
  bool every_layer;
  const T* grad_s;  // gradient of s, or null for zero
  bool (*interrupted)();
  T* grad_y;
  T* grad_x0;
  T* grad_s0;
  PerLayer<T> grad_W1, grad_W2, grad_step, grad_theta, grad_gain, grad_beta;
};

// out = start + x A^T, or start + x A if adjoint
template <class T> struct Product {
  int64_t batch, m, n;
  int threads;
  bool adjoint;
  const T* a;      // (m, n)
  const T* x;      // (batch, n), or (batch, m) if adjoint
  const T* start;  // (batch, m), or (batch, n) if adjoint; null for zero
  T* out;
  T* packed = nullptr;    // a as product_pack leaves it, or null
  bool bfloat16 = false;  // float32: packed as bfloat16
};

// out[i][j] = sum over b, ascending, of g[b][i] x[b][j]
template <class T> struct Outer {
  int64_t batch, rows, columns;
  int threads;
  const T* g;  // (batch, rows)
  const T* x;  // (batch, columns)
  T* out;      // (rows, columns)
  int64_t g_stride = rows, x_stride = columns;
};

// Networks whose layers follow statistics of each sample. The state is x, which a layer changes:
//
//   glista      v = x (1 + kappa G(D |x|)), x' = P(v + W^T (y - A v)), x+ = o x' + (1 - o) x with
//               o = 1 - a theta c / (|x' - x| + 0.1), c = 0 where x' selected, else 1
//   hyperlista  x+ = P(x - W^T (A x - y) + c2 |x|_0 (x - before)) of theta = c1 |A^+ (A x - y)|_1, where the
//               floor(c3 log(|A^+ y|_1 / |A^+ (A x - y)|_1)) largest that exceed theta pass, with their equals
//   lamp        x+ = eta(x + W^T v; |v|^2 / m), v+ = y - A x+ + (sum of eta') / m v
//   lvamp       vector approximate message passing with A = U diag(s) V^T
template <class T> struct AdaptiveMatrix {
  int64_t rows, columns;
  const T* source;
  T *packed, *packed_adjoint;  // as product_pack leaves them, or null
  bool bfloat16;
};

// Matrices: A, W or W of each layer; A, W, A^+; A, W or W of each layer; U^T, V^T, s (1, rank).
// Values of a layer: theta... (1 or n), D, kappa, a; c1, c2, c3; two of eta; noise, two of eta. Those of eta are alpha
// and scale if it is soft, else the logarithm of the power and the logit of the density.
template <class T> struct AdaptiveNetwork {
  AdaptiveScheme scheme;
  AdaptiveProx prox;  // lamp, lvamp
  Gate gate;          // glista: G
  int64_t layers, m, n, batch;
  int threads;
  const AdaptiveMatrix<T>* matrices;
  int64_t matrix_count;
  const T* values;  // (layers, value_count)
  int64_t value_count;
  const int64_t* support_sizes;  // glista: a number for each layer, or null for none
  const T *y, *x0;               // x0 may be null, for zero
  bool (*interrupted)();         // null, or asked now and then; once it says so, results are incomplete
};

// The values that the gradient needs of a layer and sample.
template <class T> int64_t adaptive_saved_size(const AdaptiveNetwork<T>&);

template <class T> struct AdaptiveForward {
  AdaptiveNetwork<T> net;
  T* x;      // (layers, batch, n), or null
  T* last;   // (batch, n), or null
  T* saved;  // (layers, batch, saved size), or null
};

template <class T> struct AdaptiveBackward {
  AdaptiveNetwork<T> net;
  const T *x, *saved;  // as forward left them
  const T* grad;       // (batch, n), or (layers, batch, n) if every_layer
  bool every_layer;
  // Each may be null.
  T *grad_y, *grad_x0, *grad_values;
  T* const* grad_learned;  // glista, lamp: for each W
};

// A matrix that Lasso problems share; `prepared` has dictionary_size values.
template <class T> struct Dictionary {
  int64_t m, n;
  int threads;
  T ridge;     // >= 0
  const T* a;  // (m, n)
  T* prepared;
};

// min 1/2 |y - A x|^2 + lam sum w|x| + ridge/2 |x|^2 for each sample, until the duality gap, over |y|^2 / 2, is at most
// `tol`, or `max_steps` have been taken.
template <class T> struct Lasso {
  Dictionary<T> dictionary;
  int64_t batch;
  int threads;
  bool nonnegative;
  T tol;
  int64_t max_steps;
  const T* y;        // (batch, m)
  const T* lam;      // (batch), positive
  const T* weights;  // (n), positive; or null for ones
  const T* x0;       // (batch, n), or null for zero
  bool (*interrupted)();
  T* x;            // (batch, n)
  T* gap;          // (batch)
  int64_t* steps;  // (batch)
};

// The same for a few samples, or for more columns than a Gram matrix can hold. Sums are made in double precision.
template <class T> struct LassoColumns {
  Columns<T> a;
  double ridge;
  ColumnStore* store;  // of this matrix and ridge, empty at first: problems after the first find columns there
  int64_t batch;
  int threads;
  bool nonnegative;
  double tol;
  int64_t max_steps;
  int64_t max_columns;  // of a working set
  const T *y, *lam, *weights, *x0;
  bool (*interrupted)();
  T *x, *gap;
  int64_t* steps;
  bool* crowded;  // set where a working set would have more columns: the results are incomplete then
};

// x and theta seen as (outer, middle, inner), theta depending on the middle index alone.
// Complex numbers are pairs of T; sizes count numbers, not reals.
template <class T> struct SoftThreshold {
  int64_t outer, middle, inner;
  int threads;
  bool complex;
  const T* x;
  const T* theta;  // middle values
  T* out;
};

// The gradient of SoftThreshold, from its output.
template <class T> struct SoftThresholdBackward {
  int64_t outer, middle, inner;
  int threads;
  bool complex;
  const T* out;
  const T* theta;
  const T* grad;
  T* grad_x;
  T* grad_theta;  // middle values
};

// Iterations on 1/2 |A x - y|^2 + sum of lam |x| for each sample, until its relative duality gap is at most tol:
//
//   x+ = S(v - step A^T (A v - y)), S shrinking by step lam       v = x                   plain
//                                                                 v = x + beta (x - o)    with `momentum`
//
// where o is the iterate before x and beta follows from t, which starts from 1. `restarts` starts it from 1 again where
// an iteration went uphill; `monotone` keeps x and takes the new iterate for o where the objective would rise above its
// lowest value by more than rounding. The gap is divided by 1/2 |y|^2, unless that is zero. What comes out goes in
// again: some iterations and then some more are the same as all at once if the numbers are multiples of `every`.
template <class T> struct ProximalGradient {
  int64_t batch, m, n;
  int threads;
  int64_t iterations;  // at most this many more of each sample
  int64_t every;       // iterations between two checks of the gap
  bool restarts, monotone;
  bool nonnegative;               // x >= 0, which holds for the x that are given
  T step, tol;                    // tol = 0: all iterations
  const T* a;                     // (m, n)
  const T* y;                     // (batch, m)
  const T* lam;                   // (lam_rows, lam_columns)
  int64_t lam_rows, lam_columns;  // 1 or batch, 1 or n
  bool (*interrupted)();          // as in Forward
  T* x;                           // (batch, n)
  T *other, *g_other;             // (batch, n), with momentum: o, and the gradient there, at first zero; or null
  double* momentum;               // (batch, 3): t, beta and the lowest objective, at first 1, 0, infinity; or null
  T* gap;                         // (batch): at first infinite. A sample with one of at most tol is left alone
  int64_t* made;                  // (batch): iterations, at first zero
};

// A step of ISTA or FISTA after the products with an operator: out = S(v - step slope), v = x + beta (x - other).
// Elements are seen as (outer, middle, inner), theta depending on the middle index alone; `nonnegative` makes S >= 0.
template <class T> struct StepAhead {
  int64_t outer, middle, inner;
  int threads;
  bool nonnegative;
  T beta, step;
  const T *x, *other, *slope;
  const T* theta;  // middle values
  T* out;
};

// The residual after it, product - y, and that at the next v: ahead = residual + beta (residual - before). The first
// may take the place of the one before.
template <class T> struct ResidualAhead {
  int64_t count;
  int threads;
  T beta;
  const T *product, *y, *before;
  T *residual, *ahead;
};

enum class Weighting : int64_t {
  product,     // w x
  quotient,    // x / w
  difference,  // w x - z
  twice,       // w (w x - z)
  data_step,   // (z + rho x) / w
};

// y by weights w. Elements are seen as (outer, middle, inner), and each middle index has one weight.
template <class T> struct Weighted {
  int64_t outer, middle, inner;
  int threads;
  Weighting weighting;
  T rho;
  const T *weights, *x, *z;  // z is null where there is none
  T* y;
};

// y = F^-1 diag(d) F x - z, or the sum over coils of conj(S) F^-1 diag(d) F (S x) - z, for a batch of images. Every
// image is computed for itself, in the same way whatever the threads.
template <class T> struct FourierFilter {
  Spectrum<T> spectrum;
  int64_t batch;
  int threads;
  bool adjoint;    // conj(d) takes the place of d
  int64_t repeat;  // image b has d number b / repeat % count
  const T* x;      // (batch, rows, columns), pairs unless images are real
  const T* z;      // as x, or null for zero
  const T* maps;   // (map_count, coils, rows, columns), pairs; or null without coils
  int64_t coils, map_count, map_repeat;
  bool (*interrupted)();  // as in Forward
  T* y;
  const T* added = nullptr;  // as x: where there is one, added + scale x takes the place of x, with d real and no maps
  T scale = 0;
};

// The matrices of a network laid out for Forward, network_packed_size values; to be done again when one of them or the
// instruction set changes.
template <class T> int64_t network_packed_size(const Packing<T>&);
template <class T> void network_pack(const Packing<T>&);
template <class T> void network_forward(const Forward<T>&);
template <class T> void network_backward(const Backward<T>&);
template <class T> void product(const Product<T>&);
// The matrix laid out for Product, product_packed_size values; to be done again when it or the instruction set changes.
template <class T> int64_t product_packed_size(const Product<T>&);
template <class T> void product_pack(const Product<T>&);
template <class T> void outer(const Outer<T>&);
template <class T> void adaptive_forward(const AdaptiveForward<T>&);
template <class T> void adaptive_backward(const AdaptiveBackward<T>&);
template <class T> int64_t dictionary_size(const Dictionary<T>&);
template <class T> void dictionary_prepare(const Dictionary<T>&);
template <class T> void lasso(const Lasso<T>&);
template <class T> void lasso_columns(const LassoColumns<T>&);
template <class T> void proximal_gradient(const ProximalGradient<T>&);
template <class T> void step_ahead(const StepAhead<T>&);
template <class T> void residual_ahead(const ResidualAhead<T>&);
template <class T> void weighted(const Weighted<T>&);
template <class T> void soft_threshold(const SoftThreshold<T>&);
template <class T> void soft_threshold_backward(const SoftThresholdBackward<T>&);
// To be done again when d or the instruction set changes.
template <class T> int64_t spectrum_packed_size(const Spectrum<T>&);
template <class T> void spectrum_pack(const Spectrum<T>&);
template <class T> void fourier_filter(const FourierFilter<T>&);

// The instruction set in use: the best this processor has, unless FASTUNROLL_ISA or use_instruction_set says otherwise.
const char* instruction_set();
const char* instruction_set_reason();
// Null if `name` is in use from now on, else one sentence saying why it is not.
const char* use_instruction_set(const char* name);
// The names of the sets compiled in, best first, then a null pointer.
const char* const* compiled_instruction_sets();

// A tile of the iterate denser than this is multiplied without looking for zeros. The result is the same.
double dense_above();
void set_dense_above(double density);

#ifdef FASTUNROLL_HAS_CUDA
namespace cuda {
// The number of usable devices; `problem`, of `size` bytes, says why if there are none.
int device_count(char* problem, int size);
}  // namespace cuda
#endif

}  // namespace fastunroll
