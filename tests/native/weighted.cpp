// Pictures times weights: values against loops, and bits over threads and instruction sets.
#include "check.h"
#include "fastunroll.h"

namespace fastunroll::testing {
namespace {

template <class T> void compare(int64_t outer, int64_t middle, int64_t inner) {
  const Settings restored;
  const int64_t count = outer * middle * inner;
  Random random(uint64_t(count + middle));
  const Array<T> x = random.normals<T>(count, 1), z = random.normals<T>(count, 1);
  const Array<T> weights = random.normals<T>(middle, 1);
  Array<T> wanted(static_cast<size_t>(count)), again = wanted;
  for (int64_t i = 0; i < count; ++i) {
    const volatile T product = weights[i / inner % middle] * x[i];  // rounded, before the difference
    wanted[i] = product - z[i];
    again[i] = weights[i / inner % middle] * wanted[i];
  }
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    for (int threads : {1, 3}) {
      for (bool twice : {false, true}) {
        Array<T> y(static_cast<size_t>(count));
        weighted<T>({outer, middle, inner, threads, twice, weights.data(), x.data(), z.data(), y.data()});
        CHECK(same_bits(y, twice ? again : wanted),
              std::string("weighted ") + set + " " + type_name<T> + " " + std::to_string(count));
      }
    }
  }
}

template <class T> void of_type() {
  const int64_t shapes[][3] = {{1, 1, 1},    {1, 1, 5003}, {3, 17, 1},   {70, 33, 1}, {1, 50003, 1},
                               {5, 1, 4099}, {2, 7, 33},   {2, 3, 4500}, {4, 1, 0}};
  for (const int64_t* shape : shapes) compare<T>(shape[0], shape[1], shape[2]);
}

}  // namespace

void test_weighted() {
  of_type<float>();
  of_type<double>();
}

}  // namespace fastunroll::testing
