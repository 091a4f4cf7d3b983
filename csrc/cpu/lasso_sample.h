// The Lasso of one sample in Gram form, min 1/2 x'Gx - c'x + sum l|x|: greedy coordinate descent finds the support,
// roughly, and Newton's method the solution on it, in turns.
#pragma once
#include "cpu/duality_gap.h"
#include "cpu/support_newton.h"

namespace fastunroll::FASTUNROLL_SET {

// Rows padded with zeros.
template <class T> struct Sample {
  T *x, *r;  // r = c - Gx
  const T *c, *limit, *one_over_limit;
  T energy;  // |y|^2
};

template <class T> class SampleSolver {
 public:
  template <class Memory>
  SampleSolver(const Gram<T>& gram, int64_t most, bool nonnegative, Memory& memory)
      : gram_(gram),
        most_(most),
        nonnegative_(nonnegative),
        support_(most, memory),
        scratch_(NewtonScratch<T>::make(most, gram.stride, memory)),
        member_(memory.template take<bool>(gram.stride)),
        entered_(memory.template take<int32_t>(gram.stride)) {
    memset(member_, 0, size_t(gram.stride) * sizeof(bool));
  }

  // Until the gap, as far as r tells, is at most `wanted`; returns the steps taken. Coordinate descent ends at moves
  // below `enough`, which is lowered for the next time. The first time it goes on for as long as it takes.
  int64_t improve(const Sample<T>& s, T wanted, T* enough, int64_t max_steps, bool first) {
    return nonnegative_ ? improve<true>(s, wanted, enough, max_steps, first)
                        : improve<false>(s, wanted, enough, max_steps, first);
  }

 private:
  static constexpr int rounds = 30;
  static constexpr int64_t few_moves = 8;  // before Newton's method takes what has entered into account
  static constexpr int64_t most_newton = 50;

  static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

  template <bool NonNegative> int64_t improve(const Sample<T>& s, T wanted, T* enough, int64_t max_steps, bool first) {
    int64_t steps = 0;
    entered_count_ = 0;
    if (first) {
      steps += descend<NonNegative>(s, enough, least(4 * most_, max_steps));
    }
    take_support(s.x);
    for (int round = 0; round < rounds && steps < max_steps; ++round) {
      steps += newton(s, least(most_newton, max_steps - steps));
      if (gap(s) <= wanted) break;
      const int64_t moves = descend<NonNegative>(s, enough, least(few_moves, max_steps - steps));
      if (moves == 0) break;
      steps += moves;
      update_support(s.x);
    }
    mark(false);
    return steps;
  }

  // Moves coordinates, those that move furthest; returns how many moves. What was not in the support is in entered_
  // then.
  template <bool NonNegative> int64_t descend(const Sample<T>& s, T* enough, int64_t most) {
    Candidates<T> next = pass<NonNegative>(gram_, Moves<T>{}, s.r, s.x, s.limit);
    T largest = next.largest();
    const T part = T(0.3) * largest;
    *enough = part < *enough ? part : *enough;
    entered_count_ = zeros_ = 0;
    int64_t count = 0;
    while (count < most && largest > *enough) {
      const int together = int(least(most_together, most - count));
      const Moves<T> moves = move<NonNegative>(gram_, next, largest, together, s.r, s.x, s.limit);
      if (moves.count == 0) break;  // x is too large for what is left to show
      for (int q = 0; q < moves.count; ++q) {
        const int64_t j = moves.index[q];
        zeros_ += s.x[j] == 0;
        if (!member_[j]) member_[j] = true, entered_[entered_count_++] = int32_t(j);
      }
      count += moves.count;
      next = pass<NonNegative>(gram_, moves, s.r, s.x, s.limit);
      largest = next.largest();
    }
    return count;
  }

  // From r alone: |y - Ax|^2 = |y|^2 - x'(c + r).
  T gap(const Sample<T>& s) const {
    RowSum<T> sum;
    along_row<T>(gram_.stride, [&](int64_t c, int j) { sum.add(j, load(s.x + c), load(s.c + c) + load(s.r + c)); });
    const T power = s.energy - sum.total();
    return duality_gap(s.x, s.r, s.limit, s.one_over_limit, gram_.stride, power > 0 ? power : T(0), nonnegative_);
  }

  void mark(bool member) {
    for (int64_t i = 0; i < support_.count(); ++i) member_[support_.index()[i]] = member;
  }

  // The nonzeros, those that have entered first and in their order: what matters most comes first.
  void take_support(const T* x) {
    int64_t count = 0;
    for (int64_t i = 0; i < entered_count_; ++i) {
      const int32_t j = entered_[i];
      member_[j] = x[j] != 0 && count < most_;
      if (member_[j]) support_.members()[count++] = j;
    }
    for (int64_t j = 0; j < gram_.stride; j += lanes<T>) {
      for (unsigned found = nonzero_bits(load(x + j)); found && count < most_; found &= found - 1) {
        const int64_t k = j + __builtin_ctz(found);
        if (!member_[k]) support_.members()[count++] = int32_t(k);
      }
    }
    support_.rebuild(gram_, count);
    mark(true);
  }

  int64_t newton(const Sample<T>& s, int64_t most) {
    mark(false);
    const int64_t steps = FASTUNROLL_SET::newton(gram_, support_, s.x, s.r, s.limit, nonnegative_, scratch_, most);
    mark(true);
    return steps;
  }

  // After moves that set zeros_ coordinates to zero, and others, now in entered_, to something else.
  void update_support(const T* x) {
    const bool anew = entered_count_ + zeros_ > support_.count() / 4 + 4;
    int64_t count = support_.count();
    if (anew) {
      count = 0;
      for (int64_t i = 0; i < support_.count(); ++i) {
        const int32_t j = support_.index()[i];
        member_[j] = x[j] != 0;
        if (member_[j]) support_.members()[count++] = j;
      }
    } else if (zeros_) {
      for (int64_t i = count - 1; i >= 0; --i) {
        const int32_t j = support_.index()[i];
        if (x[j] != 0) continue;
        member_[j] = false;
        support_.remove(i);
      }
    }
    for (int64_t i = 0; i < entered_count_; ++i) {
      const int32_t j = entered_[i];
      member_[j] = x[j] != 0 && (anew ? count : support_.count()) < most_;
      if (!member_[j]) continue;
      if (anew)
        support_.members()[count++] = j;
      else
        support_.append(gram_, j);
    }
    if (anew) support_.rebuild(gram_, count);
  }

  Gram<T> gram_;
  int64_t most_;
  bool nonnegative_;
  SupportFactor<T> support_;
  NewtonScratch<T> scratch_;
  bool* member_;      // of the support
  int32_t* entered_;  // it since the last Newton step
  int64_t entered_count_ = 0, zeros_ = 0;
};

}  // namespace fastunroll::FASTUNROLL_SET
