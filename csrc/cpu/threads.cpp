#include "cpu/threads.h"

#include <atomic>
#include <thread>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace fastunroll {
namespace {

std::atomic<bool> forked_after_use{false};

#if defined(__unix__) || defined(__APPLE__)
void watch_for_forks() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { forked_after_use = true; });
  (void)registered;
}
#else
void watch_for_forks() {}
#endif

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

}  // namespace

void let_others_run() { std::this_thread::yield(); }

void Meeting::wait(int size) {
  constexpr int patience = 1 << 12;
  const int now = __atomic_load_n(&turn, __ATOMIC_ACQUIRE);
  if (__atomic_add_fetch(&here, 1, __ATOMIC_ACQ_REL) == size) {
    __atomic_store_n(&here, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&turn, now + 1, __ATOMIC_RELEASE);
    return;
  }
  for (int i = 0; __atomic_load_n(&turn, __ATOMIC_ACQUIRE) == now; ++i) {
    if (i < patience)
      relax();
    else
      std::this_thread::yield();
  }
}

void run_team(int threads, void (*work)(const void*, Team), const void* what) {
  if (threads <= 1 || forked_after_use) return work(what, {0, 1, nullptr});
  watch_for_forks();
  Meeting meeting;
#if defined(FASTUNROLL_STD_THREADS)  // for sanitizers, which do not see into OpenMP
  std::vector<std::thread> others;
  for (int rank = 1; rank < threads; ++rank) others.emplace_back([&, rank] { work(what, {rank, threads, &meeting}); });
  work(what, {0, threads, &meeting});
  for (std::thread& t : others) t.join();
#elif defined(_OPENMP)
#pragma omp parallel num_threads(threads)
  work(what, {omp_get_thread_num(), omp_get_num_threads(), &meeting});
#else
  work(what, {0, 1, nullptr});
#endif
}

}  // namespace fastunroll
