// The layout of samples for tensor cores, in which the result of one layer is the operand of the next.
//
// A chunk is 64 bytes of columns. Each of the four threads of a row holds 16 bytes of it, which are neighbours in
// memory; the order of columns does not matter to tensor cores. A thread therefore reads rows of weights 16 bytes at a
// time, and its accumulators have the columns that it feeds into the next product.
#pragma once
#include "cuda/device.h"

#if defined(__CUDACC__)
#define FASTUNROLL_UNROLL _Pragma("unroll")
#define FASTUNROLL_ROLLED _Pragma("unroll 1")  // to use fewer registers
#else
#define FASTUNROLL_UNROLL
#define FASTUNROLL_ROLLED
#endif

namespace fastunroll::cuda {

template <Precision P> struct StoredAs {
  using type = float;
};
template <> struct StoredAs<Precision::bfloat16> {
  using type = Bfloat16;
};

template <Precision P> struct TensorCore {
  using Stored = typename StoredAs<P>::type;
  static constexpr int width = 16 / sizeof(Stored);  // columns of a thread
  static constexpr int chunk = 4 * width;            // columns
  static constexpr int tiles = chunk / 8;            // of 8 outputs, to a chunk
  static constexpr int slab = 512;                   // bytes: half a chunk of 16 samples

  // Converts a thread's columns to the words of memory, and back.
  FASTUNROLL_DEVICE static Words4 together(const float (&of)[width]) {
    Words4 out;
    FASTUNROLL_UNROLL for (int i = 0; i < 4; ++i) {
      if constexpr (P == Precision::bfloat16)
        out.word[i] = bf16_pair(of[2 * i], of[2 * i + 1]);
      else
        out.word[i] = as_bits(of[i]);
    }
    return out;
  }
  FASTUNROLL_DEVICE static void apart(const Words4& words, float (&out)[width]) {
    FASTUNROLL_UNROLL for (int i = 0; i < 4; ++i) {
      if constexpr (P == Precision::bfloat16) {
        out[2 * i] = as_float(words.word[i] << 16);
        out[2 * i + 1] = as_float(words.word[i] & 0xffff0000u);
      } else {
        out[i] = as_float(words.word[i]);
      }
    }
  }

  // The words of half `part` of a chunk, from a thread's columns of row `lane / 4` and of the row 8 below.
  FASTUNROLL_DEVICE static Words4 words(const float (&of)[2][width], int part) {
    Words4 out;
    FASTUNROLL_UNROLL for (int word = 0; word < 4; ++word) {
      const int half = word % 2, at = word / 2;
      if constexpr (P == Precision::bfloat16)
        out.word[word] = bf16_pair(of[half][4 * part + 2 * at], of[half][4 * part + 2 * at + 1]);
      else if constexpr (P == Precision::tf32)
        out.word[word] = tf32(quiet(of[half][2 * part + at]));
      else
        out.word[word] = as_bits(of[half][2 * part + at]);
    }
    return out;
  }

  // The output of which a thread reads the weights, in a chunk and tile.
  FASTUNROLL_DEVICE static int output(int tile) {
    const int g = lane() / 4;
    return width * (g / 2) + 2 * tile + g % 2;
  }

  // acc += samples x weights over a chunk: `samples` is the address of its slabs, with `RowTiles` of them for each
  // half.
  template <int RowTiles, int Tiles>
  FASTUNROLL_DEVICE static void multiply(float (&acc)[RowTiles][Tiles][4], const char* samples,
                                         const Words4 (&w)[Tiles]) {
    FASTUNROLL_UNROLL for (int part = 0; part < 2; ++part) {
      FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) {
        const auto a = *reinterpret_cast<const Words4*>(samples + (part * RowTiles + i) * slab + lane() * 16);
        FASTUNROLL_UNROLL for (int q = 0; q < Tiles; ++q) {
          const uint32_t b0 = w[q].word[2 * part], b1 = w[q].word[2 * part + 1];
          if constexpr (P == Precision::bfloat16)
            multiply_bf16(acc[i][q], a.word, b0, b1);
          else if constexpr (P == Precision::tf32)
            multiply_tf32(acc[i][q], a.word, tf32(as_float(b0)), tf32(as_float(b1)));
          else
            multiply_exactly(acc[i][q], a.word, b0, b1);
        }
      }
    }
  }

 private:
  // a b = (a' + a")(b' + b") without a" b", where tf32 holds a' and b' exactly; the small terms first. Tensor cores
  // round their sums towards zero, so the sum over columns is made outside of them.
  FASTUNROLL_DEVICE static void multiply_exactly(float (&acc)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    uint32_t large[4], small[4];
    FASTUNROLL_UNROLL for (int i = 0; i < 4; ++i) {
      const float value = as_float(a[i]), most = rounded_to_tf32(value);
      large[i] = as_bits(most);
      small[i] = as_bits(value - most);
    }
    const float most0 = rounded_to_tf32(as_float(b0)), most1 = rounded_to_tf32(as_float(b1));
    float sum[4] = {};
    multiply_tf32(sum, small, as_bits(most0), as_bits(most1));
    multiply_tf32(sum, large, as_bits(as_float(b0) - most0), as_bits(as_float(b1) - most1));
    multiply_tf32(sum, large, as_bits(most0), as_bits(most1));
    FASTUNROLL_UNROLL for (int i = 0; i < 4; ++i) acc[i] += sum[i];
  }
};

}  // namespace fastunroll::cuda
