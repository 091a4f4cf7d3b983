// Layers over pictures, and their gradient.
#pragma once
#include <cstdint>

#include "spectrum.h"

namespace fastunroll {

// The normal operator H = A^H A: F^-1 diag(h) F with a real h, the sum of conj(S) F^-1 diag(h) F S over coils, or a
// product with weights.
template <class T> struct PictureNormal {
  Spectrum<T> spectrum;  // packed, with the size and the type of the pictures
  const T* weights;      // (count, rows, columns), a pair for each complex pixel, in the place of the spectrum; or null
  int64_t count, repeat;  // picture b has weights or spectrum b / repeat % count
  const T* maps;          // (map_count, coils, rows, columns), pairs; or null without coils
  int64_t coils, map_count, map_repeat;
};

enum class PicturePrior { identity, soft, nonnegative, box, total_variation, filter_bank };

// P: what lies outside [low, high] moves to its ends (box); the proximal operator of total variation, by `iterations`
// of accelerated projected gradients; or a bank of filters with a clip.
template <class T> struct PictureProx {
  PicturePrior prior;
  T low, high;
  int64_t iterations;
  const T* filters;  // (layers, filter_count, filter_size, filter_size), or null
  int64_t filter_count, filter_size;
};

// Layers x = P(v - step (H v - z)), v = x + beta (x - before). The first layer has before = x. Complex pictures are
// pairs of T; P then shrinks their moduli.
template <class T> struct PictureLayers {
  int64_t batch, layers;
  int threads;
  PictureNormal<T> normal;
  PictureProx<T> prox;
  const T *step, *theta, *beta;  // (layers); theta is null where P has none, (layers, filter_count) of a bank of
                                 // filters; beta is null for zero
  const T* z;                    // (batch, rows, columns): A^H y
  const T* x0;                   // as z, or null for zero
  bool (*interrupted)();         // as in Forward
};

template <class T> struct PictureForward {
  PictureLayers<T> of;
  int64_t kept;
  T* x;  // (kept, batch, rows, columns): the last layers
  int64_t saved_pictures;
  // (saved_pictures, layers, 1, rows, columns), for the gradient: all layers of the first pictures. Of a box, of total
  // variation and of a bank of filters (saved_pictures, layers, 2, rows, columns), with what P gets before each layer.
  T* saved;
};

// The gradients, from those of the layers that Forward keeps. The layers of a picture that are not saved are computed
// again. The gradients of step, theta, beta and filters are those of each picture. One that nobody needs is null.
template <class T> struct PictureBackward {
  PictureLayers<T> of;
  int64_t kept;
  const T* grad;           // (kept, batch, rows, columns)
  T *z, *x0;               // as what they are the gradients of
  T *step, *theta, *beta;  // (layers, batch), of a bank of filters (layers, batch, filter_count)
  T* filters;              // (layers, batch, filter_count, filter_size, filter_size)
  int64_t saved_pictures;
  const T* saved;
};

template <class T> void picture_forward(const PictureForward<T>&);
template <class T> void picture_backward(const PictureBackward<T>&);

}  // namespace fastunroll
