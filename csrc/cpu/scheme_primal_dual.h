// The primal-dual method over a picture: x+ = P(x - step d), d+ = (d + sigma (H a - z)) / (1 + sigma) with
// a = x+ + omega (x+ - x). d is A^H times the dual variable of the literature: a picture, like all else.
#pragma once
#include "cpu/picture_layer.h"

namespace fastunroll::FASTUNROLL_SET {

// d+ from a product H a. Without d, from zero.
template <class T> struct DualStep {
  Pixels<T> pixels;
  int64_t stride;
  const T *z, *d;
  T* next;
  Vector<T> sigma;
  template <class W> FASTUNROLL_INLINE Vector<T> combine(int64_t row, int64_t i, Vector<T> product, W whole) const {
    const Vector<T> now = d ? load(d + row * stride + i) : Vector<T>{};
    return multiply_add(sigma, product - pixels.get(z, row, i, whole), now) / (broadcast(T(1)) + sigma);
  }
  template <class W> FASTUNROLL_INLINE void put(int64_t row, int64_t i, Vector<T> value, W) const {
    store(next + row * stride + i, value);
  }
};

template <class T> struct PrimalDualLayers {
  const PictureNetwork<T>& of;
  bool wants_state;  // d after the last layer

  T sigma(int64_t k) const { return of.p.numbers[2 * k]; }
  LinearInput<T> picture(const T* x) const { return {x, nullptr, of.grid.stride, false, Vector<T>{}}; }
  LinearInput<T> ahead_of(int64_t k, const T* next, const T* now) const {
    return {next, now, of.grid.stride, true, broadcast(of.p.numbers[2 * k + 1])};
  }
  DualStep<T> dual_step(int64_t k, int64_t number, const T* d, T* next) const {
    return {{of.grid.rows, of.grid.width}, of.grid.stride, of.linear.z(number), d, next, broadcast(sigma(k))};
  }
  void input(int64_t k, Band rows, const PictureState<T>& now, T* u) const {
    const Vector<T> step = broadcast(of.p.step[k]);
    of.grid.each(rows, [&](int64_t row, int64_t c) {
      const int64_t here = row * of.grid.stride + c;
      store(u + here, multiply_add(-step, load(now.s + here), load(now.x + here)));
    });
  }

  void start(int64_t number, const PictureRoom<T>& room, const PictureState<T>& now) const {
    const DualStep<T> give = dual_step(0, number, nullptr, now.s);
    if (of.p.x0) {
      of.linear.apply(room, number, picture(now.x), give);
      if (of.linear.normal.of.spectrum.of_rows) spread(room, now);
      return;
    }
    constexpr Constant<0> in_part;
    of.grid.each(of.band(room), [&](int64_t row, int64_t c) {
      give.put(row, c, give.combine(row, c, Vector<T>{}, in_part), in_part);
    });
    room.team.wait();
  }
  // Makes all of d NaN where x is not finite somewhere. H of a mask of columns keeps such a value in its row, but A, of
  // which the dual variable of the literature is made, mixes all pixels.
  void spread(const PictureRoom<T>& room, const PictureState<T>& now) const {
    const Grid<T>& grid = of.grid;
    const Band rows = of.band(room);
    RowSums<T> zeros{room.sums};
    grid.each(rows, [&](int64_t row, int64_t c) {
      zeros.add(load(now.x + row * grid.stride + c) * broadcast(T(0)));
      if (c + lanes<T> >= grid.stride) zeros.end_row(row);
    });
    room.team.wait();
    const T sum = T(total(room.sums, grid.rows));
    if (sum == 0) return;
    grid.each(rows, [&](int64_t row, int64_t c) {
      Vector<T> of_row{};
      for (int64_t lane = 0; lane < lanes<T> && c + lane < grid.width; ++lane) of_row[lane] = sum;
      store(now.s + row * grid.stride + c, of_row);
    });
    room.team.wait();
  }
  void linear_step(int64_t, int64_t, const PictureRoom<T>&, const LayerPictures<T>&) const {}
  void step(int64_t k, int64_t number, const PictureRoom<T>& room, const LayerPictures<T>& at, T*) const {
    T* const u = of.input_of(at.next.x, at.u);
    input(k, of.band(room), at.now, u);
    room.team.wait();
    of.prox_step(k, room, u, at.next.x);
    if (wants_state || k + 1 < of.p.layers)  // else nobody reads d+
      of.linear.apply(room, number, ahead_of(k, at.next.x, at.now.x), dual_step(k, number, at.now.s, at.next.s));
  }

  // From the gradients of x+ and d+ to those of x and d. With w = H d+', that of a is sigma / (1 + sigma) w, of sigma
  // (<w, a> - <d+', z + d+>) / (1 + sigma), and of z -sigma / (1 + sigma) d+'.
  void back(const PictureBackward<T>& to, int64_t k, int64_t number, const PictureRoom<T>& room,
            const LayerPictures<T>& at, const PictureState<T>& grad) const {
    const Grid<T>& grid = of.grid;
    const Band rows = of.band(room);
    const bool goes_on = k + 1 < of.p.layers;
    RowSums<T> to_step{room.sums}, to_sigma{room.sums + grid.rows}, to_omega{room.sums + 2 * grid.rows};
    const Vector<T> step = broadcast(of.p.step[k]), whole = broadcast(1 + sigma(k)),
                    share = broadcast(sigma(k)) / whole;
    const LinearInput<T> ahead = ahead_of(k, at.next.x, at.now.x);
    if (goes_on) {
      of.linear.apply(room, number, picture(grad.s), StoreResult<T>{grid.stride, at.spare});
      T* const to_z = to.z ? to.z + number * of.values() : nullptr;
      grid.each(rows, [&](int64_t row, int64_t c) {
        const int64_t here = row * grid.stride + c;
        const Vector<T> of_d = load(grad.s + here), product = load(at.spare + here), of_ahead = share * product;
        to_sigma.add(product, ahead.at(here));
        to_sigma.add(-of_d, grid.get(of.linear.z(number), row, c) + load(at.next.s + here));
        to_omega.add(of_ahead, load(at.next.x + here) - load(at.now.x + here));
        if (to_z) grid.put(to_z, row, c, multiply_add(-share, of_d, grid.get(to_z, row, c)));
        store(grad.x + here, load(grad.x + here) + multiply_add(ahead.beta, of_ahead, of_ahead));
        store(at.spare + here, ahead.beta * of_ahead);
        store(grad.s + here, of_d / whole);
        if (c + lanes<T> < grid.stride) return;
        to_sigma.end_row(row);
        to_omega.end_row(row);
      });
    }
    if (of.prox_needs_input()) input(k, rows, at.now, at.u);
    room.team.wait();  // P mixes the rows of the whole team
    of.prox_backward(k, room, at.u, at.next.x, grad.x);
    of.write_prox_gradients(to, k, number, room);
    grid.each(rows, [&](int64_t row, int64_t c) {
      const int64_t here = row * grid.stride + c;
      const Vector<T> of_input = load(grad.x + here);
      to_step.add(-of_input, load(at.now.s + here));
      store(grad.s + here, multiply_add(-step, of_input, load(grad.s + here)));
      if (goes_on) store(grad.x + here, of_input - load(at.spare + here));
      if (c + lanes<T> >= grid.stride) to_step.end_row(row);
    });
    room.team.wait();
    const int64_t place = k * of.p.batch + number;
    of.write_gradient(room, to.step ? to.step + place : nullptr, room.sums);
    if (!to.numbers || room.team.rank > 0) return;
    to.numbers[2 * place] = goes_on ? T(total(to_sigma.sums, grid.rows)) / (1 + sigma(k)) : T(0);
    to.numbers[2 * place + 1] = goes_on ? T(total(to_omega.sums, grid.rows)) : T(0);
  }

  // From that of the first d = sigma / (1 + sigma) (H x0 - z).
  void back_to_start(const PictureBackward<T>& to, int64_t number, const PictureRoom<T>& room,
                     const LayerPictures<T>& at, const PictureState<T>& grad) const {
    const Grid<T>& grid = of.grid;
    of.linear.apply(room, number, picture(grad.s), StoreResult<T>{grid.stride, at.spare});
    const T whole = 1 + sigma(0);
    const Vector<T> share = broadcast(sigma(0) / whole);
    T* const to_z = to.z ? to.z + number * of.values() : nullptr;
    RowSums<T> to_sigma{room.sums};
    grid.each(of.band(room), [&](int64_t row, int64_t c) {
      const int64_t here = row * grid.stride + c;
      const Vector<T> of_d = load(grad.s + here), product = load(at.spare + here);
      to_sigma.add(product, load(at.now.x + here));
      to_sigma.add(-of_d, grid.get(of.linear.z(number), row, c));
      if (to_z) grid.put(to_z, row, c, multiply_add(-share, of_d, grid.get(to_z, row, c)));
      store(grad.x + here, multiply_add(share, product, load(grad.x + here)));
      if (c + lanes<T> >= grid.stride) to_sigma.end_row(row);
    });
    room.team.wait();
    if (to.numbers && room.team.rank == 0) to.numbers[2 * number] += T(total(room.sums, grid.rows)) / (whole * whole);
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
