// Products, sums over samples and soft thresholds, against loops.
#include <complex>

#include "check.h"
#include "fastunroll.h"

namespace fastunroll::testing {
namespace {

template <class T> const T* data(const Array<T>& a) { return a.empty() ? nullptr : a.data(); }
template <class T> T* data(Array<T>& a) { return a.empty() ? nullptr : a.data(); }

// A good part is zero.
template <class T> Array<T> sparse(Random& random, int64_t count) {
  Array<T> a = random.normals<T>(count, 1);
  for (T& value : a)
    if (std::abs(value) < 0.7) value = 0;
  return a;
}

template <class T> void compare_product(int64_t batch, int64_t m, int64_t n, bool adjoint, bool starts) {
  const Settings restored;
  Random random(uint64_t(batch + m + n));
  const int64_t depth = adjoint ? m : n, columns = adjoint ? n : m;
  const Array<T> a = random.normals<T>(m * n, 1), x = sparse<T>(random, batch * depth);
  const Array<T> start = starts ? random.normals<T>(batch * columns, 1) : Array<T>();
  Array<double> wanted(size_t(batch * columns));
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t c = 0; c < columns; ++c) {
      double sum = starts ? start[b * columns + c] : 0;
      for (int64_t k = 0; k < depth; ++k) sum += double(x[b * depth + k]) * (adjoint ? a[k * n + c] : a[c * n + k]);
      wanted[b * columns + c] = sum;
    }
  }
  Array<T> first;
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    first.clear();
    for (int threads : {1, 2, 5}) {
      for (double above : {0.0, 0.5, 2.0}) {
        set_dense_above(above);
        Array<T> out(wanted.size());
        product<T>({batch, m, n, threads, adjoint, data(a), data(x), starts ? data(start) : nullptr, data(out)});
        const std::string what = std::string("product ") + set + " " + type_name<T> + " " + std::to_string(batch) +
                                 " " + std::to_string(m) + " " + std::to_string(n);
        CHECK(close(out, wanted, rounding<T>), what);
        if (first.empty()) first = out;
        CHECK(same_bits(out, first), what + ": threads or density");
      }
    }
    record("products", first);
  }
}

template <class T> void compare_outer(int64_t batch, int64_t rows, int64_t columns) {
  const Settings restored;
  Random random(uint64_t(batch + rows + columns));
  const Array<T> g = sparse<T>(random, batch * rows), x = random.normals<T>(batch * columns, 1);
  Array<double> wanted(size_t(rows * columns));
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) wanted[i * columns + j] += double(g[b * rows + i]) * x[b * columns + j];
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    Array<T> first;
    for (int threads : {1, 2, 5}) {
      Array<T> out(wanted.size(), T(7));
      outer<T>({batch, rows, columns, threads, data(g), data(x), data(out)});
      const std::string what = std::string("outer ") + set + " " + type_name<T> + " " + std::to_string(batch) + " " +
                               std::to_string(rows) + " " + std::to_string(columns);
      CHECK(close(out, wanted, rounding<T>), what);
      if (first.empty()) first = out;
      CHECK(same_bits(out, first), what + ": threads");
    }
    record("outer", first);
  }
}

template <class T> void compare_threshold(int64_t outer, int64_t middle, int64_t inner, bool complex, double least) {
  const Settings restored;
  Random random(uint64_t(outer + middle + inner));
  const int64_t count = outer * middle * inner, parts = complex ? 2 : 1;
  Array<T> x = random.normals<T>(count * parts, 1), theta(static_cast<size_t>(middle));
  const Array<T> grad = random.normals<T>(count * parts, 1);
  for (T& t : theta) t = T(least + 0.5 * random.uniform());
  Array<double> wanted(x.size()), wanted_x(x.size()), wanted_theta(theta.size());
  for (int64_t i = 0; i < count; ++i) {
    using Number = std::complex<double>;
    const auto at = [&](const Array<T>& a) { return Number(a[i * parts], complex ? double(a[i * parts + 1]) : 0.0); };
    const auto put = [&](Array<double>& a, Number value) {
      a[i * parts] = value.real();
      if (complex) a[i * parts + 1] = value.imag();
    };
    const int64_t j = i / inner % middle;
    const double t = theta[j], size = std::abs(at(x));
    if (size <= std::max(t, 0.0)) continue;
    const Number unit = at(x) / size, g = at(grad);
    const double along = unit.real() * g.real() + unit.imag() * g.imag();
    put(wanted, unit * (size - t));
    put(wanted_x, along * unit + (1 - t / size) * (g - along * unit));
    wanted_theta[j] -= along;
  }
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    for (int threads : {1, 3}) {
      Array<T> out(x.size()), grad_x(x.size()), grad_theta(theta.size());
      soft_threshold<T>({outer, middle, inner, threads, complex, data(x), data(theta), data(out)});
      soft_threshold_backward<T>(
          {outer, middle, inner, threads, complex, data(out), data(theta), data(grad), data(grad_x), data(grad_theta)});
      const std::string what = std::string("soft_threshold ") + set + " " + type_name<T> + " " + std::to_string(outer) +
                               " " + std::to_string(middle) + " " + std::to_string(inner) + (complex ? " complex" : "");
      CHECK(close(out, wanted, rounding<T>), what);
      CHECK(close(grad_x, wanted_x, 10 * rounding<T>), what + ": gradient of x");
      CHECK(close(grad_theta, wanted_theta, 10 * rounding<T>), what + ": gradient of theta");
      record("soft_threshold", out);
      record("soft_threshold", grad_x);
      record("soft_threshold", grad_theta);
    }
  }
}

template <class T> void products_of_type() {
  for (int64_t batch : {0, 1, 3, 65, 130}) {
    for (bool adjoint : {false, true}) {
      for (bool starts : {false, true}) {
        compare_product<T>(batch, 1, 17, adjoint, starts);
        compare_product<T>(batch, 33, 129, adjoint, starts);
        compare_product<T>(batch, 1, 1, adjoint, starts);
      }
    }
  }
  for (int64_t batch : {0, 1, 15, 65, 2100}) {
    compare_outer<T>(batch, 1, 1);
    compare_outer<T>(batch, 3, 17);
    compare_outer<T>(batch, 66, 9);
  }
}

template <class T> void thresholds_of_type() {
  const int64_t shapes[][3] = {{1, 1, 1},  {1, 1, 5003}, {3, 17, 1},   {70, 33, 1}, {1, 5003, 1},
                               {5, 1, 19}, {2, 7, 33},   {2, 3, 4500}, {0, 4, 2},   {4, 3, 0}};
  for (const int64_t* shape : shapes)
    for (bool complex : {false, true})
      for (double least : {0.2, -0.25}) compare_threshold<T>(shape[0], shape[1], shape[2], complex, least);
}

}  // namespace

void test_products() {
  products_of_type<float>();
  products_of_type<double>();
}

void test_soft_threshold() {
  thresholds_of_type<float>();
  thresholds_of_type<double>();
}

}  // namespace fastunroll::testing
