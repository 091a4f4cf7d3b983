// Teams of threads, of OpenMP or the package's own. Nothing here changes a result.
#pragma once
#include <cstdint>

namespace fastunroll {

// A barrier for a team. Threads spin for a while, since waits are short where each has a core, and then sleep: the last
// to come may be one whose core is busy with something else.
struct alignas(64) Meeting {
  int here = 0;
  alignas(64) int turn = 0;
  int asleep = 0;
  void wait(int size);
};

// A thread's view of the threads of one call. A team may be smaller than requested.
struct Team {
  int rank, size;
  Meeting* meeting;
  // Waits for all threads of the team.
  void wait() const {
    if (size > 1) meeting->wait(size);
  }
};

// Runs work(what, team) on `threads` threads, of which the calling one has rank 0. In a forked child, runs on that
// thread alone, since the others do not survive the fork.
void run_team(int threads, void (*work)(const void*, Team), const void* what);

// Gives the processor to another thread for a moment.
void let_others_run();

}  // namespace fastunroll

#ifdef FASTUNROLL_SET
namespace fastunroll::FASTUNROLL_SET {

template <class Work> void in_parallel(int threads, const Work& work) {
  run_team(threads, [](const void* w, Team team) { (*static_cast<const Work*>(w))(team); }, &work);
}

// Hands out 0, 1, 2, ... to threads that ask.
class Queue {
 public:
  bool take(int64_t& item, int64_t count) {
    item = __atomic_fetch_add(&next_, 1, __ATOMIC_RELAXED);
    return item < count;
  }

 private:
  int64_t next_ = 0;
};

// Calls `item(i)` once for each i below `count`: each thread takes a share in order, as PyTorch divides elements, whose
// values are then in the cache of the thread that wrote them.
template <class Item> void for_each_in_shares(int64_t count, int threads, const Item& item) {
  in_parallel(int(count < threads ? count : threads), [&](Team team) {
    const int64_t last = count * (team.rank + 1) / team.size;
    for (int64_t i = count * team.rank / team.size; i < last; ++i) item(i);
  });
}

// Calls `item(i)` once for each i below `count`, on any thread; uses no more threads than items.
template <class Item> void for_each(int64_t count, int threads, const Item& item) {
  Queue queue;
  in_parallel(int(count < threads ? count : threads), [&](Team team) {
    for (int64_t i; queue.take(i, count);) item(i, team.rank);
  });
}

}  // namespace fastunroll::FASTUNROLL_SET
#endif
