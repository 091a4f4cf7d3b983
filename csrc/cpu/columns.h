// The columns of a matrix in double precision, however it lies in memory. Each sum is one chain, or 16 side by side, on
// every instruction set and for any number of threads.
#pragma once
#include "column_store.h"
#include "cpu/row_sum.h"
#include "cpu/threads.h"

namespace fastunroll::FASTUNROLL_SET {

// The first `count` values, all lanes at most, in double precision; the other lanes are zero.
template <class T> inline Vector<double> load_double(const T* p, int64_t count = lanes<double>) {
  constexpr int all = lanes<double>;
  if constexpr (sizeof(T) == 8) {
    return load_some(p, count);
  } else {
    typedef T Half __attribute__((vector_size(vector_bytes / 2)));
    Half v{};
    if (count >= all)
      __builtin_memcpy(&v, p, sizeof v);
    else
      for (int i = 0; i < count; ++i) v[i] = p[i];
    return __builtin_convertvector(v, Vector<double>);
  }
}

// sums[j - first] += v'A of the columns first .. last - 1 of a matrix with rows side by side.
template <class T> void add_rows(const Columns<T>& a, const double* v, int64_t first, int64_t last, double* sums) {
  constexpr int at_once = 4;
  int64_t i = 0;
  const auto add = [&](auto rows) {
    constexpr int count = decltype(rows)::value;
    const T* row[count];
    Vector<double> factor[count];
    for (int q = 0; q < count; ++q) {
      row[q] = a.values + (i + q) * a.row_stride;
      factor[q] = broadcast(v[i + q]);
    }
    for (int64_t j = first; j < last; j += lanes<double>) {
      const int64_t left = last - j;
      Vector<double> sum = load_some(sums + j - first, left);
      for (int q = 0; q < count; ++q) sum = multiply_add(factor[q], load_double(row[q] + j, left), sum);
      store_some(sums + j - first, sum, left);
    }
    i += count;
  };
  while (i + at_once <= a.m) add(Constant<at_once>());
  while (i < a.m) add(Constant<1>());
}

template <class T> double dot_column(const Columns<T>& a, int64_t j, const double* v) {
  if (a.is_sparse()) {
    double sum = 0;
    for (int64_t i = a.begin(j); i < a.begin(j + 1); ++i) sum = __builtin_fma(double(a.values[i]), v[a.row(i)], sum);
    return sum;
  }
  const T* column = a.values + j * a.column_stride;
  RowSum<double> sum;
  along_row<double>(
      a.m, [&](int64_t c, int part) { sum.add(part, load_double(column + c, a.m - c), load_some(v + c, a.m - c)); });
  return sum.total();
}

// out = A'v
template <class T> void correlate(const Columns<T>& a, const double* v, double* out, int threads) {
  constexpr int64_t chunk = 512, grain = 1 << 17;  // columns; multiply-adds for which to wake a thread
  const int64_t useful = 1 + a.m * a.n / grain;
  for_each((a.n + chunk - 1) / chunk, int(useful < threads ? useful : threads), [&](int64_t part, int) {
    const int64_t first = part * chunk, last = first + chunk < a.n ? first + chunk : a.n;
    if (!a.is_sparse() && a.column_stride == 1) {
      memset(out + first, 0, size_t(last - first) * sizeof(double));
      return add_rows(a, v, first, last, out + first);
    }
    for (int64_t j = first; j < last; ++j) out[j] = dot_column(a, j, v);
  });
}

// Calls take(i, value) for the entries of a column, or for its nonzeros.
template <class T, class Take> inline void each_entry(const Columns<T>& a, int64_t j, const Take& take) {
  if (a.is_sparse())
    for (int64_t i = a.begin(j); i < a.begin(j + 1); ++i) take(a.row(i), double(a.values[i]));
  else
    for (int64_t i = 0; i < a.m; ++i) take(i, double(a.values[i * a.row_stride + j * a.column_stride]));
}

// sqrt(|a_j|^2 + ridge), in units of the largest entry: no square overflows, or vanishes.
template <class T> double careful_norm(const Columns<T>& a, int64_t j, double ridge) {
  const double root = __builtin_sqrt(ridge);
  double largest = root, squares = 0;
  each_entry(a, j, [&](int64_t, double v) { largest = __builtin_fabs(v) > largest ? __builtin_fabs(v) : largest; });
  if (!(largest > 0)) return 0;
  each_entry(a, j, [&](int64_t, double v) { squares += (v / largest) * (v / largest); });
  return largest * __builtin_sqrt(squares + (root / largest) * (root / largest));
}

template <class T> double square_of_column(const Columns<T>& a, int64_t j) {
  const int64_t begin = a.is_sparse() ? a.begin(j) : j * a.column_stride;
  const int64_t count = a.is_sparse() ? a.begin(j + 1) - begin : a.m;
  RowSum<double> sum;
  along_row<double>(count, [&](int64_t c, int part) {
    const Vector<double> v = load_double(a.values + begin + c, count - c);
    sum.add(part, v, v);
  });
  return sum.total();
}

// One over the norm of each column, with the ridge in it; zero for a column of zeros.
template <class T> void find_scales(const Columns<T>& a, double ridge, double* scale, int threads) {
  constexpr int64_t chunk = 512;
  constexpr double least = 1e-280, most = 1e280;
  for_each((a.n + chunk - 1) / chunk, threads, [&](int64_t part, int) {
    const int64_t first = part * chunk, last = first + chunk < a.n ? first + chunk : a.n;
    double squares[chunk] = {};
    if (!a.is_sparse() && a.column_stride == 1) {
      for (int64_t i = 0; i < a.m; ++i) {
        const T* row = a.values + i * a.row_stride;
        for (int64_t j = first; j < last; j += lanes<double>) {
          const Vector<double> v = load_double(row + j, last - j);
          store_some(squares + j - first, multiply_add(v, v, load_some(squares + j - first, last - j)), last - j);
        }
      }
    } else {
      for (int64_t j = first; j < last; ++j) squares[j - first] = square_of_column(a, j);
    }
    for (int64_t j = first; j < last; ++j) {
      const double square = squares[j - first] + ridge;
      const double norm = square > least && square < most ? __builtin_sqrt(square) : careful_norm(a, j, ridge);
      const double one_over = 1 / norm;
      scale[j] = norm > 0 && one_over - one_over == 0 ? one_over : 0;
    }
  });
}

// v += factor a_j
template <class T> inline void add_column(const Columns<T>& a, int64_t j, double factor, double* v) {
  each_entry(a, j, [&](int64_t i, double value) { v[i] = __builtin_fma(factor, value, v[i]); });
}

}  // namespace fastunroll::FASTUNROLL_SET
