// Proximal operators that treat every pixel alone, over a picture, and their gradients.
#pragma once
#include "cpu/complex_pairs.h"
#include "cpu/grid.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

// |re + i im|, without overflow.
template <class T> inline Vector<T> moduli(Vector<T> re, Vector<T> im) {
  const Vector<T> a = magnitude<T>(re), b = magnitude<T>(im);
  const Vector<T> big = a > b ? a : b, small = a > b ? b : a, ratio = small / big;
  return big > 0 ? big * square_root(multiply_add(ratio, ratio, broadcast(T(1)))) : big + small;
}

// |z| of complex numbers, in both lanes of a pair.
template <class T> inline Vector<T> pair_moduli(Vector<T> z) { return moduli<T>(z, swap_pairs<T>(z)); }

// S_theta(z) = z max(1 - theta / |z|, 0)
template <class T> inline Vector<T> shrink_pairs(Vector<T> z, Vector<T> theta) {
  const Vector<T> size = pair_moduli<T>(z), limit = theta < 0 ? Vector<T>{} : theta;
  return size - limit <= 0 ? Vector<T>{} : z * ((size - theta) / size);
}

// From the gradient of x = S_theta(z) to that of z. `minus` gets what makes minus the gradient of theta.
template <class T> inline Vector<T> shrink_back(Vector<T> x, Vector<T> g, RowSums<T>& minus) {
  const Vector<T> kept = where_nonzero<T>(x, g);
  minus.add(with_sign_of<T>(kept, x));
  return kept;
}

// The same of complex numbers: (1 - theta / r) g + (theta / r) <u, g> u with r = |z| = |x| + theta and u = x / |x|.
template <class T> inline Vector<T> shrink_pairs_back(Vector<T> x, Vector<T> g, Vector<T> theta, RowSums<T>& minus) {
  const Vector<T> size = pair_moduli<T>(x), share = theta / (size + theta), unit = x / size;
  const Vector<T> along = where_nonzero<T>(size, unit * g);
  minus.add(along);
  const Vector<T> whole = along + swap_pairs<T>(along);
  return where_nonzero<T>(size, multiply_add(share * whole, unit, g - share * g));
}

template <class T> struct PixelProx {
  PictureProx<T> prox;
  bool is_complex;

  // Whether the gradient follows from z. Else it follows from P(z).
  bool needs_input() const { return prox.prior == PicturePrior::box; }

  void apply(const Grid<T>& grid, Band band, T theta, T* z) const {
    const Vector<T> all = broadcast(theta), low = broadcast(prox.low), high = broadcast(prox.high);
    const auto change = [&](const auto& of) {
      grid.each(band, [&](int64_t row, int64_t c) { store(grid.at(z, row, c), of(load(grid.at(z, row, c)))); });
    };
    switch (prox.prior) {
      case PicturePrior::soft:
        if (is_complex) return change([&](Vector<T> v) { return shrink_pairs<T>(v, all); });
        return change([&](Vector<T> v) { return shrink<T>(v, all); });
      case PicturePrior::nonnegative:
        return change([&](Vector<T> v) { return shrink_nonnegative<T>(v, all); });
      case PicturePrior::box:
        return change([&](Vector<T> v) {
          const Vector<T> raised = v < low ? low : v;
          return raised > high ? high : raised;
        });
      default:
        return;
    }
  }

  // From the gradient of P(z) to that of z, in its place. `of` is P(z), or z. Writes the sums of rows that make minus
  // the gradient of theta.
  void backward(const Grid<T>& grid, Band band, T theta, const T* of, T* grad, double* sums) const {
    const Vector<T> all = broadcast(theta), low = broadcast(prox.low), high = broadcast(prox.high);
    RowSums<T> minus{sums};
    const auto change = [&](const auto& gradient) {
      grid.each(band, [&](int64_t row, int64_t c) {
        T* const at = grid.at(grad, row, c);
        store(at, gradient(load(grid.at(of, row, c)), load(at)));
        if (c + lanes<T> == grid.stride) minus.end_row(row);
      });
    };
    switch (prox.prior) {
      case PicturePrior::soft:
        if (is_complex)
          change([&](Vector<T> x, Vector<T> g) { return shrink_pairs_back<T>(x, g, all, minus); });
        else
          change([&](Vector<T> x, Vector<T> g) { return shrink_back<T>(x, g, minus); });
        break;
      case PicturePrior::nonnegative:
        change([&](Vector<T> x, Vector<T> g) {
          const Vector<T> kept = where_nonzero<T>(x, g);
          minus.add(kept);
          return kept;
        });
        break;
      case PicturePrior::box:
        change([&](Vector<T> z, Vector<T> g) { return ((z >= low) & (z <= high)) ? g : Vector<T>{}; });
        break;
      default:
        break;
    }
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
