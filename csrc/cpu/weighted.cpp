// Pictures times weights, such as the mask of inpainting: gradients in one pass, with the roundings of several.
#include "cpu/runs.h"
#include "cpu/threads.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> void weighted(const Weighted<T>& p) {
  const Runs runs(p.outer, p.middle, p.inner);
  for_each_in_shares(runs.count(), runs.useful_threads(p.threads), [&](int64_t run) {
    const int64_t at = runs.offset(run), count = runs.length(run);
    const T *x = p.x + at, *z = p.z + at, *weight = p.weights + runs.theta(run);
    T* const y = p.y + at;
    for (int64_t i = 0; i < count; i += lanes<T>) {
      const int64_t left = count - i;
      const Vector<T> w = runs.along_inner ? broadcast(*weight) : load_some(weight + i, left);
      const Vector<T> difference = w * load_some(x + i, left) - load_some(z + i, left);
      store_some(y + i, p.twice ? w * difference : difference, left);
    }
  });
}

template void weighted(const Weighted<float>&);
template void weighted(const Weighted<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
