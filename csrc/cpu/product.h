// x W for a tile of samples, the product behind every operation, in three kernels that give the same bits.
//
//   masked    steps through the nonzeros of x by a 64-bit mask for each sample and block of 64 rows of W. A block of
//             64 rows by 8 vectors stays in the level-1 cache while all samples of the tile pass over it; a sample's
//             accumulators wait in memory between blocks.
//   streamed  does the same for few samples or nonzeros: a sample keeps its accumulators in registers over the whole
//             depth.
//   dense     keeps 6 samples by a few vectors in registers over the whole depth.
//
// All add k in ascending order into one accumulator an output, starting from start(row, column), so that skipping
// the zeros changes nothing. finish.store_at(row, column, accumulators) stores the result.
#pragma once
#include "cpu/panels.h"

namespace fastunroll::FASTUNROLL_SET {

constexpr int mask_bits = block_rows;

// The left factor: `count` rows of `depth` values, with masks of their nonzeros.
template <class T> struct Rows {
  const T* data;
  int64_t stride;
  int64_t count;
  const uint64_t* masks;  // count rows of `words`, or null if there is nothing to skip
  int64_t words;          // at least blocks(depth, mask_bits)
};

// The panels first .. last - 1 of a factor.
struct Range {
  int64_t first, last;
};

template <class T> struct ProductScratch {
  T* spill;   // a panel width for each row of x
  T* buffer;  // a packed panel of the factor, unless all factors are packed
};

// Sets bit c of `words` for each nonzero lane of `Count` vectors that begin at `column`; the bits must be clear.
template <int Count, class T> inline void mark(uint64_t* words, int64_t column, const Vector<T>* v) {
  uint64_t word = 0;
  for (int j = 0; j < Count; ++j) {
    const int64_t c = column + j * lanes<T>;
    word |= uint64_t(nonzero_bits(v[j])) << (c % mask_bits);
    if (j + 1 == Count || (c + lanes<T>) % mask_bits == 0) {
      words[c / mask_bits] |= word;
      word = 0;
    }
  }
}

// Marks the nonzeros of a row of `size` values that was written without marking.
template <class T> inline void mark_row(uint64_t* words, int64_t count, const T* x, int64_t size) {
  memset(words, 0, size_t(count) * sizeof(uint64_t));
  for (int64_t c = 0; c < size; c += lanes<T>) {
    const Vector<T> v = load_some(x + c, size - c);
    mark<1, T>(words, c, &v);
  }
}

// The bits of word q of a mask that stand for columns. The padding of a tile may hold NaN or old memory: its bits are
// not counted, and no kernel reads rows for them.
inline uint64_t inside(int64_t q, int64_t columns) {
  const int64_t left = columns - q * mask_bits;
  return ~uint64_t(0) >> (left < mask_bits ? mask_bits - left : 0);
}

inline int64_t count_nonzeros(const uint64_t* masks, int64_t columns) {
  int64_t count = 0;
  for (int64_t q = 0; q < blocks(columns, mask_bits); ++q) count += __builtin_popcountll(masks[q] & inside(q, columns));
  return count;
}

// The rows of word q by which a value of x is multiplied.
template <class T> inline uint64_t rows_to_meet(const Rows<T>& x, int64_t r, int64_t q, int64_t depth, bool finite) {
  return x.masks && finite ? x.masks[r * x.words + q] & inside(q, depth) : inside(q, depth);
}

// sum += values[k] * row k of the block, for each k of the mask.
template <Read How, class T>
inline void accumulate(Vector<T>* sum, const T* values, uint64_t mask, const Block<T>& block) {
  for (; mask; mask &= mask - 1) {
    const int64_t k = __builtin_ctzll(mask);
    const Vector<T> value = broadcast(values[k]);
    const T* row = block.data + k * row_stride<How>(block);
#pragma GCC unroll 8
    for (int j = 0; j < panel_vectors; ++j)
      sum[j] = multiply_add(value, row_vector<How>(row, j, block.columns), sum[j]);
  }
}

template <Read How> struct Reading {
  static constexpr Read value = How;
};

// Calls work with the way to read a block.
template <class T, class Work> inline void with_reading(const Factor<T>& w, const Block<T>& block, const Work& work) {
  if constexpr (sizeof(T) == 4)
    if (w.panels && w.bfloat16) return work(Reading<Read::bfloat16>());
  if (block.columns < panel_width<T>)
    work(Reading<Read::cut>());
  else if (block.stride == panel_width<T>)
    work(Reading<Read::packed>());
  else
    work(Reading<Read::in_place>());
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
inline void visit(const Block<T>& block, const Factor<T>& w, const Rows<T>& x, int64_t p, int64_t q, T* spill,
                  Ahead ahead, const Start& start, const Finish& finish) {
  constexpr int width = panel_width<T>;
  const bool first = q == 0, last = (q + 1) * mask_bits >= w.depth;
  const T* values = x.data + q * mask_bits;
  for (int64_t r = 0; r < x.count; ++r, values += x.stride, spill += width) {
    ahead.step();
    Vector<T> sum[panel_vectors];
    for (int j = 0; j < panel_vectors; ++j)
      sum[j] = first ? start(r, p * width + j * lanes<T>) : load(spill + j * lanes<T>);
    accumulate<How>(sum, values, rows_to_meet(x, r, q, w.depth, block.finite), block);
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
  for (int64_t p = panels.first; p < panels.last; ++p) {
    for (int64_t k = 0; k < w.depth; k += mask_bits) {
      const int64_t left = w.depth - k;
      const Block<T> block = w.block(p, k, left < mask_bits ? left : mask_bits, scratch.buffer);
      with_reading(w, block, [&](auto how) {
        constexpr Read read = decltype(how)::value;
        const auto visit_all = [&](auto ahead) {
          visit<read>(block, w, x, p, k / mask_bits, scratch.spill, ahead, start, finish);
        };
        if (w.panels && w.far)
          visit_all(FetchAhead(block, x.count));
        else
          visit_all(FetchNothing());
      });
    }
  }
}

// With 32 registers two panels are streamed side by side.
constexpr int streamed_panels = vector_registers == 32 ? 2 : 1;

template <Read How, int Count, class T, class Start, class Finish>
inline void stream_panels(const Factor<T>& w, const Rows<T>& x, int64_t p, const Start& start, const Finish& finish) {
  constexpr int width = panel_width<T>;
  Block<T> block[Count];
  for (int i = 0; i < Count; ++i) block[i] = w.block(p + i, 0, w.depth, nullptr);
  for (int64_t r = 0; r < x.count; ++r) {
    Vector<T> sum[Count][panel_vectors];
    for (int i = 0; i < Count; ++i)
      for (int j = 0; j < panel_vectors; ++j) sum[i][j] = start(r, (p + i) * width + j * lanes<T>);
    for (int64_t q = 0; q < blocks(w.depth, mask_bits); ++q) {
      const T* values = x.data + r * x.stride + q * mask_bits;
      uint64_t mask = rows_to_meet(x, r, q, w.depth, w.finite);
      for (; mask; mask &= mask - 1) {
        const int64_t k = __builtin_ctzll(mask);
        const Vector<T> value = broadcast(values[k]);
#pragma GCC unroll 2
        for (int i = 0; i < Count; ++i) {
          const T* row = block[i].data + (q * mask_bits + k) * row_stride<How>(block[i]);
#pragma GCC unroll 8
          for (int j = 0; j < panel_vectors; ++j)
            sum[i][j] = multiply_add(value, row_vector<How>(row, j, 0), sum[i][j]);
        }
      }
    }
    for (int i = 0; i < Count; ++i) finish.template store_at<panel_vectors>(r, (p + i) * width, sum[i]);
  }
}

// For a packed factor.
template <class T, class Start, class Finish>
void product_streamed(const Factor<T>& w, const Rows<T>& x, Range panels, const Start& start, const Finish& finish) {
  with_reading(w, w.block(panels.first, 0, w.depth, nullptr), [&](auto how) {
    constexpr Read read = decltype(how)::value;
    if constexpr (read == Read::packed || read == Read::bfloat16) {
      int64_t p = panels.first;
      for (; p + streamed_panels <= panels.last; p += streamed_panels)
        stream_panels<read, streamed_panels>(w, x, p, start, finish);
      for (; p < panels.last; ++p) stream_panels<read, 1>(w, x, p, start, finish);
    }
  });
}

template <class T> constexpr int dense_vectors = vector_registers == 32 ? 4 : 2;
constexpr int dense_rows = 6;

template <int R, Read How, class T, class Start, class Finish>
inline void dense_block(const Block<T>& panel, int64_t depth, int64_t offset, const Rows<T>& x, int64_t first,
                        int64_t column, const Start& start, const Finish& finish) {
  constexpr int count = dense_vectors<T>;
  Vector<T> sum[R][count];
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < count; ++j) sum[r][j] = start(first + r, column + j * lanes<T>);
  const T* values = x.data + first * x.stride;
  const T* row = panel.data + (How == Read::bfloat16 ? offset / 2 : offset);
  for (int64_t k = 0; k < depth; ++k, row += row_stride<How>(panel)) {
    Vector<T> weights[count];
    for (int j = 0; j < count; ++j) weights[j] = row_vector<How>(row, j, panel.columns - offset);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const Vector<T> value = broadcast(values[r * x.stride + k]);
#pragma GCC unroll 4
      for (int j = 0; j < count; ++j) sum[r][j] = multiply_add(value, weights[j], sum[r][j]);
    }
  }
  for (int r = 0; r < R; ++r) finish.template store_at<count>(first + r, column, sum[r]);
}

template <class T, class Start, class Finish>
void product_dense(const Factor<T>& w, const Rows<T>& x, Range panels, const ProductScratch<T>& scratch,
                   const Start& start, const Finish& finish) {
  constexpr int width = panel_width<T>;
  const int64_t groups = blocks(x.count, dense_rows);
  for (int64_t p = panels.first; p < panels.last; ++p) {
    const Block<T> panel = w.block(p, 0, w.depth, scratch.buffer);
    for (int64_t c = 0; c < width; c += dense_vectors<T> * lanes<T>) {
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t first = x.count * g / groups;
        const auto block = [&](auto rows) {
          constexpr int count = decltype(rows)::value;
          with_reading(w, panel, [&](auto how) {
            dense_block<count, decltype(how)::value>(panel, w.depth, c, x, first, p * width + c, start, finish);
          });
        };
        switch (x.count * (g + 1) / groups - first) {
          case 1:
            block(Constant<1>());
            break;
          case 2:
            block(Constant<2>());
            break;
          case 3:
            block(Constant<3>());
            break;
          case 4:
            block(Constant<4>());
            break;
          case 5:
            block(Constant<5>());
            break;
          default:
            block(Constant<6>());
            break;
        }
      }
    }
  }
}

// The fraction of x that is not zero.
template <class T> inline double density(const Rows<T>& x, int64_t depth) {
  if (!x.masks) return 1;
  int64_t nonzeros = 0;
  for (int64_t r = 0; r < x.count; ++r) nonzeros += count_nonzeros(x.masks + r * x.words, depth);
  return double(nonzeros) / double(x.count * depth);
}

constexpr int64_t few_rows = 3;

// The density of x below which the product is streamed. Streaming reads only the rows of W that it needs, which pays if
// W is far. It moves accumulators only once: that is no gain if there is a single block, and a small one otherwise
// unless few samples pass over a block.
template <class T> inline double streamed_below(const Factor<T>& w, const Rows<T>& x) {
  constexpr int64_t some_rows = 8;
  return w.far || w.depth <= mask_bits || x.count < some_rows ? 0.13 : 0.06;
}

// `above` is the density from which the dense kernel is faster.
template <class T, class Start, class Finish>
void product(const Factor<T>& w, const Rows<T>& x, Range panels, const ProductScratch<T>& scratch, double above,
             const Start& start, const Finish& finish) {
  const bool few = x.count <= few_rows;
  const double share = few ? 0 : density(x, w.depth);
  if (w.panels && share < streamed_below(w, x))
    product_streamed(w, x, panels, start, finish);
  else if (!few && share > above)
    product_dense(w, x, panels, scratch, start, finish);
  else
    product_masked(w, x, panels, scratch, start, finish);
}

template <class T, class Start, class Finish>
void product(const Factor<T>& w, const Rows<T>& x, const ProductScratch<T>& scratch, double above, const Start& start,
             const Finish& finish) {
  product(w, x, Range{0, w.panel_count()}, scratch, above, start, finish);
}

}  // namespace fastunroll::FASTUNROLL_SET
