// The gradient of K layers x+ = S_theta(W1 y + W2 x), from the last layer to the first.
//
// A gradient that enters a layer passes where x+ is not zero, so it is as sparse as the iterate, and so are the three
// products made of it: W2^T g for the layer below, and the sums over samples g x^T and g y^T for the weights. For each
// layer the threads first share out the samples, then the rows of the weight gradients.
#include "cpu/sample_sum.h"
#include "cpu/threads.h"
#include "cpu/workspace.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

// Threshold gradients are summed over strips of 16 samples, then over strips: the same order whatever the tiles.
constexpr int64_t strip = 16;

template <class T> struct Scratch {  // of one thread
  T* g;                              // the gradient of a task's samples behind the threshold
  uint64_t* masks;                   // its nonzeros
  T* spill;
  uint64_t* sum_masks;
};

template <class T> struct Backward {
  const ListaBackward<T>& a;
  int64_t stride, stride_y, words;  // of rows of n, rows of m, masks of n
  int64_t task;                     // samples of a task: whole strips, within one chunk
  int threads;
  double above;

  Panels<T>* w1;  // for W1^T g and W2^T g; null where not needed
  Panels<T>* w2;
  T* g_x;          // (batch, stride): the gradient of the layer's output, then of its input
  T* g_bias;       // (batch, stride): summed over the layers that share W1; null if none do
  T* g_y;          // (batch, stride_y), or null
  T* g_theta;      // (strips, stride), or null
  T* g_theta_sum;  // (layers, stride)
  Transposed<T> g;
  Chunked<T> x, y;  // data is null where no gradient needs it
  Scratch<T>* scratch;

  bool shares_w1() const { return a.w1_count == 1; }
  const T* input(int64_t k) const { return k ? a.x + (k - 1) * a.batch * a.n : a.x0; }

  Backward(const ListaBackward<T>& arguments, Workspace& memory);
  void run();
  void pass_threshold(int64_t k, int64_t first, const Rows<T>& out, uint64_t* masks);
  void propagate(int64_t k, int64_t first, Scratch<T>& s);
  void bias_to_y(const Panels<T>& w, int64_t first, const Rows<T>& rows, T* spill);
  void finish_shared_bias(int64_t first, Scratch<T>& s);
  void sum_samples(const Chunked<T>& factor, bool add, T* out, Scratch<T>& s);
  void sum_strips(int64_t k);
  void write_theta();
  void write_rows(T* out, const T* rows, int64_t from_stride, int64_t columns);
};

template <class T> Backward<T>::Backward(const ListaBackward<T>& arguments, Workspace& memory) : a(arguments) {
  const int64_t m = a.m, n = a.n, batch = a.batch;
  stride = tile_stride<T>(n);
  stride_y = tile_stride<T>(m);
  words = tile_words<T>(n);
  above = dense_above();
  task = chunk;
  while (task > strip && blocks(batch, task) < 2 * a.threads) task /= 2;
  threads = a.threads;

  const auto panels = [&](const T* const* sources, int64_t count, int64_t columns) {
    Panels<T>* w = memory.take<Panels<T>>(count);
    for (int64_t k = 0; k < count; ++k) w[k] = {memory.take<T>(Panels<T>::size(n, columns)), n, columns, true};
    pack(w, sources, count, Layout::by_depth, threads);
    return w;
  };
  const bool reaches_w2 = a.layers > 1 || a.grad_x0;
  w2 = reaches_w2 ? panels(a.w2, a.w2_count, n) : nullptr;
  w1 = a.grad_y ? panels(a.w1, a.w1_count, m) : nullptr;
  g_x = memory.take<T>(batch * stride);
  g_bias = shares_w1() && (a.grad_w1 || a.grad_y) ? memory.take<T>(batch * stride) : nullptr;
  g_y = a.grad_y ? memory.take<T>(batch * stride_y) : nullptr;
  g_theta = a.grad_theta ? memory.take<T>(blocks(batch, strip) * stride) : nullptr;
  g_theta_sum = a.grad_theta ? memory.take<T>(a.layers * stride) : nullptr;
  g = {a.grad_w1 || a.grad_w2 ? memory.take<T>(Transposed<T>::size(batch, n)) : nullptr, n};
  x = {a.grad_w2 ? memory.take<T>(Chunked<T>::size(batch, n)) : nullptr, batch, n};
  y = {a.grad_w1 ? memory.take<T>(Chunked<T>::size(batch, m)) : nullptr, batch, m};

  const int64_t most_sums = blocks(n, threads);
  const int64_t spilled = most_sums > task ? most_sums : task;
  scratch = memory.take<Scratch<T>>(threads);
  for (int t = 0; t < threads; ++t) {
    scratch[t] = {memory.take<T>(task * stride), memory.take<uint64_t>(task * words),
                  memory.take<T>(spilled * panel_width<T>), memory.take<uint64_t>(most_sums)};
  }
}

// g behind the threshold of layer k for the rows of a task, its masks, its strip sums.
template <class T> void Backward<T>::pass_threshold(int64_t k, int64_t first, const Rows<T>& rows, uint64_t* masks) {
  const int64_t n = a.n;
  T* const out = const_cast<T*>(rows.data);
  const bool enters = a.every_layer || k + 1 == a.layers;  // the caller's gradient enters at this layer
  const T* entering = a.every_layer ? a.grad + k * a.batch * n : a.grad;
  memset(masks, 0, size_t(rows.count * words) * sizeof(uint64_t));
  for (int64_t r = 0; r < rows.count; ++r) {
    const int64_t b = first + r;
    const T* support = a.x + (k * a.batch + b) * n;
    T* sums = g_theta ? g_theta + b / strip * stride : nullptr;
    if (sums && b % strip == 0) memset(sums, 0, size_t(stride) * sizeof(T));
    for (int64_t c = 0; c < n; c += lanes<T>) {
      const int64_t left = n - c;
      const Vector<T> behind = load_some(support + c, left);
      Vector<T> v = k + 1 < a.layers ? load(g_x + b * stride + c) : Vector<T>{};
      if (enters) v += load_some(entering + b * n + c, left);
      v = where_nonzero<T>(behind, v);
      store(out + r * stride + c, v);
      mark<1, T>(masks + r * words, c, &v);
      if (sums) store(sums + c, load(sums + c) - with_sign_of<T>(v, behind));
      if (g_bias) {
        T* sum = g_bias + b * stride + c;
        store(sum, k + 1 < a.layers ? load(sum) + v : v);
      }
    }
  }
}

template <class T> void Backward<T>::bias_to_y(const Panels<T>& w, int64_t first, const Rows<T>& rows, T* spill) {
  T* out = g_y + first * stride_y;
  product(w, rows, spill, above, StartFrom<T>{out, stride_y}, Store<T>{out, stride_y});
}

// Layer k for the samples of one task: through the threshold, then to x, y and what the weight gradients need.
template <class T> void Backward<T>::propagate(int64_t k, int64_t first, Scratch<T>& s) {
  const int64_t count = a.batch - first < task ? a.batch - first : task;
  const Rows<T> rows{s.g, stride, count, s.masks, words};
  pass_threshold(k, first, rows, s.masks);
  if (k || a.grad_x0) {
    product(w2[a.w2_count == 1 ? 0 : k], rows, s.spill, above, StartAtZero<T>{},
            Store<T>{g_x + first * stride, stride});
  }
  if (g_y && !shares_w1()) bias_to_y(w1[k], first, rows, s.spill);
  if (x.data || (y.data && !shares_w1())) g.put(first, rows);
  if (x.data && input(k)) x.put(first, count, input(k) + first * a.n);
}

// W1 shared by all layers: its gradient and that of y come from the sum over layers.
template <class T> void Backward<T>::finish_shared_bias(int64_t first, Scratch<T>& s) {
  const int64_t count = a.batch - first < task ? a.batch - first : task;
  for (int64_t r = 0; r < count; ++r) mark_row(s.masks + r * words, words, g_bias + (first + r) * stride, a.n);
  const Rows<T> rows{g_bias + first * stride, stride, count, s.masks, words};
  if (g_y) bias_to_y(w1[0], first, rows, s.spill);
  if (y.data) g.put(first, rows);
}

// Within a parallel region: a weight gradient, its rows shared out. Nobody waits.
template <class T> void Backward<T>::sum_samples(const Chunked<T>& factor, bool add, T* out, Scratch<T>& s) {
#pragma omp for schedule(static) nowait
  for (int64_t t = 0; t < threads; ++t)
    sample_sum(g, factor, a.n * t / threads, a.n * (t + 1) / threads, add, out, s.sum_masks, s.spill, above);
}

template <class T> void Backward<T>::sum_strips(int64_t k) {
  T* sum = g_theta_sum + k * stride;
  memset(sum, 0, size_t(stride) * sizeof(T));
  for (int64_t i = 0; i < blocks(a.batch, strip); ++i)
    for (int64_t c = 0; c < a.n; ++c) sum[c] += g_theta[i * stride + c];
}

template <class T> void Backward<T>::write_theta() {
  for (int64_t k = 0; k < a.theta_count; ++k)
    for (int64_t c = 0; c < a.theta_size; ++c) a.grad_theta[k][c] = 0;
  for (int64_t k = 0; k < a.layers; ++k) {
    T* out = a.grad_theta[a.theta_count == 1 ? 0 : k];
    for (int64_t c = 0; c < a.n; ++c) out[a.theta_size == 1 ? 0 : c] += g_theta_sum[k * stride + c];
  }
}

template <class T> void Backward<T>::write_rows(T* out, const T* rows, int64_t from_stride, int64_t columns) {
  for (int64_t b = 0; b < a.batch; ++b) memcpy(out + b * columns, rows + b * from_stride, size_t(columns) * sizeof(T));
}

template <class T> void Backward<T>::run() {
  if (g_y) memset(g_y, 0, size_t(a.batch * stride_y) * sizeof(T));
  // The first layer's W2 meets nothing but zeros if the network starts from them.
  if (a.grad_w2 && !input(0) && (a.w2_count > 1 || a.layers == 1))
    memset(a.grad_w2[0], 0, size_t(a.n * a.n) * sizeof(T));

#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    Scratch<T>& s = scratch[this_thread()];
    if (y.data) {
#pragma omp for
      for (int64_t c = 0; c < blocks(a.batch, chunk); ++c)
        y.put(c * chunk, chunk_depth(a.batch, c), a.y + c * chunk * a.m);
    }
    for (int64_t k = a.layers - 1; k >= 0; --k) {
#pragma omp for schedule(dynamic, 1)
      for (int64_t first = 0; first < a.batch; first += task) propagate(k, first, s);
      if (g_theta) {
#pragma omp single nowait
        sum_strips(k);
      }
      const bool shares_w2 = a.w2_count == 1;
      if (x.data && input(k)) sum_samples(x, shares_w2 && k + 1 < a.layers, a.grad_w2[shares_w2 ? 0 : k], s);
      if (y.data && !shares_w1()) sum_samples(y, false, a.grad_w1[k], s);
#pragma omp barrier
    }
    if (g_bias) {
#pragma omp for schedule(dynamic, 1)
      for (int64_t first = 0; first < a.batch; first += task) finish_shared_bias(first, s);
      if (y.data) sum_samples(y, false, a.grad_w1[0], s);
    }
  }
  if (g_theta) write_theta();
  if (a.grad_y) write_rows(a.grad_y, g_y, stride_y, a.m);
  if (a.grad_x0) write_rows(a.grad_x0, g_x, stride, a.n);
}

}  // namespace

template <class T> void lista_backward(const ListaBackward<T>& a) {
  if (a.batch == 0) {  // sums over no samples
    for (int64_t k = 0; a.grad_w1 && k < a.w1_count; ++k) memset(a.grad_w1[k], 0, size_t(a.n * a.m) * sizeof(T));
    for (int64_t k = 0; a.grad_w2 && k < a.w2_count; ++k) memset(a.grad_w2[k], 0, size_t(a.n * a.n) * sizeof(T));
    for (int64_t k = 0; a.grad_theta && k < a.theta_count; ++k)
      memset(a.grad_theta[k], 0, size_t(a.theta_size) * sizeof(T));
    return;
  }
  Workspace memory;
  Backward<T>(a, memory).run();
}

template void lista_backward(const ListaBackward<float>&);
template void lista_backward(const ListaBackward<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
