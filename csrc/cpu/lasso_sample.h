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
  // below `enough`, which is lowered for the next time.
  int64_t improve(const Sample<T>& s, T wanted, T* enough, int64_t most_steps) {
    return nonnegative_ ? improve<true>(s, wanted, enough, most_steps) : improve<false>(s, wanted, enough, most_steps);
  }

 private:
  static constexpr int rounds = 30;
  static constexpr int64_t few_moves = 8;  // before Newton's method takes what has entered into account
  static constexpr int64_t most_newton = 50;

  template <bool NonNegative> int64_t improve(const Sample<T>& s, T wanted, T* enough, int64_t most_steps) {
    int64_t steps = 0;
    take_support(s.x);
    for (int round = 0; round < rounds && steps < most_steps; ++round) {
      const bool fresh = support_.count() == 0;
      if (!fresh) {
        steps += newton(s);
        if (gap(s) <= wanted) break;
      }
      Move<T> move = pass<NonNegative>(T(0), gram_.row(0), s.r, s.x, s.limit, gram_.stride);
      if (!(move.size > 0)) break;
      const T part = T(0.3) * move.size;
      *enough = part < *enough ? part : *enough;
      const int64_t most = fresh ? 4 * most_ : few_moves;
      int64_t entered = 0, zeros = 0, moves = 0;
      for (; moves < most && move.size > *enough; ++moves) {
        const int64_t j = move.index;
        const T before = s.x[j], after = soft(before + s.r[j], s.limit[j], NonNegative);
        s.x[j] = after;
        zeros += after == 0;
        if (!member_[j]) member_[j] = true, entered_[entered++] = int32_t(j);
        move = pass<NonNegative>(after - before, gram_.row(j), s.r, s.x, s.limit, gram_.stride);
      }
      steps += moves;
      update_support(s.x, entered, zeros);
    }
    mark(false);
    return steps;
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

  void take_support(const T* x) {
    int64_t count = 0;
    for (int64_t j = 0; j < gram_.stride; j += lanes<T>)
      for (unsigned found = nonzero_bits(load(x + j)); found && count < most_; found &= found - 1)
        support_.members()[count++] = int32_t(j + __builtin_ctz(found));
    support_.rebuild(gram_, count);
    mark(true);
  }

  int64_t newton(const Sample<T>& s) {
    mark(false);
    const int64_t steps =
        FASTUNROLL_SET::newton(gram_, support_, s.x, s.r, s.limit, nonnegative_, scratch_, most_newton);
    mark(true);
    return steps;
  }

  // After moves that set `zeros` coordinates to zero, and others, now in entered_, to something else.
  void update_support(const T* x, int64_t entered, int64_t zeros) {
    const bool anew = entered + zeros > support_.count() / 4 + 4;
    int64_t count = support_.count();
    if (anew) {
      count = 0;
      for (int64_t i = 0; i < support_.count(); ++i) {
        const int32_t j = support_.index()[i];
        member_[j] = x[j] != 0;
        if (member_[j]) support_.members()[count++] = j;
      }
    } else if (zeros) {
      for (int64_t i = count - 1; i >= 0; --i) {
        const int32_t j = support_.index()[i];
        if (x[j] != 0) continue;
        member_[j] = false;
        support_.remove(i);
      }
    }
    for (int64_t i = 0; i < entered; ++i) {
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
};

}  // namespace fastunroll::FASTUNROLL_SET
