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

// Spins for a while, then yields.
template <class Condition> void wait_until(const Condition& holds) {
  constexpr int patience = 1 << 12;
  for (int i = 0; !holds(); ++i) {
    if (i < patience)
      relax();
    else
      std::this_thread::yield();
  }
}

}  // namespace fastunroll
