// ISTA and FISTA for the Lasso, until each sample has converged.
//
// A thread keeps a pool of samples in its cache. In every round it computes r = A x - y and g = A^T r for all of them,
// two products that skip the zeros of x. It then removes the samples that have converged, advances the others by one
// iteration, and fills free places with new samples. A sample that has converged costs nothing more, and the products
// always have many rows.
//
// The gradient is affine: at the extrapolated point v = x + beta (x - other) it is g + beta (g - g_other). Products
// with v would read the nonzeros of two iterates. Products with x read those of x alone, and yield its objective and
// gap too.
#include "cpu/extrapolate.h"
#include "cpu/prox.h"
#include "cpu/row_sum.h"
#include "cpu/threads.h"
#include "cpu/workspace.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

// The state of one sample.
template <class T> struct Row {
  int64_t sample;
  int64_t left;  // iterations
  double t, beta;
  double lowest;  // objective so far
  T scale;        // 1/2 |y|^2, or 1 if that is zero
  T gap;
  bool fresh;     // no iteration yet
  bool restarts;  // the last iteration went uphill
  bool finished;
};

template <class T> struct Pool {
  int64_t count = 0;
  Row<T>* rows;
  T *x, *other, *g, *g_other;  // (rows, stride)
  T *start, *residual;         // -y and r: (rows, stride_y)
  T* lam;                      // (rows, stride), if each sample has its own row; or null
  uint64_t* masks;             // of x
  ProductScratch<T> scratch;
};

template <class T> void swap_pointers(T*& a, T*& b) {
  T* const before = a;
  a = b;
  b = before;
}

template <class T> void swap_rows(T* a, T* b, int64_t size) {
  for (int64_t c = 0; c < size; c += lanes<T>) {
    const Vector<T> before = load(a + c);
    store(a + c, load(b + c));
    store(b + c, before);
  }
}

template <class T> class Solver {
 public:
  Solver(const ProximalGradient<T>& arguments, Workspace& memory);
  void run();

 private:
  const ProximalGradient<T>& a;
  Factor<T> forward, adjoint;
  int64_t stride, stride_y, words, capacity;
  double above;
  int threads;
  Pool<T>* pools;
  T* shared_lam = nullptr;  // a padded row, if all samples have the same
  Queue queue;
  int working = 0;
  bool stopped = false;

  bool stops() const { return a.tol > 0; }
  bool has_lam_rows() const { return a.lam_rows > 1 && a.lam_columns > 1; }
  void work(Pool<T>& p, int rank);
  void fill(Pool<T>& p);
  void enter(Pool<T>& p, int64_t r, int64_t sample);
  void leave(const Pool<T>& p, int64_t r);
  void move(Pool<T>& p, int64_t from, int64_t to);
  void examine(Pool<T>& p, int64_t r);
  void measure(const Pool<T>& p, int64_t r, T& objective, T& gap) const;
  template <bool Accelerated, class Lam> void step(Pool<T>& p, int64_t r, const Lam& lam);
  void ask(int rank);

  // Calls work with lam(column), lam of sample r.
  template <class Work> void with_lam(const Pool<T>& p, int64_t r, const Work& work) const {
    const T* row = has_lam_rows() ? p.lam + r * stride : shared_lam;
    if (row) return work([row](int64_t c) { return load(row + c); });
    const Vector<T> value = broadcast(a.lam[a.lam_rows > 1 ? p.rows[r].sample : 0]);
    work([value](int64_t) { return value; });
  }
};

template <class T>
Solver<T>::Solver(const ProximalGradient<T>& arguments, Workspace& memory)
    : a(arguments),
      forward{a.n, a.m, nullptr, true, a.a, Layout::by_column, false},
      adjoint{a.m, a.n, nullptr, true, a.a, Layout::by_depth, false} {
  constexpr int64_t cache = 4 << 20;
  threads = a.threads < a.batch ? a.threads : int(a.batch);
  pack(&forward, 1, memory.take<T>(forward.packed_size()), threads);
  pack(&adjoint, 1, memory.take<T>(adjoint.packed_size()), threads);
  stride = tile_stride<T>(a.n);
  stride_y = tile_stride<T>(a.m);
  words = tile_words<T>(a.n);
  above = dense_above();
  const int64_t most = 2 * a.m * a.n * int64_t(sizeof(T)) > cache ? 128 : 64, share = blocks(a.batch, threads);
  capacity = share < most ? share : most;
  if (a.lam_columns > 1 && a.lam_rows == 1) {
    shared_lam = memory.take<T>(padded<T>(a.n));
    spread(shared_lam, a.lam, a.n, a.n);
  }
  pools = memory.take<Pool<T>>(threads);
  for (int i = 0; i < threads; ++i) {
    Pool<T>& p = pools[i];
    p.count = 0;
    p.rows = memory.take<Row<T>>(capacity);
    T** const rows[] = {&p.x, &p.other, &p.g, &p.g_other};
    for (T** array : rows) *array = memory.take<T>(capacity * stride);
    p.start = memory.take<T>(capacity * stride_y);
    p.residual = memory.take<T>(capacity * stride_y);
    p.lam = has_lam_rows() ? memory.take<T>(capacity * stride) : nullptr;
    p.masks = memory.take<uint64_t>(capacity * words);
    p.scratch = ProductScratch<T>::make(capacity, capacity * larger(a.m, a.n), memory);
  }
}

// A row of `size` values, padded with zeros.
template <class T> void copy_padded(T* row, const T* values, int64_t size, int64_t stride) {
  if (values) memcpy(row, values, size_t(size) * sizeof(T));
  const int64_t given = values ? size : 0;
  memset(row + given, 0, size_t(stride - given) * sizeof(T));
}

template <class T> void Solver<T>::enter(Pool<T>& p, int64_t r, int64_t sample) {
  const int64_t n = a.n, m = a.m;
  copy_padded(p.x + r * stride, a.x + sample * n, n, stride);
  mark_row(p.masks + r * words, words, p.x + r * stride, n);
  copy_padded(p.other + r * stride, a.other ? a.other + sample * n : nullptr, n, stride);
  copy_padded(p.g_other + r * stride, a.g_other ? a.g_other + sample * n : nullptr, n, stride);
  if (p.lam) spread(p.lam + r * stride, a.lam + sample * n, n, n);
  T* const start = p.start + r * stride_y;
  RowSum<T> square;
  for (int64_t c = 0; c < stride_y; ++c) start[c] = c < m ? -a.y[sample * m + c] : 0;
  along_row<T>(m, [&](int64_t c, int j) { square.add(j, load(start + c), load(start + c)); });
  const T half = square.total() / 2;
  Row<T>& row = p.rows[r];
  row = {sample, a.iterations, 1, 0, __builtin_inf(), half == 0 ? 1 : half, 0, true, false, false};
  if (!a.momentum) return;
  row.t = a.momentum[3 * sample];
  row.beta = a.momentum[3 * sample + 1];
  row.lowest = a.momentum[3 * sample + 2];
}

template <class T> void Solver<T>::leave(const Pool<T>& p, int64_t r) {
  const Row<T>& row = p.rows[r];
  const size_t bytes = size_t(a.n) * sizeof(T);
  const int64_t i = row.sample;
  memcpy(a.x + i * a.n, p.x + r * stride, bytes);
  a.gap[i] = row.gap;
  a.made[i] += a.iterations - row.left;
  if (!a.momentum) return;
  memcpy(a.other + i * a.n, p.other + r * stride, bytes);
  memcpy(a.g_other + i * a.n, p.g_other + r * stride, bytes);
  a.momentum[3 * i] = row.t;
  a.momentum[3 * i + 1] = row.beta;
  a.momentum[3 * i + 2] = row.lowest;
}

template <class T> void Solver<T>::move(Pool<T>& p, int64_t from, int64_t to) {
  p.rows[to] = p.rows[from];
  T* const arrays[] = {p.x, p.other, p.g, p.g_other, p.lam};
  for (T* array : arrays)
    if (array) memcpy(array + to * stride, array + from * stride, size_t(stride) * sizeof(T));
  memcpy(p.start + to * stride_y, p.start + from * stride_y, size_t(stride_y) * sizeof(T));
}

template <class T> void Solver<T>::fill(Pool<T>& p) {
  for (int64_t i; p.count < capacity && queue.take(i, a.batch);)
    if (!(stops() && a.gap[i] <= a.tol)) enter(p, p.count++, i);
}

template <class T> T least_of(Vector<T> v) {
  T least = v[0];
  for (int i = 1; i < lanes<T>; ++i) least = v[i] < least ? v[i] : least;
  return least;
}

// With R = y - A x = -r and the dual point s R, s = <R, y> / |R|^2 but |s A^T R| <= lam:
//
//   gap = 1/2 (1 - s)^2 |R|^2 + sum of lam |x| - s x A^T R
//
// whose terms are not negative, so that nothing cancels however small the gap is. Over x >= 0 it is enough that
// s A^T R <= lam.
template <class T> void Solver<T>::measure(const Pool<T>& p, int64_t r, T& objective, T& gap) const {
  const T *x = p.x + r * stride, *g = p.g + r * stride;
  const T *residual = p.residual + r * stride_y, *start = p.start + r * stride_y;
  RowSum<T> along_y, square, penalty, rest;
  along_row<T>(a.m, [&](int64_t c, int j) {
    const Vector<T> v = load(residual + c);
    square.add(j, v, v);
    along_y.add(j, v, load(start + c));
  });
  const Vector<T> infinite = broadcast(T(__builtin_inf()));
  Vector<T> above_zero = infinite, below_zero = infinite;  // how far s may go
  with_lam(p, r, [&](const auto& lam) {
    along_row<T>(a.n, [&](int64_t c, int j) {
      const Vector<T> slope = load(g + c), size = magnitude<T>(slope);
      const Vector<T> ratio = size == 0 ? infinite : lam(c) / size;
      const Vector<T> above = a.nonnegative ? (slope >= 0 ? infinite : ratio) : ratio;
      const Vector<T> below = a.nonnegative ? (slope <= 0 ? infinite : ratio) : ratio;
      above_zero = above < above_zero ? above : above_zero;
      below_zero = below < below_zero ? below : below_zero;
      penalty.add(j, lam(c), magnitude<T>(load(x + c)));
    });
  });
  const T most = least_of<T>(above_zero), back = -least_of<T>(below_zero), norm = square.total();
  T s = norm == 0 ? 1 : along_y.total() / norm;
  s = s > most ? most : s < back ? back : s;
  with_lam(p, r, [&](const auto& lam) {
    along_row<T>(a.n, [&](int64_t c, int j) {
      const Vector<T> v = load(x + c);
      rest.part[j] += multiply_add(lam(c), magnitude<T>(v), v * load(g + c) * s);
    });
  });
  objective = norm / 2 + penalty.total();
  gap = ((1 - s) * (1 - s) * norm / 2 + rest.total()) / p.rows[r].scale;
}

// Accepts the iterate, or with `monotone` takes it back, and sees whether the sample is done. An objective that is the
// same but for rounding does not rise: in single precision it stands still long before the gap is small.
template <class T> void Solver<T>::examine(Pool<T>& p, int64_t r) {
  constexpr double slack = sizeof(T) == 4 ? 0x1p-21 : 0x1p-50;
  Row<T>& row = p.rows[r];
  const bool due = row.left == 0 || (stops() && (a.iterations - row.left) % a.every == 0);
  T objective = 0, gap = row.gap;
  if (a.monotone || due) measure(p, r, objective, gap);
  const bool rejected = a.monotone && !row.fresh && objective > row.lowest * (1 + slack);
  if (rejected) {
    swap_rows(p.x + r * stride, p.other + r * stride, stride);
    swap_rows(p.g + r * stride, p.g_other + r * stride, stride);
  } else {
    if (a.monotone && objective < row.lowest) row.lowest = objective;
    row.gap = gap;
  }
  if (!row.fresh && a.momentum) {
    const double t = row.t;
    row.t = (1 + __builtin_sqrt(1 + 4 * t * t)) / 2;
    row.beta = (rejected ? -t : t - 1) / row.t;
    if (row.restarts) row.t = 1, row.beta = 0;
  }
  row.finished = row.left == 0 || (due && stops() && row.gap <= a.tol);
}

// The next iterate takes the place of the other one, and both then change names.
template <class T> template <bool Accelerated, class Lam> void Solver<T>::step(Pool<T>& p, int64_t r, const Lam& lam) {
  Row<T>& row = p.rows[r];
  const T *x = p.x + r * stride, *g = p.g + r * stride, *g_other = p.g_other + r * stride;
  T* const other = p.other + r * stride;
  uint64_t* const mask = p.masks + r * words;
  memset(mask, 0, size_t(words) * sizeof(uint64_t));
  const Vector<T> beta = broadcast(T(row.beta)), back = broadcast(-a.step);
  RowSum<T> uphill;
  along_row<T>(a.n, [&](int64_t c, int j) {
    const Vector<T> now = load(x + c);
    Vector<T> v = now, slope = load(g + c);
    if constexpr (Accelerated) {
      v = ahead<T>(now, load(other + c), beta);
      slope = affine_ahead<T>(slope, load(g_other + c), beta);
    }
    const Vector<T> moved = multiply_add(back, slope, v), theta = lam(c) * a.step;
    const Vector<T> next = a.nonnegative ? shrink_nonnegative<T>(moved, theta) : shrink<T>(moved, theta);
    if constexpr (Accelerated) uphill.add(j, v - next, next - now);
    store(other + c, next);
    mark<1, T>(mask, c, &next);
  });
  row.restarts = Accelerated && a.restarts && uphill.total() > 0;
  row.fresh = false;
  --row.left;
}

// The calling thread asks whether to stop, for all threads.
template <class T> void Solver<T>::ask(int rank) {
  if (rank == 0 && a.interrupted && a.interrupted()) __atomic_store_n(&stopped, true, __ATOMIC_RELAXED);
}

template <class T> void Solver<T>::work(Pool<T>& p, int rank) {
  for (fill(p); p.count > 0 && !__atomic_load_n(&stopped, __ATOMIC_RELAXED); fill(p)) {
    const Rows<T> x{p.x, stride, p.count, p.masks, words}, r{p.residual, stride_y, p.count, nullptr, 0};
    product(forward, x, p.scratch, above, StartFrom<T>{p.start, stride_y}, Store<T>{p.residual, stride_y});
    product(adjoint, r, p.scratch, above, StartFrom<T>{}, Store<T>{p.g, stride});
    for (int64_t i = 0; i < p.count; ++i) examine(p, i);
    for (int64_t i = p.count - 1; i >= 0; --i) {
      if (!p.rows[i].finished) continue;
      leave(p, i);
      if (i < --p.count) move(p, p.count, i);
    }
    for (int64_t i = 0; i < p.count; ++i) {
      with_lam(p, i, [&](const auto& lam) {
        if (a.momentum)
          step<true>(p, i, lam);
        else
          step<false>(p, i, lam);
      });
    }
    swap_pointers(p.x, p.other);
    swap_pointers(p.g, p.g_other);
    ask(rank);
  }
}

template <class T> void Solver<T>::run() {
  in_parallel(threads, [&](Team team) {
    __atomic_add_fetch(&working, 1, __ATOMIC_RELAXED);
    work(pools[team.rank], team.rank);
    __atomic_sub_fetch(&working, 1, __ATOMIC_RELAXED);
    // The others may still work for long, and only the calling thread can learn that they should stop.
    while (team.rank == 0 && __atomic_load_n(&working, __ATOMIC_RELAXED) > 0) {
      ask(0);
      let_others_run();
    }
  });
}

}  // namespace

template <class T> void proximal_gradient(const ProximalGradient<T>& a) {
  if (a.batch == 0) return;
  Workspace memory;
  Solver<T>(a, memory).run();
}

template void proximal_gradient(const ProximalGradient<float>&);
template void proximal_gradient(const ProximalGradient<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
