// A bank of filters with a clip, x = z - sum_i F_i^T psi_i(F_i z), and its gradient, of one picture.
//
// F_i z has the response of filter i to each patch of the picture: the sum of their products. F_i^T adds to each patch
// the filter times a response. psi_i clips responses to [-theta_i, theta_i], or the modulus of complex ones to theta_i.
// Complex pictures are pairs, which real filters treat alone; the clip sees both.
//
// All filters go there and back for one row of patches, whose responses stay in the first caches. There, a few filters
// by a few vectors of responses are sums in registers over all pixels of a patch. Back, a few rows by a few vectors of
// pixels are sums in registers over all filters. For the gradient of the filters, those of a few filters and columns
// are sums in registers along the row.
//
// A team computes the responses of rows of patches that reach into a band from above twice.
#pragma once
#include <cstring>

#include "cpu/complex_pairs.h"
#include "cpu/fft.h"
#include "cpu/grid.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

// Calls work(first, Constant<n>()) for parts of Most and then of one.
template <int Most, class Work> FASTUNROLL_INLINE inline void in_parts(int64_t count, const Work& work) {
  int64_t i = 0;
  for (; i + Most <= count; i += Most) work(i, Constant<Most>());
  for (; i < count; ++i) work(i, Constant<1>());
}

// The same for parts of up to Most, at most 5, of about the same size.
template <int Most, class Work>
FASTUNROLL_INLINE inline void in_even_parts(int64_t first, int64_t last, const Work& work) {
  const int64_t count = last - first, parts = (count + Most - 1) / Most;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t from = first + count * part / parts, size = first + count * (part + 1) / parts - from;
    if (size == 1) work(from, Constant<1>());
    if (size == 2) work(from, Constant<2>());
    if constexpr (Most > 2) {
      if (size == 3) work(from, Constant<3>());
      if (size == 4) work(from, Constant<4>());
      if (size == 5) work(from, Constant<5>());
    }
  }
}

// The filters of a layer in the order in which they are read.
template <class T> struct LayerFilters {
  const T* there;  // [a][b][i]: pixel (a, b) of all filters i
  const T* back;   // [i][b][a], negative

  static int64_t size(const PictureProx<T>& prox) {
    return 2 * prox.filter_count * prox.filter_size * prox.filter_size;
  }
  // Writes size() values to `memory`.
  static void pack(const PictureProx<T>& prox, int64_t layer, T* memory) {
    const int64_t count = prox.filter_count, size = prox.filter_size, taps = size * size;
    const T* from = prox.filters + layer * count * taps;
    for (int64_t i = 0; i < count; ++i)
      for (int64_t a = 0; a < size; ++a)
        for (int64_t b = 0; b < size; ++b) {
          const T value = *from++;
          memory[(a * size + b) * count + i] = value;
          memory[count * taps + (i * size + b) * size + a] = -value;
        }
  }
  LayerFilters(const PictureProx<T>& prox, const T* packed, int64_t layer)
      : there(packed + layer * size(prox)), back(there + size(prox) / 2) {}
};

template <class T, bool IsComplex> class FilterBank {
 public:
  // The gradient of the filters is made of sums over groups of these rows of patches, in any number of threads.
  static constexpr int64_t rows_of_sum = 16;

  static int64_t memory_size(const Grid<T>& grid, const PictureProx<T>& prox) {
    return (prox.filter_count + filters_together) * row_size(grid, prox) + grid.stride + numbers(prox) * lanes<T>;
  }
  // The numbers of a layer that learn: the filters, then theta.
  static int64_t numbers(const PictureProx<T>& prox) {
    return prox.filter_count * (prox.filter_size * prox.filter_size + 1);
  }
  static int64_t sum_count(const Grid<T>& grid, const PictureProx<T>& prox) {
    return (grid.rows - prox.filter_size) / rows_of_sum + 1;
  }

  FilterBank(const Grid<T>& grid, const PictureProx<T>& prox, T* memory)
      : grid_(grid),
        count_(prox.filter_count),
        size_(prox.filter_size),
        row_size_(row_size(grid, prox)),
        width_(grid.width - (size_ - 1) * next),
        responses_(memory),
        clipped_(memory + count_ * row_size_),
        has_patch_(clipped_ + filters_together * row_size_),
        sums_(has_patch_ + grid.stride) {
    // Beside the responses of a row there are zeros.
    std::memset(responses_, 0, size_t(count_ + filters_together) * size_t(row_size_) * sizeof(T));
    std::memset(has_patch_, 0, size_t(grid.stride) * sizeof(T));
    std::memset(has_patch_, -1, size_t(width_) * sizeof(T));
  }

  // Rows `band` of x, from those of z and the ones around them. x may not take the place of z.
  void forward(Band band, const T* z, const LayerFilters<T>& filters, const T* theta, T* x) const {
    copy(band, z, x);
    const Band patches = patches_of(band);
    for (int64_t p = patches.first; p < patches.last; ++p) {
      in_parts<filters_together>(count_, [&](int64_t i, auto together) {
        respond<decltype(together)::value>(p, z, filters, i, [&](int64_t k, int64_t j, Vector<T> c) {
          store(response(i + k) + j, where_patch(j, clip(c, broadcast(theta[i + k]))));
        });
      });
      add_back(p, band, filters, x);
    }
  }

  // From the gradient of x to rows `band` of that of z. Writes sums over rows of patches of the band, which starts at
  // one of these sums: numbers() for each, whose total is the gradient of the filters and of theta.
  void backward(Band band, const T* z, const LayerFilters<T>& filters, const T* theta, const T* of_x, T* to_z,
                double* sums) const {
    copy(band, of_x, to_z);
    const int64_t learned = count_ * (size_ * size_ + 1);
    std::memset(sums_, 0, size_t(learned * lanes<T>) * sizeof(T));
    const Band patches = patches_of(band);
    for (int64_t p = patches.first; p < patches.last; ++p) {
      const bool is_own = p >= band.first;
      in_parts<filters_together>(count_, [&](int64_t i, auto together) {
        constexpr int filters_here = decltype(together)::value;
        respond<filters_here>(p, z, filters, i, [&](int64_t k, int64_t j, Vector<T> c) { store(clipped(k) + j, c); });
        respond<filters_here>(p, of_x, filters, i,
                              [&](int64_t k, int64_t j, Vector<T> c) { store(response(i + k) + j, c); });
        for (int64_t k = 0; k < filters_here; ++k) clip_back(i + k, clipped(k), theta[i + k], is_own);
        if (is_own) correlate<filters_here>(p, i, z, of_x);
      });
      add_back(p, band, filters, to_z);
      if (!is_own || ((p + 1) % rows_of_sum && p + 1 < patches.last)) continue;
      double* const to = sums + p / rows_of_sum * learned;
      for (int64_t n = 0; n < learned; ++n) to[n] = -sum_of_lanes<T>(load(sums_ + n * lanes<T>));
      std::memset(sums_, 0, size_t(learned * lanes<T>) * sizeof(T));
    }
  }

 private:
  static constexpr int next = IsComplex ? 2 : 1;  // from a pixel to the one on its right
  static constexpr int filters_together = 4, vectors_together = vector_registers == 32 ? 4 : 2;
  static constexpr int rows_together = 5, columns_together = vector_registers == 32 ? 5 : 2;

  static int64_t row_size(const Grid<T>& grid, const PictureProx<T>& prox) {
    return ((prox.filter_size - 1) * next + lanes<T> - 1) / lanes<T> * lanes<T> + grid.stride;
  }
  T* response(int64_t i) const { return responses_ + (i + 1) * row_size_ - grid_.stride; }
  T* clipped(int64_t k) const { return clipped_ + k * row_size_; }
  T* sum(int64_t i, int64_t pixel) const { return sums_ + (i * size_ * size_ + pixel) * lanes<T>; }
  T* sum_of_theta(int64_t i) const { return sums_ + (count_ * size_ * size_ + i) * lanes<T>; }

  // The first rows of the patches that reach into a band.
  Band patches_of(Band band) const {
    const int64_t rows = grid_.rows - size_ + 1;
    return {band.first < size_ ? 0 : band.first - size_ + 1, band.last < rows ? band.last : rows};
  }
  void copy(Band band, const T* from, T* to) const {
    const int64_t first = band.first * grid_.stride;
    std::memcpy(to + first, from + first, size_t((band.last - band.first) * grid_.stride) * sizeof(T));
  }
  // Zero where there is no patch.
  Vector<T> where_patch(int64_t j, Vector<T> v) const {
    using Integer = typename Simd<T>::Integer;
    return (Vector<T>)((Integer)v & (Integer)load(has_patch_ + j));
  }

  // Calls give(k, j, c) for vectors of the responses of filters i + k to row p of patches.
  template <int Filters, class Give>
  void respond(int64_t p, const T* picture, const LayerFilters<T>& filters, int64_t i, const Give& give) const {
    const int64_t size = size_, stride = grid_.stride, count = count_;
    in_parts<vectors_together>((width_ + lanes<T> - 1) / lanes<T>, [&](int64_t first, auto together) {
      constexpr int vectors = decltype(together)::value;
      const T* row = picture + p * stride + first * lanes<T>;
      const T* filter = filters.there + i;
      Vector<T> sums[Filters][vectors] = {};
      for (int64_t a = 0; a < size; ++a, row += stride) {
        for (int64_t b = 0; b < size; ++b, filter += count) {
          Vector<T> pixels[vectors];
          for (int v = 0; v < vectors; ++v) pixels[v] = load(row + b * next + v * lanes<T>);
#pragma GCC unroll 4
          for (int k = 0; k < Filters; ++k) {
            const Vector<T> value = broadcast(filter[k]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) sums[k][v] = multiply_add(value, pixels[v], sums[k][v]);
          }
        }
      }
      Vector<T> ends[Filters][vectors];
      copy_vectors<Filters * vectors>(sums[0], ends[0]);
      for (int k = 0; k < Filters; ++k)
        for (int v = 0; v < vectors; ++v) give(k, (first + v) * lanes<T>, ends[k][v]);
    });
  }

  // Subtracts from rows of the band what all filters times their responses to row p of patches are.
  void add_back(int64_t p, Band band, const LayerFilters<T>& filters, T* picture) const {
    const int64_t size = size_, count = count_, stride = grid_.stride, row_size = row_size_;
    const int64_t first = band.first > p ? band.first - p : 0, last = band.last - p < size ? band.last - p : size;
    in_even_parts<rows_together>(first, last, [&](int64_t a, auto some_rows) {
      in_parts<vectors_together>(stride / lanes<T>, [&](int64_t vector, auto together) {
        constexpr int rows = decltype(some_rows)::value, vectors = decltype(together)::value;
        T* const pixels = picture + (p + a) * stride + vector * lanes<T>;
        Vector<T> sums[rows][vectors];
        for (int r = 0; r < rows; ++r)
          for (int v = 0; v < vectors; ++v) sums[r][v] = load(pixels + r * stride + v * lanes<T>);
        const T *filter = filters.back + a, *row = response(0) + vector * lanes<T>;
        for (int64_t i = 0; i < count; ++i, row += row_size) {
          for (int64_t b = 0; b < size; ++b, filter += size) {
            Vector<T> of_patches[vectors];
            for (int v = 0; v < vectors; ++v) of_patches[v] = load(row - b * next + v * lanes<T>);
#pragma GCC unroll 5
            for (int r = 0; r < rows; ++r) {
              const Vector<T> value = broadcast(filter[r]);
#pragma GCC unroll 4
              for (int v = 0; v < vectors; ++v) sums[r][v] = multiply_add(value, of_patches[v], sums[r][v]);
            }
          }
        }
        for (int r = 0; r < rows; ++r)
          for (int v = 0; v < vectors; ++v) store(pixels + r * stride + v * lanes<T>, sums[r][v]);
      });
    });
  }

  // Adds the products of the pixels of row p of patches with what clip_back() leaves for filters i and following.
  template <int Filters> void correlate(int64_t p, int64_t i, const T* z, const T* of_x) const {
    const int64_t stride = grid_.stride, row_size = row_size_, width = width_;
    const T *const of_response = response(i), *const clipped_response = clipped(0);
    for (int64_t a = 0; a < size_; ++a)
      in_even_parts<columns_together>(0, size_, [&](int64_t b, auto some_columns) {
        constexpr int columns = decltype(some_columns)::value;
        const T *const of_z = z + (p + a) * stride + b * next, *const of_g = of_x + (p + a) * stride + b * next;
        Vector<T> sums[Filters][columns];
        for (int k = 0; k < Filters; ++k)
          for (int c = 0; c < columns; ++c) sums[k][c] = load(sum(i + k, a * size_ + b + c));
        for (int64_t j = 0; j < width; j += lanes<T>) {
          Vector<T> gradients[Filters], responses[Filters];
          for (int k = 0; k < Filters; ++k) {
            gradients[k] = load(of_response + k * row_size + j);
            responses[k] = load(clipped_response + k * row_size + j);
          }
#pragma GCC unroll 5
          for (int c = 0; c < columns; ++c) {
            const Vector<T> pixel = load(of_z + j + c * next), of_pixel = load(of_g + j + c * next);
#pragma GCC unroll 4
            for (int k = 0; k < Filters; ++k)
              sums[k][c] = multiply_add(pixel, gradients[k], multiply_add(of_pixel, responses[k], sums[k][c]));
          }
        }
        for (int k = 0; k < Filters; ++k)
          for (int c = 0; c < columns; ++c) store(sum(i + k, a * size_ + b + c), sums[k][c]);
      });
  }

  // psi(c); c itself where it is NaN
  static Vector<T> clip(Vector<T> c, Vector<T> theta) {
    if constexpr (IsComplex) {
      const Vector<T> square = with_partner(c * c);
      return square <= theta * theta ? c : c * (theta / square_root(square));  // a theta that is NaN shows
    }
    const Vector<T> raised = c >= -theta ? c : -theta;
    return c == c ? (raised <= theta ? raised : theta) : c;
  }
  static Vector<T> with_partner(Vector<T> v) { return v + swap_pairs<T>(v); }

  // Turns responses c of filter i to z into psi(c), and its responses to the gradient of x into the gradient of c but
  // for its sign. Adds the gradient of theta.
  void clip_back(int64_t i, T* c_row, T theta_i, bool adds) const {
    const Vector<T> theta = broadcast(theta_i), one = broadcast(T(1));
    T* const g_row = response(i);
    Vector<T> to_theta = load(sum_of_theta(i));
    for (int64_t j = 0; j < width_; j += lanes<T>) {
      const Vector<T> c = where_patch(j, load(c_row + j)), g = where_patch(j, load(g_row + j));
      if constexpr (IsComplex) {
        const Vector<T> square = with_partner(c * c);
        const auto longer = ~(square <= theta * theta);
        const Vector<T> inverse = longer ? one / square_root(square) : Vector<T>{}, unit = c * inverse;
        const Vector<T> along = unit * g, whole = with_partner(along);
        to_theta += along;
        store(c_row + j, longer ? theta * unit : c);
        store(g_row + j, longer ? theta * inverse * (g - unit * whole) : g);
      } else {
        // As PyTorch has it where theta < 0: all responses are theta then.
        const auto above = (c > theta) | (theta < -theta), below = (c < -theta) & (theta > -theta);
        to_theta += above ? g : below ? -g : Vector<T>{};
        store(c_row + j, where_patch(j, clip(c, theta)));
        store(g_row + j, ((c >= -theta) & (c <= theta)) ? g : Vector<T>{});
      }
    }
    if (adds) store(sum_of_theta(i), to_theta);
  }

  Grid<T> grid_;
  int64_t count_, size_, row_size_, width_;  // width_: values of a row of responses
  T *responses_, *clipped_;
  T* has_patch_;  // all bits where there is a patch
  T* sums_;       // a vector for each number that learns
};

}  // namespace fastunroll::FASTUNROLL_SET
