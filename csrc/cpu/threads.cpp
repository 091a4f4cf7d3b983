#include "cpu/threads.h"

#include <atomic>
#include <thread>

#include "cpu/waiting.h"

#ifdef _OPENMP
#include <omp.h>
#else
#include "cpu/own_threads.h"
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

}  // namespace

void let_others_run() { std::this_thread::yield(); }

void Meeting::wait(int size) {
  const int now = __atomic_load_n(&turn, __ATOMIC_ACQUIRE);
  if (__atomic_add_fetch(&here, 1, __ATOMIC_ACQ_REL) == size) {
    __atomic_store_n(&here, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&turn, now + 1, __ATOMIC_RELEASE);
    return;
  }
  wait_until([&] { return __atomic_load_n(&turn, __ATOMIC_ACQUIRE) != now; });
}

void run_team(int threads, void (*work)(const void*, Team), const void* what) {
  if (threads <= 1 || forked_after_use) return work(what, {0, 1, nullptr});
  watch_for_forks();
#ifdef _OPENMP
  Meeting meeting;
#pragma omp parallel num_threads(threads)
  work(what, {omp_get_thread_num(), omp_get_num_threads(), &meeting});
#else
  run_with_helpers(threads, work, what);
#endif
}

}  // namespace fastunroll
