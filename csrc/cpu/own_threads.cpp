#include "cpu/own_threads.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "cpu/waiting.h"

namespace fastunroll {
namespace {

struct Job {
  void (*work)(const void*, Team);
  const void* what;
  Team team;
};

// A thread that does one job after another. It spins for a while after a job, since calls often follow each other, and
// then sleeps.
class Helper {
 public:
  Helper() : thread_([this] { run(); }) {}
  ~Helper() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ends_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }

  void give(const Job& job) {
    job_ = job;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      busy_.store(true, std::memory_order_release);
    }
    changed_.notify_one();
  }
  bool is_busy() const { return busy_.load(std::memory_order_acquire); }

 private:
  void run() {
    while (has_job()) {
      job_.work(job_.what, job_.team);
      busy_.store(false, std::memory_order_release);
    }
  }
  // Waits for a job; false if there is none any more.
  bool has_job() {
    using Clock = std::chrono::steady_clock;
    for (const auto end = Clock::now() + std::chrono::milliseconds(1); Clock::now() < end;) {
      for (int i = 0; i < 64; ++i, relax())
        if (is_busy()) return true;
    }
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return is_busy() || ends_; });
    return is_busy();
  }

  Job job_{};
  std::atomic<bool> busy_{false};
  bool ends_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::thread thread_;  // last: it uses the others
};

class Helpers {
 public:
  ~Helpers() {
    if (process_ != getpid()) return;  // a child process has the objects, but not the threads
    for (const Helper* helper : helpers_) delete helper;
  }

  void run(int threads, void (*work)(const void*, Team), const void* what) {
    if (working_) return work(what, {0, 1, nullptr});  // a call within a call
    const int size = 1 + find(threads - 1);
    Meeting meeting;
    for (int rank = 1; rank < size; ++rank) helpers_[size_t(rank - 1)]->give({work, what, {rank, size, &meeting}});
    working_ = true;
    work(what, {0, size, &meeting});
    working_ = false;
    for (int rank = 1; rank < size; ++rank) wait_until([&] { return !helpers_[size_t(rank - 1)]->is_busy(); });
  }

 private:
  // The number of helpers, `wanted` if the system has as many threads.
  int find(int wanted) {
    helpers_.reserve(size_t(wanted));
    try {
      while (int(helpers_.size()) < wanted) helpers_.push_back(new Helper);
    } catch (const std::system_error&) {
      return int(helpers_.size());
    }
    return wanted;
  }

  const pid_t process_ = getpid();
  std::vector<Helper*> helpers_;
  bool working_ = false;
};

thread_local Helpers helpers;

}  // namespace

void run_with_helpers(int threads, void (*work)(const void*, Team), const void* what) {
  helpers.run(threads, work, what);
}

}  // namespace fastunroll
