// How a picture goes on beyond its border, in the larger grid of its transforms: E, and its adjoint.
#pragma once
#include "cpu/grid.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

// E puts a picture into the grid. Next to its edges stand copies of its rows and columns, reflected or periodic, and
// zeros behind them.
template <class T> struct Continuation {
  const PictureNormal<T>& of;
  Grid<T> picture, whole;

  int64_t parts() const { return of.spectrum.real_images ? 1 : 2; }
  // Which of the n rows or columns of a picture the one j before the first is a copy of. That j behind the last one is
  // a copy of its counterpart from the end.
  int64_t copied_before(int64_t j, int64_t n) const { return of.periodic ? n - 1 - j : j; }
  // The row of the picture of which a row of the grid is made; or -1 for zeros.
  int64_t source(int64_t row) const {
    const int64_t r = row - of.around.top, rows = picture.rows;
    if (r < 0) return -1 - r < of.copied.top ? copied_before(-1 - r, rows) : -1;
    if (r >= rows) return r - rows < of.copied.bottom ? rows - 1 - copied_before(r - rows, rows) : -1;
    return r;
  }
  // Calls body(inside, outside) with the places in a row of each value of a pixel and of its copy.
  template <class Body> void each_copy(const Body& body) const {
    const int64_t columns = picture.width / parts();
    const auto each_part = [&](int64_t inside, int64_t outside) {
      for (int64_t part = 0; part < parts(); ++part)
        body((of.around.left + inside) * parts() + part, (of.around.left + outside) * parts() + part);
    };
    for (int64_t j = 0; j < of.copied.left; ++j) each_part(copied_before(j, columns), -1 - j);
    for (int64_t j = 0; j < of.copied.right; ++j) each_part(columns - 1 - copied_before(j, columns), columns + j);
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
      each_copy([&](int64_t at, int64_t copy) { line[copy] = line[at]; });
    }
  }

  // Gives E^T w away for the rows of a thread, as Normal::apply() does. Destroys w. The copies of rows come before
  // those of columns, and those at the top and on the left first.
  template <class Give> void fold(Team team, T* w, const Give& give) const {
    constexpr Constant<0> in_part;
    const Band rows = Band::of(team, picture.rows);
    for (int64_t row = rows.first; row < rows.last; ++row) {
      T* const line = w + (of.around.top + row) * whole.stride;
      const auto add_row = [&](int64_t of_grid) {
        const T* const from = w + of_grid * whole.stride;
        for (int64_t c = 0; c < whole.stride; c += lanes<T>) store(line + c, load(line + c) + load(from + c));
      };
      const int64_t before = copied_before(row, picture.rows), behind = picture.rows - 1 - before;
      if (before < of.copied.top) add_row(of.around.top - 1 - before);
      if (behind < of.copied.bottom) add_row(of.around.top + picture.rows + behind);
      each_copy([&](int64_t at, int64_t copy) { line[at] += line[copy]; });
      const T* const inside = line + of.around.left * parts();
      for (int64_t c = 0; c < picture.stride; c += lanes<T>)
        give.put(row, c, give.combine(row, c, load_some(inside + c, picture.width - c), in_part), in_part);
    }
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
