// The products of points with packed numbers d.
#pragma once
#include "cpu/fourier_image.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

// The values of one packed spectrum.
template <class T> int64_t packed_values(const Spectrum<T>& s) {
  const int64_t parts = s.complex ? 2 : 1;
  if (s.of_rows) return parts * s.columns;
  return parts * s.rows * (FourierImage<T>(s.rows, s.columns, s.real_images).strips * lanes<T> + 1);
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

}  // namespace fastunroll::FASTUNROLL_SET
