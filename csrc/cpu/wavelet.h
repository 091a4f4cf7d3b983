// The wavelet transform of one picture with periodic boundaries, W, and its adjoint.
//
// Along an axis, a level makes two halves of 2n pixels x, with a_j the low-pass filter and b_j the high-pass filter:
//
//   low[o] = sum_j a_j x[2o + j - q],   high[o] = sum_j b_j x[2o + j - q].
//
// The adjoint is x[2m + p - q] = sum_t a_(2t+p) low[m - t] + b_(2t+p) high[m - t], p = 0 or 1. The offset q is
// taps / 2 - 1, and at the first level greater by the pixels that the grid is moved.
//
// All of these are pairs of sums over as many rows as there are taps: down the picture they are its rows, and along a
// row they are shifted views of its even and odd pixels. A level takes a row of results after another, first down and
// then along, so that all that lies between stays in the first cache. What a level leaves low in both directions, the
// next level starts from.
#pragma once
#include "cpu/grid.h"
#include "cpu/interleave.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> inline int64_t whole_vectors(int64_t size) { return (size + lanes<T> - 1) / lanes<T> * lanes<T>; }

// Of each set of rows `Many` vectors from value c on: a = sum_j a_j rows[j] and b = sum_j b_j rows[j], of filters
// (count, a and b, lanes).
template <int Sets, int Many, class T, class Put>
__attribute__((always_inline)) inline void block_of_sums(const T* filters, const T* const (*rows)[most_taps],
                                                         int64_t count, int64_t c, const Put* puts) {
  Vector<T> a[Sets][Many] = {}, b[Sets][Many] = {};
  for (int64_t j = 0; j < count; ++j) {
    const Vector<T> of_a = load(filters + 2 * j * lanes<T>), of_b = load(filters + (2 * j + 1) * lanes<T>);
#pragma GCC unroll 2
    for (int set = 0; set < Sets; ++set) {
      const T* const from = rows[set][j] + c;
#pragma GCC unroll 4
      for (int i = 0; i < Many; ++i) {
        const Vector<T> v = in_register<T>(load(from + i * lanes<T>));
        a[set][i] = multiply_add(of_a, v, a[set][i]);
        b[set][i] = multiply_add(of_b, v, b[set][i]);
      }
    }
  }
#pragma GCC unroll 2
  for (int set = 0; set < Sets; ++set)
#pragma GCC unroll 4
    for (int i = 0; i < Many; i += 2) puts[set](c + i * lanes<T>, a[set] + i, b[set] + i);
}

// Calls puts[set](c, a, b) for each two vectors of `size` values, of which the last may lie behind the end. There are
// eight sums at a time, so that no sum waits for its last product.
template <int Sets, class T, class Put>
inline void two_sums(const T* filters, const T* const (*rows)[most_taps], int64_t count, int64_t size,
                     const Put* puts) {
  int64_t c = 0;
  if constexpr (Sets == 1)
    for (; c + 2 * lanes<T> < size; c += 4 * lanes<T>) block_of_sums<1, 4>(filters, rows, count, c, puts);
  for (; c < size; c += 2 * lanes<T>) block_of_sums<Sets, 2>(filters, rows, count, c, puts);
}

// Each of the two sums becomes a row of `size` values.
template <class T> struct PutRows {
  T *first, *second;
  int64_t size;
  __attribute__((always_inline)) void operator()(int64_t c, const Vector<T>* a, const Vector<T>* b) const {
    store(first + c, a[0]);
    store(second + c, b[0]);
    if (c + lanes<T> >= size) return;
    store(first + c + lanes<T>, a[1]);
    store(second + c + lanes<T>, b[1]);
  }
};

// Each of the two sums becomes the line of its even pixels and that of its odd pixels.
template <class T, int Values> struct PutApart {
  T* lines[2][2];
  __attribute__((always_inline)) void operator()(int64_t c, const Vector<T>* a, const Vector<T>* b) const {
    store(lines[0][0] + c / 2, every_second<T, Values, false>(a[0], a[1]));
    store(lines[0][1] + c / 2, every_second<T, Values, true>(a[0], a[1]));
    store(lines[1][0] + c / 2, every_second<T, Values, false>(b[0], b[1]));
    store(lines[1][1] + c / 2, every_second<T, Values, true>(b[0], b[1]));
  }
};

// The pixels of both sums in turn become a row of `size` values, from its value `start` on and periodically.
template <class T, int Values> struct PutTogether {
  T* row;
  int64_t size, start;
  __attribute__((always_inline)) void operator()(int64_t c, const Vector<T>* a, const Vector<T>* b) const {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      put(start + 2 * (c + i * lanes<T>), alternating<T, Values, false>(a[i], b[i]),
          alternating<T, Values, true>(a[i], b[i]));
    }
  }
  __attribute__((always_inline)) void put(int64_t at, Vector<T> first, Vector<T> second) const {
    if (at + 2 * lanes<T> <= size) {
      store(row + at, first);
      store(row + at + lanes<T>, second);
    } else if (at + 2 * lanes<T> == size + Values) {  // one pixel is behind the end
      store(row + at, first);
      store(row + at + lanes<T> - Values, rearrange<T>(first, second, [](int i) { return i + lanes<T> - Values; }));
      for (int i = 0; i < Values; ++i) row[i] = second[lanes<T> - Values + i];
    } else {
      put_some(at, first);
      put_some(at + lanes<T>, second);
    }
  }
  void put_some(int64_t at, Vector<T> v) const {
    T values[lanes<T>];
    store(values, v);
    for (int64_t i = 0; i < lanes<T> && at + i < size + start; ++i)
      row[at + i < size ? at + i : at + i - size] = values[i];
  }
};

// Details and approximations of a picture, which a team shares, and lines of a thread.
template <class T> struct WaveletRoom {
  T *details, *approximations, *lines;
};

template <class T> class Wavelet {
 public:
  // The values of memory that an object needs.
  static int64_t filters_size(const PictureWavelet<T>& of) { return 4 * of.taps * lanes<T>; }

  Wavelet(const PictureWavelet<T>& of, const Grid<T>& grid, bool is_complex, T* filters)
      : of_(of), grid_(grid), is_complex_(is_complex), analysis_(filters) {
    synthesis_ = filters + 2 * of.taps * lanes<T>;
    for (int64_t j = 0; j < of.taps; ++j) {
      const int64_t t = j / 2 * 2;
      const T a = of.low[j], b = (j % 2 ? -1 : 1) * of.low[of.taps - 1 - j];
      store(filters + 2 * j * lanes<T>, broadcast(a));
      store(filters + (2 * j + 1) * lanes<T>, broadcast(b));
      store(synthesis_ + (2 * t + j % 2) * lanes<T>, broadcast(a));
      store(synthesis_ + (2 * t + 2 + j % 2) * lanes<T>, broadcast(b));
    }
  }

  int64_t levels() const { return of_.levels; }
  int64_t rows(int64_t level) const { return grid_.rows >> level; }  // that a level starts from
  int64_t width(int64_t level) const { return grid_.width >> level; }
  int64_t details_size() const { return 3 * bands_before(levels()); }
  int64_t approximations_size() const { return bands_before(levels()); }
  int64_t lines_size() const { return line_count * line_size(); }

  // A row of details, and one of the last approximation.
  T* details(const WaveletRoom<T>& room, int64_t level, int64_t row, int64_t band) const {
    return room.details + 3 * bands_before(level) + (3 * row + band) * stride(level + 1);
  }
  T* approximation(const WaveletRoom<T>& room, int64_t row) const {
    return room.approximations + bands_before(levels() - 1) + row * stride(levels());
  }

  // Writes the details of analyse() without padding, or reads them. They have fewer values than the picture.
  void copy_details_out(Team team, const WaveletRoom<T>& room, T* to) const {
    each_row_of_details(team, room, [&](const T* row, int64_t at, int64_t size) {
      for (int64_t c = 0; c < size; c += lanes<T>) store_some(to + at + c, load(row + c), size - c);
    });
  }
  void copy_details_in(Team team, const T* from, const WaveletRoom<T>& room) const {
    each_row_of_details(team, room, [&](T* row, int64_t at, int64_t size) {
      for (int64_t c = 0; c < size; c += lanes<T>) store(row + c, load_some(from + at + c, size - c));
    });
  }

  // Calls give(level, band, row, from, to, size) for each row of details: `from` has them, with zeros up to a whole
  // vector, and `to` is their place. The bands of a level are high down the picture, along its rows, and in both
  // directions.
  template <class Give>
  void analyse(Team team, int64_t layer, const T* picture, const WaveletRoom<T>& room, const Give& give) const {
    const T* from = picture;
    for (int64_t level = 0; level < levels(); ++level) {
      T* const to = room.approximations + bands_before(level);
      const Band band = Band::of(team, rows(level + 1));
      is_complex_ ? analyse_level<2>(band, level, layer, from, to, room, give)
                  : analyse_level<1>(band, level, layer, from, to, room, give);
      team.wait();
      from = to;
    }
  }

  // The picture of what analyse() has left.
  void synthesise(Team team, int64_t layer, const WaveletRoom<T>& room, T* picture) const {
    for (int64_t level = levels() - 1; level >= 0; --level) {
      T* const to = level > 0 ? room.approximations + bands_before(level - 1) : picture;
      const Band band = Band::of(team, rows(level + 1));
      is_complex_ ? synthesise_level<2>(band, level, layer, room, to)
                  : synthesise_level<1>(band, level, layer, room, to);
      team.wait();
    }
  }

 private:
  static constexpr int line_count = 7;

  int64_t stride(int64_t level) const { return whole_vectors<T>(width(level)); }
  // The values of one band of each level before, with a vector behind each, which sums read and do not use.
  int64_t bands_before(int64_t level) const {
    int64_t sum = 0;
    for (int64_t l = 1; l <= level; ++l) sum += rows(l) * stride(l) + lanes<T>;
    return sum;
  }

  // Calls work(row, at, size) for the rows that analyse() gives this thread, with their place where no row is padded.
  template <class Work> void each_row_of_details(Team team, const WaveletRoom<T>& room, const Work& work) const {
    int64_t at_level = 0;
    for (int64_t level = 0; level < levels(); ++level) {
      const int64_t size = width(level + 1);
      const Band band = Band::of(team, rows(level + 1));
      for (int64_t i = 3 * band.first; i < 3 * band.last; ++i)
        work(details(room, level, 0, i), at_level + i * size, size);
      at_level += 3 * rows(level + 1) * size;
    }
  }

  // A line is a row with room on both sides for all that a sum reaches.
  int64_t margin() const {
    return whole_vectors<T>((of_.taps + (int64_t(1) << levels())) * (is_complex_ ? 2 : 1)) + 2 * lanes<T>;
  }
  int64_t line_size() const { return 2 * margin() + grid_.stride; }
  T* line(const WaveletRoom<T>& room, int i) const { return room.lines + i * line_size() + margin(); }

  struct Offset {
    int64_t down, right;
  };
  Offset offset(int64_t level, int64_t layer) const {
    const int64_t own = of_.taps / 2 - 1;
    if (level > 0) return {own, own};
    return {own + of_.moves[2 * layer], own + of_.moves[2 * layer + 1]};
  }

  // i modulo n, for i >= -reach.
  static int64_t periodic(int64_t i, int64_t n) {
    const int64_t rest = i % n;
    return rest < 0 ? rest + n : rest;
  }
  // Continues a line periodically on both sides.
  static void extend(T* line, int64_t size, int64_t before, int64_t after) {
    if (before <= lanes<T> && after <= lanes<T> && lanes<T> <= size) {
      const Vector<T> last = load(line + size - lanes<T>), first = load(line);
      store(line - lanes<T>, last);
      store(line + size, first);
    } else if (size >= whole_vectors<T>(before > after ? before : after)) {
      for (int64_t i = lanes<T>; i < before + lanes<T>; i += lanes<T>) store(line - i, load(line + size - i));
      for (int64_t i = 0; i < after; i += lanes<T>) store(line + size + i, load(line + i));
    } else {
      for (int64_t i = 1; i <= before; ++i) line[-i] = line[size - i];
      for (int64_t i = 0; i < after; ++i) line[size + i] = line[i];
    }
  }
  static void clear_tail(T* row, int64_t size) {
    for (int64_t i = size; i < whole_vectors<T>(size); ++i) row[i] = 0;
  }

  // The line of even or of odd pixels that has a pixel, and the place of the pixel there.
  struct Place {
    int64_t odd, at;
  };
  static Place place(int64_t pixel) {
    const int64_t odd = pixel & 1;
    return {odd, (pixel - odd) / 2};
  }

  template <int Values, class Give>
  void analyse_level(Band band, int64_t level, int64_t layer, const T* from, T* to, const WaveletRoom<T>& room,
                     const Give& give) const {
    const int64_t taps = of_.taps, size = width(level), half = size / 2, above = rows(level),
                  stride_above = stride(level), stride_below = stride(level + 1);
    const Offset q = offset(level, layer);
    const int64_t before = (q.right + 1) / 2 * Values, after = (taps / 2) * Values;
    const PutApart<T, Values> apart{{{line(room, 0), line(room, 1)}, {line(room, 2), line(room, 3)}}};
    T* const high[3] = {line(room, 4), line(room, 5), line(room, 6)};
    const T *of_row[1][most_taps], *of_lines[2][most_taps];
    for (int64_t j = 0; j < taps; ++j) {
      const Place of_tap = place(j - q.right);
      for (int i = 0; i < 2; ++i) of_lines[i][j] = apart.lines[i][of_tap.odd] + of_tap.at * Values;
    }
    for (int64_t row = band.first; row < band.last; ++row) {
      for (int64_t j = 0, i = periodic(2 * row - q.down, above); j < taps; ++j, i = i + 1 < above ? i + 1 : 0)
        of_row[0][j] = from + i * stride_above;
      two_sums<1>(analysis_, of_row, taps, size, &apart);
      for (const auto& of_sum : apart.lines)
        for (T* of_pixels : of_sum) extend(of_pixels, half, before, after);
      const PutRows<T> results[2] = {{to + row * stride_below, high[1], half}, {high[0], high[2], half}};
      two_sums<2>(analysis_, of_lines, taps, half, results);
      for (int i = 0; i < 3; ++i) {
        clear_tail(high[i], half);
        give(level, i, row, high[i], details(room, level, row, i), half);
      }
    }
  }

  template <int Values>
  void synthesise_level(Band band, int64_t level, int64_t layer, const WaveletRoom<T>& room, T* to) const {
    const int64_t taps = of_.taps, size = width(level), half = size / 2, below = rows(level + 1),
                  stride_below = stride(level + 1);
    const Offset q = offset(level, layer);
    const int64_t first = (q.right + 1) / 2, start = (q.right & 1) * Values;  // 2 first - q = 0 or 1 pixels
    const int64_t before = (taps / 2 > first ? taps / 2 - first : 0) * Values, after = first * Values;
    const T* const low = room.approximations + bands_before(level);
    T* const lines[2][2] = {{line(room, 0), line(room, 1)}, {line(room, 2), line(room, 3)}};  // by p; low and high
    const T *of_row[1][most_taps], *of_lines[2][most_taps];
    for (int64_t t = 0; t < taps; t += 2)
      for (int p = 0; p < 2; ++p)
        for (int side = 0; side < 2; ++side) of_lines[p][t + side] = lines[p][side] + (first - t / 2) * Values;
    const auto down = [&](int64_t row, int side, const auto& of_low, const auto& of_high) {
      for (int64_t t = 0, i = row; t < taps; t += 2, i = i > 0 ? i - 1 : below - 1) {
        of_row[0][t] = of_low(i);
        of_row[0][t + 1] = of_high(i);
      }
      const PutRows<T> results{lines[0][side], lines[1][side], half};
      two_sums<1>(synthesis_, of_row, taps, half, &results);
      for (int p = 0; p < 2; ++p) extend(lines[p][side], half, before, after);
    };
    const T* const bands = details(room, level, 0, 0);
    const auto of_band = [=](int64_t band) { return [=](int64_t i) { return bands + (3 * i + band) * stride_below; }; };
    for (int64_t row = band.first; row < band.last; ++row) {
      down(row, 0, [=](int64_t i) { return low + i * stride_below; }, of_band(0));
      down(row, 1, of_band(1), of_band(2));
      const auto at = [&](int p) { return to + periodic(2 * row + p - q.down, rows(level)) * stride(level); };
      const PutTogether<T, Values> results[2] = {{at(0), size, start}, {at(1), size, start}};
      two_sums<2>(synthesis_, of_lines, taps, half, results);
      for (const auto& result : results) clear_tail(result.row, size);
    }
  }

  PictureWavelet<T> of_;
  Grid<T> grid_;
  bool is_complex_;
  T *analysis_, *synthesis_;
};

}  // namespace fastunroll::FASTUNROLL_SET
