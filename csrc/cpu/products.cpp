// The plain products of a batch: x A^T, y A, and the sum over samples of g x^T.
#include "cpu/sample_sum.h"
#include "cpu/threads.h"
#include "cpu/workspace.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> void product(const Product<T>& p) {
  if (p.batch == 0) return;
  const int64_t depth = p.adjoint ? p.m : p.n, columns = p.adjoint ? p.n : p.m;
  Workspace memory;
  Factor<T> w{depth, columns, nullptr, true, p.a, p.adjoint ? Layout::by_depth : Layout::by_column};
  pack(&w, 1, memory.take<T>(Factor<T>::packed_size(depth, columns)), p.threads);

  const Tiles tiles = cut(p.batch, 64, p.threads);
  const int64_t words = tile_words<T>(depth), most = tiles.most_rows();
  const int threads = int(p.threads < tiles.count ? p.threads : tiles.count);
  uint64_t* masks = memory.take<uint64_t>(threads * most * words);
  T* spill = memory.take<T>(threads * most * panel_width<T>);
  const double above = dense_above();
  for_each(tiles.count, threads, [&](int64_t i, int rank) {
    const int64_t first = tiles.first(i);
    uint64_t* mask = masks + rank * most * words;
    const Rows<T> x{p.x + first * depth, depth, tiles.rows(i), mask, words};
    for (int64_t r = 0; r < x.count; ++r) mark_row(mask + r * words, words, x.data + r * depth, depth);
    const ProductScratch<T> scratch{spill + rank * most * panel_width<T>, nullptr};
    const StoreInMatrix<T> store{p.out + first * columns, columns};
    if (p.start)
      product(w, x, scratch, above, StartFromMatrix<T>{p.start + first * columns, columns}, store);
    else
      product(w, x, scratch, above, StartAtZero<T>{}, store);
  });
}

template <class T> void outer(const Outer<T>& p) {
  if (p.batch == 0) {
    memset(p.out, 0, size_t(p.rows * p.columns) * sizeof(T));
    return;
  }
  Workspace memory;
  const Transposed<T> g{memory.take<T>(Transposed<T>::size(p.batch, p.rows)), p.rows};
  const Chunked<T> x{memory.take<T>(Chunked<T>::size(p.batch, p.columns)), p.batch, p.columns};
  const int64_t words = tile_words<T>(p.rows), most = blocks(p.rows, p.threads);
  uint64_t* masks = memory.take<uint64_t>(p.threads * chunk * words);
  uint64_t* sum_masks = memory.take<uint64_t>(p.threads * most);
  T* spill = memory.take<T>(p.threads * most * panel_width<T>);
  const double above = dense_above();
  for_each(blocks(p.batch, chunk), p.threads, [&](int64_t c, int rank) {
    const int64_t first = c * chunk;
    uint64_t* mask = masks + rank * chunk * words;
    const Rows<T> rows{p.g + first * p.rows, p.rows, chunk_depth(p.batch, c), mask, words};
    for (int64_t r = 0; r < rows.count; ++r) mark_row(mask + r * words, words, rows.data + r * p.rows, p.rows);
    g.put(first, rows);
    x.put(first, rows.count, p.x + first * p.columns, p.columns);
  });
  for_each(p.threads, p.threads, [&](int64_t t, int) {
    sample_sum(g, x, p.rows * t / p.threads, p.rows * (t + 1) / p.threads, false, p.out, sum_masks + t * most,
               spill + t * most * panel_width<T>, above);
  });
}

template void product(const Product<float>&);
template void product(const Product<double>&);
template void outer(const Outer<float>&);
template void outer(const Outer<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
