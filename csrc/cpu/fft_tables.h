// The tables of fast Fourier transforms. They are made once for each length and kept until the program ends.
#pragma once
#include <cstdint>

namespace fastunroll {

// A pass of a transform divides blocks of `length` numbers into `radix` blocks.
template <class T> struct FftPass {
  int radix;
  int64_t length;
  const T* twiddles;  // exp(-2 pi i j k / length) as pairs, for each j < length / radix and each k = 1 ... radix - 1
  const T* roots;     // cos and sin of 2 pi f k / radix as pairs, for each k and then each f of 1 ... radix / 2
};

// The forward transform is a decimation in frequency: it takes numbers in natural order and leaves frequencies in the
// order of `frequencies`. The inverse transform is its mirror image.
template <class T> struct Fft {
  int64_t size;
  int pass_count;
  FftPass<T> passes[48];
  const int32_t* frequencies;  // of each position
  const int32_t* positions;    // of each frequency
};

constexpr int max_fft_radix = 31;

// The tables of a length without prime factors above the largest radix; `uses_radix_8` says which radices the kernels
// of an instruction set have. Throws std::bad_alloc.
template <class T> const Fft<T>& fft_tables(int64_t size, bool uses_radix_8);

}  // namespace fastunroll
