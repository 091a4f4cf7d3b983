// The columns of a matrix that Lasso problems have used so far, and their Gram matrix, kept for later problems.
#pragma once
#include "cpu/workspace.h"

namespace fastunroll {

// A matrix (m, n) to read columns of: contiguous rows, contiguous columns, or the nonzeros of each column.
template <class T> struct Columns {
  int64_t m, n;
  const T* values;
  int64_t row_stride, column_stride;  // one of them is 1; of a dense one
  const void* first;                  // sparse: where each column begins, n + 1 indices; else null
  const void* rows;                   // and the row of each value, ascending in a column
  bool wide;                          // indices have 64 bits, not 32

  bool is_sparse() const { return first != nullptr; }
  int64_t begin(int64_t j) const { return index(first, j); }
  int64_t row(int64_t i) const { return index(rows, i); }

 private:
  int64_t index(const void* of, int64_t i) const {
    return wide ? static_cast<const int64_t*>(of)[i] : static_cast<const int32_t*>(of)[i];
  }
};

struct ColumnStore {
  Block scale;    // (n) double: one over the norm of each column, with the ridge in it; zero for a column of zeros
  Block slot_of;  // (n) int32: where a column is kept, or -1
  Block index;    // (capacity) int32: which column it is
  Block columns;  // (capacity, m) double: columns times their scales, if the matrix is dense
  Block gram;     // (capacity, capacity) double: of the columns times their scales, ridge included
  int64_t count = 0, capacity = 0;
};

}  // namespace fastunroll
