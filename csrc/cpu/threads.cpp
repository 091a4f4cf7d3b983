#include "cpu/threads.h"

#include <atomic>
#include <climits>
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
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
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

// Sleeps until another thread wakes those that wait for `word`, or at once returns if it is no longer `value`.
void sleep_while(int& word, int value) {
#ifdef __linux__
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr);
#else
  (void)word, (void)value;
  std::this_thread::yield();
#endif
}

void wake_all([[maybe_unused]] int& word) {
#ifdef __linux__
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX);
#endif
}

}  // namespace

void let_others_run() { std::this_thread::yield(); }

// The last to come changes the turn and then looks who sleeps; a thread counts itself and then looks at the turn. In
// the one order of all four that every thread sees, one of them sees the other.
void Meeting::wait(int size) {
  const int now = __atomic_load_n(&turn, __ATOMIC_ACQUIRE);
  if (__atomic_add_fetch(&here, 1, __ATOMIC_ACQ_REL) == size) {
    __atomic_store_n(&here, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&turn, now + 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&asleep, __ATOMIC_SEQ_CST) > 0) wake_all(turn);
    return;
  }
  const auto holds = [&] { return __atomic_load_n(&turn, __ATOMIC_SEQ_CST) != now; };
  if (spins_until(holds)) return;
  __atomic_add_fetch(&asleep, 1, __ATOMIC_SEQ_CST);
  while (!holds()) sleep_while(turn, now);
  __atomic_sub_fetch(&asleep, 1, __ATOMIC_SEQ_CST);
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
