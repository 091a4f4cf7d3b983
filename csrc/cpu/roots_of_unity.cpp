#include "cpu/roots_of_unity.h"

#include <cmath>

namespace fastunroll {
namespace {

// The sum of two numbers, with about 32 digits: `low` is at most half of the last place of `high`.
struct Pair {
  double high, low;
};

Pair normalised(double high, double low) {
  const double sum = high + low;
  return {sum, low - (sum - high)};
}
Pair times(Pair a, Pair b) {
  const double product = a.high * b.high;
  return normalised(product, std::fma(a.high, b.high, -product) + (a.high * b.low + a.low * b.high));
}
Pair over(Pair a, double b) {
  const double quotient = a.high / b;
  return normalised(quotient, (std::fma(-quotient, b, a.high) + a.low) / b);
}
Pair one_minus(Pair a) {  // |a| <= 1
  const double difference = 1 - a.high;
  return normalised(difference, ((1 - difference) - a.high) - a.low);
}

// 1 - x / (k (k + 1)) (1 - x / ((k + 2) (k + 3)) (1 - ...)): the cosine of sqrt(x) for k = 1, and for k = 2 its sine
// over sqrt(x), x <= 1.
Pair series(Pair x, int k) {
  constexpr int terms = 12;
  Pair sum = {1, 0};
  for (int i = k + 2 * (terms - 1); i >= k; i -= 2) sum = one_minus(over(times(x, sum), double(i) * (i + 1)));
  return sum;
}

}  // namespace

Root root_of_unity(int64_t k, int64_t n) {
  constexpr Pair eighth_turn = {0x1.921fb54442d18p-1, 0x1.1a62633145c07p-55};  // pi / 4
  const int64_t eighths = 8 * ((k % n + n) % n), octant = eighths / n, rest = eighths % n;
  // The angle to the nearest axis.
  const Pair angle = times(over({double(octant % 2 ? n - rest : rest), 0}, double(n)), eighth_turn);
  const Pair square = times(angle, angle);
  const double cosine = series(square, 1).high, sine = times(angle, series(square, 2)).high;
  switch (octant) {
    case 0:
      return {cosine, sine};
    case 1:
      return {sine, cosine};
    case 2:
      return {-sine, cosine};
    case 3:
      return {-cosine, sine};
    case 4:
      return {-cosine, -sine};
    case 5:
      return {-sine, -cosine};
    case 6:
      return {sine, -cosine};
    default:
      return {cosine, -sine};
  }
}

}  // namespace fastunroll
