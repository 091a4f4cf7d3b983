// Waits for another thread that works on the same call.
#pragma once
#include <thread>

namespace fastunroll {

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Spins for a while. Returns whether the condition holds then.
template <class Condition> bool spins_until(const Condition& holds) {
  constexpr int patience = 1 << 12;
  for (int i = 0; i < patience; ++i) {
    if (holds()) return true;
    relax();
  }
  return holds();
}

// Spins for a while, then yields.
template <class Condition> void wait_until(const Condition& holds) {
  if (spins_until(holds)) return;
  while (!holds()) std::this_thread::yield();
}

}  // namespace fastunroll
