// The normal operator H = A^H A of one picture, and the inverse of H + rho.
#pragma once
#include "cpu/complex_pairs.h"
#include "cpu/continuation.h"
#include "cpu/filter_image.h"
#include "cpu/grid.h"

namespace fastunroll::FASTUNROLL_SET {

// What a coil sees of a picture: S v.
template <class T, class Take> struct TakeOfCoil {
  Pixels<T> pixels;
  const T* map;
  Take take;
  template <class W> FASTUNROLL_INLINE Vector<T> operator()(int64_t row, int64_t i, W whole) const {
    return times_pairs<T, false>(take(row, i, whole), pixels.get(map, row, i, whole));
  }
};

// Adds conj(S) v to the sum over earlier coils.
template <class T> struct GiveOfCoil {
  Pixels<T> pixels;
  const T* map;
  T* sum;
  int64_t stride;
  bool is_first;
  template <class W> FASTUNROLL_INLINE Vector<T> combine(int64_t row, int64_t i, Vector<T> v, W whole) const {
    const Vector<T> seen = times_pairs<T, true>(v, pixels.get(map, row, i, whole));
    return is_first ? seen : load(sum + row * stride + i) + seen;
  }
  template <class W> FASTUNROLL_INLINE void put(int64_t row, int64_t i, Vector<T> v, W) const {
    store(sum + row * stride + i, v);
  }
};

// Keeps every factor-th pixel of both directions inside the margins, and puts zeros in the place of the others.
template <class T> struct KeepMeasured {
  const T* columns;                    // a row that is not zero in the values that are kept
  int64_t stride, factor, first, end;  // rows
  T* to;
  template <class W> FASTUNROLL_INLINE Vector<T> combine(int64_t, int64_t, Vector<T> v, W) const { return v; }
  template <class W> FASTUNROLL_INLINE void put(int64_t row, int64_t i, Vector<T> v, W) const {
    const bool has = first <= row && row < end && (row - first) % factor == 0;
    store(to + row * stride + i, has ? where_nonzero<T>(load(columns + i), v) : Vector<T>{});
  }
};

// A picture in the workspace as the input and the result of a transform.
template <class T> struct InWorkspace {
  int64_t stride;
  T* picture;
  template <class W> FASTUNROLL_INLINE Vector<T> operator()(int64_t row, int64_t i, W) const {
    return load(picture + row * stride + i);
  }
  template <class W> FASTUNROLL_INLINE Vector<T> combine(int64_t, int64_t, Vector<T> v, W) const { return v; }
  template <class W> FASTUNROLL_INLINE void put(int64_t row, int64_t i, Vector<T> v, W) const {
    store(picture + row * stride + i, v);
  }
};

template <class T> struct Normal {
  const PictureNormal<T>& of;
  Grid<T> grid, whole;           // of pictures; of transforms
  const FourierImage<T>* image;  // null for weights
  const T* columns;              // of KeepMeasured, with a factor

  int64_t strips_size() const { return !image || of.spectrum.of_rows ? 0 : image->workspace_size(); }
  int64_t line_size() const { return image ? image->line_size() : 0; }
  int64_t column_size() const { return image ? 2 * whole.rows : 0; }
  int64_t numbers_size() const { return image ? InverseNumbers<T>::room_size(*image) : 0; }
  int64_t sum_size() const { return of.maps || of.factor > 0 ? whole.size() : 0; }
  static int64_t columns_size(const PictureNormal<T>& of, const Grid<T>& whole) {
    return of.factor > 0 ? whole.stride : 0;
  }
  static void make_columns(const PictureNormal<T>& of, const Grid<T>& whole, T* columns) {
    const int64_t parts = of.spectrum.real_images ? 1 : 2, end = of.spectrum.columns - of.margins.right;
    for (int64_t i = 0; i < columns_size(of, whole); ++i) {
      const int64_t pixel = i / parts;
      columns[i] = of.margins.left <= pixel && pixel < end && (pixel - of.margins.left) % of.factor == 0;
    }
  }

  // Waits for the team at its end. take(row, i, whole) is a vector of v; give.put(row, i, give.combine(row, i, w,
  // whole), whole) gets that of H v.
  template <class Take, class Give>
  void apply(Team team, const Scratch<T>& scratch, T* sum, int64_t picture, const Take& take, const Give& give) const {
    if (!image)
      return each_pixel(team, picture, take, give, [](Vector<T> weight, Vector<T> v, auto...) { return weight * v; });
    const auto filter = [&](const auto& from, const auto& to) {
      filter_either(*image, team, scratch, of.spectrum.of_rows, PackedNumbers<T, Multiplier::real>{packed(picture)},
                    from, to);
    };
    if (of.has_larger_grid()) {
      const Continuation<T> continuation{of, grid, whole};
      const InWorkspace<T> continued{whole.stride, sum};
      continuation.extend(team, take, sum);
      team.wait();
      downsampled(team, scratch, sum, picture, continued, continued);
      continuation.fold(team, sum, give);
      return team.wait();
    }
    if (of.factor > 0) return downsampled(team, scratch, sum, picture, take, give);
    if (!of.maps) return filter(take, give);
    const Pixels<T> pixels{grid.rows, grid.width};
    const int64_t size = grid.rows * grid.width;
    const T* map = of.maps + picture / of.map_repeat % of.map_count * of.coils * size;
    for (int64_t c = 0; c < of.coils; ++c, map += size)
      filter(TakeOfCoil<T, Take>{pixels, map, take}, GiveOfCoil<T>{pixels, map, sum, grid.stride, c == 0});
    give_away(team, sum, give);
  }

  // Gives a picture of the workspace away, and waits for the team.
  template <class Give> void give_away(Team team, const T* picture, const Give& give) const {
    constexpr Constant<0> in_part;
    grid.each(Band::of(team, grid.rows), [&](int64_t row, int64_t i) {
      give.put(row, i, give.combine(row, i, load(picture + row * grid.stride + i), in_part), in_part);
    });
    team.wait();
  }

  // The same of (H + rho)^-1 v, without coils.
  template <class Take, class Give>
  void solve(Team team, const Scratch<T>& scratch, T rho, int64_t picture, const Take& take, const Give& give) const {
    if (image)
      return filter_either(*image, team, scratch, of.spectrum.of_rows,
                           InverseNumbers<T>{packed(picture), rho, scratch.numbers}, take, give);
    each_pixel(team, picture, take, give, [&](Vector<T> weight, Vector<T> v, int64_t left) {
      Vector<T> sum = weight + broadcast(rho);
      for (int64_t lane = left; lane < lanes<T>; ++lane) sum[lane] = 1;  // 0 / 0 stands in no row
      return v / sum;
    });
  }

 private:
  // `kept` may be what take() reads and give() writes: a transform reads all rows before it writes one of them, or each
  // row before it writes that one.
  template <class Take, class Give>
  void downsampled(Team team, const Scratch<T>& scratch, T* kept, int64_t picture, const Take& take,
                   const Give& give) const {
    const bool of_rows = of.spectrum.of_rows;
    filter_either(
        *image, team, scratch, of_rows, PackedNumbers<T, Multiplier::complex>{packed(picture)}, take,
        KeepMeasured<T>{columns, whole.stride, of.factor, of.margins.top, whole.rows - of.margins.bottom, kept});
    const InWorkspace<T> take_kept{whole.stride, kept};
    filter_either(*image, team, scratch, of_rows, PackedNumbers<T, Multiplier::conjugate>{packed(picture)}, take_kept,
                  give);
  }
  int64_t number(int64_t picture) const { return picture / of.repeat % of.count; }
  const T* packed(int64_t picture) const { return of.spectrum.packed + number(picture) * packed_values(of.spectrum); }
  // product(weight, v, left) for each vector, of which the row has `left` values or more.
  template <class Take, class Give, class Product>
  void each_pixel(Team team, int64_t picture, const Take& take, const Give& give, const Product& product) const {
    const Pixels<T> pixels{grid.rows, grid.width};
    const T* weights = of.weights + number(picture) * grid.rows * grid.width;
    constexpr Constant<0> in_part;
    grid.each(Band::of(team, grid.rows), [&](int64_t row, int64_t i) {
      const Vector<T> weight = pixels.get(weights, row, i, in_part);
      const Vector<T> found = product(weight, take(row, i, in_part), grid.width - i);
      give.put(row, i, give.combine(row, i, found, in_part), in_part);
    });
    team.wait();
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
