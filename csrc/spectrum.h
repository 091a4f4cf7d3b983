// Numbers that multiply the Fourier transform of images.
#pragma once
#include <cstdint>

namespace fastunroll {

// The numbers d of products F^-1 diag(d) F x, where F is the discrete Fourier transform of an image (rows, columns), or
// of each of its rows. No prime factor of rows and columns exceeds 31, and neither is 0.
template <class T> struct Spectrum {
  int64_t count, rows, columns;
  bool real_images;  // d is the half of a spectrum, columns / 2 + 1 numbers a row, and F^-1 takes its Hermitian part
  bool complex;      // d is pairs of T
  bool of_rows;  // d is (count, columns) or its half, and F is the transform of each row; else (count, rows, columns)
  int threads;
  const T* d;
  T* packed;  // as spectrum_pack leaves it: spectrum_packed_size values for each of the count
};

}  // namespace fastunroll
