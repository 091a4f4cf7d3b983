// The wavelet transform of pictures: values against the definition, the adjoint as the inverse, and bits over threads
// and instruction sets.
#include "check.h"
#include "fastunroll.h"
#include "wavelet_transform.h"

namespace fastunroll::testing {
namespace {

// db2, with taps of its scaling filter.
const double low_pass[] = {0.48296291314453416, 0.8365163037378079, 0.2241438680420134, -0.12940952255126037};
constexpr int64_t taps = 4, no_moves[] = {0, 0};

struct Shape {
  int64_t batch, rows, columns, levels;
  bool is_real;
  int64_t parts() const { return is_real ? 1 : 2; }
  int64_t width() const { return columns * parts(); }
  std::string text() const {
    return std::to_string(batch) + "x" + std::to_string(rows) + "x" + std::to_string(columns) + ", " +
           std::to_string(levels) + " levels" + (is_real ? "" : ", complex");
  }
};

// One level along `count` values that lie `step` apart.
void analyse(double* x, int64_t count, int64_t step) {
  std::vector<double> found(static_cast<size_t>(count));
  for (int64_t o = 0; o < count / 2; ++o) {
    for (int64_t j = 0; j < taps; ++j) {
      const double value = x[(2 * o + j + 1 - taps / 2 + count) % count * step];
      found[size_t(o)] += low_pass[j] * value;
      found[size_t(o + count / 2)] += (j % 2 ? -1 : 1) * low_pass[taps - 1 - j] * value;
    }
  }
  for (int64_t i = 0; i < count; ++i) x[i * step] = found[size_t(i)];
}

template <class T> Array<double> by_definition(const Shape& s, const Array<T>& x) {
  Array<double> c(x.begin(), x.end());
  for (int64_t b = 0; b < s.batch; ++b) {
    double* const picture = c.data() + b * s.rows * s.width();
    for (int64_t level = 0; level < s.levels; ++level) {
      const int64_t rows = s.rows >> level, columns = s.columns >> level;
      for (int64_t i = 0; i < columns * s.parts(); ++i) analyse(picture + i, rows, s.width());
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t part = 0; part < s.parts(); ++part) analyse(picture + row * s.width() + part, columns, s.parts());
    }
  }
  return c;
}

template <class T> Array<T> transform(const Shape& s, int threads, bool adjoint, const Array<T>& x) {
  const Array<T> low(low_pass, low_pass + taps);
  Array<T> y(x.size());
  wavelet_transform<T>({s.batch, s.rows, s.columns, s.is_real, threads,
                        PictureWavelet<T>{low.data(), taps, s.levels, no_moves}, adjoint, nullptr, x.data(), y.data()});
  return y;
}

template <class T> void compare(const Shape& s) {
  const Settings restored;
  Random random(uint64_t(s.rows + s.columns));
  const Array<T> x = random.normals<T>(s.batch * s.rows * s.width(), 1);
  const Array<double> wanted = by_definition(s, x), given(x.begin(), x.end());
  Array<T> first, first_back;
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    const std::string what = std::string("wavelet ") + set + " " + type_name<T> + " " + s.text();
    const Array<T> alone = transform(s, 1, false, x), back = transform(s, 1, true, alone);
    CHECK(close(alone, wanted, rounding<T>), what);
    CHECK(close(back, given, rounding<T>), what + ", adjoint");
    CHECK(same_bits(transform(s, 3, false, x), alone), what + ", threads");
    CHECK(same_bits(transform(s, 3, true, alone), back), what + ", threads of the adjoint");
    if (!is_fused(set)) continue;
    if (first.empty()) first = alone, first_back = back;
    CHECK(same_bits(alone, first), what + ", bits");
    CHECK(same_bits(back, first_back), what + ", bits of the adjoint");
    record("wavelet", alone);
  }
}

template <class T> void of_type() {
  for (bool is_real : {true, false}) {
    for (const Shape& s : {Shape{2, 2, 2, 1, is_real}, Shape{3, 4, 12, 2, is_real}, Shape{2, 24, 40, 3, is_real},
                           Shape{1, 8, 64, 3, is_real}, Shape{2, 16, 128, 2, is_real}, Shape{0, 4, 4, 1, is_real}})
      compare<T>(s);
    compare<T>({5, 72, 120, 3, is_real});  // three threads have one picture each, and share two
  }
}

}  // namespace

void test_wavelet() {
  of_type<float>();
  of_type<double>();
}

}  // namespace fastunroll::testing
