// A product by a cluster of blocks. Each block holds all columns of the samples and computes a part of the outputs.
//
// Each block loads its weights once, from the second-level cache straight into registers, some chunks ahead of the
// arithmetic. Warps divide the outputs, so no warp waits for another within a product. With few samples the loads take
// the most time: the outputs are then spread over more blocks, and `Split` warps divide the sums. Shared memory can
// hold matrices that all layers share; each thread then reads its own part of it.
#pragma once
#include "cuda/fragments.h"

namespace fastunroll::cuda {

// `RowTiles` times 16 samples; `Chunks` of outputs to each `Split` of `Warps` in each of `Blocks`.
template <Precision P, int RowTiles, int Chunks, int Warps, int Blocks, int Split> struct FusedProduct {
  using Core = TensorCore<P>;
  using Stored = typename Core::Stored;
  static constexpr int row_tiles = RowTiles, warps = Warps, blocks = Blocks, threads = Warps * warp_size;
  static constexpr int samples = 16 * RowTiles, tiles = Chunks * Core::tiles, width = Core::width;
  static constexpr int capacity = Blocks * (Warps / Split) * Chunks * Core::chunk;  // of outputs
  static constexpr int ahead = tiles > 2 ? 2 : RowTiles == 1 ? 4 : 3;  // as far as registers go on every architecture
  static constexpr size_t exchange_size = Split > 1 ? size_t(threads) * RowTiles * tiles * sizeof(Words4) : 0;

  // A thread's part of a matrix of samples and outputs: of the rows `row_of` the columns from `column_of` on.
  struct Fragment {
    float at[RowTiles][Chunks][2][width];
  };
  using Sums = float[RowTiles][tiles][4];

  FASTUNROLL_DEVICE static int row_of(int row_tiles, int half) { return 16 * row_tiles + 8 * half + lane() / 4; }
  // The blocks take turns, so that each gets a part of few outputs too.
  FASTUNROLL_DEVICE static int first_chunk() { return (warp() / Split * Blocks + cluster_rank<Blocks>()) * Chunks; }
  FASTUNROLL_DEVICE static bool has_outputs(int outputs) { return first_chunk() * Core::chunk < outputs; }
  // Split warps share outputs; only the first one writes them.
  FASTUNROLL_DEVICE static bool is_writer() { return warp() % Split == 0; }
  FASTUNROLL_DEVICE static int column_of(int chunk) {
    return (first_chunk() + chunk) * Core::chunk + width * (lane() % 4);
  }

  // Calls with(i, j, h, e) for every element of a fragment.
  template <class Do> FASTUNROLL_DEVICE static void for_fragment(const Do& with) {
    FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) {
      FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
          keep_order();
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) with(i, j, h, e);
        }
      }
    }
  }

  FASTUNROLL_DEVICE static float& in_fragment(Sums& sums, int i, int j, int h, int e) {
    return sums[i][j * Core::tiles + e / 2][2 * h + e % 2];
  }

  // The bytes of a region with this number of columns, a multiple of a chunk.
  FASTUNROLL_ANYWHERE static size_t region_size(int columns) {
    return size_t(samples) * size_t(columns) * sizeof(Stored);
  }

  FASTUNROLL_DEVICE static char* slab(char* region, int chunk, int part, int row_tiles) {
    return region + size_t((chunk * 2 + part) * RowTiles + row_tiles) * Core::slab;
  }

  // Fills a block's region: value(row, column) of all its columns.
  template <class Value> FASTUNROLL_DEVICE static void fill(char* region, int columns, const Value& value) {
    FASTUNROLL_ROLLED for (int c = warp(); c < columns / Core::chunk; c += Warps) {
      FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) {
        float own[2][width];
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
          keep_order();
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) own[h][e] =
              value(row_of(i, h), c * Core::chunk + width * (lane() % 4) + e);
        }
        FASTUNROLL_UNROLL for (int part = 0; part < 2; ++part) *
            reinterpret_cast<Words4*>(slab(region, c, part, i) + lane() * 16) = Core::words(own, part);
      }
    }
  }

  // Writes a thread's fragment of the outputs to the region of every block of the cluster.
  FASTUNROLL_DEVICE static void share(char* region, int outputs, const Fragment& own) {
    if (!has_outputs(outputs) || !is_writer()) return;
    FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) {
      FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
        FASTUNROLL_UNROLL for (int part = 0; part < 2; ++part) {
          const Words4 words = Core::words(own.at[i][j], part);
          auto* const to = reinterpret_cast<Words4*>(slab(region, first_chunk() + j, part, i) + lane() * 16);
          FASTUNROLL_UNROLL for (int block = 0; block < Blocks; ++block) store_to_peer<Blocks>(to, block, words);
        }
      }
    }
  }

  // sums += region x weights; `weights` is (outputs, stride), and its columns from `first` on go with the region's.
  // All threads come here; `exchange` is shared memory of that size.
  FASTUNROLL_DEVICE static void add(Sums& sums, const char* region, int columns, const Stored* weights, int outputs,
                                    int stride, int first, char* exchange) {
    const Rows rows(weights, stride, first);
    add_from([&](Words4(&w)[tiles], int chunk) { rows.load(w, chunk); }, sums, region, columns, outputs, exchange);
  }

  // The bytes of shared memory for such weights.
  FASTUNROLL_ANYWHERE static size_t smem_size(int outputs, int columns) {
    constexpr int at_once = Blocks * Chunks * Core::chunk;
    return size_t((outputs + at_once - 1) / at_once) * Split * smem_of_warp(columns);
  }
  FASTUNROLL_DEVICE static void copy_to_smem(char* kept, int columns, const Stored* weights, int outputs, int stride,
                                             int first) {
    if (!has_outputs(outputs)) return;
    const Rows rows(weights, stride, first);
    FASTUNROLL_ROLLED for (int c = warp() % Split; c < columns / Core::chunk; c += Split) {
      Words4 w[tiles];
      rows.load(w, c);
      FASTUNROLL_UNROLL for (int q = 0; q < tiles; ++q) * place_of(kept, columns, c, q) = w[q];
    }
  }
  // The same as add, with weights from shared memory.
  FASTUNROLL_DEVICE static void add_from_smem(Sums& sums, const char* region, int columns, char* kept, int outputs,
                                              char* exchange) {
    const auto load = [&](Words4(&w)[tiles], int chunk) {
      FASTUNROLL_UNROLL for (int q = 0; q < tiles; ++q) w[q] = *place_of(kept, columns, chunk, q);
    };
    add_from(load, sums, region, columns, outputs, exchange);
  }

  // A thread's columns of a sample in an array of (batch, columns), which may be missing; zero beyond it. Its rows are
  // `step` times as long.
  FASTUNROLL_DEVICE static void read(const Stored* array, int64_t sample, int64_t batch, int column, int columns,
                                     float (&out)[width], int step = 1) {
    const bool exists = array && sample < batch && column < columns;
    const Stored* const from = array + sample * step * columns + column;
    if (exists && columns % width == 0) {
      Core::apart(load_constant(from), out);
    } else {
      FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) out[e] =
          exists && column + e < columns ? value_of(from[e]) : 0.0f;
    }
  }
  FASTUNROLL_DEVICE static void store(Stored* array, int64_t sample, int64_t batch, int column, int columns,
                                      const float (&values)[width], int step = 1) {
    if (!array || sample >= batch || column >= columns) return;
    Stored* const to = array + sample * step * columns + column;
    if (columns % width == 0) {
      *reinterpret_cast<Words4*>(to) = Core::together(values);
    } else {
      FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) if (column + e < columns) round_to(to[e], values[e]);
    }
  }

 private:
  // The addresses of a thread's weights.
  class Rows {
   public:
    FASTUNROLL_DEVICE Rows(const Stored* weights, int stride, int first) {
      FASTUNROLL_UNROLL for (int q = 0; q < tiles; ++q) {
        const int output = (first_chunk() + q / Core::tiles) * Core::chunk + Core::output(q % Core::tiles);
        at_[q] = reinterpret_cast<const char*>(weights + size_t(output) * size_t(stride) + first) + lane() % 4 * 16;
      }
    }
    FASTUNROLL_DEVICE void load(Words4 (&w)[tiles], int chunk) const {
      FASTUNROLL_UNROLL for (int q = 0; q < tiles; ++q) w[q] = load_constant(at_[q] + size_t(chunk) * 64);
    }

   private:
    const char* at_[tiles];
  };

  FASTUNROLL_ANYWHERE static size_t smem_of_warp(int columns) {
    return size_t((columns / Core::chunk + Split - 1) / Split) * tiles * warp_size * sizeof(Words4);
  }
  FASTUNROLL_DEVICE static Words4* place_of(char* kept, int columns, int chunk, int tile) {
    return reinterpret_cast<Words4*>(kept + size_t(warp()) * smem_of_warp(columns)) +
           (chunk / Split * tiles + tile) * warp_size + lane();
  }

  // load(w, chunk) loads a thread's weights of a chunk of columns.
  template <class Load>
  FASTUNROLL_DEVICE static void add_from(const Load& load, Sums& sums, const char* region, int columns, int outputs,
                                         char* exchange) {
    if (!is_writer()) for_fragment([&](int i, int j, int h, int e) { in_fragment(sums, i, j, h, e) = 0; });
    if (has_outputs(outputs)) add_chunks(load, sums, region, columns / Core::chunk);
    if constexpr (Split > 1) combine(sums, exchange);
  }

  // Every Split-th chunk.
  template <class Load>
  FASTUNROLL_DEVICE static void add_chunks(const Load& load, Sums& sums, const char* region, int chunks) {
    const int part = warp() % Split;
    Words4 w[ahead][tiles];
    FASTUNROLL_UNROLL for (int s = 0; s < ahead - 1; ++s) if (part + s * Split < chunks) load(w[s], part + s * Split);
    FASTUNROLL_ROLLED for (int from = part; from < chunks; from += ahead * Split) {
      FASTUNROLL_UNROLL for (int s = 0; s < ahead; ++s) {
        const int c = from + s * Split, next = c + (ahead - 1) * Split;
        if (c < chunks) {
          if (next < chunks) load(w[(s + ahead - 1) % ahead], next);
          Core::template multiply<RowTiles, tiles>(sums, region + size_t(c) * 2 * RowTiles * Core::slab, w[s]);
        }
      }
    }
  }

  // Gives the warps that share outputs the sum over all of them, in a fixed order.
  FASTUNROLL_DEVICE static void combine(Sums& sums, char* exchange) {
    auto* const all = reinterpret_cast<Words4*>(exchange);
    const auto place = [](int w, int i, int q) { return ((w * RowTiles + i) * tiles + q) * warp_size + lane(); };
    FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) FASTUNROLL_UNROLL for (int q = 0; q < tiles; ++q)
        all[place(warp(), i, q)] = {
            {as_bits(sums[i][q][0]), as_bits(sums[i][q][1]), as_bits(sums[i][q][2]), as_bits(sums[i][q][3])}};
    sync_block();
    FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) {
      FASTUNROLL_UNROLL for (int q = 0; q < tiles; ++q) {
        FASTUNROLL_UNROLL for (int c = 0; c < 4; ++c) sums[i][q][c] = 0;
        FASTUNROLL_UNROLL for (int part = 0; part < Split; ++part) {
          const Words4 words = all[place(warp() / Split * Split + part, i, q)];
          FASTUNROLL_UNROLL for (int c = 0; c < 4; ++c) sums[i][q][c] += as_float(words.word[c]);
        }
      }
    }
    sync_block();  // all threads have read the exchange
  }
};

}  // namespace fastunroll::cuda
