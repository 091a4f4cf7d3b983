// Checks, and numbers at random.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "reach.h"

namespace fastunroll::testing {

void check(bool holds, const std::string& what, const char* file, int line);
#define CHECK(holds, what) ::fastunroll::testing::check(holds, what, __FILE__, __LINE__)

// The same numbers on every machine: those of a standard distribution depend on the library.
class Random {
 public:
  explicit Random(uint64_t seed);
  double uniform();
  double normal();  // of mean 0 and variance 1, and nearly normal
  template <class T> Array<T> normals(int64_t count, double scale) {
    Array<T> a(static_cast<size_t>(count));
    for (T& value : a) value = T(normal() * scale);
    return a;
  }

 private:
  std::mt19937_64 engine_;
};

template <class T> bool same_bits(const Array<T>& a, const Array<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// Whether a is b up to `tolerance` times the largest value of b, or times one.
template <class T> bool close(const Array<T>& a, const Array<double>& b, double tolerance) {
  double largest = 1;
  for (double value : b) largest = std::abs(value) > largest ? std::abs(value) : largest;
  bool all = a.size() == b.size();
  for (size_t i = 0; all && i < a.size(); ++i) all = std::abs(double(a[i]) - b[i]) <= tolerance * largest;
  return all;
}

#ifdef __SANITIZE_THREAD__
constexpr bool quick = true;  // what goes on between threads is the same at every size, and nothing goes on in one
#else
constexpr bool quick = false;
#endif

// Pictures that have fewer pixels together are left to one thread, however many are asked for.
constexpr int64_t pixels_of_threads = 1 << 13;

template <class T> constexpr double rounding = sizeof(T) == 4 ? 2e-5 : 1e-12;
template <class T> constexpr const char* type_name = sizeof(T) == 4 ? "float" : "double";

// Puts the instruction set and the density back.
class Settings {
 public:
  Settings();
  ~Settings();

 private:
  const char* set_;
  double above_;
};

// The instruction sets this processor has; those that it lacks are named once on the terminal.
const std::vector<const char*>& usable_sets();

// Whether a set has fused multiply-adds. All that have them agree to the last bit. The baseline of x86-64 has none.
bool is_fused(const char* set);

// Adds a result to what native_tests --bits=FILE writes: for each subject and instruction set one number, which depends
// on every bit. Another machine finds the same numbers.
void record(const char* subject, const void* values, size_t bytes);
template <class T> void record(const char* subject, const Array<T>& result) {
  Array<T> values = result;
  for (T& value : values)
    if (value != value) value = std::numeric_limits<T>::quiet_NaN();  // processors have NaN of different bits
  record(subject, values.data(), values.size() * sizeof(T));
}

// The tests, which main() calls by name.
void test_forward();
void test_backward();
void test_adaptive();
void test_bits();
void test_products();
void test_lasso();
void test_proximal_gradient();
void test_ahead();
void test_weighted();
void test_soft_threshold();
void test_spectral();
void test_pictures();
void test_wavelet();
void test_callers();
void test_interruption();
void test_primitives();
void test_layerwise();
void test_fused();

}  // namespace fastunroll::testing
