// One layer over a picture, and its gradient.
#pragma once
#include "cpu/filter_bank.h"
#include "cpu/linear_step.h"
#include "cpu/picture_prox.h"
#include "cpu/total_variation.h"
#include "cpu/wavelet_l1.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

// What a thread of a team works in. The pictures, the strips of a transform and sums are the team's.
template <class T> struct PictureRoom : NormalRoom<T> {
  T *prior, *kept;  // of total variation or of a bank of filters; the q of total variation
  T* own;           // a picture
  T* pictures;      // one after another
  WaveletRoom<T> wavelet;
  double *sums, *prior_sums;  // of rows: three that the scheme has, and those of the prior
  int64_t number = 0;         // of the picture
};

// The iterate of a layer and the second state of its scheme: the iterate before, or the dual variable. Or their
// gradients.
template <class T> struct PictureState {
  T *x, *s;
};

// The pictures of a layer. The dual variable of `next` may take the place of that of `now`, and `next.x` that of the
// iterate before.
template <class T> struct LayerPictures {
  PictureState<T> now, next;
  T *u, *spare;  // L v; for anything
};

template <class T> struct PictureNetwork {
  const PictureLayers<T>& p;
  Grid<T> grid;
  LinearStep<T> linear;
  PixelProx<T> pixel_prox;
  const T *momenta, *filters;  // of total variation; packed
  WaveletL1<T> wavelet;
  int64_t kept_details;  // layers whose details the room has

  PictureNetwork(const PictureLayers<T>& layers, const Normal<T>& normal, const T* momenta, const T* filters,
                 const Wavelet<T>& wavelet, int64_t kept_details)
      : p(layers),
        grid(normal.grid),
        linear{layers, normal.grid, normal},
        pixel_prox{layers.prox, !layers.normal.spectrum.real_images},
        momenta(momenta),
        filters(filters),
        wavelet{wavelet, !layers.normal.spectrum.real_images},
        kept_details(kept_details) {}

  bool has_variation() const { return p.prox.prior == PicturePrior::total_variation; }
  bool has_bank() const { return p.prox.prior == PicturePrior::filter_bank; }
  bool has_wavelet() const { return p.prox.prior == PicturePrior::wavelet; }
  int64_t bank_sums() const {
    return FilterBank<T, false>::numbers(p.prox) * FilterBank<T, false>::sum_count(grid, p.prox);
  }
  bool mixes_pixels() const { return has_variation() || has_bank(); }
  bool prox_needs_input() const { return mixes_pixels() || pixel_prox.needs_input(); }
  const T* thetas(int64_t k, const PictureRoom<T>& room) const {
    return p.theta + (k * p.theta_count + room.number % p.theta_count) * p.prox.thresholds;
  }
  T theta(int64_t k, const PictureRoom<T>& room) const { return p.theta ? *thetas(k, room) : 0; }
  WaveletRoom<T> wavelet_room(const PictureRoom<T>& room, int64_t k) const {
    WaveletRoom<T> of_layer = room.wavelet;
    of_layer.details += k % kept_details * wavelet.wavelet.details_size();
    return of_layer;
  }
  int64_t values() const { return grid.rows * grid.width; }
  T* picture(const PictureRoom<T>& room, int64_t i) const { return room.pictures + i * grid.size(); }
  Band band(const PictureRoom<T>& room) const {
    return Band::of(room.team, grid.rows, has_bank() ? FilterBank<T, false>::rows_of_sum : 1);
  }

  // Whether the call ends here, for the whole team.
  bool stops(const PictureRoom<T>& room) const { return linear.stops(room); }
  void start(const T* from, int64_t number, const PictureRoom<T>& room, T* x) const {
    grid.copy_in(band(room), from ? from + number * values() : nullptr, x);
    room.team.wait();
  }
  template <class Work> void with_variation(const PictureRoom<T>& room, const Work& work) const {
    if (p.normal.spectrum.real_images)
      work(TotalVariation<T, false>(grid, p.prox.iterations, momenta, room.prior));
    else
      work(TotalVariation<T, true>(grid, p.prox.iterations, momenta, room.prior));
  }
  // Calls work(bank, its filters, theta) with those of layer k.
  template <class Work> void with_bank(int64_t k, const PictureRoom<T>& room, const Work& work) const {
    const LayerFilters<T> of_layer(p.prox, filters, k);
    if (p.normal.spectrum.real_images)
      work(FilterBank<T, false>(grid, p.prox, room.prior), of_layer, thetas(k, room));
    else
      work(FilterBank<T, true>(grid, p.prox, room.prior), of_layer, thetas(k, room));
  }
  // Where P gets its input for the next iterate; priors of single pixels take its place.
  T* input_of(T* next, T* other) const { return mixes_pixels() ? other : next; }
  // next = P(u)
  void prox_step(int64_t k, const PictureRoom<T>& room, const T* u, T* next) const {
    if (has_variation())
      with_variation(room, [&](auto variation) { variation.forward(band(room), u, next, theta(k, room)); });
    else if (has_bank())
      with_bank(k, room, [&](auto bank, const auto& of_layer, const T* thetas) {
        bank.forward(band(room), u, of_layer, thetas, next);
      });
    else if (has_wavelet())
      wavelet.forward(room.team, k, thetas(k, room), wavelet_room(room, k), next);
    else
      pixel_prox.apply(grid, band(room), theta(k, room), next);
    room.team.wait();
  }
  // What is saved of a layer, for the gradient.
  bool has_dual() const { return p.scheme == PictureScheme::admm || p.scheme == PictureScheme::primal_dual; }
  bool keeps_u() const {
    return p.scheme == PictureScheme::admm ||
           (p.scheme != PictureScheme::primal_dual && (prox_needs_input() || linear.solves()));
  }
  int64_t saved_of_layer() const { return keeps_u() + has_dual() + has_wavelet() + 1; }
  int64_t details_at() const { return keeps_u() + has_dual(); }  // of the pictures of a layer
  int64_t saved_at(int64_t number, int64_t k) const { return (number * p.layers + k) * saved_of_layer() * values(); }
  // Writes the sum of rows that makes the gradient of a number, if somebody needs it. For all threads after a wait.
  void write_gradient(const PictureRoom<T>& room, T* to, const double* sums) const {
    if (to && room.team.rank == 0) *to = T(total(sums, grid.rows));
  }
  // From the gradient of x = P(u) to that of u, in its place. Leaves the sums that make those of theta and of filters.
  void prox_backward(int64_t k, const PictureRoom<T>& room, const T* u, const T* x, T* grad) const {
    const Band rows = band(room);
    if (has_variation()) {
      with_variation(room, [&](auto variation) {
        variation.keep(rows, u, theta(k, room), room.kept);
        variation.backward(rows, grad, room.own, theta(k, room), room.kept, room.prior_sums);
      });
    } else if (has_bank()) {
      with_bank(k, room, [&](auto bank, const auto& of_layer, const T* thetas) {
        bank.backward(rows, u, of_layer, thetas, grad, room.own, room.prior_sums);
      });
    } else if (has_wavelet()) {
      wavelet.backward(room.team, k, thetas(k, room), wavelet_room(room, k), grad, room.prior_sums);
    } else {
      pixel_prox.backward(grid, rows, theta(k, room), pixel_prox.needs_input() ? u : x, grad, room.prior_sums);
    }
    room.team.wait();
    if (!mixes_pixels()) return;
    grid.each(rows, [&](int64_t row, int64_t c) { store(grid.at(grad, row, c), load(grid.at(room.own, row, c))); });
    room.team.wait();
  }
  // Writes the gradients of theta and of the filters of layer k of a picture, after prox_backward().
  void write_prox_gradients(const PictureBackward<T>& to, int64_t k, int64_t number, const PictureRoom<T>& room) const {
    if (room.team.rank > 0) return;
    const double* sums = room.prior_sums;
    const int64_t place = k * p.batch + number;
    if (has_wavelet()) {
      for (int64_t j = 0; to.theta && j < p.prox.thresholds; ++j)
        to.theta[place * p.prox.thresholds + j] = T(wavelet.theta_gradient(sums, j));
      return;
    }
    if (!has_bank()) {
      if (to.theta) to.theta[place] = T((has_variation() ? 1 : -1) * total(sums, grid.rows));
      return;
    }
    const int64_t numbers = FilterBank<T, false>::numbers(p.prox), count = p.prox.filter_count,
                  values = numbers - count;
    const auto write = [&](T* at, int64_t first, int64_t size) {
      const int64_t rows = FilterBank<T, false>::sum_count(grid, p.prox);
      for (int64_t n = 0; at && n < size; ++n) at[place * size + n] = T(total(sums + first + n, rows, numbers));
    };
    write(to.filters, 0, values);
    write(to.theta, values, count);
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
