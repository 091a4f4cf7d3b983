// F^-1 diag(d) F of one image, whose rows come from and go to any functions: rows, then strips of columns, then rows.
#pragma once
#include "cpu/fourier_image.h"
#include "cpu/spectrum.h"
#include "cpu/threads.h"

namespace fastunroll::FASTUNROLL_SET {

// Images in the memory of the caller as vectors of values of a row.
template <class T> struct Pixels {
  int64_t rows, width;  // in values
  int64_t at(int64_t row, int64_t i) const { return row * width + i; }
  // `whole` says whether the row goes on to the end of the vector; else it may end before.
  template <int Whole> Vector<T> get(const T* image, int64_t row, int64_t i, Constant<Whole>) const {
    return Whole ? load(image + at(row, i)) : load_some(image + at(row, i), width - i);
  }
  template <int Whole> void put(T* image, int64_t row, int64_t i, Vector<T> v, Constant<Whole>) const {
    Whole ? store(image + at(row, i), v) : store_some(image + at(row, i), v, width - i);
  }
};

// What a thread works in: strips that a team may share, a line, a column, and numbers that it makes of those packed.
template <class T> struct Scratch {
  T *strips, *line, *column, *numbers;
};

// The strip with column 0 of real images, whose two columns have separate factors: C[k] becomes a C[k] + b conj(C[-k]).
template <class T, Multiplier Kind>
void filter_column_0(const Fft<T>& down, T* strip, LaneGain<T, Kind> gain, const T* second, T* column) {
  forward(down, strip);
  for (int64_t p = 0; p < down.size; ++p) {
    const int64_t frequency = down.frequencies[p], mirrored = down.positions[frequency ? down.size - frequency : 0];
    const T re = strip[mirrored * point_size<T>], im = -strip[mirrored * point_size<T> + lanes<T>];
    const T b_re = Kind == Multiplier::real ? second[p] : second[2 * p];
    const T b_im = Kind == Multiplier::real        ? 0
                   : Kind == Multiplier::conjugate ? -second[2 * p + 1]
                                                   : second[2 * p + 1];
    column[2 * p] = b_re * re - b_im * im;
    column[2 * p + 1] = b_re * im + b_im * re;
  }
  multiply(strip, 0, down.size, gain);
  for (int64_t p = 0; p < down.size; ++p) {
    strip[p * point_size<T>] += column[2 * p];
    strip[p * point_size<T> + lanes<T>] += column[2 * p + 1];
  }
  inverse(down, strip);
}

template <class T, class Numbers, class Take, class Give>
void filter_image(const FourierImage<T>& image, Team team, const Scratch<T>& scratch, const Numbers& numbers,
                  const Take& take, const Give& give) {
  for (int64_t g = team.rank; g < image.groups; g += team.size) {
    image.read_rows(g, take, scratch.line);
    forward(image.along, scratch.line);
    image.put_rows(g, scratch.line, scratch.strips);
  }
  team.wait();
  for (int64_t s = team.rank; s < image.strips; s += team.size) {
    T* strip = scratch.strips + s * image.strip_size;
    const LaneGain<T, Numbers::kind> gain{numbers.of_strip(image, s)};
    if (s == 0 && image.is_folded())
      filter_column_0(image.down, strip, gain, numbers.second_of_column_0(image), scratch.column);
    else
      filter(image.down, strip, gain);
  }
  team.wait();
  for (int64_t g = team.rank; g < image.groups; g += team.size) {
    image.get_rows(g, scratch.strips, scratch.line);
    inverse(image.along, scratch.line);
    image.write_rows(g, give, scratch.line);
  }
  team.wait();
}

// F is the transform of each row.
template <class T, class Numbers, class Take, class Give>
void filter_rows(const FourierImage<T>& image, Team team, const Scratch<T>& scratch, const Numbers& numbers,
                 const Take& take, const Give& give) {
  const PointGain<T, Numbers::kind> gain{numbers.of_rows(image)};
  for (int64_t g = team.rank; g < image.groups; g += team.size) {
    image.read_rows(g, take, scratch.line);
    filter(image.along, scratch.line, gain);
    image.write_rows(g, give, scratch.line);
  }
  team.wait();
}

// One of both, by whether the numbers are of rows.
template <class T, class Numbers, class Take, class Give>
void filter_either(const FourierImage<T>& image, Team team, const Scratch<T>& scratch, bool of_rows,
                   const Numbers& numbers, const Take& take, const Give& give) {
  if (of_rows)
    filter_rows(image, team, scratch, numbers, take, give);
  else
    filter_image(image, team, scratch, numbers, take, give);
}

}  // namespace fastunroll::FASTUNROLL_SET
