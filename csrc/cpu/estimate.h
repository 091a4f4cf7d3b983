// The estimate of x from r = x + noise of known variance, of LAMP and LVAMP: a row at a time, and its gradient.
#pragma once
#include "cpu/adaptive.h"
#include "cpu/exponential.h"

namespace fastunroll::FASTUNROLL_SET {

// soft: x = s S(r) of threshold alpha sqrt(v). Else the mean of x given r, for x that is zero but for a share p, and
// there Gaussian: with beta = power / (power + v) and q = beta r^2 / v, it is not zero with probability
// pi = sigmoid(logit p + log(1 - beta) / 2 + q / 2), and x = pi beta r.
template <class T> struct Estimate {
  static constexpr T largest = 1e4;  // standard deviations, beyond which the estimate does not change
  bool soft;
  int64_t n;
  T first, second;  // alpha and s, or the logarithm of the power and the logit of p
  T variance, deviation;
  T beta, bias;  // logit p + log(1 - beta) / 2

  Estimate(bool is_soft, int64_t size, const T* values, T v)
      : soft(is_soft), n(size), first(values[0]), second(values[1]), variance(v), deviation(T(__builtin_sqrt(v))) {
    const double ratio = double(first) - __builtin_log(double(v));
    const double e = __builtin_exp(ratio < 0 ? ratio : -ratio);
    beta = T((ratio < 0 ? e : 1) / (1 + e));
    bias = T(second - 0.5 * ((ratio > 0 ? ratio : 0) + __builtin_log1p(e)));
  }

  // x from r, a padded row; returns the sum of its derivatives.
  T apply(const T* r, T* x) const {
    if (soft) {
      const Vector<T> theta = broadcast(first * deviation);
      return sum_over_row<T>(n, [&](int64_t c) {
        const Vector<T> value = load(r + c), size = magnitude<T>(value), over = size - theta;
        const Vector<T> shrunk = over <= 0 ? Vector<T>{} : over;
        store(x + c, second * (sign_of<T>(value) * shrunk));
        return size > theta ? broadcast(second) : second * Vector<T>{};
      });
    }
    return sum_over_row<T>(n, [&](int64_t c) {
      const Gaussian g(*this, load(r + c));
      store(x + c, g.present * beta * load(r + c));
      return beta * (g.present + g.present * (1 - g.present) * g.bounded);
    });
  }

  // grad, that of x, becomes that of r; adds the gradients of both values and returns that of the variance. `of_slope`
  // is the gradient of each derivative.
  T gradient(const T* r, T of_slope, T* grad, T* to_values) const {
    T sums[3];
    if (soft) {
      const Vector<T> theta = broadcast(first * deviation);
      sums_over_row<3>(n, sums, [&](int64_t c, const auto& add) {
        const Vector<T> value = load_some(r + c, n - c), size = magnitude<T>(value), over = size - theta;
        const Vector<T> sign = sign_of<T>(value), g = load(grad + c);
        const Vector<T> behind = over > 0 ? second * g : over != over ? over : Vector<T>{};
        add(0, -sign * behind);
        add(1, over > 0 ? g * (sign * over) + of_slope : over != over ? over : Vector<T>{});
        store(grad + c, behind);
      });
      to_values[0] += sums[0] * deviation;
      to_values[1] += sums[1];
      return sums[0] * first / (2 * deviation);
    }
    sums_over_row<3>(n, sums, [&](int64_t c, const auto& add) {
      const Vector<T> value = load_some(r + c, n - c), g = load(grad + c);
      const Gaussian e(*this, value);
      const Vector<T> p = e.present, odds = p * (1 - p);
      const Vector<T> to_present = g * beta * value + of_slope * beta * (1 + (1 - 2 * p) * e.bounded);
      const Vector<T> to_logit = to_present * odds;
      const Vector<T> to_q = (e.q <= largest ? of_slope * beta * odds : Vector<T>{}) + T(0.5) * to_logit;
      const Vector<T> to_beta = g * p * value + of_slope * (p + odds * e.bounded) + to_q * e.power;
      const Vector<T> within = magnitude<T>(e.scaled) <= largest ? 2 * e.clamped * (to_q * beta) : Vector<T>{};
      add(0, to_beta * beta * (1 - beta) - T(0.5) * beta * to_logit);
      add(1, to_logit);
      add(2, within * e.scaled);
      store(grad + c, g * p * beta + within / deviation);
    });
    to_values[0] += sums[0];
    to_values[1] += sums[1];
    return -(sums[0] + T(0.5) * sums[2]) / variance;
  }

 private:
  struct Gaussian {
    Vector<T> scaled, clamped, power, q, bounded, present;
    Gaussian(const Estimate& e, Vector<T> r) {
      const Vector<T> most = broadcast(largest);
      scaled = r / e.deviation;
      clamped = scaled > most ? most : scaled < -most ? -most : scaled;
      power = clamped * clamped;
      q = e.beta * power;
      bounded = q > most ? most : q;
      present = sigmoid<T>(e.bias + T(0.5) * q);
    }
  };
};

}  // namespace fastunroll::FASTUNROLL_SET
