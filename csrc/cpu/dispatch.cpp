// Chooses the instruction set, once, and sends every call to it.
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "cpu/kernels.h"

namespace fastunroll {

#ifdef FASTUNROLL_HAS_BASELINE
namespace baseline {
extern const InstructionSet kernels;
}
#endif
#ifdef FASTUNROLL_HAS_NEON
namespace neon {
extern const InstructionSet kernels;
}
#endif
#ifdef FASTUNROLL_HAS_AVX2
namespace avx2 {
extern const InstructionSet kernels;
}
#endif
#ifdef FASTUNROLL_HAS_AVX512
namespace avx512 {
extern const InstructionSet kernels;
}
#endif

namespace {

struct Candidate {
  const InstructionSet* kernels;
  bool (*supported)();
  const char* needs;
};

// Best first.
const Candidate candidates[] = {
#ifdef FASTUNROLL_HAS_AVX512
    {&avx512::kernels,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
     },
     "this processor lacks AVX-512 (F, BW, DQ, VL)"},
#endif
#ifdef FASTUNROLL_HAS_AVX2
    {&avx2::kernels,
     [] {
       return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
              __builtin_cpu_supports("bmi2");
     },
     "this processor lacks AVX2 or FMA"},
#endif
#ifdef FASTUNROLL_HAS_NEON
    {&neon::kernels, [] { return true; }, ""},  // every 64-bit processor of ARM has it
#endif
#ifdef FASTUNROLL_HAS_BASELINE
    {&baseline::kernels, [] { return true; }, ""},
#endif
};
constexpr int candidate_count = sizeof candidates / sizeof candidates[0];

struct Choice {
  std::atomic<const InstructionSet*> set;
  std::atomic<const char*> reason;

  Choice() {
    const char* asked = std::getenv("FASTUNROLL_ISA");
    if (asked && *asked) {
      for (const Candidate& c : candidates) {
        if (std::strcmp(asked, c.kernels->name) == 0 && c.supported()) {
          set = c.kernels;
          reason = "FASTUNROLL_ISA asks for it";
          return;
        }
      }
    }
    for (const Candidate& c : candidates) {
      if (!c.supported()) continue;
      set = c.kernels;
      reason = asked && *asked ? "FASTUNROLL_ISA names a set that is not compiled in or that this processor lacks; "
                                 "this is the best it has"
                               : "the best this processor has";
      return;
    }
  }
};

Choice& choice() {
  static Choice c;
  return c;
}

template <class T> const Kernels<T>& active();
template <> const Kernels<float>& active() { return choice().set.load()->f32; }
template <> const Kernels<double>& active() { return choice().set.load()->f64; }

// Where the two kernels take the same time, at n = 256 to 1024 with 512 samples: 0.75 to 0.8 with AVX-512 and with
// AVX2, in both precisions. (Without fused multiply-add the masked kernel wins even against a dense x.)
std::atomic<double> crossover{0.78};

}  // namespace

#define FASTUNROLL_DISPATCH(function, Arguments)                                       \
  template <class T> void function(const Arguments<T>& a) { active<T>().function(a); } \
  template void function(const Arguments<float>&);                                     \
  template void function(const Arguments<double>&);

template <class T> int64_t network_packed_size(const Packing<T>& p) { return active<T>().network_packed_size(p); }
template int64_t network_packed_size(const Packing<float>&);
template int64_t network_packed_size(const Packing<double>&);

template <class T> int64_t dictionary_size(const Dictionary<T>& d) { return active<T>().dictionary_size(d); }
template int64_t dictionary_size(const Dictionary<float>&);
template int64_t dictionary_size(const Dictionary<double>&);

template <class T> int64_t product_packed_size(const Product<T>& p) { return active<T>().product_packed_size(p); }
template int64_t product_packed_size(const Product<float>&);
template int64_t product_packed_size(const Product<double>&);

template <class T> int64_t adaptive_saved_size(const AdaptiveNetwork<T>& a) {
  return active<T>().adaptive_saved_size(a);
}
template int64_t adaptive_saved_size(const AdaptiveNetwork<float>&);
template int64_t adaptive_saved_size(const AdaptiveNetwork<double>&);

template <class T> int64_t spectrum_packed_size(const Spectrum<T>& s) { return active<T>().spectrum_packed_size(s); }
template int64_t spectrum_packed_size(const Spectrum<float>&);
template int64_t spectrum_packed_size(const Spectrum<double>&);

template <class T> double roof(const Roof& a, T zero) { return active<T>().roof(a, zero); }
template double roof(const Roof&, float);
template double roof(const Roof&, double);

FASTUNROLL_DISPATCH(network_pack, Packing)
FASTUNROLL_DISPATCH(network_forward, Forward)
FASTUNROLL_DISPATCH(network_backward, Backward)
FASTUNROLL_DISPATCH(product_pack, Product)
FASTUNROLL_DISPATCH(product, Product)
FASTUNROLL_DISPATCH(outer, Outer)
FASTUNROLL_DISPATCH(adaptive_forward, AdaptiveForward)
FASTUNROLL_DISPATCH(adaptive_backward, AdaptiveBackward)
FASTUNROLL_DISPATCH(dictionary_prepare, Dictionary)
FASTUNROLL_DISPATCH(lasso, Lasso)
FASTUNROLL_DISPATCH(lasso_columns, LassoColumns)
FASTUNROLL_DISPATCH(proximal_gradient, ProximalGradient)
FASTUNROLL_DISPATCH(step_ahead, StepAhead)
FASTUNROLL_DISPATCH(residual_ahead, ResidualAhead)
FASTUNROLL_DISPATCH(weighted, Weighted)
FASTUNROLL_DISPATCH(soft_threshold, SoftThreshold)
FASTUNROLL_DISPATCH(soft_threshold_backward, SoftThresholdBackward)
FASTUNROLL_DISPATCH(spectrum_pack, Spectrum)
FASTUNROLL_DISPATCH(fourier_filter, FourierFilter)
FASTUNROLL_DISPATCH(sample_forward, SampleForward)
FASTUNROLL_DISPATCH(sample_backward, SampleBackward)
FASTUNROLL_DISPATCH(picture_forward, PictureForward)
FASTUNROLL_DISPATCH(picture_backward, PictureBackward)
FASTUNROLL_DISPATCH(wavelet_transform, WaveletTransform)

const char* instruction_set() { return choice().set.load()->name; }
const char* instruction_set_reason() { return choice().reason; }

const char* use_instruction_set(const char* name) {
  for (const Candidate& c : candidates) {
    if (std::strcmp(name, c.kernels->name) != 0) continue;
    if (!c.supported()) return c.needs;
    choice().set = c.kernels;
    choice().reason = "chosen by use_instruction_set";
    return nullptr;
  }
  return "no such instruction set was compiled in";
}

const char* const* compiled_instruction_sets() {
  struct Names {
    const char* of[candidate_count + 1] = {};
    Names() {
      for (int i = 0; i < candidate_count; ++i) of[i] = candidates[i].kernels->name;
    }
  };
  static const Names names;
  return names.of;
}

double dense_above() { return crossover.load(std::memory_order_relaxed); }
void set_dense_above(double density) { crossover = density; }

}  // namespace fastunroll
