// Proximal gradients and half-quadratic splitting over a picture, and FISTA: x+ = P(L v), with v = x, or ahead of it.
#pragma once
#include "cpu/picture_layer.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> struct ProximalGradientLayers {
  const PictureNetwork<T>& of;

  LinearInput<T> input(int64_t k, const PictureState<T>& now) const {
    const T* beta = of.p.numbers;
    return {now.x, beta ? now.s : nullptr, of.grid.stride, true, broadcast(beta ? beta[k] : T(0))};
  }
  void start(int64_t, const PictureRoom<T>&, const PictureState<T>&) const {}

  void linear_step(int64_t k, int64_t number, const PictureRoom<T>& room, const LayerPictures<T>& at) const {
    of.linear.forward(room, k, number, input(k, at.now), {of.grid.stride, at.u});
  }
  void step(int64_t k, int64_t number, const PictureRoom<T>& room, const LayerPictures<T>& at, T* saved) const {
    T* const u = of.input_of(at.next.x, at.u);
    of.linear.forward(room, k, number, input(k, at.now), {of.grid.stride, u});
    if (saved) of.grid.copy_out(of.band(room), u, saved);
    of.prox_step(k, room, u, at.next.x);
  }

  // From the gradients of the next iterate and of the last one, which are x and s of `grad`, to those of the last one
  // and of that before.
  void back(const PictureBackward<T>& to, int64_t k, int64_t number, const PictureRoom<T>& room,
            const LayerPictures<T>& at, const PictureState<T>& grad) const {
    const Grid<T>& grid = of.grid;
    room.team.wait();  // P mixes the rows of the whole team
    of.prox_backward(k, room, at.u, at.next.x, grad.x);
    of.write_prox_gradients(to, k, number, room);
    const LinearInput<T> v = input(k, at.now);
    RowSums<T> to_beta{room.sums + grid.rows};
    of.linear.backward(room, k, number, v, at.u, grad.x, at.spare, to.z, of.band(room), room.sums,
                       [&](int64_t row, int64_t c, Vector<T> of_v) {
                         const int64_t here = row * grid.stride + c;
                         const Vector<T> of_now = v.other ? multiply_add(v.beta, of_v, of_v) : of_v;
                         store(grad.x + here, load(grad.s + here) + of_now);
                         if (v.other) {
                           to_beta.add(of_v, load(v.x + here) - load(v.other + here));
                           store(grad.s + here, -v.beta * of_v);
                         }
                         if (c + lanes<T> >= grid.stride) to_beta.end_row(row);
                       });
    room.team.wait();
    const int64_t place = k * of.p.batch + number;
    of.write_gradient(room, to.step ? to.step + place : nullptr, room.sums);
    of.write_gradient(room, to.numbers ? to.numbers + place : nullptr, room.sums + grid.rows);
  }

  // The first iterate is the one before itself, too.
  void back_to_start(const PictureBackward<T>&, int64_t, const PictureRoom<T>& room, const LayerPictures<T>&,
                     const PictureState<T>& grad) const {
    of.grid.each(of.band(room), [&](int64_t row, int64_t c) {
      T* const x = of.grid.at(grad.x, row, c);
      store(x, load(x) + load(of.grid.at(grad.s, row, c)));
    });
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
