// Pictures and weights: values against loops, and bits over threads and instruction sets.
#include <utility>

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
  Array<T> product(static_cast<size_t>(count)), quotient = product, difference = product, twice = product,
                                                data_step = product;
  const T rho = T(0.7);
  for (int64_t i = 0; i < count; ++i) {
    const T weight = weights[i / inner % middle];
    const volatile T rounded = weight * x[i];  // before the difference
    product[i] = rounded;
    quotient[i] = x[i] / weight;
    difference[i] = rounded - z[i];
    twice[i] = weight * difference[i];
    const volatile T scaled = rho * x[i];
    const volatile T sum = z[i] + scaled;
    data_step[i] = sum / weight;
  }
  const std::pair<Weighting, const Array<T>*> kinds[] = {{Weighting::product, &product},
                                                         {Weighting::quotient, &quotient},
                                                         {Weighting::difference, &difference},
                                                         {Weighting::twice, &twice},
                                                         {Weighting::data_step, &data_step}};
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    for (int threads : {1, 3}) {
      for (const auto& [kind, wanted] : kinds) {
        const bool has_z = kind != Weighting::product && kind != Weighting::quotient;
        Array<T> y(static_cast<size_t>(count));
        weighted<T>(
            {outer, middle, inner, threads, kind, rho, weights.data(), x.data(), has_z ? z.data() : nullptr, y.data()});
        CHECK(same_bits(y, *wanted), std::string("weighted ") + set + " " + type_name<T> + " " + std::to_string(count));
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
