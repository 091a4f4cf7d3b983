// The factors of the Gram matrix of a support, G_SS = U^T D U with ones on U's diagonal, which grow by a column or lose
// one in a number of operations quadratic in the size of S.
//
// U is kept by rows, and its transpose too, since substitution reads the rows of both: each output then is one chain,
// and nothing is summed across the lanes of a vector.
#pragma once
#include "cpu/panels.h"

namespace fastunroll::FASTUNROLL_SET {

// The Gram matrix of columns of norm 1: (stride, stride), padded with zeros.
template <class T> struct Gram {
  const T* data;
  int64_t stride;
  const T* row(int64_t i) const { return data + i * stride; }
};

// out -= factor * row in [first, last), which begins and may end within a vector.
template <class T> inline void subtract(T* out, const T* row, T factor, int64_t first, int64_t last) {
  const Vector<T> f = broadcast(-factor);
  for (int64_t b = first; b < last; b += lanes<T>) store(out + b, multiply_add(f, load(row + b), load(out + b)));
}

template <class T> class SupportFactor {
 public:
  // Of up to `most` columns.
  template <class Memory> SupportFactor(int64_t most, Memory& memory) {
    const int64_t longest = row_stride(most);
    upper_ = memory.template take<T>(longest * longest);
    lower_ = memory.template take<T>(longest * longest);
    pivot_ = memory.template take<T>(longest);
    inverse_ = memory.template take<T>(longest);
    reach_ = memory.template take<T>(longest);
    work_ = memory.template take<T>(longest);
    index_ = memory.template take<int32_t>(longest);
  }

  int64_t count() const { return count_; }
  const int32_t* index() const { return index_; }
  // Whether a column is so close to the span of others that rounding errors are no longer small in what is solved.
  bool is_weak() const {
    for (int64_t i = 0; i < count_; ++i)
      if (pivot_[i] < weak) return true;
    return false;
  }

  // Takes the columns members()[0 .. count) as the support.
  int32_t* members() { return index_; }
  void rebuild(const Gram<T>& gram, int64_t count);
  void append(const Gram<T>& gram, int64_t j);
  void remove(int64_t position);
  // b := (G_SS)^-1 b, with room for whole vectors.
  void solve(T* b);

 private:
  // What is nearer to the span of the columns before it is taken to lie in it. What is left of the row of U is then
  // rounding error, and zero instead; and the step along the column becomes long instead of infinite.
  static constexpr T closest = sizeof(T) == 4 ? T(1e-5) : T(1e-12);
  static constexpr T weak = sizeof(T) == 4 ? T(1e-3) : T(1e-9);
  static constexpr int width = lanes<T>;
  static constexpr int64_t line = 64 / int64_t(sizeof(T));

  // Room for growth and for loads past the end; an odd number of cache lines, so that rows do not crowd a few sets.
  static int64_t row_stride(int64_t count) { return (blocks(count + count / 4 + 2 * line, line) | 1) * line; }
  T* upper(int64_t i) const { return upper_ + i * stride_; }
  T* lower(int64_t i) const { return lower_ + i * stride_; }
  void set_pivot(int64_t i, T pivot) {
    pivot_[i] = pivot > closest ? pivot : closest;
    inverse_[i] = 1 / pivot_[i];
    reach_[i] = pivot > closest ? inverse_[i] : T(0);
  }
  void mirror();
  void forward(T* b) const;
  void backward(T* b) const;

  T *upper_, *lower_;  // rows of U right of the diagonal, of U^T left of it; zero on its other side in that vector
  T *pivot_, *inverse_;
  T* reach_;  // the inverse, or zero for a column in the span of others
  T* work_;
  int32_t* index_;
  int64_t count_ = 0, stride_ = 0;
  int64_t stale_ = 0;  // rows of U^T from here on are to be made
};

template <class T> void SupportFactor<T>::rebuild(const Gram<T>& gram, int64_t count) {
  count_ = count;
  stride_ = row_stride(count);
  stale_ = 0;
  constexpr int most = 4;  // vectors that stay in registers over all rows above
  const int64_t stride = stride_;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin = i / width * width;
    const T* g = gram.row(index_[i]);
    T* row = upper(i);
    for (int64_t b = i; b < count; ++b) row[b] = g[index_[b]];
    for (int64_t q = 0; q < i; ++q) work_[q] = -upper(q)[i] * pivot_[q];
    int64_t b = begin;
    for (; b + (most - 1) * width < count; b += most * width) {
      Vector<T> sum[most];
      for (int v = 0; v < most; ++v) sum[v] = load(row + b + v * width);
      const T* above = upper_ + b;
      for (int64_t q = 0; q < i; ++q, above += stride) {
        const Vector<T> f = broadcast(work_[q]);
        for (int v = 0; v < most; ++v) sum[v] = multiply_add(f, load(above + v * width), sum[v]);
      }
      for (int v = 0; v < most; ++v) store(row + b + v * width, sum[v]);
    }
    for (; b < count; b += width) {
      Vector<T> sum = load(row + b);
      const T* above = upper_ + b;
      for (int64_t q = 0; q < i; ++q, above += stride) sum = multiply_add(broadcast(work_[q]), load(above), sum);
      store(row + b, sum);
    }
    set_pivot(i, row[i]);
    const Vector<T> scale = broadcast(reach_[i]);
    for (b = begin; b < count; b += width) store(row + b, load(row + b) * scale);
    for (b = begin; b <= i; ++b) row[b] = 0;
  }
}

// b := U^-T b, and U^-1 b. Up to 8 vectors stay in registers.
template <class T, int Count> inline void substitute_forward(const T* rows, int64_t stride, int64_t count, T* b) {
  Vector<T> z[Count];
#pragma GCC unroll 8
  for (int v = 0; v < Count; ++v) z[v] = load(b + v * lanes<T>);
#pragma GCC unroll 8
  for (int v = 0; v < Count; ++v) {
    const int64_t left = count - v * lanes<T>;
    const int some = left < lanes<T> ? int(left) : lanes<T>;
    for (int i = 0; i < some; ++i, rows += stride) {
      const Vector<T> value = -spread_lane<T>(z[v], i);
#pragma GCC unroll 8
      for (int w = v; w < Count; ++w) z[w] = multiply_add(value, load(rows + w * lanes<T>), z[w]);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < Count; ++v) store(b + v * lanes<T>, z[v]);
}

template <class T, int Count> inline void substitute_backward(const T* rows, int64_t stride, int64_t count, T* b) {
  Vector<T> z[Count];
#pragma GCC unroll 8
  for (int v = 0; v < Count; ++v) z[v] = load(b + v * lanes<T>);
  rows += (count - 1) * stride;
#pragma GCC unroll 8
  for (int v = Count - 1; v >= 0; --v) {
    const int64_t left = count - v * lanes<T>;
    for (int i = left < lanes<T> ? int(left) - 1 : lanes<T> - 1; i >= 0; --i, rows -= stride) {
      const Vector<T> value = -spread_lane<T>(z[v], i);
#pragma GCC unroll 8
      for (int w = 0; w <= v; ++w) z[w] = multiply_add(value, load(rows + w * lanes<T>), z[w]);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < Count; ++v) store(b + v * lanes<T>, z[v]);
}

template <class T> void SupportFactor<T>::forward(T* b) const {
  switch (blocks(count_, width)) {
    case 0:
      return;
    case 1:
      return substitute_forward<T, 1>(upper_, stride_, count_, b);
    case 2:
      return substitute_forward<T, 2>(upper_, stride_, count_, b);
    case 3:
      return substitute_forward<T, 3>(upper_, stride_, count_, b);
    case 4:
      return substitute_forward<T, 4>(upper_, stride_, count_, b);
    case 5:
      return substitute_forward<T, 5>(upper_, stride_, count_, b);
    case 6:
      return substitute_forward<T, 6>(upper_, stride_, count_, b);
    case 7:
      return substitute_forward<T, 7>(upper_, stride_, count_, b);
    case 8:
      return substitute_forward<T, 8>(upper_, stride_, count_, b);
    default:
      for (int64_t i = 0; i < count_; ++i) subtract(b, upper(i), b[i], i / width * width, count_);
  }
}

template <class T> void SupportFactor<T>::backward(T* b) const {
  switch (blocks(count_, width)) {
    case 0:
      return;
    case 1:
      return substitute_backward<T, 1>(lower_, stride_, count_, b);
    case 2:
      return substitute_backward<T, 2>(lower_, stride_, count_, b);
    case 3:
      return substitute_backward<T, 3>(lower_, stride_, count_, b);
    case 4:
      return substitute_backward<T, 4>(lower_, stride_, count_, b);
    case 5:
      return substitute_backward<T, 5>(lower_, stride_, count_, b);
    case 6:
      return substitute_backward<T, 6>(lower_, stride_, count_, b);
    case 7:
      return substitute_backward<T, 7>(lower_, stride_, count_, b);
    case 8:
      return substitute_backward<T, 8>(lower_, stride_, count_, b);
    default:
      for (int64_t i = count_ - 1; i >= 0; --i) subtract(b, lower(i), b[i], 0, i + 1);
  }
}

template <class T> void SupportFactor<T>::append(const Gram<T>& gram, int64_t j) {
  const int64_t k = count_;
  index_[k] = int32_t(j);
  if (k + 2 * line > stride_) return rebuild(gram, k + 1);  // at the same k with every instruction set
  const T* g = gram.row(j);
  for (int64_t i = 0; i < k; ++i) work_[i] = g[index_[i]];
  forward(work_);
  T pivot = g[j];
  for (int64_t i = 0; i < k; ++i) {
    const T entry = work_[i] * reach_[i];
    pivot -= work_[i] * entry;
    upper(i)[k] = entry;
  }
  for (int64_t b = k / width * width; b <= k; ++b) upper(k)[b] = 0;
  if (stale_ == k) {
    T* row = lower(k);
    for (int64_t i = 0; i < k; ++i) row[i] = work_[i] * reach_[i];
    for (int64_t b = k; b < (k / width + 1) * width; ++b) row[b] = 0;
    stale_ = k + 1;
  }
  set_pivot(k, pivot);
  count_ = k + 1;
}

// Without row and column p of G_SS, the rows of U below p make up for p's part: a rank-one update of what they factor
// (Gill, Golub, Murray and Saunders 1974, method C1).
template <class T> void SupportFactor<T>::remove(int64_t p) {
  const int64_t k = count_;
  T* part = work_;  // p's row, as the rows below have left it
  for (int64_t c = p + 1; c < k; c += width) store(part + c, load(upper(p) + c));
  for (int64_t i = 0; i < p; ++i)
    for (int64_t c = p + 1; c < k; c += width) store(upper(i) + c - 1, load(upper(i) + c));
  T weight = pivot_[p];
  for (int64_t i = p; i + 1 < k; ++i) {
    const T entry = part[i + 1], pivot = pivot_[i + 1] + weight * entry * entry, back = weight * entry / pivot;
    const Vector<T> forth = broadcast(-entry), gain = broadcast(back);
    T *row = upper(i), *next = upper(i + 1);
    for (int64_t c = i + 2; c < k; c += width) {
      const Vector<T> u = load(next + c), rest = multiply_add(forth, u, load(part + c));
      store(part + c, rest);
      store(row + c - 1, multiply_add(gain, rest, u));
    }
    weight *= pivot_[i + 1] / pivot;
    set_pivot(i, pivot);
    index_[i] = index_[i + 1];
  }
  count_ = k - 1;
  stale_ = stale_ < p ? stale_ : p;
}

template <class T> void SupportFactor<T>::mirror() {
  for (int64_t i = stale_ / width * width; i < count_; i += width) {
    for (int64_t j = 0; j <= i; j += width) {
      Vector<T> v[width];
      for (int r = 0; r < width; ++r) v[r] = load(upper(j + r) + i);
      transpose<T>(v);
      for (int r = 0; r < width; ++r) store(lower(i + r) + j, v[r]);
    }
    // Rows that are yet to come must not be seen.
    for (int r = 0; r < width; ++r)
      for (int64_t c = i + r; c < i + width; ++c) lower(i + r)[c] = 0;
  }
  stale_ = count_;
}

template <class T> void SupportFactor<T>::solve(T* b) {
  if (stale_ < count_) mirror();
  forward(b);
  for (int64_t i = 0; i < count_; i += width) store(b + i, load(b + i) * load(inverse_ + i));
  backward(b);
}

}  // namespace fastunroll::FASTUNROLL_SET
