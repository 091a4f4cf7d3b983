// The soft threshold, elementwise, and its gradient: a thread for each element.
#pragma once
#include "cuda/launch.h"

namespace fastunroll::cuda {

constexpr int elements_of_a_block = 256;

// The position of a thread's element, and of its value of theta.
struct Element {
  int64_t at, middle;
  bool exists;

  FASTUNROLL_DEVICE Element(int64_t outer, int64_t middles, int64_t inner)
      : at(int64_t(block()) * elements_of_a_block + thread()),
        middle(at / inner % middles),
        exists(at < outer * middles * inner) {}
};

template <class T, bool Complex> struct SoftThresholdElement {
  using Value = Computed<T>;
  using Arguments = SoftThreshold<T>;
  static constexpr int threads = elements_of_a_block, cluster = 1;

  FASTUNROLL_DEVICE static void run(const Arguments& p) {
    const Element e(p.outer, p.middle, p.inner);
    if (!e.exists) return;
    const Value theta = value_of(p.theta[e.middle]);
    if constexpr (Complex) {
      const Value re = p.x[2 * e.at], im = p.x[2 * e.at + 1], size = modulus(re, im), shrunk = size - theta;
      const Value factor = vanishes(size, theta) ? Value(0) : shrunk / size;
      p.out[2 * e.at] = factor == 0 ? 0 : re * factor;
      p.out[2 * e.at + 1] = factor == 0 ? 0 : im * factor;
    } else {
      const Value x = value_of(p.x[e.at]), shrunk = magnitude(x) - theta;
      p.out[e.at] = rounded<T>(vanishes(magnitude(x), theta) ? Value(0) : with_sign(shrunk, x));
    }
  }

  // Whether the result is zero; false if the magnitude or theta is NaN, or both are infinite.
  FASTUNROLL_DEVICE static bool vanishes(Value size, Value theta) { return size - (theta < 0 ? 0 : theta) <= 0; }

  // |re + i im|, without overflow for large numbers.
  FASTUNROLL_DEVICE static Value modulus(Value re, Value im) {
    const Value a = magnitude(re), b = magnitude(im), large = a < b ? b : a, small = a < b ? a : b;
    if (large == 0) return small;  // 0, or NaN
    const Value ratio = small / large;
    return large * square_root(fused_multiply_add(ratio, ratio, Value(1)));
  }
};

// From the output alone: x has its sign, and |x| = |out| + theta.
template <class T, bool Complex> struct SoftThresholdGradient {
  using Value = Computed<T>;
  using Arguments = SoftThresholdBackward<T>;
  static constexpr int threads = elements_of_a_block, cluster = 1;

  FASTUNROLL_DEVICE static void run(const Arguments& p) {
    const Element e(p.outer, p.middle, p.inner);
    if (!e.exists) return;
    if constexpr (Complex) {
      const int64_t re = 2 * e.at, im = re + 1;
      const Value size = SoftThresholdElement<T, true>::modulus(p.out[re], p.out[im]);
      Value g_re = 0, g_im = 0, along = 0;
      if (size != 0) {  // with u = out / |out|: ((|out| g + theta <u, g> u) / (|out| + theta)
        const Value u_re = p.out[re] / size, u_im = p.out[im] / size, theta = p.theta[e.middle];
        along = u_re * p.grad[re] + u_im * p.grad[im];
        const Value share = theta / (size + theta);
        g_re = (1 - share) * p.grad[re] + share * along * u_re;
        g_im = (1 - share) * p.grad[im] + share * along * u_im;
      }
      p.grad_x[re] = g_re;
      p.grad_x[im] = g_im;
      p.grad_theta[e.at] = -along;
    } else {
      const Value out = value_of(p.out[e.at]), g = out == 0 ? Value(0) : value_of(p.grad[e.at]);
      p.grad_x[e.at] = rounded<T>(g);
      p.grad_theta[e.at] = rounded<T>(out < 0 ? g : -g);
    }
  }
};

}  // namespace fastunroll::cuda
