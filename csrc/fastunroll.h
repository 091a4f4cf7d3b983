// The whole native interface: plain structs of pointers and sizes, and functions over them.
//
// Every matrix is row-major and contiguous; samples come first: y is (batch, m), x is (batch, n), A is (m, n).
// Every element of a result is one chain of fused multiply-adds over the reduction index, ascending, starting from
// its start value; chains are never split. A result therefore does not depend on the batch a sample came in, on
// the number of threads, on the instruction set, or on whether zeros were skipped.
//
// The functions are thread-safe, keep no pointer after they return, and throw only std::bad_alloc.
#pragma once
#include <cstdint>

namespace fastunroll {

// The weights of a network, laid out for ListaForward; to be done again when a weight or the instruction set changes.
template <class T> struct ListaPack {
  int64_t m, n;
  int threads;
  const T* const* w1;          // w1_count pointers to (n, m); one is shared by all layers
  const T* const* w2;          // w2_count pointers to (n, n)
  int64_t w1_count, w2_count;  // 1 or layers
  T* panels;                   // lista_panels_size values
};

// x[k+1] = S_theta[k](W1[k] y + W2[k] x[k]),  k = 0 .. layers-1,  x[0] = x0
template <class T> struct ListaForward {
  int64_t layers, batch, m, n;
  int threads;
  const T* panels;                          // as ListaPack left them
  const T* const* theta;                    // theta_count pointers to theta_size values
  int64_t w1_count, w2_count, theta_count;  // 1 or layers
  int64_t theta_size;                       // 1 or n
  const T* y;                               // (batch, m)
  const T* x0;                              // (batch, n), or null for zero
  bool keep_layers;
  T* x;  // (layers, batch, n) if keep_layers, else (batch, n)
};

// The gradient of ListaForward. An output that is null is not computed.
template <class T> struct ListaBackward {
  int64_t layers, batch, m, n;
  int threads;
  const T* const* w1;
  const T* const* w2;
  int64_t w1_count, w2_count, theta_count;
  int64_t theta_size;
  const T* y;     // (batch, m)
  const T* x0;    // (batch, n), or null
  const T* x;     // (layers, batch, n), as ListaForward kept it
  const T* grad;  // gradient of the output: (layers, batch, n) if every_layer, else (batch, n)
  bool every_layer;
  T* grad_y;             // (batch, m)
  T* grad_x0;            // (batch, n)
  T* const* grad_w1;     // w1_count pointers to (n, m)
  T* const* grad_w2;     // w2_count pointers to (n, n)
  T* const* grad_theta;  // theta_count pointers to theta_size values
};

// z = v - step * A^T (A v - y),  v = x[k] + momentum[k] (x[k] - x[k-1]),  x[k+1] = S_theta(z), or z if theta is null
template <class T> struct Ista {
  int64_t iterations, batch, m, n;
  int threads;
  const T* a;  // (m, n)
  T step;
  const T* theta;      // theta_size values, or null
  int64_t theta_size;  // 1 or n
  const T* momentum;   // iterations values
  const T* y;          // (batch, m)
  const T* x0;         // (batch, n), or null for zero
  bool keep_iterates;
  bool (*interrupted)();  // asked now and then by the calling thread: true ends the call, x unfinished; or null
  T* x;                   // (iterations, batch, n) if keep_iterates, else (batch, n)
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
};

// out[i][j] = sum over b, ascending, of g[b][i] x[b][j]
template <class T> struct Outer {
  int64_t batch, rows, columns;
  int threads;
  const T* g;  // (batch, rows)
  const T* x;  // (batch, columns)
  T* out;      // (rows, columns)
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

template <class T> int64_t lista_panels_size(int64_t m, int64_t n, int64_t w1_count, int64_t w2_count);
template <class T> void lista_pack(const ListaPack<T>&);
template <class T> void lista_forward(const ListaForward<T>&);
template <class T> void lista_backward(const ListaBackward<T>&);
template <class T> void ista(const Ista<T>&);
template <class T> void product(const Product<T>&);
template <class T> void outer(const Outer<T>&);
template <class T> void soft_threshold(const SoftThreshold<T>&);
template <class T> void soft_threshold_backward(const SoftThresholdBackward<T>&);

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
