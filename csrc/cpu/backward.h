// The gradient of a network, from the last layer to the first: the memory that its steps share.
//
// The gradient of z is mostly zero where x+ is zero, so it is as sparse as the iterate, and so are its products: those
// for the layer below, and the sums over samples for the weights. For each layer the threads first divide the samples
// into tasks, then the rows of the weight gradients.
#pragma once
#include "cpu/column_sums.h"
#include "cpu/network.h"

namespace fastunroll::FASTUNROLL_SET {

// The memory of one thread for one task.
template <class T> struct TaskMemory {
  T* g;                        // (task, stride): the gradient of x+, then of z
  T* v;                        // (task, stride): the input of the linear step, if it has to be computed again
  T* residual;                 // (task, stride_y): gradient steps, r and then step r
  T* seen;                     // (task, stride_y): gradient steps, W grad_z and then the gradient of A v
  T* along;                    // a row: threshold gradients of one sample, or zeros
  T* magnitudes;               // a row
  T *scales, *norms, *shares;  // amp, for each sample: the gradient of r has scale r / norm and share times that of s+
  uint64_t* g_masks;
  ProductScratch<T> products;
};

// Sums over samples of g x^T for the gradients of matrices: rows from `g`, columns from `x`.
//
// Adding a few samples to a large matrix takes as long as loading the matrix. The samples of several layers that share
// it are therefore stacked, each layer padded with zeros to whole strips, and summed at once.
template <class T> struct SampleSum {
  Transposed<T> g;
  Stacked<T> x;
  int64_t layers, lowest;  // from layers - 1 down to this one
  int64_t at_once;         // the number of layers that are stacked

  bool wanted() const { return g.data && x.data; }
  int64_t padded_samples(int64_t samples) const { return at_once > 1 ? blocks(samples, strip) * strip : samples; }

  // The place of the samples of layer k in a stack.
  struct Place {
    int64_t stack, first, rows;  // the stack, the first row in it, and its number of rows
    bool completes;
  };
  Place place(int64_t k, int64_t samples) const {
    const int64_t before = layers - 1 - k, stack = before / at_once, left = layers - lowest - stack * at_once;
    return {stack, before % at_once * padded_samples(samples),
            (left < at_once ? left : at_once) * padded_samples(samples), k == lowest || (before + 1) % at_once == 0};
  }
  // Rows of a task that begins with sample `begin` of the layer's.
  void put_g(const Place& p, int64_t begin, const Rows<T>& rows) const {
    g.put(p.first + begin, rows.count, rows.data, rows.stride);
  }
  void put_x(const Place& p, int64_t begin, const Rows<T>& rows) const {
    x.put(p.first + begin, rows.count, padded_samples(rows.count), p.rows, rows.data, rows.stride);
  }
};

template <class T> struct BackwardMemory {
  const Backward<T>& a;
  const Network<T>& net;
  int64_t stride, stride_y, words;
  int64_t task;                 // samples of a task: whole strips
  int64_t segment;              // at most this number of samples goes through all layers before the next ones
  int64_t first_sample, count;  // of the current segment; the arrays below have a row for each of its samples
  int threads;
  double above;

  LinearFactors<T> adjoint;
  ParameterRows<T> theta, step;
  T* g_x;      // (count, stride): the gradient of the layer's output, then of its input
  T* g_state;  // (count, stride or stride_y): that of s; null if there is none
  T* g_bias;   // (count, stride): affine steps that share W1: summed over layers
  T* g_y;      // (count, stride_y), or null
  ColumnSums<T> to_theta, to_gain, to_step, to_blend;
  SampleSum<T> of_W1, of_W2;  // affine: g y^T, g v^T; gradient: g_r v^T, (step r) g^T, or both transposed
  // Gradient steps: with few samples the sums are made upright. With more they are made transposed, with rows g and v,
  // whose zeros are skipped, and turned at the end.
  bool upright;
  T* turned_W1;  // the transposed gradients, (n, m), or null
  T* turned_W2;
  TaskMemory<T>* tasks;  // of each thread

  BackwardMemory(const Backward<T>& arguments, Workspace& memory);

  int64_t state_stride() const { return net.scheme == Scheme::amp ? stride_y : stride; }
  int64_t rows_of_task(int64_t begin) const { return count - begin < task ? count - begin : task; }
  // The rows of an argument from sample `begin` of the segment on. The argument has a row of `size` values for each
  // sample, and for each layer; null if it is not given.
  template <class U> U* given(U* matrix, int64_t size, int64_t begin, int64_t layer = 0) const {
    return matrix ? matrix + (layer * a.batch + first_sample + begin) * size : nullptr;
  }
  // The values saved of layer k, from sample `begin` on.
  const T* saved_of(int64_t begin, int64_t k) const { return given(a.saved, net.saved_size(), begin, k); }
  // x before layer k; null for zero.
  const T* iterate(int64_t k, int64_t begin) const {
    return k ? given(a.x, net.n, begin, k - 1) : given(a.x0, net.n, begin);
  }
  // fista: the iterate before that.
  const T* iterate_before(int64_t k, int64_t begin) const {
    return k ? iterate(k - 1, begin) : given(a.s0 ? a.s0 : a.x0, net.n, begin);
  }
  // Whether the input of layer k is zero.
  bool starts_from_zero(int64_t k) const { return k == 0 && !a.x0 && !a.s0; }
  // Whether the gradient of the input of layer k is needed.
  bool needs_input(int64_t k) const { return k > 0 || a.grad_x0 || a.grad_s0 || a.grad_beta.given(); }
};

}  // namespace fastunroll::FASTUNROLL_SET
