// The normal operator H = A^H A of one picture.
#pragma once
#include "cpu/complex_pairs.h"
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

// Adds conj(S) v to the sum over earlier coils. The last coil gives the sum away.
template <class T, class Give> struct GiveOfCoil {
  Pixels<T> pixels;
  const T* map;
  T* sum;
  int64_t stride;
  bool is_first, is_last;
  Give give;
  template <class W> FASTUNROLL_INLINE Vector<T> combine(int64_t row, int64_t i, Vector<T> v, W whole) const {
    const Vector<T> seen = times_pairs<T, true>(v, pixels.get(map, row, i, whole));
    const Vector<T> all = is_first ? seen : load(sum + row * stride + i) + seen;
    return is_last ? give.combine(row, i, all, whole) : all;
  }
  template <class W> FASTUNROLL_INLINE void put(int64_t row, int64_t i, Vector<T> v, W whole) const {
    is_last ? give.put(row, i, v, whole) : store(sum + row * stride + i, v);
  }
};

template <class T> struct Normal {
  const PictureNormal<T>& of;
  Grid<T> grid;
  const FourierImage<T>* image;  // null for weights

  int64_t strips_size() const { return !image || of.spectrum.of_rows ? 0 : image->workspace_size(); }
  int64_t line_size() const { return image ? image->line_size() : 0; }
  int64_t column_size() const { return image ? 2 * grid.rows : 0; }
  int64_t sum_size() const { return of.maps ? grid.size() : 0; }

  // Waits for the team at its end. take(row, i, whole) is a vector of v; give.put(row, i, give.combine(row, i, w,
  // whole), whole) gets that of H v.
  template <class Take, class Give>
  void apply(Team team, const Scratch<T>& scratch, T* sum, int64_t picture, const Take& take, const Give& give) const {
    const int64_t number = picture / of.repeat % of.count;
    const Pixels<T> pixels{grid.rows, grid.width};
    if (!image) {
      const T* weights = of.weights + number * grid.rows * grid.width;
      constexpr Constant<0> in_part;
      grid.each(Band::of(team, grid.rows), [&](int64_t row, int64_t i) {
        const Vector<T> v = pixels.get(weights, row, i, in_part) * take(row, i, in_part);
        give.put(row, i, give.combine(row, i, v, in_part), in_part);
      });
      return team.wait();
    }
    const T* d = of.spectrum.packed + number * packed_values(of.spectrum);
    const auto filter = [&](const auto& from, const auto& to) {
      filter_either<T, Multiplier::real>(*image, team, scratch, of.spectrum.of_rows, d, from, to);
    };
    if (!of.maps) return filter(take, give);
    const int64_t size = grid.rows * grid.width;
    const T* map = of.maps + picture / of.map_repeat % of.map_count * of.coils * size;
    for (int64_t c = 0; c < of.coils; ++c, map += size)
      filter(TakeOfCoil<T, Take>{pixels, map, take},
             GiveOfCoil<T, Give>{pixels, map, sum, grid.stride, c == 0, c + 1 == of.coils, give});
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
