// x W by the nonzeros of x: a block of 64 rows of a panel of W stays in the level-1 cache while all samples of the
// tile pass over it. The accumulators of a sample wait in memory between blocks. The nonzeros are listed once, in the
// order in which blocks meet them, since every panel of W reads them again.
#pragma once
#include "cpu/rows.h"

namespace fastunroll::FASTUNROLL_SET {

// The nonzeros of all samples in a block of columns, one sample after another, with the mask of each sample.
template <class T> struct Nonzeros {
  uint64_t* masks;
  T* values;

  // Those of block q in the memory of a product, which has room for every value.
  static Nonzeros of_block(const ProductScratch<T>& scratch, int64_t q, int64_t samples) {
    return {scratch.masks + q * samples, scratch.values + q * samples * mask_bits};
  }
};

template <class T> void list_nonzeros(const Rows<T>& x, int64_t depth, const ProductScratch<T>& scratch) {
  for (int64_t q = 0; q < blocks(depth, mask_bits); ++q) {
    auto [mask, to] = Nonzeros<T>::of_block(scratch, q, x.count);
    const T* from = x.data + q * mask_bits;
    for (int64_t r = 0; r < x.count; ++r, from += x.stride) {
      *mask = rows_to_meet(x, r, q, depth, true);
      to = copy_selected(from, *mask++, to);
    }
  }
}

// sum += value * row k of the block, for each k of the mask and the next of the values.
template <Read How, class T>
inline void accumulate(Vector<T>* sums, const T* values, uint64_t mask, const Block<T>& block) {
  Vector<T> sum[panel_vectors];
  copy_vectors<panel_vectors>(sums, sum);
  for (; mask; mask &= mask - 1) {
    const int64_t k = __builtin_ctzll(mask);
    const Vector<T> value = broadcast_at(values++);
    const T* row = block.data + k * row_stride<How>(block);
#pragma GCC unroll 16
    for (int j = 0; j < panel_vectors; ++j)
      sum[j] = multiply_add(value, row_vector<How>(row, j, block.columns), sum[j]);
  }
  copy_vectors<panel_vectors>(sum, sums);
}

// Prefetches the block after one, which follows in memory, a part with each of `steps` steps while arithmetic runs.
class FetchAhead {
 public:
  template <class T>
  FetchAhead(const Block<T>& block, int64_t steps)
      : next_(reinterpret_cast<const char*>(block.data + block_rows * block.stride)),
        end_(next_ + block_rows * block.stride * int64_t(sizeof(T))),
        part_(blocks(end_ - next_, steps * line) * line) {}
  void step() {
    const char* const last = end_ - next_ < part_ ? end_ : next_ + part_;
    for (; next_ < last; next_ += line) __builtin_prefetch(next_);
  }

 private:
  static constexpr int64_t line = 64;
  const char *next_, *end_;
  int64_t part_;
};

struct FetchNothing {
  void step() const {}
};

// Block q of panel p for all samples.
template <Read How, class T, class Ahead, class Start, class Finish>
inline void visit(const Block<T>& block, const Factor<T>& w, const Rows<T>& x, int64_t p, int64_t q,
                  const ProductScratch<T>& scratch, Ahead ahead, const Start& start, const Finish& finish) {
  constexpr int width = panel_width<T>;
  const bool first = q == 0, last = (q + 1) * mask_bits >= w.depth;
  const auto nonzeros = Nonzeros<T>::of_block(scratch, q, x.count);
  const T* values = block.finite ? nonzeros.values : x.data + q * mask_bits;
  T* spill = scratch.spill;
  for (int64_t r = 0; r < x.count; ++r, spill += width) {
    ahead.step();
    Vector<T> sum[panel_vectors];
    if (first)
      start.template load_at<panel_vectors>(r, p * width, sum);
    else
      for (int j = 0; j < panel_vectors; ++j) sum[j] = load(spill + j * lanes<T>);
    const uint64_t mask = block.finite ? nonzeros.masks[r] : inside(q, w.depth);
    accumulate<How>(sum, values, mask, block);
    values += block.finite ? __builtin_popcountll(mask) : x.stride;
    if (last)
      finish.template store_at<panel_vectors>(r, p * width, sum);
    else
      for (int j = 0; j < panel_vectors; ++j) store(spill + j * lanes<T>, sum[j]);
  }
}

// Weights that are near come in time by themselves.
template <class T, class Start, class Finish>
void product_masked(const Factor<T>& w, const Rows<T>& x, Range panels, const ProductScratch<T>& scratch,
                    const Start& start, const Finish& finish) {
  list_nonzeros(x, w.depth, scratch);
  for (int64_t p = panels.first; p < panels.last; ++p) {
    for (int64_t k = 0; k < w.depth; k += mask_bits) {
      const int64_t left = w.depth - k;
      const Block<T> block = w.block(p, k, left < mask_bits ? left : mask_bits, scratch.buffer);
      with_reading(w, block, [&](auto how) {
        constexpr Read read = decltype(how)::value;
        const auto visit_all = [&](auto ahead) {
          visit<read>(block, w, x, p, k / mask_bits, scratch, ahead, start, finish);
        };
        if constexpr (read == Read::packed || read == Read::bfloat16)
          if (w.panels && w.far) return visit_all(FetchAhead(block, x.count));
        visit_all(FetchNothing());
      });
    }
  }
}

}  // namespace fastunroll::FASTUNROLL_SET
