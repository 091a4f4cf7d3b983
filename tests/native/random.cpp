// Numbers at random.
#include "check.h"

namespace fastunroll::testing {

Random::Random(uint64_t seed) : engine_(seed) {}

double Random::uniform() { return double(engine_() >> 11) * 0x1p-53; }

double Random::normal() {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += uniform();
  return sum;
}

}  // namespace fastunroll::testing
