// The passes between the products of an iteration: values against loops, and bits over threads and instruction sets.
#include <limits>

#include "check.h"
#include "fastunroll.h"

namespace fastunroll::testing {
namespace {

template <class T> void compare_step(int64_t outer, int64_t middle, int64_t inner, bool nonnegative, double beta) {
  const Settings restored;
  const int64_t count = outer * middle * inner;
  Random random(uint64_t(count + middle + (nonnegative ? 1 : 0)));
  const Array<T> x = random.normals<T>(count, 1), other = random.normals<T>(count, 1), g = random.normals<T>(count, 1);
  Array<T> theta(static_cast<size_t>(middle));
  for (T& value : theta) value = T(0.2 + random.uniform());
  const double step = 0.3;
  Array<double> wanted(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const double v = double(x[i]) + T(beta) * (double(x[i]) - other[i]), z = v - double(T(step)) * g[i];
    const double t = theta[i / inner % middle];
    wanted[i] = z > t ? z - t : z < -t && !nonnegative ? z + t : 0;
  }
  Array<T> first;
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    for (int threads : {1, 3}) {
      Array<T> out(static_cast<size_t>(count));
      step_ahead<T>({outer, middle, inner, threads, nonnegative, T(beta), T(step), x.data(), other.data(), g.data(),
                     theta.data(), out.data()});
      const std::string what = std::string("step_ahead ") + set + " " + type_name<T> + " " + std::to_string(count);
      CHECK(close(out, wanted, sizeof(T) == 4 ? 1e-6 : 1e-14), what);
      record("step_ahead", out);
      if (!is_fused(set)) continue;
      if (first.empty()) first = out;
      CHECK(same_bits(out, first), what + ": bits");
    }
  }
}

template <class T> void compare_residual(int64_t count, double beta) {
  const Settings restored;
  Random random(uint64_t(count + 1));
  const Array<T> product = random.normals<T>(count, 1), y = random.normals<T>(count, 1);
  const Array<T> before = random.normals<T>(count, 1);
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    for (int threads : {1, 3}) {
      Array<T> residual(static_cast<size_t>(count)), ahead = residual, wanted = residual;
      Array<double> further(static_cast<size_t>(count));
      for (int64_t i = 0; i < count; ++i) {
        wanted[i] = product[i] - y[i];
        further[i] = wanted[i] + T(beta) * (double(wanted[i]) - before[i]);
      }
      residual_ahead<T>(
          {count, threads, T(beta), product.data(), y.data(), before.data(), residual.data(), ahead.data()});
      record("residual_ahead", ahead);
      CHECK(same_bits(residual, wanted), "residual_ahead: residual");
      CHECK(close(ahead, further, sizeof(T) == 4 ? 1e-6 : 1e-14), "residual_ahead: ahead");
      Array<T> place = before, also(static_cast<size_t>(count));
      residual_ahead<T>({count, threads, T(beta), product.data(), y.data(), place.data(), place.data(), also.data()});
      CHECK(same_bits(place, wanted) && same_bits(also, ahead), "residual_ahead: in the place of the one before");
      residual_ahead<T>({count, threads, T(0), product.data(), y.data(), nullptr, residual.data(), ahead.data()});
      CHECK(same_bits(residual, wanted) && same_bits(ahead, wanted), "residual_ahead: no momentum");
    }
  }
}

template <class T> void passes_of_type() {
  const int64_t shapes[][3] = {{1, 1, 1},    {1, 1, 5003}, {3, 17, 1},   {70, 33, 1}, {1, 5003, 1},
                               {5, 1, 4099}, {2, 7, 33},   {2, 3, 4500}, {4, 1, 0}};
  for (const int64_t* shape : shapes)
    for (bool nonnegative : {false, true})
      for (double beta : {0.0, 0.7}) compare_step<T>(shape[0], shape[1], shape[2], nonnegative, beta);
  for (int64_t count : {1, 63, 4096, 9001}) compare_residual<T>(count, 0.7);
}

}  // namespace

void test_ahead() {
  passes_of_type<float>();
  passes_of_type<double>();
}

}  // namespace fastunroll::testing
