// The numbers d of a product F^-1 diag(d) F in the order in which kernels meet them, divided by what the unnormalised
// transforms multiply.
//
// Images: (strips, rows, lanes), rows as the transform of columns leaves them; then, for real images, what column 0
// needs. Rows alone: a number for each point of a row.
#include "cpu/spectrum.h"

#include "cpu/threads.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

template <class T> struct Number {
  T re, im;
};

// The numbers of one image, in natural order. Half of a spectrum gives the other half by its symmetry.
template <class T> struct Entries {
  const Spectrum<T>& of;
  const T* d;

  int64_t width() const { return of.real_images ? of.columns / 2 + 1 : of.columns; }
  Number<T> at(int64_t row, int64_t column) const {
    if (of.real_images && column >= width()) {
      const Number<T> a = at(row == 0 ? 0 : of.rows - row, of.columns - column);
      return {a.re, -a.im};
    }
    const int64_t i = row * width() + column;
    return of.complex ? Number<T>{d[2 * i], d[2 * i + 1]} : Number<T>{d[i], 0};
  }
  // The part of a column that belongs to real columns of an image: (d[k] + conj(d[-k])) / 2.
  Number<T> hermitian(int64_t row, int64_t column) const {
    const Number<T> a = at(row, column), b = at(row == 0 ? 0 : of.rows - row, column);
    return {(a.re + b.re) / 2, (a.im - b.im) / 2};
  }
};

template <class T> void pack_strip(const Entries<T>& d, const FourierImage<T>& image, int64_t s, T scale, T* packed) {
  const int64_t parts = d.of.complex ? 2 : 1, first = s * lanes<T>;
  const int64_t left = image.slots - first, count = left < lanes<T> ? left : lanes<T>;
  for (int64_t r = 0; r < image.rows; ++r, packed += parts * lanes<T>) {
    const T* from = d.d + (image.down.frequencies[r] * d.width() + first) * parts;
    for (int64_t lane = 0; lane < parts * lanes<T>; ++lane) packed[lane] = 0;
    if (parts == 1) {
      for (int64_t lane = 0; lane < count; ++lane) packed[lane] = from[lane] / scale;
    } else {
      for (int64_t lane = 0; lane < count; ++lane) {
        packed[lane] = from[2 * lane] / scale;
        packed[lanes<T> + lane] = from[2 * lane + 1] / scale;
      }
    }
  }
}

// Column 0 of real images holds C = E0 + i EM of two Hermitian columns, and its product d0 E0 + i dM EM is
// (d0 + dM) / 2 C[k] + (d0 - dM) / 2 conj(C[-k]). The first factor is packed with the other columns, the second
// follows; and then, of a real d, d0 and dM for themselves.
template <class T>
void pack_column_0(const Entries<T>& d, const FourierImage<T>& image, T scale, T* packed, T* second) {
  const int64_t parts = d.of.complex ? 2 : 1;
  for (int64_t r = 0; r < image.rows; ++r) {
    const int64_t row = image.down.frequencies[r];
    const Number<T> a = d.hermitian(row, 0);
    const Number<T> b = image.is_folded() ? d.hermitian(row, image.columns / 2) : a;
    packed[r * parts * lanes<T>] = (a.re + b.re) / 2 / scale;
    second[r * parts] = (a.re - b.re) / 2 / scale;
    if (parts == 1) {
      second[image.rows + r] = a.re / scale;
      second[2 * image.rows + r] = b.re / scale;
      continue;
    }
    packed[r * parts * lanes<T> + lanes<T>] = (a.im + b.im) / 2 / scale;
    second[r * parts + 1] = (a.im - b.im) / 2 / scale;
  }
}

// Two real rows are one complex row, so that d of a row is the whole spectrum. Where it is its own mirror image it is
// real.
template <class T> void pack_rows(const Entries<T>& d, T* packed) {
  const Fft<T>& along = fft_tables<T>(d.of.columns, uses_radix_8);
  for (int64_t p = 0; p < along.size; ++p) {
    const int64_t column = along.frequencies[p];
    const Number<T> a = d.at(0, column);
    const bool is_own_mirror = d.of.real_images && 2 * column % along.size == 0;
    if (d.of.complex) {
      packed[2 * p] = a.re / T(along.size);
      packed[2 * p + 1] = is_own_mirror ? 0 : a.im / T(along.size);
    } else {
      packed[p] = a.re / T(along.size);
    }
  }
}

}  // namespace

template <class T> int64_t spectrum_packed_size(const Spectrum<T>& s) { return packed_values(s); }

template <class T> void spectrum_pack(const Spectrum<T>& s) {
  const int64_t parts = s.complex ? 2 : 1, size = packed_values(s);
  if (s.of_rows) {
    for (int64_t i = 0; i < s.count; ++i) {
      pack_rows(Entries<T>{s, s.d + i * parts * Entries<T>{s, nullptr}.width()}, s.packed + i * size);
    }
    return;
  }
  const FourierImage<T> image(s.rows, s.columns, s.real_images);
  const T scale = transform_scale(image);
  for_each(s.count * image.strips, s.threads, [&](int64_t i, int) {
    const int64_t number = i / image.strips, strip = i % image.strips;
    const Entries<T> d{s, s.d + number * parts * s.rows * Entries<T>{s, nullptr}.width()};
    T* packed = s.packed + number * size;
    T* of_strip = packed + strip * parts * s.rows * lanes<T>;
    pack_strip(d, image, strip, scale, of_strip);
    if (strip == 0 && s.real_images)
      pack_column_0(d, image, scale, of_strip, packed + image.strips * parts * s.rows * lanes<T>);
  });
}

template int64_t spectrum_packed_size(const Spectrum<float>&);
template int64_t spectrum_packed_size(const Spectrum<double>&);
template void spectrum_pack(const Spectrum<float>&);
template void spectrum_pack(const Spectrum<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
