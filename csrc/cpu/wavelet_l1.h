// The proximal operator of the l1 norm of wavelet details and its gradient, of one picture: x = W^T S(W z), where S is
// the soft threshold of each band of details, and the identity of the last approximation.
//
// W is linear. The gradient of z is W^T S' W of that of x, where S' follows from the details S(W z), which are kept.
#pragma once
#include "cpu/picture_prox.h"
#include "cpu/wavelet.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> struct WaveletL1 {
  Wavelet<T> wavelet;
  bool is_complex;

  // From z to x in its place, with the thresholds (levels, 3) and the grid of a layer. Leaves S(W z) in the room.
  void forward(Team team, int64_t layer, const T* theta, const WaveletRoom<T>& room, T* x) const {
    const auto give = [&](int64_t level, int band, int64_t, const T* from, T* to, int64_t size) {
      const Vector<T> limit = broadcast(theta[3 * level + band]);
      if (is_complex)
        for (int64_t c = 0; c < size; c += lanes<T>) store(to + c, shrink_pairs<T>(load(from + c), limit));
      else
        for (int64_t c = 0; c < size; c += lanes<T>) store(to + c, shrink<T>(load(from + c), limit));
    };
    wavelet.analyse(team, layer, x, room, give);
    wavelet.synthesise(team, layer, room, x);
  }

  // From the gradient of x to that of z, in its place. The room has S(W z), and loses it. Writes the sums of rows of
  // each band that make the gradient of theta.
  void backward(Team team, int64_t layer, const T* theta, const WaveletRoom<T>& room, T* grad, double* sums) const {
    const auto give = [&](int64_t level, int band, int64_t row, const T* from, T* to, int64_t size) {
      const Vector<T> limit = broadcast(theta[3 * level + band]);
      RowSums<T> minus{sums + first_sum(3 * level + band)};
      if (is_complex)
        for (int64_t c = 0; c < size; c += lanes<T>)
          store(to + c, shrink_pairs_back<T>(load(to + c), load(from + c), limit, minus));
      else
        for (int64_t c = 0; c < size; c += lanes<T>) store(to + c, shrink_back<T>(load(to + c), load(from + c), minus));
      minus.end_row(row);
    };
    wavelet.analyse(team, layer, grad, room, give);
    wavelet.synthesise(team, layer, room, grad);
  }

  double theta_gradient(const double* sums, int64_t threshold) const {
    return -total(sums + first_sum(threshold), wavelet.rows(threshold / 3 + 1));
  }

 private:
  // Where the sums of a band begin: those of the three bands of a level follow those of the level before.
  int64_t first_sum(int64_t threshold) const {
    const int64_t level = threshold / 3, before = wavelet.rows(0) - wavelet.rows(level);
    return 3 * before + threshold % 3 * wavelet.rows(level + 1);
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
