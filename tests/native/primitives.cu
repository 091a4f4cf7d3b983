// Kernels compiled for devices: that their PTX assembles, without spilled registers.
#include "primitives.h"

namespace fastunroll::cuda {

using namespace testing;

#define FASTUNROLL_COMPILE(...) template const char* launch<__VA_ARGS__>(const Launch&, const __VA_ARGS__::Arguments&)

FASTUNROLL_COMPILE(MultiplyFragments<false, false>);
FASTUNROLL_COMPILE(MultiplyFragments<true, false>);
FASTUNROLL_COMPILE(PassOn<1, false>);
FASTUNROLL_COMPILE(PassOn<8, false>);
FASTUNROLL_COMPILE(SumRows<false, false>);
FASTUNROLL_COMPILE(SumWarps);

}  // namespace fastunroll::cuda
