// The proximal operator of the l1 norm of wavelet details and its gradient, of one picture: x = W^T S(W z), where S is
// the soft threshold of each band of details, and the identity of the last approximation.
//
// W is linear. The gradient of z is W^T S' W of that of x, where S' follows from the details S(W z), which are kept.
#pragma once
#include "cpu/picture_prox.h"
#include "cpu/wavelet.h"

namespace fastunroll::FASTUNROLL_SET {

// The soft threshold of a row of complex numbers. Two vectors at a time share their square roots and divisions.
template <class T> inline void shrink_pairs_row(const T* from, int64_t size, Vector<T> theta, T* to) {
  const Vector<T> limit = theta < 0 ? Vector<T>{} : theta;
  int64_t c = 0;
  for (; c + lanes<T> < size; c += 2 * lanes<T>) {
    const Vector<T> a = load(from + c), b = load(from + c + lanes<T>);
    const Vector<T> r = moduli<T>(every_second<T, 1, false>(a, b), every_second<T, 1, true>(a, b));
    const Vector<T> factor = r - limit <= 0 ? Vector<T>{} : (r - theta) / r;
    store(to + c, a * alternating<T, 1, false>(factor, factor));
    store(to + c + lanes<T>, b * alternating<T, 1, true>(factor, factor));
  }
  if (c < size) store(to + c, shrink_pairs<T>(load(from + c), theta));
}

// From the gradient `from` to that of z in the place of x = S_theta(z), as shrink_pairs_back().
template <class T>
inline void shrink_pairs_row_back(const T* from, int64_t size, Vector<T> theta, T* to, RowSums<T>& minus) {
  int64_t c = 0;
  for (; c + lanes<T> < size; c += 2 * lanes<T>) {
    const Vector<T> x[2] = {load(to + c), load(to + c + lanes<T>)}, g[2] = {load(from + c), load(from + c + lanes<T>)};
    const Vector<T> x_re = every_second<T, 1, false>(x[0], x[1]), x_im = every_second<T, 1, true>(x[0], x[1]);
    const Vector<T> g_re = every_second<T, 1, false>(g[0], g[1]), g_im = every_second<T, 1, true>(g[0], g[1]);
    const Vector<T> r = moduli<T>(x_re, x_im), inverse = broadcast(T(1)) / r, share = theta / (r + theta);
    const Vector<T> u_re = inverse * x_re, u_im = inverse * x_im;
    const Vector<T> along = where_nonzero<T>(r, multiply_add(u_re, g_re, u_im * g_im)), less = share * along;
    minus.add(along);
    const Vector<T> re = where_nonzero<T>(r, multiply_add(less, u_re, g_re - share * g_re));
    const Vector<T> im = where_nonzero<T>(r, multiply_add(less, u_im, g_im - share * g_im));
    store(to + c, alternating<T, 1, false>(re, im));
    store(to + c + lanes<T>, alternating<T, 1, true>(re, im));
  }
  if (c < size) store(to + c, shrink_pairs_back<T>(load(to + c), load(from + c), theta, minus));
}

template <class T> struct WaveletL1 {
  Wavelet<T> wavelet;
  bool is_complex;

  // From z to x in its place, with the thresholds (levels, 3) and the grid of a layer. Leaves S(W z) in the room.
  void forward(Team team, int64_t layer, const T* theta, const WaveletRoom<T>& room, T* x) const {
    const auto give = [&](int64_t level, int band, int64_t, const T* from, T* to, int64_t size) {
      const Vector<T> limit = broadcast(theta[3 * level + band]);
      if (is_complex)
        shrink_pairs_row<T>(from, size, limit, to);
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
        shrink_pairs_row_back<T>(from, size, limit, to, minus);
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
