// The promise: to the last bit, a result depends on nothing but its own sample and the weights.
#include <algorithm>

#include "problem.h"

namespace fastunroll::testing {
namespace {

template <class T> void compare_settings(const Form& form, const Size& size, const Options& options) {
  const Settings restored;
  const Problem<T> p(form, size, options);
  Array<T> fused;
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    const std::string what = text(form, size, options) + " " + set + " " + type_name<T> + ": ";
    const Array<T> wanted = p.everything();
    record("networks", wanted);
    if (is_fused(set) && fused.empty()) fused = wanted;
    if (is_fused(set)) CHECK(same_bits(fused, wanted), what + "another instruction set");
    for (int threads : {2, 5}) CHECK(same_bits(p.everything({threads}), wanted), what + "threads");
    CHECK(same_bits(p.everything({2}, p.packed(2)), wanted), what + "packed");
    if (quick) continue;
    for (double above : {0.0, 0.5, 2.0}) {
      set_dense_above(above);
      CHECK(same_bits(p.everything(), wanted), what + "dense above " + std::to_string(above));
    }
  }
}

// Samples alone, and a result without all that may be left out.
template <class T> void compare_parts(const Form& form, const Size& size, const Options& options) {
  const Problem<T> whole(form, size, options);
  const Result<T> all = whole.forward();
  const Arguments<T> gradients = whole.backward(all);
  const std::string what = text(form, size, options) + " " + type_name<T> + ": ";
  const int64_t last = size.batch - 1;
  for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 1}, {last, 1}, {3, 5}, {17, last - 17}}) {
    Problem<T> part(form, size, options);
    part.keep_only(first, count);
    const Result<T> some = part.forward({2});
    const Arguments<T> some_gradients = part.backward(some, {2});
    const auto rows = [&, begin = first, rows_count = count](const Array<T>& a, int64_t block) {
      const int64_t columns = int64_t(a.size()) / size.batch / block;
      Array<T> kept;
      for (int64_t k = 0; k < block; ++k) {
        const auto at = a.begin() + (k * size.batch + begin) * columns;
        kept.insert(kept.end(), at, at + rows_count * columns);
      }
      return kept;
    };
    CHECK(same_bits(some.x, rows(all.x, size.layers)), what + "samples alone");
    CHECK(same_bits(some.s, rows(all.s, 1)), what + "the second state of samples alone");
    CHECK(same_bits(some_gradients.y, rows(gradients.y, 1)), what + "the gradient of y of samples alone");
    CHECK(same_bits(some_gradients.x0, rows(gradients.x0, 1)), what + "the gradient of x0 of samples alone");
    CHECK(same_bits(some_gradients.s0, rows(gradients.s0, 1)), what + "the gradient of s0 of samples alone");
  }
  const Result<T> bare = whole.forward({2, nullptr, false, false});
  CHECK(same_bits(all.last, Array<T>(all.x.end() - int64_t(all.last.size()), all.x.end())), what + "the last layer");
  CHECK(same_bits(bare.last, all.last), what + "the last layer alone");
  CHECK(same_bits(bare.s, all.s), what + "the second state without a saved");
}

// The nearest number with 8 bits, of two the even one.
float rounded(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t below = bits & 0xffff, even = bits & 0xffff0000u;
  bits = below > 0x8000 || (below == 0x8000 && bits & 0x10000) ? even + 0x10000 : even;
  std::memcpy(&x, &bits, sizeof bits);
  return x;
}

// Matrices packed in half the memory are those rounded to bfloat16.
void compare_halved(const Form& form, const Size& size) {
  const Problem<float> p(form, size, {});
  Problem<float> q(form, size, {});
  for (int matrices : {0, 1})
    for (Array<float>& w : q.given.parameters[matrices].arrays) std::transform(w.begin(), w.end(), w.begin(), rounded);
  const Settings restored;
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    const Result<float> wanted = q.forward();
    for (const int threads : {1, 3}) {
      const Result<float> found = p.forward({threads, nullptr, true, true, true}, p.packed(threads, true));
      CHECK(same_bits(found.x, wanted.x), text(form, size, {}) + " bfloat16, " + set);
    }
  }
}

}  // namespace

void test_bits() {
  for (const Form& form : forms()) {
    const Options given{true, true, form.scheme != Scheme::proximal_gradient};
    compare_settings<float>(form, of_threads, given);
    compare_settings<double>(form, of_threads, {});
    for (const int64_t batch : {70, 9, 2}) {
      compare_halved(form, {9, 200, 2, batch});
      if (quick) break;
    }
    if (quick) continue;
    compare_settings<double>(form, {3, 9, 2, 300}, given);  // more samples than go through all layers at a time
    compare_parts<float>(form, {9, 66, 2, 70}, given);
    compare_parts<double>(form, {9, 66, 2, 70}, {});
  }
  // Large matrices of each layer's own: a team shares a tile.
  const Form large[] = {
      {"team-lista", LinearStep::affine, Count::each, Count::each},
      {"team-cp", LinearStep::gradient, Count::one, Count::each, Scheme::proximal_gradient, ProxKind::soft, 1, true},
      {"team-admm", LinearStep::gradient, Count::one, Count::each, Scheme::admm},
      {"team-lamp", LinearStep::gradient, Count::one, Count::each, Scheme::amp, ProxKind::soft, 1, false, true},
      {"team-lfista", LinearStep::affine, Count::each, Count::each, Scheme::fista}};
  for (const Form& form : large) {
    compare_settings<double>(form, {130, 300, 2, 5}, {});
    compare_settings<float>(form, {200, 390, 2, 1}, {true, true, form.scheme != Scheme::proximal_gradient});
  }
  // Or shared, where they fit in no cache of a core's own.
  compare_settings<double>({"team-tied", LinearStep::affine, Count::one, Count::one}, {70, 700, 2, 5}, {});
}

}  // namespace fastunroll::testing
