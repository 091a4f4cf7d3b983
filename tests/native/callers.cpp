// Several threads call at once, and calls that are ended before they are done.
#include <atomic>
#include <thread>

#include "cpu/threads.h"
#include "problem.h"

namespace fastunroll::testing {
namespace {

template <class T> void call_at_once(const Form& form, const Size& size) {
  const Problem<T> p(form, size, {});
  const Array<T> packed = p.packed(2), wanted = p.everything();
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&, caller] {
      for (int i = 0; i < 3; ++i)
        if (!same_bits(p.everything({1 + caller % 3}, i ? packed : Array<T>()), wanted)) ++wrong;
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0, text(form, size, {}) + " " + type_name<T> + ": callers at once");
}

// Every thread of a team runs once, and has met the others when it goes on; also threads of teams of other sizes
// before.
void meet_in_teams() {
  struct Seen {
    std::atomic<int> came{0}, met{0};
  };
  for (int threads : {2, 5, 3, 1, 4}) {
    for (int i = 0; i < 50; ++i) {
      Seen seen;
      std::atomic<int> size{0};
      const auto work = [&](Team team) {
        size = team.size;
        ++seen.came;
        team.wait();
        if (seen.came == team.size) ++seen.met;
        team.wait();
      };
      run_team(threads, [](const void* w, Team team) { (*static_cast<decltype(work)*>(w))(team); }, &work);
      CHECK(size >= 1 && size <= threads && seen.came == size && seen.met == size,
            "a team of " + std::to_string(threads) + " threads");
    }
  }
}

std::atomic<int> asked{0}, patience{0};
bool is_enough() { return ++asked >= patience; }

void interrupt(const Form& form, const Size& size, int threads) {
  const Problem<float> p(form, size, {});
  const Array<float> wanted = p.everything({threads});
  const Result<float> whole = p.forward({threads});
  const std::string what = text(form, size, {}) + " on " + std::to_string(threads) + " threads: ";
  for (int after : {1, 2, 6}) {
    patience = after;
    asked = 0;
    const Result<float> part = p.forward({threads, is_enough});
    // Another thread may have done all the work before the calling one could ask so often.
    CHECK(threads == 1 ? asked == after : asked <= after, what + "asked " + std::to_string(asked) + " times forward");
    if (threads == 1 && after == 1 && size.batch > 512) {
      bool begun = false;
      for (int64_t i = 256 * size.n; i < size.batch * size.n; ++i) begun = begun || part.x[size_t(i)] != 0;
      CHECK(!begun, what + "more was begun after the interruption");
    }
    asked = 0;
    p.backward(whole, {threads, is_enough});
    CHECK(asked <= after && (after > size.layers || asked == after),
          what + "asked " + std::to_string(asked) + " times backward");
  }
  CHECK(same_bits(p.everything({threads}), wanted), what + "a call after one that was ended");
}

}  // namespace

void test_callers() {
  meet_in_teams();
  std::thread(meet_in_teams).join();
  for (const Form& form : forms()) call_at_once<float>(form, of_threads);
  call_at_once<double>({"team", LinearStep::affine, Count::each, Count::each}, {130, 300, 2, 5});
  call_at_once<double>({"team", LinearStep::gradient, Count::one, Count::each, Scheme::amp}, {130, 300, 2, 5});
}

void test_interruption() {
  for (const Form& form : forms()) {
    interrupt(form, of_threads, 2);
    if (quick) continue;
    for (const Size& size : {Size{5, 18, 7, 130}, {5, 18, 7, 2}, {5, 18, 1, 600}}) interrupt(form, size, 1);
  }
  for (Scheme state : {Scheme::proximal_gradient, Scheme::fista, Scheme::admm, Scheme::amp}) {
    interrupt({"team", LinearStep::gradient, Count::one, Count::each, state}, {200, 390, 7, 5}, 3);
    if (state != Scheme::amp)
      interrupt({"team", LinearStep::affine, Count::each, Count::each, state}, {200, 390, 7, 5}, 3);
  }
}

}  // namespace fastunroll::testing
