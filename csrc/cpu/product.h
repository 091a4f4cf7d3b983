// x W for a tile of samples, the product behind every operation, in three kernels that give the same bits.
//
// All add k in ascending order into one accumulator an output, starting from what start.load_at(row, column,
// accumulators) loads, so that skipping the zeros changes nothing. finish.store_at(row, column, accumulators) stores
// the result.
#pragma once
#include "cpu/product_dense.h"
#include "cpu/product_masked.h"
#include "cpu/product_streamed.h"

namespace fastunroll::FASTUNROLL_SET {

constexpr int64_t few_rows = 3;

// The density of x below which the product is streamed. Streaming reads only the rows of W that it needs, which pays if
// W is far and there are so few samples that they do not need them all. It moves accumulators only once: that is no
// gain if there is a single block, and a small one otherwise unless few samples pass over a block.
template <class T> inline double streamed_below(const Factor<T>& w, const Rows<T>& x) {
  const int64_t some_rows = w.far ? 64 : 8;
  return w.depth <= mask_bits || x.count < some_rows ? 0.13 : 0.06;
}

// The density of x from which the dense kernel is faster, which is `above` for many samples. Streaming reads a row of W
// again for each of few samples.
template <class T> inline double dense_from(const Rows<T>& x, double above) {
  return x.count <= few_rows ? 0.7 * above : above;
}

template <class T, class Start, class Finish>
void product(const Factor<T>& w, const Rows<T>& x, Range panels, const ProductScratch<T>& scratch, double above,
             const Start& start, const Finish& finish) {
  const double share = x.count > 1 ? density(x, w.depth) : 0;
  if (x.count > 1 && share > dense_from(x, above))
    product_dense(w, x, panels, scratch, start, finish);
  else if (w.panels && (x.count <= few_rows || share < streamed_below(w, x)))
    product_streamed(w, x, panels, start, finish);
  else
    product_masked(w, x, panels, scratch, start, finish);
}

template <class T, class Start, class Finish>
void product(const Factor<T>& w, const Rows<T>& x, const ProductScratch<T>& scratch, double above, const Start& start,
             const Finish& finish) {
  product(w, x, Range{0, w.panel_count()}, scratch, above, start, finish);
}

}  // namespace fastunroll::FASTUNROLL_SET
