// How a picture goes on beyond its border, in the larger grid of its transforms: E, and its adjoint.
#pragma once
#include "cpu/grid.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

// E puts a picture into the grid. Rows and columns next to its edges are reflected there, and zeros stand behind them.
template <class T> struct Continuation {
  const PictureNormal<T>& of;
  Grid<T> picture, whole;

  int64_t parts() const { return of.spectrum.real_images ? 1 : 2; }
  // The row of the picture of which a row of the grid is made; or -1 for zeros.
  int64_t source(int64_t row) const {
    const int64_t r = row - of.around.top, last = picture.rows - 1;
    if (r < 0) return r >= -of.reflected.top ? -1 - r : -1;
    if (r > last) return r - last <= of.reflected.bottom ? 2 * last + 1 - r : -1;
    return r;
  }
  // Calls body(inside, outside) with the places in a row of each value of a reflected pixel and of its mirror image.
  template <class Body> void each_mirrored(const Body& body) const {
    const int64_t first = of.around.left * parts(), end = first + picture.width;
    for (int64_t j = 0; j < of.reflected.left; ++j)
      for (int64_t part = 0; part < parts(); ++part) body(first + j * parts() + part, first - (j + 1) * parts() + part);
    for (int64_t j = 0; j < of.reflected.right; ++j)
      for (int64_t part = 0; part < parts(); ++part) body(end - (j + 1) * parts() + part, end + j * parts() + part);
  }

  // to = E v for the rows of a thread, where take(row, i, whole) is a vector of v.
  template <class Take> void extend(Team team, const Take& take, T* to) const {
    constexpr Constant<0> in_part;
    const Band rows = Band::of(team, whole.rows);
    for (int64_t row = rows.first; row < rows.last; ++row) {
      T* const line = to + row * whole.stride;
      for (int64_t c = 0; c < whole.stride; c += lanes<T>) store(line + c, Vector<T>{});
      const int64_t from = source(row);
      if (from < 0) continue;
      T* const inside = line + of.around.left * parts();
      for (int64_t c = 0; c < picture.width; c += lanes<T>)
        store_some(inside + c, take(from, c, in_part), picture.width - c);
      each_mirrored([&](int64_t at, int64_t mirrored) { line[mirrored] = line[at]; });
    }
  }

  // Gives E^T w away for the rows of a thread, as Normal::apply() does. Destroys w. The mirror images of rows come
  // before those of columns, and those at the top and on the left first.
  template <class Give> void fold(Team team, T* w, const Give& give) const {
    constexpr Constant<0> in_part;
    const Band rows = Band::of(team, picture.rows);
    for (int64_t row = rows.first; row < rows.last; ++row) {
      T* const line = w + (of.around.top + row) * whole.stride;
      const auto add_row = [&](int64_t of_grid) {
        const T* const from = w + of_grid * whole.stride;
        for (int64_t c = 0; c < whole.stride; c += lanes<T>) store(line + c, load(line + c) + load(from + c));
      };
      const int64_t from_end = picture.rows - 1 - row;
      if (row < of.reflected.top) add_row(of.around.top - 1 - row);
      if (from_end < of.reflected.bottom) add_row(of.around.top + picture.rows + from_end);
      each_mirrored([&](int64_t at, int64_t mirrored) { line[at] += line[mirrored]; });
      const T* const inside = line + of.around.left * parts();
      for (int64_t c = 0; c < picture.stride; c += lanes<T>)
        give.put(row, c, give.combine(row, c, load_some(inside + c, picture.width - c), in_part), in_part);
    }
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
