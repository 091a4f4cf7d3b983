// The columns that Lasso problems have asked for so far, in double precision and of norm 1, and their Gram matrix. An
// entry is the same sum whenever it is made, so what was kept before changes no result.
#pragma once
#include "cpu/columns.h"
#include "cpu/tile.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> class KeptColumns {
 public:
  // Of an empty store, or of one of the same matrix and ridge.
  KeptColumns(const Columns<T>& a, double ridge, int threads, ColumnStore& store)
      : a_(a), threads_(threads), s_(store) {
    if (s_.scale.data()) return;
    fastunroll::Block scale{size_t(a.n) * sizeof(double)}, slots{size_t(a.n) * sizeof(int32_t)};
    find_scales(a, ridge, of<double>(scale), threads);
    for (int64_t j = 0; j < a.n; ++j) of<int32_t>(slots)[j] = -1;
    s_.slot_of = static_cast<fastunroll::Block&&>(slots);
    s_.scale = static_cast<fastunroll::Block&&>(scale);  // the last: it says that all is there
  }

  const double* scale() const { return of<double>(s_.scale); }
  int64_t slot_of(int64_t j) const { return of<int32_t>(s_.slot_of)[j]; }
  const double* gram_row(int64_t slot) const { return of<double>(s_.gram) + slot * s_.capacity; }

  // Empties the store if fewer than half of the wanted columns are in it, or if it holds more than 8 times as many as
  // are wanted, because every new column is multiplied with all that are kept.
  void renew(const int32_t* columns, int64_t count) {
    int64_t found = 0;
    for (int64_t i = 0; i < count; ++i) found += slot_of(columns[i]) >= 0;
    if (2 * found >= count && s_.count <= 8 * count) return;
    for (int64_t i = 0; i < s_.count; ++i) of<int32_t>(s_.slot_of)[of<int32_t>(s_.index)[i]] = -1;
    s_.count = 0;
  }

  // Makes room for, and takes in, the columns that are not kept yet.
  void keep(const int32_t* columns, int64_t count, Workspace& memory);

  // v += factor times the column of norm 1
  void add(int64_t j, double factor, double* v) const {
    if (a_.is_sparse()) return add_column(a_, j, factor * scale()[j], v);
    const double* column = column_of(slot_of(j));
    const Vector<double> f = broadcast(factor);
    for (int64_t i = 0; i < a_.m; i += lanes<double>)
      store_some(v + i, multiply_add(f, load_some(column + i, a_.m - i), load_some(v + i, a_.m - i)), a_.m - i);
  }
  double dot(int64_t j, const double* v) const {
    return a_.is_sparse() ? dot_column(a_, j, v) * scale()[j] : inner_product(column_of(slot_of(j)), v, a_.m);
  }

 private:
  template <class U> static U* of(const fastunroll::Block& b) { return reinterpret_cast<U*>(b.data()); }
  double* column_of(int64_t slot) const { return of<double>(s_.columns) + slot * a_.m; }

  void grow(int64_t capacity);
  void add_dense(int64_t before);
  void add_sparse(int64_t before, Workspace& memory);

  const Columns<T>& a_;
  int threads_;
  ColumnStore& s_;
  fastunroll::Block packed_;  // all columns, as products read them
};

template <class T> void KeptColumns<T>::grow(int64_t capacity) {
  fastunroll::Block columns{size_t(a_.is_sparse() ? 0 : capacity * a_.m) * sizeof(double)},
      index{size_t(capacity) * sizeof(int32_t)}, gram{size_t(capacity * capacity) * sizeof(double)};
  if (s_.count) {
    if (!a_.is_sparse()) memcpy(columns.data(), s_.columns.data(), size_t(s_.count * a_.m) * sizeof(double));
    memcpy(index.data(), s_.index.data(), size_t(s_.count) * sizeof(int32_t));
    for (int64_t i = 0; i < s_.count; ++i)
      memcpy(of<double>(gram) + i * capacity, gram_row(i), size_t(s_.count) * sizeof(double));
  }
  s_.columns = static_cast<fastunroll::Block&&>(columns);
  s_.index = static_cast<fastunroll::Block&&>(index);
  s_.gram = static_cast<fastunroll::Block&&>(gram);
  s_.capacity = capacity;
}

template <class T> void KeptColumns<T>::keep(const int32_t* columns, int64_t count, Workspace& memory) {
  int64_t fresh = 0;
  for (int64_t i = 0; i < count; ++i) fresh += slot_of(columns[i]) < 0;
  if (fresh == 0) return;
  const int64_t before = s_.count, needed = before + fresh;
  if (needed > s_.capacity) grow(blocks(needed > 2 * s_.capacity ? needed : 2 * s_.capacity, 32) * 32);
  for (int64_t i = 0; i < count; ++i) {
    const int32_t j = columns[i];
    if (slot_of(j) >= 0) continue;
    of<int32_t>(s_.index)[s_.count] = j;
    of<int32_t>(s_.slot_of)[j] = int32_t(s_.count++);
  }
  if (a_.is_sparse())
    add_sparse(before, memory);
  else
    add_dense(before);
  for (int64_t i = before; i < s_.count; ++i) {
    double* row = of<double>(s_.gram) + i * s_.capacity;
    row[i] = 1;
    for (int64_t k = 0; k < before; ++k) of<double>(s_.gram)[k * s_.capacity + i] = row[k];
  }
}

// Rows of the Gram matrix as products of the new columns with all.
template <class T> void KeptColumns<T>::add_dense(int64_t before) {
  constexpr int64_t tile = 60, grain = 1 << 16;
  const int64_t m = a_.m, fresh = s_.count - before, useful = 1 + fresh * s_.count * m / grain;
  const int threads = int(useful < threads_ ? useful : threads_);
  for_each(fresh, threads, [&](int64_t at, int) {
    const int64_t j = of<int32_t>(s_.index)[before + at];
    double* column = column_of(before + at);
    each_entry(a_, j, [&](int64_t row, double value) { column[row] = value * scale()[j]; });
  });
  Factor<double> all{m, s_.count, nullptr, true, of<double>(s_.columns), Layout::by_column, false};
  const size_t packed = size_t(all.packed_size()) * sizeof(double);
  if (packed_.size() < packed) packed_ = fastunroll::Block(2 * packed);
  pack(&all, 1, of<double>(packed_), threads);
  for_each(all.panel_count(), threads, [&](int64_t p, int) {
    for (int64_t i = before; i < s_.count; i += tile) {
      const int64_t rows = s_.count - i < tile ? s_.count - i : tile;
      product(all, Rows<double>{column_of(i), m, rows, nullptr, 0}, Range{p, p + 1}, {} /* dense: nothing to list */,
              0.0, StartFromMatrix<double>{},
              StoreInMatrix<double>{of<double>(s_.gram) + i * s_.capacity, s_.capacity});
    }
  });
}

// Each new column is spread out, for all others to look up.
template <class T> void KeptColumns<T>::add_sparse(int64_t before, Workspace& memory) {
  double* const spread = memory.take<double>(threads_ * a_.m);
  memset(spread, 0, size_t(threads_ * a_.m) * sizeof(double));
  const auto index = of<int32_t>(s_.index);
  for_each(s_.count - before, threads_, [&](int64_t at, int thread) {
    double *const column = spread + thread * a_.m, *const row = of<double>(s_.gram) + (before + at) * s_.capacity;
    const int64_t j = index[before + at];
    each_entry(a_, j, [&](int64_t i, double value) { column[i] = value * scale()[j]; });
    for (int64_t k = 0; k < s_.count; ++k) {
      const double other = scale()[index[k]];
      double sum = 0;
      each_entry(a_, index[k], [&](int64_t i, double value) { sum = __builtin_fma(value * other, column[i], sum); });
      row[k] = sum;
    }
    each_entry(a_, j, [&](int64_t i, double) { column[i] = 0; });
  });
}

}  // namespace fastunroll::FASTUNROLL_SET
