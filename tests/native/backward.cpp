// Every form, backward: against finite differences, and float, large batches and single gradients against those.
#include "problem.h"

namespace fastunroll::testing {
namespace {

double value_of(const Problem<double>& p, bool every_layer) {
  const Result<double> r = p.forward();
  double sum = 0;
  const size_t first = every_layer ? 0 : r.x.size() / size_t(p.size.layers) * size_t(p.size.layers - 1);
  for (size_t i = first; i < r.x.size(); ++i) sum += p.grad[i] * r.x[i];
  for (size_t i = 0; i < r.s.size(); ++i) sum += p.grad_s[i] * r.s[i];
  return sum;
}

void compare_with_differences(const Form& form, const Size& size, const Options& options, bool every_layer) {
  constexpr double h = 1e-6;
  Problem<double> p(form, size, options);
  Arguments<double> found = p.backward(p.forward(), {}, ~0u, every_layer);
  const std::vector<Array<double>*> arguments = p.given.arrays(), gradients = found.arrays();
  CHECK(arguments.size() == gradients.size(), text(form, size, options));
  for (size_t a = 0; a < arguments.size(); ++a) {
    Array<double>& values = *arguments[a];
    Array<double> wanted(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      const double x = values[i];
      values[i] = x + h;
      const double above = value_of(p, every_layer);
      values[i] = x - h;
      wanted[i] = (above - value_of(p, every_layer)) / (2 * h);
      values[i] = x;
    }
    if (values.empty()) continue;  // not given: there is nothing to vary
    CHECK(close(*gradients[a], wanted, 1e-6), text(form, size, options) + ": gradient " + std::to_string(a));
  }
}

void compare_types(const Form& form, const Size& size, const Options& options) {
  const Settings restored;
  const Problem<double> p(form, size, options);
  const Problem<float> q(form, size, options);
  Arguments<double> wanted = p.backward(p.forward());
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    Arguments<float> found = q.backward(q.forward({2}), {2});
    for (size_t a = 0; a < wanted.arrays().size(); ++a)
      CHECK(close(*found.arrays()[a], *wanted.arrays()[a], 1e-3),
            text(form, size, options) + " " + set + ": gradient " + std::to_string(a) + " in float");
  }
}

// The gradients of parameters are sums over samples.
void compare_with_parts(const Form& form, const Size& size, const Options& options) {
  const Problem<double> whole(form, size, options);
  Arguments<double> wanted = whole.backward(whole.forward()), sums;
  for (int64_t first = 0; first < size.batch; first += 100) {
    Problem<double> part(form, size, options);
    part.keep_only(first, std::min<int64_t>(100, size.batch - first));
    Arguments<double> g = part.backward(part.forward());
    for (int i = 0; i < 6; ++i) {
      for (size_t k = 0; k < g.parameters[i].arrays.size(); ++k) {
        if (first == 0) sums.parameters[i].add(Array<double>(g.parameters[i].arrays[k].size()));
        for (size_t j = 0; j < g.parameters[i].arrays[k].size(); ++j)
          sums.parameters[i].arrays[k][j] += g.parameters[i].arrays[k][j];
      }
    }
  }
  for (size_t a = 3; a < wanted.arrays().size(); ++a)
    CHECK(close(*wanted.arrays()[a], *sums.arrays()[a], 1e-9),
          text(form, size, options) + ": gradient " + std::to_string(a) + " of the parts");
}

// A gradient does not depend on which others are asked for.
void compare_single_gradients(const Form& form, const Size& size, const Options& options) {
  const Problem<double> p(form, size, options);
  const Result<double> r = p.forward();
  Arguments<double> all = p.backward(r, {2});
  for (unsigned i = 0; i < 9; ++i) {
    Arguments<double> one = p.backward(r, {2}, 1u << i);
    const std::string what = text(form, size, options) + ": argument " + std::to_string(i) + " alone";
    const Array<double>*const inputs[] = {&all.y, &all.x0, &all.s0}, *const alone[] = {&one.y, &one.x0, &one.s0};
    if (i < 3) CHECK(same_bits(*inputs[i], *alone[i]), what);
    for (size_t k = 0; i >= 3 && k < all.parameters[i - 3].arrays.size(); ++k)
      CHECK(same_bits(all.parameters[i - 3].arrays[k], one.parameters[i - 3].arrays[k]), what);
  }
}

void check_empty_batch(const Form& form) {
  const Problem<float> p(form, {5, 18, 3, 0}, {});
  for (float value : p.everything({2})) CHECK(value == 0, std::string(form.name) + ": gradients over no samples");
}

}  // namespace

void test_backward() {
  for (const Form& form : forms()) {
    const bool second = form.scheme != Scheme::proximal_gradient;
    compare_types(form, {1, 18, 2, 65}, {});
    compare_single_gradients(form, {5, 18, 3, 33}, {true, true, second});
    compare_single_gradients(form, {5, 18, 3, 33}, {});
    check_empty_batch(form);
    if (quick) continue;
    compare_types(form, {33, 129, 3, 70}, {true, true, second});
    compare_with_differences(form, {3, 9, 3, 4}, {}, true);
    compare_with_differences(form, {3, 9, 3, 4}, {true, true, second}, false);
    compare_with_differences(form, {4, 6, 2, 3}, {true, true, false}, true);
    compare_with_differences(form, {4, 6, 1, 3}, {false, false, second}, true);
    compare_with_differences(form, {3, 6, 2, 4}, {true, false, false, -0.15}, true);
    compare_with_parts(form, {3, 9, 2, 300}, {true, true, second});
    compare_with_parts(form, {2, 6, 2, 2100}, {});
  }
}

}  // namespace fastunroll::testing
