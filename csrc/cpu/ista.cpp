// ISTA and FISTA: iterations of x+ = S_theta(v + A^T (step (y - A v))), v = x + momentum (x - x_before), for one tile
// of samples after another. Without a threshold, one iteration is a gradient step.
#include "cpu/threads.h"
#include "cpu/tile.h"
#include "cpu/workspace.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

template <class T> struct Matrix {
  Panels<T> forward, adjoint;  // for x A^T and for y A
  T* theta;                    // padded, or null
  int64_t stride, stride_y, words;
};

template <class T> struct Scratch {
  T *x, *before, *v;      // (rows, stride)
  T *minus_y, *residual;  // (rows, stride_y)
  uint64_t* masks;        // of v
  T* spill;
};

// v = x + momentum (x - before), and its nonzeros.
template <class T> void extrapolate(const Scratch<T>& s, const Matrix<T>& a, T momentum, int64_t rows, int64_t n) {
  const Vector<T> beta = broadcast(momentum);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = r * a.stride; c < r * a.stride + n; c += lanes<T>) {
      const Vector<T> x = load(s.x + c);
      store(s.v + c, momentum == 0 ? x : multiply_add(beta, x - load(s.before + c), x));
    }
    mark_row(s.masks + r * a.words, a.words, s.v + r * a.stride, n);
  }
}

// The calling thread asks now and then whether to go on, and tells the others.
template <class T> bool stopped(const Ista<T>& p, int64_t iteration, bool& stop) {
  constexpr int64_t every = 16;
  if (p.interrupted && this_thread() == 0 && iteration % every == every - 1 && p.interrupted())
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
  return __atomic_load_n(&stop, __ATOMIC_RELAXED);
}

template <class T>
void ista_tile(const Ista<T>& p, const Matrix<T>& a, Scratch<T> s, int64_t first, int64_t rows, bool& stop) {
  const int64_t m = p.m, n = p.n;
  const double above = dense_above();
  for (int64_t r = 0; r < rows; ++r) {
    memset(s.x + r * a.stride, 0, size_t(a.stride) * sizeof(T));
    if (p.x0) memcpy(s.x + r * a.stride, p.x0 + (first + r) * n, size_t(n) * sizeof(T));
    for (int64_t c = 0; c < a.stride_y; ++c) s.minus_y[r * a.stride_y + c] = c < m ? -p.y[(first + r) * m + c] : 0;
  }
  memcpy(s.before, s.x, size_t(rows * a.stride) * sizeof(T));
  memset(s.v, 0, size_t(rows * a.stride) * sizeof(T));
  for (int64_t k = 0; k < p.iterations && !stopped(p, k, stop); ++k) {
    extrapolate(s, a, p.momentum[k], rows, n);
    const Rows<T> v{s.v, a.stride, rows, s.masks, a.words};
    product(a.forward, v, s.spill, above, StartFrom<T>{s.minus_y, a.stride_y},
            StoreScaled<T>{s.residual, a.stride_y, -p.step});
    T* next = s.before;
    const Rows<T> residual{s.residual, a.stride_y, rows, nullptr, 0};
    if (a.theta)
      product_dense(a.adjoint, residual, StartFrom<T>{s.v, a.stride},
                    StoreShrunk<T>{next, a.stride, a.theta, nullptr, 0});
    else
      product_dense(a.adjoint, residual, StartFrom<T>{s.v, a.stride}, Store<T>{next, a.stride});
    s.before = s.x;
    s.x = next;
    if (p.keep_iterates || k + 1 == p.iterations) {
      T* out = p.x + (p.keep_iterates ? k * p.batch * n : 0) + first * n;
      for (int64_t r = 0; r < rows; ++r) memcpy(out + r * n, s.x + r * a.stride, size_t(n) * sizeof(T));
    }
  }
}

}  // namespace

template <class T> void ista(const Ista<T>& p) {
  if (p.batch == 0) return;
  Workspace memory;
  Matrix<T> a;
  a.forward = {memory.take<T>(Panels<T>::size(p.n, p.m)), p.n, p.m, true};
  a.adjoint = {memory.take<T>(Panels<T>::size(p.m, p.n)), p.m, p.n, true};
  pack(&a.forward, &p.a, 1, Layout::by_column, p.threads);
  pack(&a.adjoint, &p.a, 1, Layout::by_depth, p.threads);
  a.stride = tile_stride<T>(p.n);
  a.stride_y = tile_stride<T>(p.m);
  a.words = tile_words<T>(p.n);
  a.theta = p.theta ? memory.take<T>(a.stride) : nullptr;
  if (p.theta) spread(a.theta, p.theta, p.theta_size, p.n);

  const Tiles tiles = cut(p.batch, p.m * p.n * int64_t(sizeof(T)), p.threads);
  const int64_t most = tiles.most_rows();
  const int threads = int(p.threads < tiles.count ? p.threads : tiles.count);
  Scratch<T>* scratch = memory.take<Scratch<T>>(threads);
  for (int t = 0; t < threads; ++t) {
    Scratch<T>& s = scratch[t];
    s.x = memory.take<T>(most * a.stride);
    s.before = memory.take<T>(most * a.stride);
    s.v = memory.take<T>(most * a.stride);
    s.minus_y = memory.take<T>(most * a.stride_y);
    s.residual = memory.take<T>(most * a.stride_y);
    s.masks = memory.take<uint64_t>(most * a.words);
    s.spill = memory.take<T>(most * panel_width<T>);
  }
  bool stop = false;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
  for (int64_t i = 0; i < tiles.count; ++i)
    ista_tile(p, a, scratch[this_thread()], tiles.first(i), tiles.rows(i), stop);
}

template void ista(const Ista<float>&);
template void ista(const Ista<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
