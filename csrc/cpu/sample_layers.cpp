// All layers over a matrix for each sample, and their gradient: one sample after another, each by one thread.
//
// The matrix of a sample stays in the cache through all layers, and a layer reads it once: A^T r is summed from the
// rows of which r has just been computed. Nothing depends on other samples or on the number of threads.
#include "cpu/extrapolate.h"
#include "cpu/prox.h"
#include "cpu/row_sum.h"
#include "cpu/threads.h"
#include "cpu/workspace.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

inline int64_t padded(int64_t size) { return (size + row_chains - 1) / row_chains * row_chains; }

// The sums of `count` rows times v, a row in each lane. The sum of a row has the order of RowSum.
template <class T> Vector<T> times_rows(const T* a, int64_t count, int64_t stride, const T* v) {
  constexpr int parts = row_parts<T>, fitting = vector_registers / 2 / parts;
  constexpr int together = fitting < 1 ? 1 : fitting < lanes<T> ? fitting : lanes<T>;
  Vector<T> sums[lanes<T>] = {};
  for (int64_t at = 0; at < count; at += together) {
    const T* rows[together];
    for (int k = 0; k < together; ++k) rows[k] = a + (at + k < count ? at + k : count - 1) * stride;
    Vector<T> chains[together][parts] = {};
    along_row<T>(stride, [&](int64_t c, int j) {
      const Vector<T> factor = load(v + c);
#pragma GCC unroll 16
      for (int k = 0; k < together; ++k) chains[k][j] = multiply_add(load(rows[k] + c), factor, chains[k][j]);
    });
    Vector<T> ends[together][parts];
    copy_vectors<together * parts>(chains[0], ends[0]);
    for (int k = 0; k < together; ++k) {
      for (int width = parts / 2; width > 0; width /= 2)
        for (int j = 0; j < width; ++j) ends[k][j] += ends[k][j + width];
      if (at + k < lanes<T>) sums[at + k] = ends[k][0];
    }
  }
  transpose<T>(sums);
  for (int width = lanes<T> / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) sums[i] += sums[i + width];
  return sums[0];
}

// Adds `count` rows, each times its number in r, to `Count` vectors of g.
template <int Count, class T> void add_rows(const T* a, int64_t count, int64_t stride, const T* r, T* g) {
  Vector<T> sum[Count];
  for (int j = 0; j < Count; ++j) sum[j] = load(g + j * lanes<T>);
  for (int64_t i = 0; i < count; ++i) {
    const Vector<T> factor = broadcast(r[i]);
#pragma GCC unroll 8
    for (int j = 0; j < Count; ++j) sum[j] = multiply_add(factor, load(a + i * stride + j * lanes<T>), sum[j]);
  }
  for (int j = 0; j < Count; ++j) store(g + j * lanes<T>, sum[j]);
}

// Calls part(c, Constant<Count>) for the vectors of a padded row, `Most` at a time as long as there are as many.
template <class T, int Most, class Part> void by_vectors(int64_t stride, const Part& part) {
  int64_t c = 0;
  for (; c + Most * lanes<T> <= stride; c += Most * lanes<T>) part(c, Constant<Most>());
  for (; c < stride; c += lanes<T>) part(c, Constant<1>());
}

// A matrix (m, n) whose rows lie `stride` apart, and are zero behind their n values.
template <class T> struct Matrix {
  const T* data;
  int64_t m, stride;

  // r = y - A v, or A v without y; g = A^T r.
  void there_and_back(const T* v, const T* y, T* r, T* g) const {
    for (int64_t c = 0; c < stride; ++c) g[c] = 0;
    for (int64_t i = 0; i < m; i += lanes<T>) {
      const int64_t count = m - i < lanes<T> ? m - i : lanes<T>;
      const T* rows = data + i * stride;
      const Vector<T> sums = times_rows(rows, count, stride, v);
      store_some(r + i, y ? load_some(y + i, count) - sums : sums, count);
      by_vectors<T, 8>(stride, [&](int64_t c, auto vectors) {
        add_rows<decltype(vectors)::value>(rows + c, count, stride, r + i, g + c);
      });
    }
  }
};

// What a thread works in. Rows of n values are padded with zeros.
template <class T> struct Scratch {
  T *matrix, *x, *before, *v, *g, *r;
  T *rows, *factors;  // of the gradient of A: (2 layers, stride), (2 layers, m)
};

template <class T> struct Layers {
  const SampleLayers<T>& p;
  int64_t stride = padded(p.n);
  const T* thetas;  // (layers, stride)

  Prox<T> prox(int64_t k) const { return {p.prox_kind, p.n, 1, 0, 1, thetas + k * stride}; }
  T beta(int64_t k) const { return p.beta ? p.beta[k] : 0; }

  Matrix<T> matrix(int64_t sample, const Scratch<T>& s) const {
    const T* a = p.a + sample * p.m * p.n;
    if (p.n == stride) return {a, p.m, stride};
    for (int64_t i = 0; i < p.m; ++i) copy_padded(a + i * p.n, s.matrix + i * stride);
    return {s.matrix, p.m, stride};
  }
  // A row of n values, or zeros without one.
  void copy_padded(const T* from, T* to) const {
    for (int64_t c = 0; c < stride; c += lanes<T>) store(to + c, from ? load_some(from + c, p.n - c) : Vector<T>{});
  }
  void copy_back(const T* from, T* to) const {
    for (int64_t c = 0; c < p.n; c += lanes<T>) store_some(to + c, load(from + c), p.n - c);
  }
  void extrapolate(int64_t k, const T* x, const T* before, T* v) const {
    const Vector<T> all = broadcast(beta(k));
    for (int64_t c = 0; c < stride; c += lanes<T>) {
      const Vector<T> now = load(x + c);
      store(v + c, p.beta ? ahead<T>(now, load(before + c), all) : now);
    }
  }
  const T* start(int64_t sample) const { return p.x0 ? p.x0 + sample * p.n : nullptr; }
};

// Calls work(layers, scratch, sample) for each sample. `of_matrix`: whether the work is the gradient of A, too.
template <class T, class Work> void for_samples(const SampleLayers<T>& p, bool of_matrix, const Work& work) {
  if (p.batch == 0) return;
  const int64_t stride = padded(p.n);
  const int threads = int(p.batch < p.threads ? p.batch : p.threads);
  Workspace memory;
  T* thetas = memory.take<T>(p.layers * stride);
  for (int64_t k = 0; k < p.layers; ++k)
    for (int64_t c = 0; c < stride; ++c)
      thetas[k * stride + c] = c < p.n ? p.theta[k * p.thetas + (p.thetas > 1 ? c : 0)] : 0;
  const int64_t of_a = p.n == stride ? 0 : p.m * stride, of_r = padded(p.m);
  const int64_t of_rows = 2 * p.layers * stride, of_factors = 2 * p.layers * p.m;
  const int64_t size = of_a + 4 * stride + of_r + (of_matrix ? of_rows + padded(of_factors) : 0);
  T* all = memory.take<T>(threads * size);
  const Layers<T> layers{p, stride, thetas};
  Queue queue;
  int is_stopped = 0;
  in_parallel(threads, [&](Team team) {
    T* at = all + team.rank * size;
    const auto take = [&](int64_t count) {
      T* found = at;
      at += count;
      return found;
    };
    const Scratch<T> scratch{
        take(of_a), take(stride), take(stride), take(stride), take(stride), take(of_r), take(of_matrix ? of_rows : 0),
        at};
    for (int64_t sample; !__atomic_load_n(&is_stopped, __ATOMIC_RELAXED) && queue.take(sample, p.batch);) {
      work(layers, scratch, sample);
      if (team.rank == 0 && p.interrupted && p.interrupted()) __atomic_store_n(&is_stopped, 1, __ATOMIC_RELAXED);
    }
  });
}

template <class T>
void forward_sample(const SampleForward<T>& p, const Layers<T>& layers, Scratch<T> s, int64_t sample) {
  const SampleLayers<T>& of = p.of;
  const Matrix<T> a = layers.matrix(sample, s);
  layers.copy_padded(layers.start(sample), s.x);
  layers.copy_padded(layers.start(sample), s.before);
  for (int64_t k = 0; k < of.layers; ++k) {
    layers.extrapolate(k, s.x, s.before, s.v);
    T* r = p.residuals ? p.residuals + (k * of.batch + sample) * of.m : s.r;
    a.there_and_back(s.v, p.y + sample * of.m, r, s.g);
    const Prox<T> prox = layers.prox(k);
    const Vector<T> step = broadcast(of.step[k]);
    for (int64_t c = 0; c < layers.stride; c += lanes<T>) {
      Vector<T> z = multiply_add(step, load(s.g + c), load(s.v + c));
      prox.template apply<1>(&z, c, 1);
      store(s.before + c, z);
    }
    T* const before = s.x;
    s.x = s.before, s.before = before;
    const int64_t place = k - (of.layers - p.kept);
    if (place >= 0) layers.copy_back(s.x, p.x + (place * of.batch + sample) * of.n);
  }
}

// sum += factor row.
template <class T> void add_scaled(T factor, const T* row, int64_t count, T* sum) {
  const Vector<T> all = broadcast(factor);
  for (int64_t c = 0; c < count; c += lanes<T>)
    store_some(sum + c, multiply_add(all, load_some(row + c, count - c), load_some(sum + c, count - c)), count - c);
}

template <class T> void scale(T factor, const T* row, int64_t count, T* result) {
  for (int64_t i = 0; i < count; ++i) result[i] = factor * row[i];
}

// grad (m, n) = sum of factors[j] rows[j]^T over j.
template <class T>
void sum_of_outers(int64_t count, const T* factors, const T* rows, int64_t m, int64_t n, int64_t stride, T* grad) {
  constexpr int of_rows = 4, most = vector_registers / 8;
  for (int64_t i = 0; i < m; i += of_rows) {
    by_vectors<T, most>(stride, [&](int64_t c, auto vectors) {
      constexpr int width = decltype(vectors)::value;
      Vector<T> sum[of_rows][width] = {};
      for (int64_t j = 0; j < count; ++j) {
        Vector<T> row[width];
        for (int w = 0; w < width; ++w) row[w] = load(rows + j * stride + c + w * lanes<T>);
        for (int k = 0; k < of_rows; ++k) {
          const Vector<T> factor = broadcast(factors[j * m + (i + k < m ? i + k : m - 1)]);
          for (int w = 0; w < width; ++w) sum[k][w] = multiply_add(factor, row[w], sum[k][w]);
        }
      }
      Vector<T> sums[of_rows][width];
      copy_vectors<of_rows * width>(sum[0], sums[0]);
      for (int k = 0; k < of_rows && i + k < m; ++k)
        for (int w = 0; w < width; ++w) {
          const int64_t column = c + w * lanes<T>;
          if (column < n) store_some(grad + (i + k) * n + column, sums[k][w], n - column);
        }
    });
  }
}

// With the gradient z' of z = v + t A^T r: that of t is r . A z', of y t A z', of v z' - t A^T A z', and of A
// t (r z'^T - A z' v^T).
template <class T>
void backward_sample(const SampleBackward<T>& p, const Layers<T>& layers, const Scratch<T>& s, int64_t sample) {
  const SampleLayers<T>& of = p.of;
  const int64_t stride = layers.stride, m = of.m, n = of.n;
  const Matrix<T> a = layers.matrix(sample, s);
  T *const grad = s.x, *const grad_before = s.before, *const q = s.r;
  layers.copy_padded(nullptr, grad);
  layers.copy_padded(nullptr, grad_before);
  T* const to_y = p.y ? p.y + sample * m : nullptr;
  for (int64_t i = 0; to_y && i < m; ++i) to_y[i] = 0;
  const auto iterate = [&](int64_t k) {  // the one that layer k starts from
    return k > 0 ? p.x + ((k - 1) * of.batch + sample) * n : layers.start(sample);
  };
  const auto take = [&](const T* x, int64_t c) { return x ? load_some(x + c, n - c) : Vector<T>{}; };
  for (int64_t k = of.layers - 1; k >= 0; --k) {
    const int64_t place = k * of.batch + sample;
    for (int64_t c = 0; c < stride; c += lanes<T>)
      store(grad + c, load(grad + c) + load_some(p.grad + place * n + c, n - c));
    T* const to_theta = p.theta ? s.v : nullptr;
    if (to_theta) layers.copy_padded(nullptr, to_theta);
    layers.prox(k).gradient_of_row(p.x + place * n, nullptr, grad, 1, nullptr, to_theta, nullptr);
    if (to_theta && of.thetas > 1) layers.copy_back(to_theta, p.theta + place * n);
    if (to_theta && of.thetas == 1) {
      RowSum<T> sum;
      along_row<T>(stride, [&](int64_t c, int j) { sum.add(j, load(to_theta + c)); });
      p.theta[place] = sum.total();
    }
    a.there_and_back(grad, nullptr, q, s.g);
    const T *x = iterate(k), *before = iterate(k > 0 ? k - 1 : 0), *r = p.residuals + place * m, t = of.step[k];
    if (p.step) p.step[place] = inner_product(r, q, m);
    if (to_y) add_scaled(t, q, m, to_y);
    const Vector<T> beta = broadcast(layers.beta(k)), back = broadcast(-t);
    if (p.a) {
      T *z_row = s.rows + 2 * k * stride, *v_row = z_row + stride, *factors = s.factors + 2 * k * m;
      for (int64_t c = 0; c < stride; c += lanes<T>) {
        const Vector<T> now = take(x, c);
        store(z_row + c, load(grad + c));
        store(v_row + c, of.beta ? ahead<T>(now, take(before, c), beta) : now);
      }
      scale(t, r, m, factors);
      scale(-t, q, m, factors + m);
    }
    RowSum<T> to_beta;
    along_row<T>(stride, [&](int64_t c, int j) {
      const Vector<T> of_v = multiply_add(back, load(s.g + c), load(grad + c));
      to_beta.add(j, of_v, take(x, c) - take(before, c));
      store(grad + c, load(grad_before + c) + (of.beta ? multiply_add(beta, of_v, of_v) : of_v));
      if (of.beta) store(grad_before + c, -beta * of_v);
    });
    if (p.beta) p.beta[place] = to_beta.total();
  }
  if (p.x0)  // which is the iterate before itself, too
    for (int64_t c = 0; c < n; c += lanes<T>)
      store_some(p.x0 + sample * n + c, load(grad + c) + load(grad_before + c), n - c);
  if (p.a) sum_of_outers(2 * of.layers, s.factors, s.rows, m, n, stride, p.a + sample * m * n);
}

}  // namespace

template <class T> void sample_forward(const SampleForward<T>& p) {
  for_samples(p.of, false, [&](const Layers<T>& layers, const Scratch<T>& scratch, int64_t sample) {
    forward_sample(p, layers, scratch, sample);
  });
}

template <class T> void sample_backward(const SampleBackward<T>& p) {
  for_samples(p.of, p.a != nullptr, [&](const Layers<T>& layers, const Scratch<T>& scratch, int64_t sample) {
    backward_sample(p, layers, scratch, sample);
  });
}

template void sample_forward(const SampleForward<float>&);
template void sample_forward(const SampleForward<double>&);
template void sample_backward(const SampleBackward<float>&);
template void sample_backward(const SampleBackward<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
