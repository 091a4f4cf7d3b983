// The products of points with packed numbers d.
#pragma once
#include "cpu/fourier_image.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

// The values of one packed spectrum.
template <class T> int64_t packed_values(const Spectrum<T>& s) {
  const int64_t parts = s.complex ? 2 : 1;
  if (s.of_rows) return parts * s.columns;
  const int64_t of_strips = FourierImage<T>(s.rows, s.columns, s.real_images).strips * lanes<T>;
  return s.rows * (s.complex ? 2 * (of_strips + 1) : of_strips + 3);
}

// How d is multiplied: real, complex, or conjugated.
enum class Multiplier { real, complex, conjugate };

// A number d for each lane of each point, from that of point 0 on.
template <class T, Multiplier Kind> struct LaneGain {
  const T* d;
  Complex<T> operator()(int64_t point, Complex<T> x) const {
    if constexpr (Kind == Multiplier::real) return load(d + point * lanes<T>) * x;
    return times<Kind == Multiplier::conjugate>(x, load_point(d + point * point_size<T>));
  }
};

// A number d for each point.
template <class T, Multiplier Kind> struct PointGain {
  const T* d;
  Complex<T> operator()(int64_t point, Complex<T> x) const {
    if constexpr (Kind == Multiplier::real) return broadcast(d[point]) * x;
    return times<Kind == Multiplier::conjugate>(x, d + 2 * point);
  }
};

// What the transforms of an image multiply.
template <class T> T transform_scale(const FourierImage<T>& image) {
  return T(image.rows) * T(image.columns) * (image.is_real ? 2 : 1);
}

// Where a product with one packed spectrum reads its numbers.
template <class T, Multiplier Kind> struct PackedNumbers {
  static constexpr Multiplier kind = Kind;
  const T* d;
  const T* of_strip(const FourierImage<T>& image, int64_t s) const {
    return d + s * (Kind == Multiplier::real ? 1 : 2) * image.rows * lanes<T>;
  }
  const T* second_of_column_0(const FourierImage<T>& image) const { return of_strip(image, image.strips); }
  const T* of_rows(const FourierImage<T>&) const { return d; }
};

// 1 / (h + rho) for a packed h. A thread makes those of one strip, or of a row, before it reads them.
template <class T> struct InverseNumbers {
  static constexpr Multiplier kind = Multiplier::real;
  const T* h;
  T rho;
  T* room;  // room_size() values

  static int64_t room_size(const FourierImage<T>& image) {
    const int64_t of_strip = image.rows * (lanes<T> + 1);
    return of_strip > image.columns ? of_strip : image.columns;
  }
  const T* of_strip(const FourierImage<T>& image, int64_t s) const {
    const T scale = transform_scale(image), inverse_scale = 1 / scale;
    const T* from = h + s * image.rows * lanes<T>;
    for (int64_t r = 0; r < image.rows; ++r) {
      const Vector<T> sum = multiply_add(load(from + r * lanes<T>), broadcast(scale), broadcast(rho));
      store(room + r * lanes<T>, broadcast(inverse_scale) / sum);
    }
    if (s > 0 || !image.is_folded()) return room;
    const T *column = h + (image.strips * lanes<T> + 1) * image.rows, *middle = column + image.rows;
    for (int64_t r = 0; r < image.rows; ++r) {
      const T a = inverse_scale / (column[r] * scale + rho), b = inverse_scale / (middle[r] * scale + rho);
      room[r * lanes<T>] = (a + b) / 2;
      room[image.rows * lanes<T> + r] = (a - b) / 2;
    }
    return room;
  }
  // After of_strip() of the first one.
  const T* second_of_column_0(const FourierImage<T>& image) const { return room + image.rows * lanes<T>; }
  const T* of_rows(const FourierImage<T>& image) const {
    const T scale = T(image.columns), inverse_scale = 1 / scale;
    for (int64_t p = 0; p < image.columns; ++p) room[p] = inverse_scale / (h[p] * scale + rho);
    return room;
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
