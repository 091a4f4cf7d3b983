// The proximal operator of total variation and its gradient, of one picture.
//
// It is x = g - D^T p, where D has the differences of each pixel to the one below and to the one on the right, zero at
// the last ones. With p = r = 0 at first, each iteration computes
//
//   u = g - D^T r,  q = r + D u / 8,  p+ = P(q),  r+ = p+ + beta (p+ - p),  P(q) = q min(1, theta / |q|) at each pixel.
//
// Iteration t works one row behind iteration t - 1, on a few rows at a time, which stay in the first cache for the
// iterations that follow: a picture passes it once, whatever their number. A complex pixel is a pair of values, with
// one |q|.
//
// A row of the result depends on as many rows on each side as there are iterations. A team computes each band of rows
// from a band that is wider by these.
#pragma once
#include <cstring>

#include "cpu/complex_pairs.h"
#include "cpu/grid.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T, bool IsComplex> class TotalVariation {
 public:
  // The values that an object needs, and those of the q of all iterations.
  static int64_t memory_size(const Grid<T>& grid, int64_t iterations) {
    return (grid.rows + 1) * pair_rows(grid) + (iterations + 1) * padded_row(grid) + grid.stride;
  }
  static int64_t kept_size(const Grid<T>& grid, int64_t iterations) { return iterations * 2 * grid.rows * grid.stride; }

  TotalVariation(const Grid<T>& grid, int64_t iterations, const T* momenta, T* memory)
      : grid_(grid), iterations_(iterations), momenta_(momenta) {
    pairs_ = memory + pair_rows(grid);
    lines_ = pairs_ + grid.rows * pair_rows(grid);
    has_right_ = lines_ + (iterations + 1) * padded_row(grid);
    std::memset(has_right_, 0, size_t(grid.stride) * sizeof(T));
    std::memset(has_right_, -1, size_t(grid.width - next) * sizeof(T));
  }

  // Rows `band` of x, from those around them of g. x may take the place of g if the band is the picture.
  void forward(Band band, const T* g, T* x, T theta) {
    work_on(band, reach());
    in_order(iterations_ + 1, [&](int64_t t, int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) {
        if (t == 0) clear(i);
        if (t == iterations_)
          result(i, band, g, x);
        else
          iterate<false>(t, i, g, theta, nullptr);
      }
    });
  }

  // `kept` gets q of the band's rows and of those that backward() needs around them.
  void keep(Band band, const T* g, T theta, T* kept) {
    work_on(band, 2 * reach());
    in_order(iterations_, [&](int64_t t, int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) {
        if (t == 0) clear(i);
        iterate<true>(t, i, g, theta, kept);
      }
    });
  }

  // From the gradient of x to that of g, of which `to_g` gets the rows around the band too. Writes the band's rows of
  // the sums that make the gradient of theta.
  void backward(Band band, const T* of_x, T* to_g, T theta, const T* kept, double* sums) {
    work_on(band, reach());
    in_order(iterations_, [&](int64_t t, int64_t from, int64_t to) {
      for (int64_t i = from; t == 0 && i < to; ++i) start_back(i, of_x, to_g);
      // All rows before the next step: what it loads beside a vector waits for stores that are under way.
      for (int64_t i = from; i < to && i < last_; ++i) project_back(iterations_ - 1 - t, i, band, theta, kept, sums);
      for (int64_t i = from; i < to; ++i) step_back(t, i, to_g);
    });
  }

 private:
  static constexpr int64_t cache_bytes = 28 << 10;
  static constexpr int next = IsComplex ? 2 : 1;  // values from a pixel to the one on its right

  // A row of r and of p, right and down each, after a vector of zeros. The row above the first is zero.
  static int64_t pair_rows(const Grid<T>& grid) { return 4 * grid.stride + lanes<T>; }
  static int64_t padded_row(const Grid<T>& grid) { return grid.stride + lanes<T>; }
  T* r_right(int64_t i) const { return pairs_ + i * pair_rows(grid_) + lanes<T>; }
  T* r_down(int64_t i) const { return r_right(i) + grid_.stride; }
  T* p_right(int64_t i) const { return r_right(i) + 2 * grid_.stride; }
  T* p_down(int64_t i) const { return r_right(i) + 3 * grid_.stride; }
  T* line(int64_t t) const { return lines_ + t * padded_row(grid_); }
  int64_t kept_at(int64_t t, int64_t i) const { return (t * grid_.rows + i) * 2 * grid_.stride; }
  T momentum(int64_t t) const { return t + 1 < iterations_ ? momenta_[t] : 0; }

  int64_t reach() const { return iterations_ + 1; }
  void work_on(Band band, int64_t more) {
    const Band wide = band.widened(more, grid_.rows);
    first_ = wide.first;
    last_ = wide.last;
    std::memset(r_right(first_ - 1) - lanes<T>, 0, size_t(pair_rows(grid_)) * sizeof(T));
  }
  // Calls work(t, from, to) for a few rows, of all rows and of the one after the last, of each t: t is one row behind
  // t - 1.
  template <class Work> void in_order(int64_t count, const Work& work) const {
    const int64_t row_bytes = (pair_rows(grid_) + grid_.stride) * int64_t(sizeof(T)), fitting = cache_bytes / row_bytes;
    const int64_t together = fitting > 2 ? fitting - 1 : 1;
    for (int64_t step = first_; step < last_ + count; step += together)
      for (int64_t t = 0; t < count; ++t) {
        const int64_t from = step - t, to = from + together;
        if (to > first_ && from <= last_) work(t, from > first_ ? from : first_, to <= last_ ? to : last_ + 1);
      }
  }

  void clear(int64_t i) const {
    if (i < last_) std::memset(r_right(i) - lanes<T>, 0, size_t(pair_rows(grid_)) * sizeof(T));
  }

  static Vector<T> with_partner(Vector<T> v) {
    if constexpr (IsComplex) return v + swap_pairs<T>(v);
    return v;
  }
  // v where a pixel has one on its right, by a vector of has_right_.
  static Vector<T> where(Vector<T> has_right, Vector<T> v) {
    using Integer = typename Simd<T>::Integer;
    return (Vector<T>)((Integer)v & (Integer)has_right);
  }

  // Row i of u, if r of rows i and i - 1 is done.
  struct Residual {
    const T *g, *right, *down, *above;
    Vector<T> at(int64_t j) const {
      return load(g + j) + (load(down + j) - load(above + j)) + (load(right + j) - load(right + j - next));
    }
  };
  Residual residual(int64_t i, const T* g) const {
    return {g + i * grid_.stride, r_right(i), r_down(i), r_down(i - 1)};
  }

  void result(int64_t i, Band band, const T* g, T* x) const {
    if (!band.has(i)) return;
    const int64_t stride = grid_.stride;
    const Residual u = residual(i, g);
    T* const row = x + i * stride;
    for (int64_t j = 0; j < stride; j += lanes<T>) store(row + j, u.at(j));
  }

  // Row i of u, and then row i - 1 of what follows from it.
  template <bool Keeps> void iterate(int64_t t, int64_t i, const T* g, T theta, T* kept) const {
    if (i == first_)
      advance<Keeps, true, false>(t, i, g, theta, kept);
    else if (i < last_)
      advance<Keeps, true, true>(t, i, g, theta, kept);
    else
      advance<Keeps, false, true>(t, i, g, theta, kept);
  }

  template <bool Keeps, bool HasRow, bool HasAbove>
  void advance(int64_t t, int64_t i, const T* g, T theta, T* kept) const {
    const Vector<T> eighth = broadcast(T(0.125)), limit = broadcast(theta), square_limit = limit * limit;
    const Vector<T> beta = broadcast(momentum(t));
    // Pointers of this function's own: the compiler reads those of the object again after each store.
    const int64_t stride = grid_.stride;
    const Residual residual_of = residual(HasRow ? i : i - 1, g);
    const T* const has_right = has_right_;
    T *const u = line(t), *const rows = r_right(HasAbove ? i - 1 : i);
    T* q = nullptr;
    if constexpr (Keeps && HasAbove) q = kept + kept_at(t, i - 1);
    for (int64_t j = 0; j < stride; j += lanes<T>) {
      Vector<T> now = {};
      if constexpr (HasRow) now = residual_of.at(j);
      if constexpr (HasAbove) {
        const Vector<T> above = load(u + j);
        T* const at = rows + j;  // then down, and p
        const Vector<T> q_right =
            multiply_add(eighth, where(load(has_right + j), load(u + j + next) - above), load(at));
        Vector<T> q_down = load(at + stride);
        if constexpr (HasRow) q_down = multiply_add(eighth, now - above, q_down);
        if constexpr (Keeps) {
          store(q + j, q_right);
          store(q + stride + j, q_down);
        }
        const Vector<T> square = with_partner(multiply_add(q_right, q_right, q_down * q_down));
        const Vector<T> factor = square <= square_limit ? broadcast(T(1)) : limit / square_root(square);
        const Vector<T> right = factor * q_right, down = factor * q_down;
        store(at, multiply_add(beta, right - load(at + 2 * stride), right));
        store(at + stride, multiply_add(beta, down - load(at + 3 * stride), down));
        store(at + 2 * stride, right);
        store(at + 3 * stride, down);
      }
      if constexpr (HasRow) store(u + j, now);
    }
  }

  // Back, the rows hold the gradients of r and of p. Those of the last p are -D grad.
  void start_back(int64_t i, const T* of_x, T* to_g) const {
    if (i == last_) return;
    clear(i);
    const int64_t stride = grid_.stride;
    const bool has_below = i + 1 < last_;
    const T *const row = of_x + i * stride, *const has_right = has_right_;
    T *const to = to_g + i * stride, *const right = p_right(i), *const down = p_down(i);
    for (int64_t j = 0; j < stride; j += lanes<T>) {
      const Vector<T> here = load(row + j);
      store(to + j, here);
      // Behind the last row of a picture there are values, if not of its own.
      store(right + j, where(load(has_right + j), here - load(row + j + next)));
      if (has_below) store(down + j, here - load(row + stride + j));
    }
  }

  // From the gradients of p and r to that of q, which takes the place of that of r; and what the p before gets from r.
  void project_back(int64_t t, int64_t i, Band band, T theta, const T* kept, double* sums) const {
    const Vector<T> limit = broadcast(theta), square_limit = limit * limit, beta = broadcast(momentum(t));
    const int64_t stride = grid_.stride;
    const T* q = kept + kept_at(t, i);
    T* const at = r_right(i);
    Vector<T> to_theta = {};
    for (int64_t j = 0; j < stride; j += lanes<T>) {
      const Vector<T> of_r[2] = {load(at + j), load(at + stride + j)};
      Vector<T> of_p[2], unit[2] = {load(q + j), load(q + stride + j)};
      const Vector<T> square = with_partner(multiply_add(unit[0], unit[0], unit[1] * unit[1]));
      const auto shorter = square <= square_limit;
      const Vector<T> inverse = shorter ? Vector<T>{} : broadcast(T(1)) / square_root(square);
      const Vector<T> factor = shorter ? broadcast(T(1)) : limit * inverse;
      for (int k = 0; k < 2; ++k) {
        unit[k] *= inverse;
        of_p[k] = load(at + (2 + k) * stride + j) + multiply_add(beta, of_r[k], of_r[k]);
        store(at + (2 + k) * stride + j, -beta * of_r[k]);
      }
      const Vector<T> along = multiply_add(unit[0], of_p[0], unit[1] * of_p[1]);
      to_theta += along;
      const Vector<T> whole = with_partner(along);
      for (int k = 0; k < 2; ++k) store(at + k * stride + j, factor * (of_p[k] - unit[k] * whole));
    }
    if (band.has(i)) sums[i] = (t + 1 < iterations_ ? sums[i] : 0) + sum_of_lanes<T>(to_theta);
  }

  // Row i of the gradient of u, D^T / 8 of that of q, which g gets; then -D of it for row i - 1 of r.
  void step_back(int64_t t, int64_t i, T* grad) const {
    const Vector<T> eighth = broadcast(T(0.125));
    const int64_t stride = grid_.stride;
    const bool has_row = i<last_, has_above = i> first_;
    const T* const has_right = has_right_;
    T *const u = line(t), *const rows = r_right(i), *const above_rows = r_right(i - 1), *const to = grad + i * stride;
    for (int64_t j = 0; j < stride; j += lanes<T>) {
      Vector<T> now = {};
      if (has_row) {
        const T* const at = rows + j;
        const Vector<T> down = load(above_rows + stride + j) - load(at + stride);
        now = eighth * (down + (load(at - next) - load(at)));
        store(to + j, load(to + j) + now);
      }
      if (has_above) {
        const Vector<T> above = load(u + j);
        T* const at = above_rows + j;
        store(at, load(at) - where(load(has_right + j), load(u + j + next) - above));
        if (has_row) store(at + stride, load(at + stride) - (now - above));
      }
      store(u + j, now);
    }
  }

  Grid<T> grid_;
  int64_t iterations_;
  const T* momenta_;
  T *pairs_, *lines_, *has_right_;
  int64_t first_ = 0, last_ = 0;  // the rows that are worked on
};

}  // namespace fastunroll::FASTUNROLL_SET
