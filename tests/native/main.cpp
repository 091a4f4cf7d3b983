// The core's own tests, for sanitizers: native_tests [name...] runs those named, or all; -name leaves one out.
// --bits=FILE writes numbers of all bits of results, to compare machines by.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>
#include <utility>

#include "check.h"
#include "fastunroll.h"

namespace fastunroll::testing {
namespace {

int64_t checks = 0, failures = 0;
std::map<std::pair<std::string, std::string>, uint64_t> recorded;  // of a subject and an instruction set

struct Test {
  const char* name;
  void (*run)();
};

const Test tests[] = {
#ifndef FASTUNROLL_ON_DEVICE
    {"forward", test_forward},
    {"backward", test_backward},
    {"adaptive", test_adaptive},
    {"bits", test_bits},
    {"products", test_products},
    {"lasso", test_lasso},
    {"proximal_gradient", test_proximal_gradient},
    {"ahead", test_ahead},
    {"weighted", test_weighted},
    {"soft_threshold", test_soft_threshold},
    {"spectral", test_spectral},
    {"pictures", test_pictures},
    {"wavelet", test_wavelet},
    {"callers", test_callers},
    {"interruption", test_interruption},
#endif
#ifndef __SANITIZE_THREAD__  // which does not know the fibers of emulated kernels
    {"layerwise", test_layerwise},
    {"fused", test_fused},
#ifndef FASTUNROLL_ON_DEVICE
    {"primitives", test_primitives},
#endif
#endif
};

bool is_asked_for(const char* name, int count, char** names) {
  bool found = count == 0 || names[0][0] == '-';
  for (int i = 0; i < count; ++i) {
    if (names[i][0] == '-')
      found = found && std::strcmp(name, names[i] + 1) != 0;
    else
      found = found || std::strcmp(name, names[i]) == 0;
  }
  return found;
}

}  // namespace

void check(bool holds, const std::string& what, const char* file, int line) {
  ++checks;
  if (holds) return;
  ++failures;
  std::printf("%s:%d: failed: %s\n", file, line, what.c_str());
}

bool is_fused(const char* set) { return std::strcmp(set, "baseline") != 0; }

void record(const char* subject, const void* values, size_t bytes) {
  uint64_t& hash = recorded.try_emplace({subject, instruction_set()}, 0xcbf29ce484222325u).first->second;  // FNV-1a
  for (size_t i = 0; i < bytes; ++i) hash = (hash ^ static_cast<const uint8_t*>(values)[i]) * 0x100000001b3u;
}

Settings::Settings() : set_(instruction_set()), above_(dense_above()) {}
Settings::~Settings() {
  use_instruction_set(set_);
  set_dense_above(above_);
}

const std::vector<const char*>& usable_sets() {
  static const std::vector<const char*> sets = [] {
    const Settings restored;
    std::vector<const char*> found;
    for (const char* const* name = compiled_instruction_sets(); *name; ++name) {
      if (const char* problem = use_instruction_set(*name))
        std::printf("without %s: %s\n", *name, problem);
      else
        found.push_back(*name);
    }
    return found;
  }();
  return sets;
}

bool write_bits(const char* path) {
  std::FILE* const file = std::fopen(path, "w");
  if (!file) return false;
  for (const auto& [of, hash] : recorded)
    std::fprintf(file, "%s %016llx %s\n", of.first.c_str(), static_cast<unsigned long long>(hash), of.second.c_str());
  return std::fclose(file) == 0;
}

int run(int count, char** names) {
  const char* bits = nullptr;
  if (count > 0 && std::strncmp(names[0], "--bits=", 7) == 0) {
    bits = names[0] + 7;
    --count, ++names;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  for (const Test& test : tests) {
    if (!is_asked_for(test.name, count, names)) continue;
    const auto began = std::chrono::steady_clock::now();
    const int64_t before = checks;
    test.run();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    std::printf("%-16s %7lld checks %6.1f s\n", test.name, static_cast<long long>(checks - before), took.count());
  }
  std::printf("%lld checks, %lld failed\n", static_cast<long long>(checks), static_cast<long long>(failures));
  if (bits && !write_bits(bits)) {
    std::printf("%s could not be written\n", bits);
    return 1;
  }
  return checks == 0 || failures > 0;
}

}  // namespace fastunroll::testing

int main(int count, char** arguments) { return fastunroll::testing::run(count - 1, arguments + 1); }
