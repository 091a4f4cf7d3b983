// The weights of a network as the forward pass reads them, in one block of memory that the caller keeps: a flag a
// matrix that says whether it is finite, then the panels of all W1, then those of all W2.
#pragma once
#include "cpu/panels.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> struct ListaPanels {
  T* data;
  int64_t m, n, w1_count, w2_count;

  int64_t flags() const { return blocks((w1_count + w2_count) * int64_t(sizeof(T)), 64) * 64 / int64_t(sizeof(T)); }
  int64_t size() const { return flags() + w1_count * Panels<T>::size(m, n) + w2_count * Panels<T>::size(n, n); }
  // The matrix of layer k; one is shared by all.
  Panels<T> w1(int64_t k) const { return at(w1_count == 1 ? 0 : k, m, flags(), 0); }
  Panels<T> w2(int64_t k) const {
    return at(w2_count == 1 ? 0 : k, n, flags() + w1_count * Panels<T>::size(m, n), w1_count);
  }

 private:
  Panels<T> at(int64_t k, int64_t depth, int64_t start, int64_t first_flag) const {
    return {data + start + k * Panels<T>::size(depth, n), depth, n, data[first_flag + k] != 0};
  }
};

}  // namespace fastunroll::FASTUNROLL_SET
