// A fast Fourier transform of as many signals as a vector has lanes.
//
// A point holds one number of each signal, the real parts and then the imaginary parts. The forward transform leaves
// frequencies where its passes put them, and the inverse transform takes them from there, so that nothing is permuted.
// Both are unnormalised. Blocks that exceed the first cache go through one pass, then part by part through the others.
#pragma once
#include "cpu/fft_tables.h"
#include "cpu/simd.h"

// Vectors stay in registers only where functions that take them by address are inlined.
#define FASTUNROLL_INLINE __attribute__((always_inline))

namespace fastunroll::FASTUNROLL_SET {

constexpr bool uses_radix_8 = vector_registers >= 32;

// A complex number in each lane.
template <class T> struct Complex {
  Vector<T> re, im;
};

template <class T> constexpr int point_size = 2 * lanes<T>;

template <class T> inline Complex<T> load_point(const T* p) { return {load(p), load(p + lanes<T>)}; }
template <class T> inline void store_point(T* p, Complex<T> a) {
  store(p, a.re);
  store(p + lanes<T>, a.im);
}

template <class T> inline Complex<T> operator+(Complex<T> a, Complex<T> b) { return {a.re + b.re, a.im + b.im}; }
template <class T> inline Complex<T> operator-(Complex<T> a, Complex<T> b) { return {a.re - b.re, a.im - b.im}; }
template <class T> inline Complex<T> operator*(Vector<T> s, Complex<T> a) { return {s * a.re, s * a.im}; }

// a + i b, or a - i b
template <bool Plus, class T> inline Complex<T> add_times_i(Complex<T> a, Complex<T> b) {
  if constexpr (Plus) return {a.re - b.im, a.im + b.re};
  return {a.re + b.im, a.im - b.re};
}

// a w, or a conj(w)
template <bool Conjugate, class T> inline Complex<T> times(Complex<T> a, Complex<T> w) {
  if constexpr (Conjugate) return {multiply_add(a.re, w.re, a.im * w.im), multiply_add(a.im, w.re, -(a.re * w.im))};
  return {multiply_add(a.re, w.re, -(a.im * w.im)), multiply_add(a.im, w.re, a.re * w.im)};
}
template <bool Conjugate, class T> inline Complex<T> times(Complex<T> a, const T* w) {
  return times<Conjugate>(a, Complex<T>{broadcast(w[0]), broadcast(w[1])});
}

// --- transforms of one length in registers, in natural order -------------------------------------------------------

template <int Radix, bool Inverse> struct Butterfly;

template <bool Inverse> struct Butterfly<2, Inverse> {
  template <class T> FASTUNROLL_INLINE static void apply(Complex<T>* x) {
    const Complex<T> a = x[0], b = x[1];
    x[0] = a + b;
    x[1] = a - b;
  }
};

template <bool Inverse> struct Butterfly<3, Inverse> {
  template <class T> FASTUNROLL_INLINE static void apply(Complex<T>* x) {
    const Vector<T> half = broadcast(T(-0.5)), sine = broadcast(T(0.866025403784438646763723170752936183L));
    const Complex<T> sum = x[1] + x[2], odd = sine * (x[1] - x[2]);
    const Complex<T> even = {multiply_add(half, sum.re, x[0].re), multiply_add(half, sum.im, x[0].im)};
    x[0] = x[0] + sum;
    x[1] = add_times_i<Inverse>(even, odd);
    x[2] = add_times_i<!Inverse>(even, odd);
  }
};

template <bool Inverse> struct Butterfly<4, Inverse> {
  template <class T> FASTUNROLL_INLINE static void apply(Complex<T>* x) {
    const Complex<T> s = x[0] + x[2], t = x[0] - x[2], u = x[1] + x[3], v = x[1] - x[3];
    x[0] = s + u;
    x[1] = add_times_i<Inverse>(t, v);
    x[2] = s - u;
    x[3] = add_times_i<!Inverse>(t, v);
  }
};

template <bool Inverse> struct Butterfly<5, Inverse> {
  template <class T> FASTUNROLL_INLINE static void apply(Complex<T>* x) {
    const Vector<T> c1 = broadcast(T(0.309016994374947424102293417182819059L));
    const Vector<T> c2 = broadcast(T(-0.809016994374947424102293417182819059L));
    const Vector<T> s1 = broadcast(T(0.951056516295153572116439333379382143L));
    const Vector<T> s2 = broadcast(T(0.587785252292473129168705954639072769L));
    const Complex<T> p = x[1] + x[4], q = x[2] + x[3], m = x[1] - x[4], n = x[2] - x[3];
    const Complex<T> even1 = {multiply_add(c1, p.re, multiply_add(c2, q.re, x[0].re)),
                              multiply_add(c1, p.im, multiply_add(c2, q.im, x[0].im))};
    const Complex<T> even2 = {multiply_add(c2, p.re, multiply_add(c1, q.re, x[0].re)),
                              multiply_add(c2, p.im, multiply_add(c1, q.im, x[0].im))};
    const Complex<T> odd1 = {multiply_add(s1, m.re, s2 * n.re), multiply_add(s1, m.im, s2 * n.im)};
    const Complex<T> odd2 = {multiply_add(s2, m.re, -(s1 * n.re)), multiply_add(s2, m.im, -(s1 * n.im))};
    x[0] = x[0] + p + q;
    x[1] = add_times_i<Inverse>(even1, odd1);
    x[4] = add_times_i<!Inverse>(even1, odd1);
    x[2] = add_times_i<Inverse>(even2, odd2);
    x[3] = add_times_i<!Inverse>(even2, odd2);
  }
};

template <bool Inverse> struct Butterfly<8, Inverse> {
  template <class T> FASTUNROLL_INLINE static void apply(Complex<T>* x) {
    const Vector<T> root = broadcast(T(0.707106781186547524400844362104849039L));
    Complex<T> even[4], odd[4];
    for (int k = 0; k < 4; ++k) {
      even[k] = x[k] + x[k + 4];
      odd[k] = x[k] - x[k + 4];
    }
    odd[1] = root * add_times_i<Inverse>(odd[1], odd[1]);
    odd[2] = add_times_i<Inverse>(Complex<T>{}, odd[2]);
    odd[3] = root * (add_times_i<Inverse>(Complex<T>{}, odd[3]) - odd[3]);
    Butterfly<4, Inverse>::apply(even);
    Butterfly<4, Inverse>::apply(odd);
    for (int k = 0; k < 4; ++k) {
      x[2 * k] = even[k];
      x[2 * k + 1] = odd[k];
    }
  }
};

// Sums over the pairs of points that `Count` frequencies from f on share, which are in registers together.
template <int Count, bool Inverse, class T>
FASTUNROLL_INLINE inline void odd_frequencies(const Complex<T>& first, const Complex<T>* sums,
                                              const Complex<T>* differences, int radix, int f, const T* roots,
                                              Complex<T>* x) {
  const int half = radix / 2;
  Complex<T> even[Count], odd[Count];
#pragma GCC unroll 4
  for (int i = 0; i < Count; ++i) even[i] = first, odd[i] = Complex<T>{};
  const T* root = roots + 2 * (f - 1);
  for (int k = 1; k <= half; ++k, root += 2 * half) {
    const Complex<T> sum = sums[k], difference = differences[k];
#pragma GCC unroll 4
    for (int i = 0; i < Count; ++i) {
      const Vector<T> c = broadcast(root[2 * i]), s = broadcast(root[2 * i + 1]);
      even[i] = Complex<T>{multiply_add(c, sum.re, even[i].re), multiply_add(c, sum.im, even[i].im)};
      odd[i] = Complex<T>{multiply_add(s, difference.re, odd[i].re), multiply_add(s, difference.im, odd[i].im)};
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < Count; ++i) {
    x[f + i] = add_times_i<Inverse>(even[i], odd[i]);
    x[radix - f - i] = add_times_i<!Inverse>(even[i], odd[i]);
  }
}

// An odd radix without a butterfly of its own: frequencies f and radix - f share their products.
template <bool Inverse, class T> inline void odd_butterfly(Complex<T>* x, int radix, const T* roots) {
  Complex<T> sums[max_fft_radix / 2 + 1], differences[max_fft_radix / 2 + 1];
  const int half = radix / 2;
  const Complex<T> first = x[0];
  Complex<T> all = first;
  for (int k = 1; k <= half; ++k) {
    sums[k] = x[k] + x[radix - k];
    differences[k] = x[k] - x[radix - k];
    all = all + sums[k];
  }
  x[0] = all;
  constexpr int some = vector_registers >= 32 ? 4 : 2;
  int f = 1;
  for (; f + some <= half + 1; f += some) odd_frequencies<some, Inverse>(first, sums, differences, radix, f, roots, x);
  switch (half + 1 - f) {
    case 1:
      return odd_frequencies<1, Inverse>(first, sums, differences, radix, f, roots, x);
    case 2:
      return odd_frequencies<2, Inverse>(first, sums, differences, radix, f, roots, x);
    case 3:
      return odd_frequencies<3, Inverse>(first, sums, differences, radix, f, roots, x);
    default:
      return;
  }
}

// `Radix` 0 is any odd one.
template <int Radix, bool Inverse, class T>
FASTUNROLL_INLINE inline void butterfly(Complex<T>* x, [[maybe_unused]] const FftPass<T>& pass) {
  if constexpr (Radix == 0)
    odd_butterfly<Inverse>(x, pass.radix, pass.roots);
  else
    Butterfly<Radix, Inverse>::apply(x);
}

// --- passes --------------------------------------------------------------------------------------------------------

template <class T> inline int64_t part_length(const FftPass<T>& pass) { return pass.length / pass.radix; }

// The butterflies of `blocks` blocks, with twiddles after them, or before them if inverse.
template <int Radix, bool Inverse, bool Twiddles, class T>
inline void butterflies(const FftPass<T>& pass, T* z, int64_t blocks) {
  const int radix = Radix ? Radix : pass.radix;
  const int64_t part = Twiddles ? part_length(pass) : 1, step = part * point_size<T>;
  for (int64_t block = 0; block < blocks; ++block) {
    T* at = z + block * radix * step;
    const T* w = pass.twiddles;
    for (int64_t j = 0; j < part; ++j, at += point_size<T>, w += 2 * (radix - 1)) {
      Complex<T> x[Radix ? Radix : max_fft_radix];
      for (int k = 0; k < radix; ++k) x[k] = load_point(at + k * step);
      if (Inverse && Twiddles)
        for (int k = 1; k < radix; ++k) x[k] = times<true>(x[k], w + 2 * (k - 1));
      butterfly<Radix, Inverse>(x, pass);
      if (!Inverse && Twiddles)
        for (int k = 1; k < radix; ++k) x[k] = times<false>(x[k], w + 2 * (k - 1));
      for (int k = 0; k < radix; ++k) store_point(at + k * step, x[k]);
    }
  }
}

template <int Radix, bool Inverse, class T> void pass_of(const FftPass<T>& pass, T* z, int64_t blocks) {
  if (pass.length == pass.radix)
    butterflies<Radix, Inverse, false>(pass, z, blocks);
  else
    butterflies<Radix, Inverse, true>(pass, z, blocks);
}

template <bool Inverse, class T> void run_pass(const FftPass<T>& pass, T* z, int64_t blocks) {
  switch (pass.radix) {
    case 2:
      return pass_of<2, Inverse>(pass, z, blocks);
    case 3:
      return pass_of<3, Inverse>(pass, z, blocks);
    case 4:
      return pass_of<4, Inverse>(pass, z, blocks);
    case 5:
      return pass_of<5, Inverse>(pass, z, blocks);
    case 8:
      if constexpr (uses_radix_8) return pass_of<8, Inverse>(pass, z, blocks);
      [[fallthrough]];
    default:
      return pass_of<0, Inverse>(pass, z, blocks);
  }
}

constexpr int64_t block_bytes = 16 << 10;  // half of the first cache

template <class T> inline bool fits_cache(int64_t length) {
  return length * point_size<T> * int64_t(sizeof(T)) <= block_bytes;
}

// Passes `from` and those after it, of one block.
template <class T> void forward(const Fft<T>& fft, T* z, int from = 0) {
  if (from == fft.pass_count) return;
  const FftPass<T>& first = fft.passes[from];
  if (fits_cache<T>(first.length)) {
    for (int k = from; k < fft.pass_count; ++k) run_pass<false>(fft.passes[k], z, first.length / fft.passes[k].length);
    return;
  }
  run_pass<false>(first, z, 1);
  for (int k = 0; k < first.radix; ++k) forward(fft, z + k * part_length(first) * point_size<T>, from + 1);
}

template <class T> void inverse(const Fft<T>& fft, T* z, int from = 0) {
  if (from == fft.pass_count) return;
  const FftPass<T>& first = fft.passes[from];
  if (fits_cache<T>(first.length)) {
    for (int k = fft.pass_count; k-- > from;) run_pass<true>(fft.passes[k], z, first.length / fft.passes[k].length);
    return;
  }
  for (int k = 0; k < first.radix; ++k) inverse(fft, z + k * part_length(first) * point_size<T>, from + 1);
  run_pass<true>(first, z, 1);
}

// --- the inverse of a product with the forward transform -----------------------------------------------------------

// The product gain(position, number) of `count` points from `first`.
template <class T, class Gain> void multiply(T* z, int64_t first, int64_t count, const Gain& gain) {
  for (int64_t p = first; p < first + count; ++p, z += point_size<T>) store_point(z, gain(p, load_point(z)));
}

// The last pass, the product, and the first pass of the inverse.
template <int Radix, class T, class Gain>
void multiply_between(const FftPass<T>& pass, T* z, int64_t first, int64_t count, const Gain& gain) {
  const int radix = Radix ? Radix : pass.radix;
  for (int64_t p = first; p < first + count; p += radix, z += radix * point_size<T>) {
    Complex<T> x[Radix ? Radix : max_fft_radix];
    for (int k = 0; k < radix; ++k) x[k] = load_point(z + k * point_size<T>);
    butterfly<Radix, false>(x, pass);
    for (int k = 0; k < radix; ++k) x[k] = gain(p + k, x[k]);
    butterfly<Radix, true>(x, pass);
    for (int k = 0; k < radix; ++k) store_point(z + k * point_size<T>, x[k]);
  }
}

template <class T, class Gain>
void innermost(const FftPass<T>& pass, T* z, int64_t first, int64_t count, const Gain& gain) {
  switch (pass.radix) {
    case 2:
      return multiply_between<2>(pass, z, first, count, gain);
    case 3:
      return multiply_between<3>(pass, z, first, count, gain);
    case 4:
      return multiply_between<4>(pass, z, first, count, gain);
    case 5:
      return multiply_between<5>(pass, z, first, count, gain);
    case 8:
      if constexpr (uses_radix_8) return multiply_between<8>(pass, z, first, count, gain);
      [[fallthrough]];
    default:
      return multiply_between<0>(pass, z, first, count, gain);
  }
}

// Passes `from` and those after it, the product, and their inverses, of the block whose first point is `first`.
template <class T, class Gain> void filter(const Fft<T>& fft, T* z, const Gain& gain, int from = 0, int64_t first = 0) {
  if (from == fft.pass_count) return multiply(z, first, 1, gain);
  const FftPass<T>& outer = fft.passes[from];
  const int last = fft.pass_count - 1;
  if (from == last || fits_cache<T>(outer.length)) {
    for (int k = from; k < last; ++k) run_pass<false>(fft.passes[k], z, outer.length / fft.passes[k].length);
    innermost(fft.passes[last], z, first, outer.length, gain);
    for (int k = last; k-- > from;) run_pass<true>(fft.passes[k], z, outer.length / fft.passes[k].length);
    return;
  }
  run_pass<false>(outer, z, 1);
  const int64_t part = part_length(outer);
  for (int k = 0; k < outer.radix; ++k) filter(fft, z + k * part * point_size<T>, gain, from + 1, first + k * part);
  run_pass<true>(outer, z, 1);
}

}  // namespace fastunroll::FASTUNROLL_SET
