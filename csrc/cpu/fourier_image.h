// F^-1 diag(d) F of one image, in a workspace that fits the second cache.
//
// The workspace holds the columns of the spectrum in strips, a column in each lane: point r of a strip is row r. A
// strip is one piece of memory, which goes through the transform, the product with d and the inverse transform at once.
// Rows are transformed many at a time, a row in each lane, in a line that is transposed on both sides. The memory of
// the caller is read and written along rows alone.
//
// Rows r and r + lanes of a real image are the real and the imaginary part of one complex row. Its spectrum Z gives
// twice that of the first, E[k] = Z[k] + conj(Z[-k]), and of the second, O[k] = -i (Z[k] - conj(Z[-k])), of which the
// first half is kept. E[0] and E[columns / 2] are real: they become the real and the imaginary part of column 0.
#pragma once
#include "cpu/fft.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> inline int some_lanes(int64_t count) {
  return count < lanes<T> ? int(count < 0 ? 0 : count) : lanes<T>;
}

struct Unchanged {
  template <class V, class W> FASTUNROLL_INLINE V operator()(int, V v, W) const { return v; }
};

// Transposes a square of lanes by lanes. load_vector(k, whole) gives `inputs` vectors, and zero stands for the others.
// change(k, v, whole) is what store_vector(k, v) stores of `outputs` vectors. `whole` says whether all of them exist.
template <class T, class Load, class Store, class Change = Unchanged>
FASTUNROLL_INLINE inline void transpose_square(int inputs, int outputs, Load load_vector, Store store_vector,
                                               Change change = {}) {
  if (inputs == lanes<T> && outputs == lanes<T>) {
    constexpr Constant<1> whole;
    Vector<T> v[lanes<T>];  // indices that the compiler knows keep it in registers
#pragma GCC unroll 16
    for (int k = 0; k < lanes<T>; ++k) v[k] = load_vector(k, whole);
    transpose<T>(v);
    // All loads come before the stores: a load waits for a store before it whose address has the same last bits.
#pragma GCC unroll 16
    for (int k = 0; k < lanes<T>; ++k) v[k] = change(k, v[k], whole);
#pragma GCC unroll 16
    for (int k = 0; k < lanes<T>; ++k) store_vector(k, v[k], whole);
    return;
  }
  constexpr Constant<0> in_part;
  Vector<T> v[lanes<T>];
  for (int k = 0; k < inputs; ++k) v[k] = load_vector(k, in_part);
  for (int k = inputs; k < lanes<T>; ++k) v[k] = Vector<T>{};
  transpose<T>(v);
  for (int k = 0; k < outputs; ++k) store_vector(k, change(k, v[k], in_part), in_part);
}

template <class T> struct FourierImage {
  int64_t rows, columns;
  bool is_real;
  const Fft<T>&down, &along;  // of columns, and of rows
  int64_t slots;              // columns of the spectrum that are kept
  int64_t strips, groups;     // of columns, and of rows that are transformed together
  int64_t strip_size;         // values

  FourierImage(int64_t rows, int64_t columns, bool is_real)
      : rows(rows),
        columns(columns),
        is_real(is_real),
        down(fft_tables<T>(rows, uses_radix_8)),
        along(fft_tables<T>(columns, uses_radix_8)),
        slots(is_real ? (columns + 1) / 2 : columns),
        strips((slots + lanes<T> - 1) / lanes<T>),
        groups((rows + group_rows() - 1) / group_rows()),
        strip_size((groups * group_rows() + 1) * point_size<T>) {
  }  // the last point keeps strips out of each other's way

  int64_t group_rows() const { return is_real ? 2 * lanes<T> : lanes<T>; }
  int64_t width() const { return is_real ? columns : 2 * columns; }  // values of a row
  int64_t workspace_size() const { return strips * strip_size; }
  int64_t line_size() const { return columns * point_size<T>; }
  // Whether column 0 of the spectrum holds the column in the middle too.
  bool is_folded() const { return is_real && columns % 2 == 0; }

  // take(row, i, whole) is a vector of a row of the image from its value i on. A complex number is two values.
  template <class Take> void read_rows(int64_t group, Take take, T* line) const {
    const int64_t end = width(), last_row = rows;
    for_squares(group, line, [=](int64_t row, int64_t i, T* at, int64_t step) FASTUNROLL_INLINE {
      transpose_square<T>(
          some_lanes<T>(last_row - row), some_lanes<T>(end - i),
          [=](int lane, auto whole) FASTUNROLL_INLINE { return take(row + lane, i, whole); },
          [=](int k, Vector<T> v, auto) FASTUNROLL_INLINE { store(at + k * step, v); });
    });
  }

  // give.put(row, i, v, whole) stores what give.combine(row, i, v, whole) makes of v, in the order of take().
  template <class Give> void write_rows(int64_t group, Give give, T* line) const {
    const int64_t end = width(), last_row = rows;
    for_squares(group, line, [=](int64_t row, int64_t i, const T* at, int64_t step) FASTUNROLL_INLINE {
      transpose_square<T>(
          some_lanes<T>(end - i), some_lanes<T>(last_row - row),
          [=](int k, auto) FASTUNROLL_INLINE { return load(at + k * step); },
          [=](int lane, Vector<T> v, auto whole) FASTUNROLL_INLINE { give.put(row + lane, i, v, whole); },
          [=](int lane, Vector<T> v, auto whole) FASTUNROLL_INLINE { return give.combine(row + lane, i, v, whole); });
    });
  }

  // The transformed rows of a line become rows of the strips.
  void put_rows(int64_t group, const T* line, T* work) const {
    const int64_t row = group * group_rows();
    const int32_t* positions = along.positions;
    for (int64_t s = 0; s < strips; ++s) {
      T* at = work + s * strip_size + row * point_size<T>;
      if (is_real) {
        T* odd_at = at + lanes<T> * point_size<T>;
        put_half<1, 0>(s, row, line, at);
        put_half<-1, 1>(s, row, line, at + lanes<T>);
        put_half<1, 1>(s, row + lanes<T>, line, odd_at);
        put_half<-1, 0>(s, row + lanes<T>, line, odd_at + lanes<T>);
      } else {
        for (int part = 0; part < 2; ++part)
          put_square(s, row, at + part * lanes<T>, [=](int64_t column) FASTUNROLL_INLINE {
            return load(line + positions[column] * point_size<T> + part * lanes<T>);
          });
      }
    }
  }

  void get_rows(int64_t group, const T* work, T* line) const {
    for (int64_t s = 0; s < strips; ++s) {
      const T* at = work + s * strip_size + group * group_rows() * point_size<T>;
      const int count = some_lanes<T>(slots - s * lanes<T>);
      if (is_real)
        get_pair(s, count, at, line);
      else
        for (int part = 0; part < 2; ++part)
          get_part(count, at + part * lanes<T>, along.positions + s * lanes<T>, line + part * lanes<T>);
    }
  }

 private:
  // Calls square(row, i, at, step) for each square of a group: rows from `row` and values from i, of which those of
  // value i + k lie at + k step in the line.
  template <class Square> FASTUNROLL_INLINE void for_squares(int64_t group, T* line, Square square) const {
    const int64_t row = group * group_rows(), end = width();
    if (is_real) {
      for (int64_t part = 0; part < 2; ++part)
        for (int64_t i = 0; i < end; i += lanes<T>)
          square(row + part * lanes<T>, i, line + i * point_size<T> + part * lanes<T>, point_size<T>);
    } else {
      for (int64_t i = 0; i < end; i += lanes<T>) square(row, i, line + i * lanes<T>, lanes<T>);
    }
  }

  static void get_part(int count, const T* at, const int32_t* positions, T* line) {
    transpose_square<T>(
        lanes<T>, count, [=](int lane, auto) FASTUNROLL_INLINE { return load(at + lane * point_size<T>); },
        [=](int k, Vector<T> v, auto) FASTUNROLL_INLINE { store(line + positions[k] * point_size<T>, v); });
  }

  // Zero stands beyond the image: what a missing row has taken from the row that it was transformed with is rounding.
  template <class Column> FASTUNROLL_INLINE void put_square(int64_t s, int64_t row, T* at, Column column) const {
    const int valid = some_lanes<T>(rows - row);
    transpose_square<T>(
        some_lanes<T>(slots - s * lanes<T>), lanes<T>,
        [=](int k, auto) FASTUNROLL_INLINE { return column(s * lanes<T> + k); },
        [=](int lane, Vector<T> v, auto) FASTUNROLL_INLINE { store(at + lane * point_size<T>, v); });
    for (int lane = valid; lane < lanes<T>; ++lane) store(at + lane * point_size<T>, Vector<T>{});
  }

  // A part of the spectrum of one of the two real rows in Z: the real parts (Part 0) or imaginary parts (Part 1) of
  // Z[k] and Z[-k], added or subtracted.
  template <int Sign, int Part> void put_half(int64_t s, int64_t row, const T* line, T* at) const {
    const int32_t* positions = along.positions;
    const int64_t end = columns;
    put_square(s, row, at, [=](int64_t column) FASTUNROLL_INLINE {
      const Vector<T> a = load(line + positions[column] * point_size<T> + Part * lanes<T>);
      const Vector<T> b = load(line + positions[column == 0 ? 0 : end - column] * point_size<T> + Part * lanes<T>);
      return Sign > 0 ? a + b : Part == 1 ? a - b : b - a;
    });
    if (Sign < 0 && s == 0 && is_folded()) put_middle<Part>(row, line, at);
  }

  // Column 0 has E[columns / 2] = 2 Re Z and O[columns / 2] = 2 Im Z in the place of its imaginary parts, which are
  // asked for with the other part.
  template <int Part> void put_middle(int64_t row, const T* line, T* at) const {
    const T* from = line + along.positions[columns / 2] * point_size<T> + (1 - Part) * lanes<T>;
    const int valid = some_lanes<T>(rows - row);
    for (int lane = 0; lane < valid; ++lane) at[lane * point_size<T>] = 2 * from[lane];
  }

  // Z[k] = E[k] + i O[k] and Z[-k] = conj(E[k]) + i conj(O[k]), from a strip.
  void get_pair(int64_t s, int count, const T* at, T* line) const {
    Vector<T> parts[4][lanes<T>];  // E, O; real, imaginary
    for (int part = 0; part < 4; ++part)
      transpose_square<T>(
          lanes<T>, lanes<T>,
          [&](int lane, auto) { return load(at + (part / 2 * lanes<T> + lane) * point_size<T> + part % 2 * lanes<T>); },
          [&](int k, Vector<T> v, auto) { parts[part][k] = v; });
    for (int k = s == 0 ? 1 : 0; k < count; ++k) {
      const int64_t column = s * lanes<T> + k;
      const Complex<T> even = {parts[0][k], parts[1][k]}, odd = {parts[2][k], parts[3][k]};
      const Complex<T> even_conj = {even.re, -even.im}, odd_conj = {odd.re, -odd.im};
      store_point(line + along.positions[column] * point_size<T>, add_times_i<true>(even, odd));
      store_point(line + along.positions[columns - column] * point_size<T>, add_times_i<true>(even_conj, odd_conj));
    }
    if (s > 0) return;
    store_point(line, Complex<T>{parts[0][0], parts[2][0]});
    if (is_folded())
      store_point(line + along.positions[columns / 2] * point_size<T>, Complex<T>{parts[1][0], parts[3][0]});
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
