// The gradient of a network, from the last layer to the first: what its steps share.
//
// A gradient that enters a layer passes, mostly, where x+ is not zero, so it is as sparse as the iterate, and so are
// the products made of it: those for the layer below, and the sums over samples for the weights. For each layer the
// threads first share out the samples, in tasks, then the rows of the weight gradients.
#pragma once
#include "cpu/column_sums.h"
#include "cpu/network.h"

namespace fastunroll::FASTUNROLL_SET {

// What one thread needs for one task.
template <class T> struct TaskMemory {
  T* g;                        // (task, stride): the gradient of x+, then behind the prox
  T* v;                        // (task, stride): the input of the linear step, where it has to be made again
  T* residual;                 // (task, stride_y): coupled, r and then step r
  T* seen;                     // (task, stride_y): coupled, W g and then minus the gradient of r
  T* along;                    // a row: threshold gradients of one sample, or zeros
  T* magnitudes;               // a row
  T *scales, *norms, *shares;  // Onsager, for each sample: r's gradient gets scale r / norm, and share of that of s+
  uint64_t* g_masks;
  ProductScratch<T> products;
};

// Sums over samples of g x^T for the gradients of matrices: rows from `g`, columns from `x`.
//
// To add a few samples to a large matrix costs most for the matrix. So the samples of several layers that share it are
// stacked, each layer's filled up with zeros to whole strips, and summed at once.
template <class T> struct SampleSum {
  Transposed<T> g;
  Stacked<T> x;
  int64_t layers, lowest;  // from layers - 1 down to this one
  int64_t at_once;         // so many layers are stacked

  bool wanted() const { return g.data && x.data; }
  int64_t room(int64_t samples) const { return at_once > 1 ? blocks(samples, strip) * strip : samples; }

  // Where the samples of layer k are stacked.
  struct Place {
    int64_t stack, first, rows;  // which stack, from which row on, and how many rows it has in all
    bool completes;
  };
  Place place(int64_t k, int64_t samples) const {
    const int64_t before = layers - 1 - k, stack = before / at_once, left = layers - lowest - stack * at_once;
    return {stack, before % at_once * room(samples), (left < at_once ? left : at_once) * room(samples),
            k == lowest || (before + 1) % at_once == 0};
  }
  // Rows of a task that begins with sample `begin` of the layer's.
  void put_g(const Place& p, int64_t begin, const Rows<T>& rows) const {
    g.put(p.first + begin, rows.count, rows.data, rows.stride);
  }
  void put_x(const Place& p, int64_t begin, const Rows<T>& rows) const {
    x.put(p.first + begin, rows.count, room(rows.count), p.rows, rows.data, rows.stride);
  }
};

template <class T> struct BackwardMemory {
  const Backward<T>& a;
  const Network<T>& net;
  int64_t stride, stride_y, words;
  int64_t task;                 // samples of a task: whole strips
  int64_t segment;              // at most so many samples go through all layers before the next ones
  int64_t first_sample, count;  // of the segment at hand; what follows has a row for each of its samples
  int threads;
  double above;

  LinearFactors<T> adjoint;
  ParameterRows<T> theta, step;
  T* g_x;      // (count, stride): the gradient of the layer's output, then of its input
  T* g_state;  // (count, stride or stride_y): that of s; null if there is none
  T* g_bias;   // (count, stride): direct with a shared W1, summed over layers
  T* g_y;      // (count, stride_y), or null
  ColumnSums<T> to_theta, to_gain, to_step, to_blend;
  SampleSum<T> of_first, of_second;  // direct: g y^T, g v^T; coupled: g_r v^T, (step r) g^T, or both transposed
  // Coupled: with few samples the sums are made as they are wanted. With more they are made transposed, with g and v
  // for rows, whose zeros are skipped, and turned in the end.
  bool upright;
  T* g_first;  // the transposed gradients, (n, m), or null
  T* g_second;
  TaskMemory<T>* tasks;  // of each thread

  BackwardMemory(const Backward<T>& arguments, Workspace& memory);

  int64_t state_stride() const { return net.onsager ? stride_y : stride; }
  int64_t rows_of_task(int64_t begin) const { return count - begin < task ? count - begin : task; }
  // Rows of what the caller gave, from sample `begin` of the segment on: a matrix with a row of `size` values for each
  // sample, and for each layer; null if it was not given.
  template <class U> U* given(U* matrix, int64_t size, int64_t begin, int64_t layer = 0) const {
    return matrix ? matrix + (layer * a.batch + first_sample + begin) * size : nullptr;
  }
  // What the trace has of layer k, from sample `begin` on.
  const T* traced(int64_t begin, int64_t k) const { return given(a.trace, net.trace_size(), begin, k); }
  // x as layer k found it; null for zero.
  const T* iterate(int64_t k, int64_t begin) const {
    return k ? given(a.x, net.n, begin, k - 1) : given(a.x0, net.n, begin);
  }
  // The iterate before that, with momentum.
  const T* iterate_before(int64_t k, int64_t begin) const {
    return k ? iterate(k - 1, begin) : given(a.s0 ? a.s0 : a.x0, net.n, begin);
  }
  // v as layer k found it was zero.
  bool starts_from_zero(int64_t k) const { return k == 0 && !a.x0 && !a.s0; }
  // Whether the gradient of v is of use in layer k.
  bool needs_input(int64_t k) const { return k > 0 || a.grad_x0 || a.grad_s0 || a.grad_blend.given(); }
};

}  // namespace fastunroll::FASTUNROLL_SET
