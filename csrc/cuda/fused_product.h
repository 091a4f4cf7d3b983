// A product of a cluster of blocks: each has all of the samples' columns, and makes a part of the outputs.
//
// Weights come from the second-level cache straight into registers, each once to a block, some chunks ahead; warps
// share out the outputs, so that nobody waits for anybody within a product.
#pragma once
#include "cuda/fragments.h"

namespace fastunroll::cuda {

// `Tall` times 16 samples; `Chunks` of outputs to each of `Warps` in each of `Blocks`.
template <Precision P, int Tall, int Chunks, int Warps, int Blocks> struct FusedProduct {
  using Fragment = Fragments<P>;
  using Stored = typename Fragment::Stored;
  static constexpr int threads = Warps * warp_size;
  static constexpr int samples = 16 * Tall, tiles = Chunks * Fragment::tiles, width = Fragment::width;
  static constexpr int capacity = Blocks * Warps * Chunks * Fragment::chunk;  // of outputs
  static constexpr int ahead = 3;

  // What a thread has of a matrix of samples and outputs: of rows `row_of` the columns from `column_of` on.
  struct Own {
    float at[Tall][Chunks][2][width];
  };
  using Sums = float[Tall][tiles][4];

  FASTUNROLL_DEVICE static int row_of(int tall, int half) { return 16 * tall + 8 * half + lane() / 4; }
  FASTUNROLL_DEVICE static int first_chunk() { return (cluster_rank<Blocks>() * Warps + warp()) * Chunks; }
  FASTUNROLL_DEVICE static int column_of(int chunk) {
    return (first_chunk() + chunk) * Fragment::chunk + width * (lane() % 4);
  }

  // Does something with every element of what a thread has, and its place in it.
  template <class Do> FASTUNROLL_DEVICE static void for_own(const Do& with) {
    FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j)
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) FASTUNROLL_UNROLL for (int e = 0; e < width; ++e)
            with(i, j, h, e);
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
    for (int c = warp(); c < columns / Fragment::chunk; c += Warps) {
      FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) {
        float own[2][width];
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) own[h][e] =
            value(row_of(i, h), c * Fragment::chunk + width * (lane() % 4) + e);
        FASTUNROLL_UNROLL for (int part = 0; part < 2; ++part) *
            reinterpret_cast<Words4*>(slab(region, c, part, i) + lane() * 16) = Fragment::words(own, part);
      }
    }
  }

  // Puts what a thread has into the region of every block of the cluster.
  FASTUNROLL_DEVICE static void share(char* region, const Own& own) {
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
  FASTUNROLL_DEVICE static void add(Sums& sums, const char* region, int columns, const Stored* weights, int stride,
                                    int first) {
    const char* rows[tiles];
    FASTUNROLL_UNROLL for (int q = 0; q < tiles; ++q) {
      const int output =
          (first_chunk() + q / Fragment::tiles) * Fragment::chunk + Fragment::output(q % Fragment::tiles);
      rows[q] = reinterpret_cast<const char*>(weights + size_t(output) * size_t(stride) + first) + lane() % 4 * 16;
    }
    const int chunks = columns / Fragment::chunk;
    Words4 w[ahead][tiles];
    FASTUNROLL_UNROLL for (int s = 0; s < ahead - 1; ++s) if (s < chunks) load(w[s], rows, s);
    for (int from = 0; from < chunks; from += ahead) {
      FASTUNROLL_UNROLL for (int s = 0; s < ahead; ++s) {
        const int c = from + s;
        if (c < chunks) {
          if (c + ahead - 1 < chunks) load(w[(s + ahead - 1) % ahead], rows, c + ahead - 1);
          Fragment::template multiply<Tall, tiles>(sums, region + size_t(c) * 2 * Tall * Fragment::slab, w[s]);
        }
      }
    }
  }

  // A thread's columns of a sample in an array of (batch, columns), which may be missing; zero beyond it.
  FASTUNROLL_DEVICE static void read(const Stored* array, int64_t sample, int64_t batch, int column, int columns,
                                     float (&out)[width]) {
    const bool exists = array && sample < batch && column < columns;
    const Stored* const from = array + sample * columns + column;
    if (exists && columns % width == 0) {
      Fragment::apart(load_constant(from), out);
    } else {
      FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) out[e] =
          exists && column + e < columns ? value_of(from[e]) : 0.0f;
    }
  }
  FASTUNROLL_DEVICE static void store(Stored* array, int64_t sample, int64_t batch, int column, int columns,
                                      const float (&values)[width]) {
    if (!array || sample >= batch || column >= columns) return;
    Stored* const to = array + sample * columns + column;
    if (columns % width == 0) {
      *reinterpret_cast<Words4*>(to) = Fragment::together(values);
    } else {
      FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) if (column + e < columns) round_to(to[e], values[e]);
    }
  }

 private:
  FASTUNROLL_DEVICE static void load(Words4 (&w)[tiles], const char* const (&rows)[tiles], int chunk) {
    FASTUNROLL_UNROLL for (int q = 0; q < tiles; ++q) w[q] = load_constant(rows[q] + size_t(chunk) * 64);
  }
};

}  // namespace fastunroll::cuda
