// The linear step of a layer over a picture, and its gradient.
#pragma once
#include "cpu/conjugate_gradients.h"
#include "cpu/extrapolate.h"
#include "cpu/normal.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

// v = x + beta (x - other), or x - other, or x without `other`.
template <class T> struct LinearInput {
  const T *x, *other;
  int64_t stride;
  bool is_ahead;
  Vector<T> beta;
  Vector<T> at(int64_t place) const {
    const Vector<T> now = load(x + place);
    if (!other) return now;
    return is_ahead ? ahead<T>(now, load(other + place), beta) : now - load(other + place);
  }
  template <class W> FASTUNROLL_INLINE Vector<T> operator()(int64_t row, int64_t i, W) const {
    return at(row * stride + i);
  }
};

// z + rho v
template <class T> struct WithData {
  LinearInput<T> v;
  Pixels<T> pixels;
  const T* z;
  Vector<T> rho;
  template <class W> FASTUNROLL_INLINE Vector<T> operator()(int64_t row, int64_t i, W whole) const {
    return multiply_add(rho, v(row, i, whole), pixels.get(z, row, i, whole));
  }
};

// Where the result u goes, and where u + more. With `from`, from + relaxation (u - from) takes the place of u.
template <class T> struct StoreResult {
  int64_t stride;
  T* u;
  const T* more = nullptr;
  T* sum = nullptr;
  const T* from = nullptr;
  Vector<T> relaxation = {};
  template <class W> FASTUNROLL_INLINE Vector<T> combine(int64_t row, int64_t i, Vector<T> value, W) const {
    if (!from) return value;
    const Vector<T> before = load(from + row * stride + i);
    return multiply_add(relaxation, value - before, before);
  }
  template <class W> FASTUNROLL_INLINE void put(int64_t row, int64_t i, Vector<T> value, W) const {
    const int64_t place = row * stride + i;
    store(u + place, value);
    if (more) store(sum + place, value + load(more + place));
  }
};

// u = v - step (H v - z)
template <class T> struct Descend {
  LinearInput<T> v;
  Pixels<T> pixels;
  const T* z;
  Vector<T> step;
  StoreResult<T> result;
  template <class W> FASTUNROLL_INLINE Vector<T> combine(int64_t row, int64_t i, Vector<T> product, W whole) const {
    const Vector<T> u = multiply_add(-step, product - pixels.get(z, row, i, whole), v(row, i, whole));
    return result.combine(row, i, u, whole);
  }
  template <class W> FASTUNROLL_INLINE void put(int64_t row, int64_t i, Vector<T> value, W whole) const {
    result.put(row, i, value, whole);
  }
};

// (H + rho) v, from a product H v.
template <class T> struct PlusMultiple {
  int64_t stride;
  const T* v;
  Vector<T> rho;
  T* to;
  template <class W> FASTUNROLL_INLINE Vector<T> combine(int64_t row, int64_t i, Vector<T> product, W) const {
    return multiply_add(rho, load(v + row * stride + i), product);
  }
  template <class W> FASTUNROLL_INLINE void put(int64_t row, int64_t i, Vector<T> value, W) const {
    store(to + row * stride + i, value);
  }
};

// What a thread of a team works in for H: a transform, the sum over coils of the team, and its conjugate gradients.
template <class T> struct NormalRoom {
  Team team;
  Scratch<T> fourier;
  T* coils;
  SolveRoom<T> solver;
  bool asks;  // whether the thread may ask if the call is interrupted
  int* is_stopped;
};

template <class T> struct LinearStep {
  const PictureLayers<T>& p;
  Grid<T> grid;
  Normal<T> normal;

  static constexpr int64_t most_steps = 1000;  // of conjugate gradients
  bool solves() const { return p.linear == PictureStep::solve; }
  // Whether it takes conjugate gradients to solve.
  bool iterates() const { return solves() && (normal.of.maps || normal.of.factor > 0); }
  const T* z(int64_t number) const { return p.z + number * grid.rows * grid.width; }

  // Whether the call is interrupted, which all threads of a team find together.
  bool stops(const NormalRoom<T>& room) const {
    if (room.asks && p.interrupted && p.interrupted()) __atomic_store_n(room.is_stopped, 1, __ATOMIC_RELAXED);
    room.team.wait();
    return __atomic_load_n(room.is_stopped, __ATOMIC_RELAXED);
  }

  // H v, for all rows of the team.
  template <class Take, class Give>
  void apply(const NormalRoom<T>& room, int64_t number, const Take& take, const Give& give) const {
    normal.apply(room.team, room.fourier, room.coils, number, take, give);
  }

  // (H + rho)^-1 b for all rows of the team, with rho the step of layer k. take(row, i, whole) is a vector of b.
  template <class Take>
  void solve(const NormalRoom<T>& room, int64_t k, int64_t number, const Take& take, const StoreResult<T>& give) const {
    if (!iterates()) return normal.solve(room.team, room.fourier, p.step[k], number, take, give);
    const SolveRoom<T>& in = room.solver;
    const Band rows = Band::of(room.team, grid.rows);
    constexpr Constant<0> in_part;
    grid.each(rows, [&](int64_t row, int64_t c) { store(in.residual + row * grid.stride + c, take(row, c, in_part)); });
    const LinearInput<T> direction{in.direction, nullptr, grid.stride, false, Vector<T>{}};
    const PlusMultiple<T> product{grid.stride, in.direction, broadcast(p.step[k]), in.product};
    const int64_t pixels = normal.of.rows() * normal.of.columns(), most = 2 * pixels + 10;
    const bool is_right = conjugate_gradients(
        room.team, grid, in, most < most_steps ? most : most_steps, [&] { apply(room, number, direction, product); },
        [&] { return stops(room); });
    if (!is_right && room.team.rank == 0) __atomic_fetch_add(p.unsolved, int64_t(1), __ATOMIC_RELAXED);
    normal.give_away(room.team, in.x, give);
  }

  // The step of layer k. u may take the place of v.
  void forward(const NormalRoom<T>& room, int64_t k, int64_t number, const LinearInput<T>& v,
               const StoreResult<T>& u) const {
    const Pixels<T> pixels{grid.rows, grid.width};
    const Vector<T> step = broadcast(p.step[k]);
    if (solves())
      solve(room, k, number, WithData<T>{v, pixels, z(number), step}, u);
    else
      apply(room, number, v, Descend<T>{v, pixels, z(number), step, u});
  }

  // Calls body(row, c, g) with vectors g of the gradient of v, from the gradient of u in `grad`. `spare` is a picture.
  // The step to solve needs u. Adds to the gradient of z, if it is not null, and leaves sums of rows that make that of
  // step. `band`: the thread's rows.
  //
  // With the gradient u' of u and w = H u', that of step is <u', z> - <w, v>, of z step u', and of v u' - step w. To
  // solve, with w = (H + step)^-1 u', they are <w, v - u>, w, and step w.
  template <class Body>
  void backward(const NormalRoom<T>& room, int64_t k, int64_t number, const LinearInput<T>& v, const T* u,
                const T* grad, T* spare, T* to_z, Band band, double* sums, const Body& body) const {
    const LinearInput<T> of_u{grad, nullptr, grid.stride, false, Vector<T>{}};
    if (solves())
      solve(room, k, number, of_u, StoreResult<T>{grid.stride, spare});
    else
      apply(room, number, of_u, StoreResult<T>{grid.stride, spare});
    const Vector<T> step = broadcast(p.step[k]);
    const T* const data = z(number);
    T* const to = to_z ? to_z + number * grid.rows * grid.width : nullptr;
    RowSums<T> to_step{sums};
    grid.each(band, [&](int64_t row, int64_t c) {
      const int64_t here = row * grid.stride + c;
      const Vector<T> product = load(spare + here), given = load(grad + here);
      Vector<T> of_v;
      if (solves()) {
        to_step.add(product, v.at(here) - load(u + here));
        if (to) grid.put(to, row, c, grid.get(to, row, c) + product);
        of_v = step * product;
      } else {
        to_step.add(given, grid.get(data, row, c));
        to_step.add(-product, v.at(here));
        if (to) grid.put(to, row, c, multiply_add(step, given, grid.get(to, row, c)));
        of_v = multiply_add(-step, product, given);
      }
      body(row, c, of_v);
      if (c + lanes<T> >= grid.stride) to_step.end_row(row);
    });
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
