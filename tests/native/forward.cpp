// Every form, forward, against plain loops in double precision.
#include "problem.h"

namespace fastunroll::testing {
namespace {

template <class T> void compare(const Form& form, const Size& size, const Options& options) {
  const Settings restored;
  const Problem<T> p(form, size, options);
  const Reference wanted = reference(p);
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    const Result<T> r = p.forward();
    const std::string what = text(form, size, options) + " " + set + " " + type_name<T>;
    CHECK(close(r.x, wanted.x, rounding<T>), what);
    CHECK(close(r.s, wanted.s, rounding<T>), what + ": the second state");
  }
}

}  // namespace

void test_forward() {
  if (quick) return;  // all on one thread
  for (const Form& form : forms()) {
    const int64_t n = form.group == 1 ? 17 : 18, few = form.group;
    Options options;
    for (int starts = 0; starts < 4; ++starts) {
      options.x0 = starts & 1;
      options.s0 = starts & 2 && form.scheme != Scheme::proximal_gradient;
      for (bool vector : {false, true}) {
        options.vector = vector;
        compare<float>(form, {5, n, 3, 4}, options);
        compare<double>(form, {5, n, 3, 4}, options);
      }
    }
    const Size sizes[] = {{1, n, 1, 1}, {1, n, 3, 65}, {2, few, 2, 3}, {33, 129, 3, 70}, {5, n, 3, 0}, {130, 66, 1, 8}};
    for (const Size& size : sizes) {
      compare<float>(form, size, options);
      compare<double>(form, size, options);
    }
    options.theta = -0.15;  // about half of the thresholds are negative
    compare<double>(form, {5, n, 3, 65}, options);
  }
}

}  // namespace fastunroll::testing
