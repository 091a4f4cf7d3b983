#include "cpu/fft_tables.h"

#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "cpu/roots_of_unity.h"

namespace fastunroll {
namespace {

// The last pass is the one without twiddles, so that it has the largest radix. Its points are neighbours in the first
// cache, where primes without a butterfly of their own read them many times.
std::vector<int> radices(int64_t size, bool uses_radix_8) {
  std::vector<int> found, large;
  int twos = 0;
  for (; size % 2 == 0; size /= 2) ++twos;
  for (int p = 3; size > 1; p += 2)
    for (; size % p == 0; size /= p) p > 5 ? large.push_back(p) : void(found.insert(found.begin(), p));
  int eights = uses_radix_8 ? twos / 3 : 0;
  if (eights > 0 && twos % 3 == 1) --eights;  // 4 * 4 in place of 8 * 2
  twos -= 3 * eights;
  found.insert(found.end(), size_t(twos % 2), 2);
  found.insert(found.end(), size_t(twos / 2), 4);
  found.insert(found.end(), size_t(eights), 8);
  found.insert(found.end(), large.begin(), large.end());
  return found;
}

template <class T> struct Tables {
  Fft<T> fft;
  std::vector<T> numbers;
  std::vector<int32_t> orders;

  Tables(int64_t size, bool uses_radix_8) : fft{size, 0, {}, nullptr, nullptr} {
    const std::vector<int> of = radices(size, uses_radix_8);
    size_t count = 0;
    int64_t length = size;
    for (int radix : of)
      count += size_t(2 * (length / radix * (radix - 1) + (radix / 2) * (radix / 2))), length /= radix;
    numbers.reserve(count);  // so that addresses stay
    length = size;
    for (int radix : of) {
      FftPass<T>& pass = fft.passes[fft.pass_count++];
      pass = {radix, length, numbers.data() + numbers.size(), nullptr};
      for (int64_t j = 0; j < length / radix; ++j)
        for (int k = 1; k < radix; ++k) add_root(-j * k, length);
      pass.roots = numbers.data() + numbers.size();
      for (int k = 1; k <= radix / 2; ++k)
        for (int f = 1; f <= radix / 2; ++f) add_root(f * k % radix, radix);
      length /= radix;
    }
    orders.resize(size_t(2 * size));
    for (int64_t frequency = 0; frequency < size; ++frequency) {
      int64_t rest = frequency, position = 0, part = size;
      for (int radix : of) part /= radix, position += rest % radix * part, rest /= radix;
      orders[size_t(position)] = int32_t(frequency);
      orders[size_t(size + frequency)] = int32_t(position);
    }
    fft.frequencies = orders.data();
    fft.positions = orders.data() + size;
  }

  void add_root(int64_t k, int64_t n) {
    const Root root = root_of_unity(k, n);
    numbers.push_back(T(root.re));
    numbers.push_back(T(root.im));
  }
};

}  // namespace

template <class T> const Fft<T>& fft_tables(int64_t size, bool uses_radix_8) {
  static std::mutex mutex;
  static auto& tables = *new std::map<std::pair<int64_t, bool>, std::unique_ptr<Tables<T>>>;  // never destroyed
  const std::lock_guard<std::mutex> lock(mutex);
  std::unique_ptr<Tables<T>>& found = tables[{size, uses_radix_8}];
  if (!found) found = std::make_unique<Tables<T>>(size, uses_radix_8);
  return found->fft;
}

template const Fft<float>& fft_tables(int64_t, bool);
template const Fft<double>& fft_tables(int64_t, bool);

}  // namespace fastunroll
