// Pictures and weights, such as the mask of inpainting: gradients and data steps in one pass, with the roundings of
// several.
#include "cpu/runs.h"
#include "cpu/threads.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

namespace {

template <class T, Weighting Kind> inline Vector<T> weigh(Vector<T> w, Vector<T> x, Vector<T> z, Vector<T> rho) {
  if (Kind == Weighting::product) return w * x;
  if (Kind == Weighting::quotient) return x / w;
  if (Kind == Weighting::data_step) return (z + rho * x) / w;
  const Vector<T> difference = w * x - z;
  return Kind == Weighting::twice ? w * difference : difference;
}

template <class T, Weighting Kind, class Weight>
inline void weigh_run(const Weight& weight, Vector<T> rho, const T* x, const T* z, T* y, int64_t count) {
  constexpr bool has_z = Kind != Weighting::product && Kind != Weighting::quotient;
  int64_t i = 0;
  for (; i + lanes<T> <= count; i += lanes<T>)
    store(y + i, weigh<T, Kind>(weight(i, lanes<T>), load(x + i), has_z ? load(z + i) : Vector<T>{}, rho));
  const int64_t left = count - i;
  if (left == 0) return;
  Vector<T> w = weight(i, left);
  for (int64_t lane = left; lane < lanes<T>; ++lane) w[lane] = 1;  // 0 / 0 stands in no run
  const Vector<T> minus = has_z ? load_some(z + i, left) : Vector<T>{};
  store_some(y + i, weigh<T, Kind>(w, load_some(x + i, left), minus, rho), left);
}

template <class T, Weighting Kind> void weigh_all(const Weighted<T>& p) {
  const Runs runs(p.outer, p.middle, p.inner);
  const Vector<T> rho = broadcast(p.rho);
  for_each_in_shares(runs.count(), runs.useful_threads(p.threads), [&](int64_t run) {
    const int64_t from = runs.offset(run), count = runs.length(run);
    const T *x = p.x + from, *z = p.z ? p.z + from : nullptr, *weight = p.weights + runs.theta(run);
    if (runs.along_inner) {
      const Vector<T> same = broadcast(*weight);
      weigh_run<T, Kind>([=](int64_t, int64_t) { return same; }, rho, x, z, p.y + from, count);
    } else {
      weigh_run<T, Kind>([=](int64_t i, int64_t left) { return load_some(weight + i, left); }, rho, x, z, p.y + from,
                         count);
    }
  });
}

}  // namespace

template <class T> void weighted(const Weighted<T>& p) {
  switch (p.weighting) {
    case Weighting::product:
      return weigh_all<T, Weighting::product>(p);
    case Weighting::quotient:
      return weigh_all<T, Weighting::quotient>(p);
    case Weighting::difference:
      return weigh_all<T, Weighting::difference>(p);
    case Weighting::twice:
      return weigh_all<T, Weighting::twice>(p);
    case Weighting::data_step:
      return weigh_all<T, Weighting::data_step>(p);
  }
}

template void weighted(const Weighted<float>&);
template void weighted(const Weighted<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
