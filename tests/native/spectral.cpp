// Products that are diagonal in Fourier space, against sums over all pixels.
#include <complex>

#include "check.h"
#include "cpu/roots_of_unity.h"
#include "fastunroll.h"

namespace fastunroll::testing {
namespace {

using Number = std::complex<double>;
using Image = std::vector<Number>;

// The transforms of the signals of an image whose `length` numbers are `step` apart.
void transform(Image& image, int64_t length, int64_t step, int sign) {
  std::vector<Number> roots;
  for (int64_t k = 0; k < length; ++k)
    roots.push_back(std::polar(1.0, sign * 2 * std::acos(-1.0) / double(length) * double(k)));
  const Image before = image;
  for (size_t i = 0; i < image.size(); ++i) {
    const int64_t k = int64_t(i) / step % length, start = int64_t(i) - k * step;
    Number sum = 0;
    for (int64_t j = 0; j < length; ++j) sum += roots[size_t(j * k % length)] * before[size_t(start + j * step)];
    image[i] = sum;
  }
}

struct Shape {
  int64_t rows, columns;
  bool is_real, is_complex, of_rows, adjoint;
  int64_t batch, count, repeat, coils;  // no coils: 0

  int64_t width() const { return is_real ? columns / 2 + 1 : columns; }
  int64_t pixels() const { return rows * columns; }
  int64_t parts() const { return is_real ? 1 : 2; }
  std::string text() const {
    return std::to_string(rows) + "x" + std::to_string(columns) + (is_real ? " real" : " complex") +
           (is_complex ? ", complex d" : "") + (of_rows ? " of rows" : "") + ", " + std::to_string(batch) +
           " images, " + std::to_string(coils) + " coils";
  }
};

template <class T> Number number_at(const T* values, int64_t i, bool is_complex) {
  return is_complex ? Number(values[2 * i], values[2 * i + 1]) : Number(values[i], 0);
}

// d of one row and column of the whole spectrum. irfft2 takes the Hermitian part of what it is given.
template <class T> Number spectrum_at(const Shape& s, const T* d, int64_t row, int64_t column) {
  const auto given = [&](int64_t r, int64_t c) {
    const Number a = number_at(d, (s.of_rows ? 0 : r) * s.width() + c, s.is_complex);
    return s.adjoint ? std::conj(a) : a;
  };
  if (!s.is_real) return given(row, column);
  const int64_t other_row = (s.rows - row) % s.rows, other_column = (s.columns - column) % s.columns;
  if (column == other_column) return (given(row, column) + std::conj(given(other_row, column))) / 2.0;
  return column < other_column ? given(row, column) : std::conj(given(other_row, other_column));
}

template <class T> Image filtered(const Shape& s, const T* d, Image image) {
  transform(image, s.columns, 1, -1);
  if (!s.of_rows) transform(image, s.rows, s.columns, -1);
  for (int64_t i = 0; i < s.pixels(); ++i) image[i] *= spectrum_at(s, d, i / s.columns, i % s.columns);
  transform(image, s.columns, 1, 1);
  if (!s.of_rows) transform(image, s.rows, s.columns, 1);
  for (Number& value : image) value /= double(s.of_rows ? s.columns : s.pixels());
  return image;
}

template <class T> struct Problem {
  Shape s;
  Array<T> x, z, d, maps;

  Problem(const Shape& shape, bool has_z) : s(shape) {
    Random random(uint64_t(s.rows * 1000 + s.columns));
    x = random.normals<T>(s.batch * s.pixels() * s.parts(), 1);
    if (has_z) z = random.normals<T>(int64_t(x.size()), 1);
    d = random.normals<T>(s.count * (s.of_rows ? 1 : s.rows) * s.width() * (s.is_complex ? 2 : 1), 1);
    maps = random.normals<T>(2 * s.coils * s.pixels(), 1);  // one set
  }

  Array<double> wanted() const {
    Array<double> all;
    for (int64_t b = 0; b < s.batch; ++b) {
      const T* of = d.data() + b / s.repeat % s.count * int64_t(d.size()) / s.count;
      Image sum(size_t(s.pixels()));
      for (int64_t c = 0; c < std::max<int64_t>(s.coils, 1); ++c) {
        const auto map = [&](int64_t i) {
          return s.coils ? number_at(maps.data(), c * s.pixels() + i, true) : Number(1);
        };
        Image image(sum.size());
        for (int64_t i = 0; i < s.pixels(); ++i)
          image[i] = map(i) * number_at(x.data(), b * s.pixels() + i, !s.is_real);
        image = filtered(s, of, std::move(image));
        for (int64_t i = 0; i < s.pixels(); ++i) sum[i] += std::conj(map(i)) * image[i];
      }
      for (int64_t i = 0; i < s.pixels(); ++i) {
        if (!z.empty()) sum[i] -= number_at(z.data(), b * s.pixels() + i, !s.is_real);
        all.push_back(sum[i].real());
        if (!s.is_real) all.push_back(sum[i].imag());
      }
    }
    return all;
  }

  Array<T> found(int threads) const {
    Spectrum<T> spectrum{s.count, s.rows, s.columns, s.is_real, s.is_complex, s.of_rows, threads, d.data(), nullptr};
    Array<T> packed(size_t(spectrum_packed_size(spectrum) * s.count)), y(x.size(), T(7));
    spectrum.packed = packed.data();
    spectrum_pack(spectrum);
    fourier_filter<T>({spectrum, s.batch, threads, s.adjoint, s.repeat, x.data(), z.empty() ? nullptr : z.data(),
                       maps.empty() ? nullptr : maps.data(), s.coils, 1, 1, nullptr, y.data()});
    return y;
  }
};

template <class T> void compare(const Shape& shape, bool has_z) {
  const Settings restored;
  const Problem<T> problem(shape, has_z);
  const Array<double> wanted = problem.wanted();
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    const std::string what = std::string("fourier_filter ") + set + " " + type_name<T> + " " + shape.text();
    const Array<T> first = problem.found(1);
    if (!shape.is_real) record("fourier_filter", first);  // rows of real images go in pairs a vector apart
    CHECK(close(first, wanted, rounding<T>), what);
    for (int threads : {2, 3}) CHECK(same_bits(problem.found(threads), first), what + ": threads");
  }
}

// They are the nearest numbers, if long double has more digits than double, and on the axes exact.
void check_roots() {
  for (int64_t n = 1; n <= 300; ++n) {
    bool near = true;
    for (int64_t k = -n; k <= n; ++k) {
      const Root root = root_of_unity(k, n);
      const long double angle = 2 * std::acos(-1.0L) * (long double)(k) / (long double)(n);
      const long double wanted[] = {std::cos(angle), std::sin(angle)};
      const double found[] = {root.re, root.im};
      for (int part = 0; part < 2; ++part) {
        const double size = std::abs(found[part]), last_place = std::nextafter(size, 2.0) - size;
        const long double own_error = 8 * std::numeric_limits<long double>::epsilon();
        near = near && std::abs(found[part] - wanted[part]) <= 0.5L * last_place + own_error;
      }
    }
    CHECK(near, "roots of unity of order " + std::to_string(n));
    const Root half = root_of_unity(n, 2 * n), quarter = root_of_unity(3 * n, 4 * n);
    CHECK(half.re == -1 && half.im == 0 && quarter.re == 0 && quarter.im == -1, "roots of unity on the axes");
  }
}

// Every radix, and every number of lanes that is left over.
template <class T> void compare_sizes() {
  for (int64_t n = 1; n <= 36; ++n) {
    for (bool is_real : {false, true}) {
      const bool is_complex = n % 2 == 0, has_z = n % 3 == 0;
      compare<T>({n, n % 7 + 1, is_real, is_complex, false, n % 4 == 0, 2, 1, 1, 0}, has_z);
      compare<T>({n % 5 + 1, n, is_real, is_complex, false, n % 4 == 0, 2, 1, 1, 0}, has_z);
      compare<T>({n % 5 + 1, n, is_real, is_complex, true, n % 4 == 0, 2, 1, 1, 0}, has_z);
    }
  }
}

template <class T> void compare_kinds() {
  for (int64_t size : {6, 20, 48, 96})  // 96: the strips exceed the first cache in parts
    for (bool is_real : {false, true})
      for (bool is_complex : {false, true})
        for (bool of_rows : {false, true}) {
          compare<T>({size, size / 2 + 1 - size / 2 % 2, is_real, is_complex, of_rows, true, 3, 3, 1, 0}, false);
          compare<T>({size / 2, size, is_real, is_complex, of_rows, false, 4, 2, 2, 0}, true);
        }
  for (bool of_rows : {false, true}) {
    compare<T>({20, 34, false, false, of_rows, false, 2, 1, 1, 3}, true);
    compare<T>({17, 5, false, false, of_rows, false, 5, 5, 1, 1}, false);
  }
  compare<T>({140, 136, true, false, false, false, 1, 1, 1, 0}, true);   // threads share an image
  compare<T>({130, 144, false, true, false, false, 1, 1, 1, 0}, false);  // and blocks exceed the first cache
}

}  // namespace

void test_spectral() {
  check_roots();
  if (!quick) {
    compare_sizes<float>();
    compare_sizes<double>();
  }
  compare_kinds<float>();
  compare_kinds<double>();
}

}  // namespace fastunroll::testing
