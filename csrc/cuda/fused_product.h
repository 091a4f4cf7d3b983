// A product of a cluster of blocks: each has all of the samples' columns, and makes a part of the outputs.
//
// Weights come from the second-level cache straight into registers, each once to a block, some chunks ahead; warps
// share out the outputs, so that nobody waits for anybody within a product. Where samples are few, and the time that
// weights take to come is all there is, outputs are spread over more blocks, and `Split` warps share out the sums too.
// Matrices that all layers share can be kept in shared memory: each thread has there what it alone reads.
#pragma once
#include "cuda/fragments.h"

namespace fastunroll::cuda {

// `Tall` times 16 samples; `Chunks` of outputs to each `Split` of `Warps` in each of `Blocks`.
template <Precision P, int Tall, int Chunks, int Warps, int Blocks, int Split> struct FusedProduct {
  using Fragment = Fragments<P>;
  using Stored = typename Fragment::Stored;
  static constexpr int tall = Tall, warps = Warps, blocks = Blocks, threads = Warps * warp_size;
  static constexpr int samples = 16 * Tall, tiles = Chunks * Fragment::tiles, width = Fragment::width;
  static constexpr int capacity = Blocks * (Warps / Split) * Chunks * Fragment::chunk;  // of outputs
  static constexpr int ahead = tiles > 2 ? 2 : Tall == 1 ? 4 : 3;  // as far as registers go on every architecture
  static constexpr size_t exchange_size = Split > 1 ? size_t(threads) * Tall * tiles * sizeof(Words4) : 0;

  // What a thread has of a matrix of samples and outputs: of rows `row_of` the columns from `column_of` on.
  struct Own {
    float at[Tall][Chunks][2][width];
  };
  using Sums = float[Tall][tiles][4];

  FASTUNROLL_DEVICE static int row_of(int tall, int half) { return 16 * tall + 8 * half + lane() / 4; }
  // Blocks take turns, so that each has its part however few the outputs are.
  FASTUNROLL_DEVICE static int first_chunk() { return (warp() / Split * Blocks + cluster_rank<Blocks>()) * Chunks; }
  FASTUNROLL_DEVICE static bool makes(int outputs) { return first_chunk() * Fragment::chunk < outputs; }
  // Of the warps that have the same outputs one speaks for all.
  FASTUNROLL_DEVICE static bool speaks() { return warp() % Split == 0; }
  FASTUNROLL_DEVICE static int column_of(int chunk) {
    return (first_chunk() + chunk) * Fragment::chunk + width * (lane() % 4);
  }

  // Does something with every element of what a thread has, and its place in it.
  template <class Do> FASTUNROLL_DEVICE static void for_own(const Do& with) {
    FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) {
      FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
          keep_order();
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) with(i, j, h, e);
        }
      }
    }
  }

  FASTUNROLL_DEVICE static float& of_own(Sums& sums, int i, int j, int h, int e) {
    return sums[i][j * Fragment::tiles + e / 2][2 * h + e % 2];
  }

  // Bytes of a region with so many columns, a multiple of a chunk.
  FASTUNROLL_ANYWHERE static size_t region_size(int columns) {
    return size_t(samples) * size_t(columns) * sizeof(Stored);
  }

  FASTUNROLL_DEVICE static char* slab(char* region, int chunk, int part, int tall) {
    return region + size_t((chunk * 2 + part) * Tall + tall) * Fragment::slab;
  }

  // Fills a block's region: value(row, column) of all its columns.
  template <class Value> FASTUNROLL_DEVICE static void fill(char* region, int columns, const Value& value) {
    FASTUNROLL_ROLLED for (int c = warp(); c < columns / Fragment::chunk; c += Warps) {
      FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) {
        float own[2][width];
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
          keep_order();
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) own[h][e] =
              value(row_of(i, h), c * Fragment::chunk + width * (lane() % 4) + e);
        }
        FASTUNROLL_UNROLL for (int part = 0; part < 2; ++part) *
            reinterpret_cast<Words4*>(slab(region, c, part, i) + lane() * 16) = Fragment::words(own, part);
      }
    }
  }

  // Puts what a thread has of so many outputs into the region of every block of the cluster.
  FASTUNROLL_DEVICE static void share(char* region, int outputs, const Own& own) {
    if (!makes(outputs) || !speaks()) return;
    FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) {
      FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
        FASTUNROLL_UNROLL for (int part = 0; part < 2; ++part) {
          const Words4 words = Fragment::words(own.at[i][j], part);
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

  // Bytes of shared memory for such weights: of the threads that have outputs.
  FASTUNROLL_ANYWHERE static size_t kept_size(int outputs, int columns) {
    constexpr int at_once = Blocks * Chunks * Fragment::chunk;
    return size_t((outputs + at_once - 1) / at_once) * Split * kept_by_warp(columns);
  }
  FASTUNROLL_DEVICE static void keep(char* kept, int columns, const Stored* weights, int outputs, int stride,
                                     int first) {
    if (!makes(outputs)) return;
    const Rows rows(weights, stride, first);
    FASTUNROLL_ROLLED for (int c = warp() % Split; c < columns / Fragment::chunk; c += Split) {
      Words4 w[tiles];
      rows.load(w, c);
      FASTUNROLL_UNROLL for (int q = 0; q < tiles; ++q) * place_of(kept, columns, c, q) = w[q];
    }
  }
  // As add, with what was kept.
  FASTUNROLL_DEVICE static void add_kept(Sums& sums, const char* region, int columns, char* kept, int outputs,
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
      Fragment::apart(load_constant(from), out);
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
      *reinterpret_cast<Words4*>(to) = Fragment::together(values);
    } else {
      FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) if (column + e < columns) round_to(to[e], values[e]);
    }
  }

 private:
  // Where a thread finds its weights.
  class Rows {
   public:
    FASTUNROLL_DEVICE Rows(const Stored* weights, int stride, int first) {
      FASTUNROLL_UNROLL for (int q = 0; q < tiles; ++q) {
        const int output =
            (first_chunk() + q / Fragment::tiles) * Fragment::chunk + Fragment::output(q % Fragment::tiles);
        at_[q] = reinterpret_cast<const char*>(weights + size_t(output) * size_t(stride) + first) + lane() % 4 * 16;
      }
    }
    FASTUNROLL_DEVICE void load(Words4 (&w)[tiles], int chunk) const {
      FASTUNROLL_UNROLL for (int q = 0; q < tiles; ++q) w[q] = load_constant(at_[q] + size_t(chunk) * 64);
    }

   private:
    const char* at_[tiles];
  };

  FASTUNROLL_ANYWHERE static size_t kept_by_warp(int columns) {
    return size_t((columns / Fragment::chunk + Split - 1) / Split) * tiles * warp_size * sizeof(Words4);
  }
  FASTUNROLL_DEVICE static Words4* place_of(char* kept, int columns, int chunk, int tile) {
    return reinterpret_cast<Words4*>(kept + size_t(warp()) * kept_by_warp(columns)) +
           (chunk / Split * tiles + tile) * warp_size + lane();
  }

  // load(w, chunk) brings a thread's weights of a chunk of columns.
  template <class Load>
  FASTUNROLL_DEVICE static void add_from(const Load& load, Sums& sums, const char* region, int columns, int outputs,
                                         char* exchange) {
    if (!speaks()) for_own([&](int i, int j, int h, int e) { of_own(sums, i, j, h, e) = 0; });
    if (makes(outputs)) add_chunks(load, sums, region, columns / Fragment::chunk);
    if constexpr (Split > 1) combine(sums, exchange);
  }

  // Of every so many chunks one.
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
          Fragment::template multiply<Tall, tiles>(sums, region + size_t(c) * 2 * Tall * Fragment::slab, w[s]);
        }
      }
    }
  }

  // The sum over the warps that have the same outputs, in order, to all of them.
  FASTUNROLL_DEVICE static void combine(Sums& sums, char* exchange) {
    auto* const all = reinterpret_cast<Words4*>(exchange);
    const auto place = [](int w, int i, int q) { return ((w * Tall + i) * tiles + q) * warp_size + lane(); };
    FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) FASTUNROLL_UNROLL for (int q = 0; q < tiles; ++q)
        all[place(warp(), i, q)] = {
            {as_bits(sums[i][q][0]), as_bits(sums[i][q][1]), as_bits(sums[i][q][2]), as_bits(sums[i][q][3])}};
    sync_block();
    FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) {
      FASTUNROLL_UNROLL for (int q = 0; q < tiles; ++q) {
        FASTUNROLL_UNROLL for (int c = 0; c < 4; ++c) sums[i][q][c] = 0;
        FASTUNROLL_UNROLL for (int part = 0; part < Split; ++part) {
          const Words4 words = all[place(warp() / Split * Split + part, i, q)];
          FASTUNROLL_UNROLL for (int c = 0; c < 4; ++c) sums[i][q][c] += as_float(words.word[c]);
        }
      }
    }
    sync_block();  // all have read it
  }
};

}  // namespace fastunroll::cuda
