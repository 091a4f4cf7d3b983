// Layers over pictures, and their gradient.
#pragma once
#include <cstdint>

#include "spectrum.h"

namespace fastunroll {

// Numbers of rows at the top and the bottom, and of columns on the left and the right.
struct Margins {
  int64_t top, left, bottom, right;
};

// The normal operator H = A^H A: F^-1 diag(h) F with a real h, the sum of conj(S) F^-1 diag(h) F S over coils, or a
// product with weights. For real pictures h(-k) = h(k). With a factor it is E^T F^-1 diag(conj(k)) F D F^-1 diag(k) F E
// with the spectrum k. There E puts a picture into a grid: of the rows and columns around it, those next to it are
// copies of its own, reflected at its edges or periodic, and zeros stand in the others. D keeps every factor-th pixel
// of both directions inside the margins of the grid.
template <class T> struct PictureNormal {
  Spectrum<T> spectrum;  // packed, with the type of the pictures, and their size or that of the larger grid
  const T* weights;      // (count, rows, columns), a pair for each complex pixel, in the place of the spectrum; or null
  int64_t count, repeat;  // picture b has weights or spectrum b / repeat % count
  const T* maps;          // (map_count, coils, rows, columns), pairs; or null without coils
  int64_t coils, map_count, map_repeat;
  int64_t factor;          // or 0
  Margins margins;         // of the grid
  Margins around, copied;  // in the grid around a picture, and how many of those are copies; only with a factor
  bool periodic;           // whether they are not reflected

  // Of the pictures.
  int64_t rows() const { return spectrum.rows - around.top - around.bottom; }
  int64_t columns() const { return spectrum.columns - around.left - around.right; }
  bool has_larger_grid() const { return rows() < spectrum.rows || columns() < spectrum.columns; }
};

enum class PicturePrior { identity, soft, nonnegative, box, total_variation, filter_bank, wavelet };

constexpr int most_taps = 32;

// An orthonormal wavelet with periodic boundaries, by its low-pass filter. Layer k moves its grid down and right. Zero
// levels stand for none.
template <class T> struct PictureWavelet {
  const T* low;  // (taps), an even number
  int64_t taps, levels;
  const int64_t* moves;  // (layers, 2), from 0 to 2^levels - 1 each
};

// P: what lies outside [low, high] moves to its ends (box); the proximal operator of total variation, by `iterations`
// of accelerated projected gradients; a bank of filters with a clip; or the soft threshold of wavelet details.
template <class T> struct PictureProx {
  PicturePrior prior;
  T low, high;
  int64_t iterations;
  int64_t thresholds;  // of a layer: one for each filter of a bank, 3 for each level of a wavelet, else 1
  const T* filters;    // (layers, filter_count, filter_size, filter_size), or null
  int64_t filter_count, filter_size;
  PictureWavelet<T> wavelet;
};

// L v = v - step (H v - z), or L v = (H + step)^-1 (z + step v), which with coils or a factor takes conjugate
// gradients.
enum class PictureStep { gradient, solve };

// How layers iterate x, with the numbers of each layer:
//
//   proximal_gradient:         x+ = P(L x)
//   fista, beta:               x+ = P(L(x + beta (x - before)))
//   admm, eta:                 u = x + relaxation (L(x - d) - x), x+ = P(u + d), d+ = d + eta (u - x+)
//   primal_dual, sigma, omega: x+ = P(x - step d), d+ = (d + sigma (H(x+ + omega (x+ - x)) - z)) / (1 + sigma)
//
// Without s0 the first `before` is x0, and the dual variable d is zero. That of primal_dual, which is A^H times the one
// of the literature, is sigma (H x0 - z) / (1 + sigma).
enum class PictureScheme { proximal_gradient, fista, admm, primal_dual };

// Complex pictures are pairs of T; P then shrinks their moduli.
template <class T> struct PictureLayers {
  int64_t batch, layers;
  int threads;
  PictureNormal<T> normal;
  PictureProx<T> prox;
  PictureStep linear;  // not of primal_dual
  PictureScheme scheme;
  T relaxation;  // of admm, and 1 in calls with gradients
  const T *step, *theta,
      *numbers;  // (layers), (layers, theta_count, thresholds), (layers, numbers of the scheme); theta may be null
  int64_t theta_count;    // picture b has the thresholds b % theta_count
  const T* z;             // (batch, rows, columns): A^H y
  const T* x0;            // as z, or null for zero
  const T* s0;            // as z: the first `before` or d, or null
  int64_t* unsolved;      // grows by the number of conjugate gradients that did not become as exact as T
  bool (*interrupted)();  // as in Forward
};

template <class T> struct PictureForward {
  PictureLayers<T> of;
  int64_t kept;
  T* x;  // (kept, batch, rows, columns): the last layers
  T* s;  // as z: d after the last layer of admm or primal_dual, or null
  int64_t saved_pictures;
  // (saved_pictures, layers, saved, rows, columns), for the gradient: of all layers of the first pictures what is here,
  // in this order. L v where the gradient of L or of P needs it, and with admm; d+; the details of a wavelet; x+.
  T* saved;
};

// The gradients, from those of the layers that Forward keeps. The layers of a picture that are not saved are computed
// again. The gradients of step, theta, numbers and filters are those of each picture. One that nobody needs is null.
template <class T> struct PictureBackward {
  PictureLayers<T> of;
  int64_t kept;
  const T* grad;              // (kept, batch, rows, columns)
  const T* grad_s;            // as z: that of d after the last layer of admm, or null
  T *z, *x0, *s0;             // as what they are the gradients of; without s0 that of x0 is all of it
  T *step, *theta, *numbers;  // (layers, batch), (layers, batch, thresholds), (layers, batch, numbers of the scheme)
  T* filters;                 // (layers, batch, filter_count, filter_size, filter_size)
  int64_t saved_pictures;
  const T* saved;
};

template <class T> void picture_forward(const PictureForward<T>&);
template <class T> void picture_backward(const PictureBackward<T>&);

}  // namespace fastunroll
