// The plain products of a batch: x A^T, y A, and the sum over samples of g x^T.
#include "cpu/sample_sum.h"
#include "cpu/threads.h"
#include "cpu/workspace.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

namespace {

template <class T> Factor<T> factor_of(const Product<T>& p) {
  return {p.adjoint ? p.m : p.n,
          p.adjoint ? p.n : p.m,
          nullptr,
          true,
          p.a,
          p.adjoint ? Layout::by_depth : Layout::by_column,
          false,
          p.bfloat16};
}

}  // namespace

template <class T> int64_t product_packed_size(const Product<T>& p) {
  return packed_header<T> + factor_of(p).packed_size();
}

template <class T> void product_pack(const Product<T>& p) {
  Factor<T> w = factor_of(p);
  pack(&w, 1, p.packed + packed_header<T>, p.threads);
  *p.packed = w.finite;
}

template <class T> void product(const Product<T>& p) {
  if (p.batch == 0) return;
  Workspace memory;
  Factor<T> w = factor_of(p);
  const int64_t depth = w.depth, columns = w.columns;
  if (p.packed) {
    w.panels = p.packed + packed_header<T>;
    w.finite = *p.packed != 0;
  } else {
    pack(&w, 1, memory.take<T>(w.packed_size()), p.threads);
  }

  const Tiles tiles = cut(p.batch, 64, p.threads);
  const int64_t words = tile_words<T>(depth), most = tiles.max_rows();
  const int threads = int(p.threads < tiles.count ? p.threads : tiles.count);
  uint64_t* masks = memory.take<uint64_t>(threads * most * words);
  auto* const scratch = memory.take<ProductScratch<T>>(threads);
  for (int i = 0; i < threads; ++i) scratch[i] = ProductScratch<T>::make(most, most * depth, memory);
  const double above = dense_above();
  for_each(tiles.count, threads, [&](int64_t i, int rank) {
    const int64_t first = tiles.first(i);
    uint64_t* mask = masks + rank * most * words;
    const Rows<T> x{p.x + first * depth, depth, tiles.rows(i), mask, words};
    for (int64_t r = 0; r < x.count; ++r) mark_row(mask + r * words, words, x.data + r * depth, depth);
    product(w, x, scratch[rank], above, StartFromMatrix<T>{p.start ? p.start + first * columns : nullptr, columns},
            StoreInMatrix<T>{p.out + first * columns, columns});
  });
}

template <class T> void outer(const Outer<T>& p) {
  if (p.batch == 0) {
    memset(p.out, 0, size_t(p.rows * p.columns) * sizeof(T));
    return;
  }
  constexpr int64_t most = 2048, task = 64;
  const int64_t longest = p.batch < most ? p.batch : most;
  Workspace memory;
  const Transposed<T> g = Transposed<T>::make(p.rows, longest, memory);
  const Stacked<T> x = Stacked<T>::make(p.columns, longest, memory);
  const int64_t each = blocks(p.rows, p.threads);
  auto* const scratch = memory.take<ProductScratch<T>>(p.threads);
  for (int i = 0; i < p.threads; ++i) scratch[i] = ProductScratch<T>::make(each, each * longest, memory);
  const double above = dense_above();
  for (int64_t first = 0; first < p.batch; first += most) {
    const int64_t count = p.batch - first < most ? p.batch - first : most;
    for_each(blocks(count, task), p.threads, [&](int64_t i, int) {
      const int64_t begin = i * task, some = count - begin < task ? count - begin : task;
      g.put(begin, some, p.g + (first + begin) * p.g_stride, p.g_stride);
      x.put(begin, some, some, count, p.x + (first + begin) * p.x_stride, p.x_stride);
    });
    for_each(p.threads, p.threads, [&](int64_t t, int) {
      sample_sum(g, x, count, p.rows * t / p.threads, p.rows * (t + 1) / p.threads, first > 0, p.out, scratch[t],
                 above);
    });
  }
}

template void product(const Product<float>&);
template void product(const Product<double>&);
template int64_t product_packed_size(const Product<float>&);
template int64_t product_packed_size(const Product<double>&);
template void product_pack(const Product<float>&);
template void product_pack(const Product<double>&);
template void outer(const Outer<float>&);
template void outer(const Outer<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
