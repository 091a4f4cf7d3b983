#include "cpu/threads.h"

#include <atomic>

#if defined(FASTUNROLL_STD_THREADS)
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>
#elif defined(_OPENMP)
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

}  // namespace

#if defined(FASTUNROLL_STD_THREADS)

// For sanitizers, which do not see into OpenMP's runtime.
namespace {

class Barrier {
 public:
  explicit Barrier(int size) : size_(size) {}
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const unsigned long turn = turn_;
    if (++here_ == size_) {
      here_ = 0;
      ++turn_;
      changed_.notify_all();
    } else {
      changed_.wait(lock, [&] { return turn_ != turn; });
    }
  }

 private:
  const int size_;
  int here_ = 0;
  unsigned long turn_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
};

thread_local Barrier* barrier_of_team = nullptr;

}  // namespace

void Team::wait() const {
  if (size > 1) barrier_of_team->wait();
}

void run_team(int threads, void (*work)(const void*, Team), const void* what) {
  if (threads <= 1 || forked_after_use) return work(what, {0, 1});
  watch_for_forks();
  Barrier barrier(threads);
  const auto join_team = [&](int rank) {
    barrier_of_team = &barrier;
    work(what, {rank, threads});
  };
  std::vector<std::thread> others;
  for (int rank = 1; rank < threads; ++rank) others.emplace_back(join_team, rank);
  Barrier* const outer = barrier_of_team;
  join_team(0);
  barrier_of_team = outer;
  for (std::thread& t : others) t.join();
}

#elif defined(_OPENMP)

void Team::wait() const {
  if (size > 1) {
#pragma omp barrier
  }
}

void run_team(int threads, void (*work)(const void*, Team), const void* what) {
  if (threads <= 1 || forked_after_use) return work(what, {0, 1});
  watch_for_forks();
#pragma omp parallel num_threads(threads)
  work(what, {omp_get_thread_num(), omp_get_num_threads()});
}

#else

void Team::wait() const {}
void run_team(int, void (*work)(const void*, Team), const void* what) { work(what, {0, 1}); }

#endif

}  // namespace fastunroll
