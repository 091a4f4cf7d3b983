// ADMM over a picture: u = L(x - d), x+ = P(u + d), d+ = d + eta (u - x+) with the dual variable d. A relaxation moves
// u further from x before it goes on; the gradient has none.
#pragma once
#include "cpu/picture_layer.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> struct AdmmLayers {
  const PictureNetwork<T>& of;

  LinearInput<T> input(const PictureState<T>& now) const { return {now.x, now.s, of.grid.stride, false, Vector<T>{}}; }

  void start(int64_t, const PictureRoom<T>& room, const PictureState<T>& now) const {
    of.grid.clear(of.band(room), now.s);
    room.team.wait();
  }
  void linear_step(int64_t k, int64_t number, const PictureRoom<T>& room, const LayerPictures<T>& at) const {
    of.linear.forward(room, k, number, input(at.now), {of.grid.stride, at.u});
  }
  void step(int64_t k, int64_t number, const PictureRoom<T>& room, const LayerPictures<T>& at, T* saved) const {
    const Grid<T>& grid = of.grid;
    T* const sum = of.input_of(at.next.x, at.spare);
    const T relaxation = of.p.relaxation;
    of.linear.forward(room, k, number, input(at.now),
                      {grid.stride, at.u, at.now.s, sum, relaxation == 1 ? nullptr : at.now.x, broadcast(relaxation)});
    if (saved) grid.copy_out(of.band(room), at.u, saved);
    of.prox_step(k, room, sum, at.next.x);
    const Vector<T> eta = broadcast(of.p.numbers[k]);
    grid.each(of.band(room), [&](int64_t row, int64_t c) {
      const Vector<T> moved = load(grid.at(at.u, row, c)) - load(grid.at(at.next.x, row, c));
      store(grid.at(at.next.s, row, c), multiply_add(eta, moved, load(grid.at(at.now.s, row, c))));
    });
    room.team.wait();
  }

  // From the gradients of x+ and d+ to those of x and d. With those of w = u + d and v = x - d, they are v' and
  // d+' + w' - v'; that of u is w' + eta d+'.
  void back(const PictureBackward<T>& to, int64_t k, int64_t number, const PictureRoom<T>& room,
            const LayerPictures<T>& at, const PictureState<T>& grad) const {
    const Grid<T>& grid = of.grid;
    const Band rows = of.band(room);
    const Vector<T> eta = broadcast(of.p.numbers[k]);
    const bool goes_on = k + 1 < of.p.layers || to.grad_s;  // else nobody has read d+
    RowSums<T> to_eta{room.sums + grid.rows};
    grid.each(rows, [&](int64_t row, int64_t c) {
      const int64_t here = row * grid.stride + c;
      const Vector<T> u = load(at.u + here), of_d = load(grad.s + here);
      store(at.spare + here, u + load(at.now.s + here));
      if (goes_on) {
        to_eta.add(of_d, u - load(at.next.x + here));
        store(grad.x + here, multiply_add(-eta, of_d, load(grad.x + here)));
      }
      if (c + lanes<T> >= grid.stride) to_eta.end_row(row);
    });
    room.team.wait();  // P mixes the rows of the whole team
    of.prox_backward(k, room, at.spare, at.next.x, grad.x);
    of.write_prox_gradients(to, k, number, room);
    grid.each(rows, [&](int64_t row, int64_t c) {
      const int64_t here = row * grid.stride + c;
      const Vector<T> of_w = load(grad.x + here), of_d = load(grad.s + here);
      store(grad.x + here, goes_on ? multiply_add(eta, of_d, of_w) : of_w);
      store(grad.s + here, of_d + of_w);
    });
    room.team.wait();
    of.linear.backward(room, k, number, input(at.now), at.u, grad.x, at.spare, to.z, rows, room.sums,
                       [&](int64_t row, int64_t c, Vector<T> of_v) {
                         const int64_t here = row * grid.stride + c;
                         store(grad.x + here, of_v);
                         store(grad.s + here, load(grad.s + here) - of_v);
                       });
    room.team.wait();
    const int64_t place = k * of.p.batch + number;
    of.write_gradient(room, to.step ? to.step + place : nullptr, room.sums);
    of.write_gradient(room, to.numbers ? to.numbers + place : nullptr, room.sums + grid.rows);
  }
  void back_to_start(const PictureBackward<T>&, int64_t, const PictureRoom<T>&, const LayerPictures<T>&,
                     const PictureState<T>&) const {}
};

}  // namespace fastunroll::FASTUNROLL_SET
