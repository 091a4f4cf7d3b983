// exp and sigmoid of vectors, within 2 units in the last place. NaN stays NaN.
#pragma once
#include "cpu/simd.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> struct Exponential;
template <> struct Exponential<float> {
  static constexpr float least = -87, log2_e = 1.44269504f, high = 0.693145752f, low = 1.42860677e-6f;
  static constexpr float round = 0x1.8p23f;  // adding and subtracting it leaves a whole number
  static constexpr int terms = 7, mantissa = 23;
};
template <> struct Exponential<double> {
  static constexpr double least = -708, log2_e = 1.4426950408889634, high = 0.693147180369123816490,
                          low = 1.90821492927058770002e-10;
  static constexpr double round = 0x1.8p52;
  static constexpr int terms = 13, mantissa = 52;
};

// e^x for x <= 0: 2^k e^r by the Taylor series of e^r, |r| <= log(2) / 2. Below `least` it is that of `least`.
template <class T> inline Vector<T> exp_of_negative(Vector<T> x) {
  using E = Exponential<T>;
  using Integer = typename Simd<T>::Integer;
  const Vector<T> nan = x, least = broadcast(E::least);
  x = x < least ? least : x;
  const Vector<T> k = x * E::log2_e + E::round, whole = k - E::round;
  const Vector<T> r = multiply_add(whole, broadcast(-E::low), multiply_add(whole, broadcast(-E::high), x));
  Vector<T> sum = broadcast(T(1));
  for (int i = E::terms; i > 0; --i) sum = multiply_add(sum * r, broadcast(1 / T(i)), broadcast(T(1)));
  const Integer shift = ((Integer)k - (Integer)broadcast(E::round)) << E::mantissa;
  const Vector<T> out = (Vector<T>)((Integer)sum + shift);
  return nan != nan ? nan : out;
}

// 1 / (1 + e^-x)
template <class T> inline Vector<T> sigmoid(Vector<T> x) {
  const Vector<T> e = exp_of_negative<T>(-magnitude<T>(x));
  return (x < 0 ? e : broadcast(T(1))) / (1 + e);
}

}  // namespace fastunroll::FASTUNROLL_SET
