// S_theta(x) for each element, and its gradient from its output.
//
// Sums over elements that share a threshold are made run by run in an order that does not depend on threads.
#include "cpu/runs.h"
#include "cpu/simd.h"
#include "cpu/threads.h"
#include "cpu/workspace.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

// |re + i im| without overflow.
template <class T> inline T modulus(T re, T im) {
  const T a = re < 0 ? -re : re, b = im < 0 ? -im : im;
  const T big = a > b ? a : b, small = a > b ? b : a;
  if (!(big > 0)) return big + small;
  const T ratio = small / big;
  return big * T(__builtin_sqrt(double(1 + ratio * ratio)));
}

template <class T> void forward_run(const T* x, const T* theta, bool row, T* out, int64_t count) {
  for (int64_t i = 0; i < count; i += lanes<T>) {
    const int64_t left = count - i;
    const Vector<T> t = row ? load_some(theta + i, left) : broadcast(*theta);
    store_some(out + i, shrink<T>(load_some(x + i, left), t), left);
  }
}

// S_theta(z) = z max(1 - theta / |z|, 0)
template <class T> void forward_run_complex(const T* x, const T* theta, bool row, T* out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const T re = x[2 * i], im = x[2 * i + 1], t = theta[row ? i : 0], r = modulus(re, im);
    const bool zero = r - (t < 0 ? 0 : t) <= 0;  // false if one is NaN, or both are infinite
    const T factor = zero ? 0 : (r - t) / r;
    out[2 * i] = zero ? 0 : re * factor;
    out[2 * i + 1] = zero ? 0 : im * factor;
  }
}

// The gradient passes where the output is not zero; that of theta is minus the gradient along the sign.
// `sums` takes one value an element if `row`, else one value in all.
template <class T> void backward_run(const T* out, const T* grad, bool row, T* grad_x, T* sums, int64_t count) {
  constexpr int partial = 64 / int(sizeof(T));  // the number of sums side by side, on every instruction set
  T sum[partial] = {};
  for (int64_t i = 0; i < count; i += lanes<T>) {
    const int64_t left = count - i;
    const Vector<T> x = load_some(out + i, left);
    const Vector<T> g = where_nonzero<T>(x, load_some(grad + i, left));
    store_some(grad_x + i, g, left);
    const Vector<T> along = with_sign_of<T>(g, x);
    T* at = row ? sums + i : sum + i % partial;
    const int64_t room = row ? left : lanes<T>;
    store_some(at, load_some(at, room) - along, room);
  }
  if (!row)
    for (int j = 0; j < partial; ++j) *sums += sum[j];
}

// With r = |z| = |out| + theta and u = out / |out|:  grad_x = (1 - theta / r) g + (theta / r) <u, g> u
template <class T>
void backward_run_complex(const T* out, const T* theta, const T* grad, bool row, T* grad_x, T* sums, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const T re = out[2 * i], im = out[2 * i + 1], size = modulus(re, im), t = theta[row ? i : 0];
    const bool zero = size == 0;
    const T share = zero ? 0 : t / (size + t), u = zero ? 0 : re / size, v = zero ? 0 : im / size;
    const T along = u * grad[2 * i] + v * grad[2 * i + 1];
    grad_x[2 * i] = zero ? 0 : (1 - share) * grad[2 * i] + share * along * u;
    grad_x[2 * i + 1] = zero ? 0 : (1 - share) * grad[2 * i + 1] + share * along * v;
    if (!zero) sums[row ? i : 0] -= along;
  }
}

}  // namespace

template <class T> void soft_threshold(const SoftThreshold<T>& p) {
  const Runs runs(p.outer, p.middle, p.inner);
  const bool row = !runs.along_inner;
  for_each(runs.count(), p.threads, [&](int64_t i, int) {
    const int64_t at = runs.offset(i);
    if (p.complex)
      forward_run_complex(p.x + 2 * at, p.theta + runs.theta(i), row, p.out + 2 * at, runs.length(i));
    else
      forward_run(p.x + at, p.theta + runs.theta(i), row, p.out + at, runs.length(i));
  });
}

template <class T> void soft_threshold_backward(const SoftThresholdBackward<T>& p) {
  if (p.middle == 0) return;  // no thresholds, and so no elements
  const Runs runs(p.outer, p.middle, p.inner);
  const bool row = !runs.along_inner;
  const auto backward = [&](int64_t i, T* sums) {
    const int64_t at = runs.offset(i);
    if (p.complex)
      backward_run_complex(p.out + 2 * at, p.theta + runs.theta(i), p.grad + 2 * at, row, p.grad_x + 2 * at, sums,
                           runs.length(i));
    else
      backward_run(p.out + at, p.grad + at, row, p.grad_x + at, sums, runs.length(i));
  };
  // Sums of thresholds are made in parts, which are then added in order. Along the inner axis a run is a part; along
  // the middle axis a number of lines is.
  constexpr int64_t part_lines = 64;
  const int64_t parts = row ? (runs.outer + part_lines - 1) / part_lines * runs.each : runs.count();
  Workspace memory;
  T* partial = memory.take<T>(row ? parts / (runs.each ? runs.each : 1) * p.middle : parts);
  for_each(parts, p.threads, [&](int64_t i, int) {
    if (!row) {
      partial[i] = 0;
      return backward(i, partial + i);
    }
    const int64_t part = i / runs.each, place = i % runs.each, first = part * part_lines;
    T* sums = partial + part * p.middle + place * run_length;
    memset(sums, 0, size_t(runs.length(place)) * sizeof(T));
    for (int64_t o = first; o < first + part_lines && o < runs.outer; ++o) backward(o * runs.each + place, sums);
  });
  memset(p.grad_theta, 0, size_t(p.middle) * sizeof(T));
  if (row) {
    for (int64_t part = 0; part < (runs.each ? parts / runs.each : 0); ++part)
      for (int64_t j = 0; j < p.middle; ++j) p.grad_theta[j] += partial[part * p.middle + j];
  } else {
    for (int64_t i = 0; i < parts; ++i) p.grad_theta[runs.theta(i)] += partial[i];
  }
}

template void soft_threshold(const SoftThreshold<float>&);
template void soft_threshold(const SoftThreshold<double>&);
template void soft_threshold_backward(const SoftThresholdBackward<float>&);
template void soft_threshold_backward(const SoftThresholdBackward<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
