// Vector registers of the instruction set for which this file is compiled: the only file with intrinsics.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(FASTUNROLL_AVX512) || defined(FASTUNROLL_AVX2)
#include <immintrin.h>
#elif defined(FASTUNROLL_NEON)
#include <arm_neon.h>
#endif

namespace fastunroll::FASTUNROLL_SET {

#if defined(FASTUNROLL_AVX512)
constexpr int vector_bytes = 64, vector_registers = 32;
#elif defined(FASTUNROLL_AVX2)
constexpr int vector_bytes = 32, vector_registers = 16;
#elif defined(FASTUNROLL_NEON)
constexpr int vector_bytes = 16, vector_registers = 32;
#else
constexpr int vector_bytes = 16, vector_registers = 16;
#endif

template <class T> struct Simd;

template <> struct Simd<float> {
  typedef float Vector __attribute__((vector_size(vector_bytes)));
  using Index = int32_t;
  typedef Index Integer __attribute__((vector_size(vector_bytes)));
  typedef uint32_t Bits __attribute__((vector_size(vector_bytes)));
  typedef uint8_t Bytes __attribute__((vector_size(vector_bytes / 4)));
  static constexpr int32_t sign_bit = INT32_MIN;
};

template <> struct Simd<double> {
  typedef double Vector __attribute__((vector_size(vector_bytes)));
  using Index = int64_t;
  typedef Index Integer __attribute__((vector_size(vector_bytes)));
  typedef uint64_t Bits __attribute__((vector_size(vector_bytes)));
  typedef uint8_t Bytes __attribute__((vector_size(vector_bytes / 8)));
  static constexpr int64_t sign_bit = INT64_MIN;
};

template <int N> struct Constant {
  static constexpr int value = N;
};

template <class T> using Vector = typename Simd<T>::Vector;
template <class T> constexpr int lanes = vector_bytes / int(sizeof(T));

template <class T> inline Vector<T> load(const T* p) {
  Vector<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class T> inline void store(T* p, Vector<T> v) { __builtin_memcpy(p, &v, sizeof v); }

// Copies vectors into an array that stays in registers. An array stays in memory if a loop over it is not unrolled.
template <int Count, class V> __attribute__((always_inline)) inline void copy_vectors(const V* from, V* to) {
#pragma GCC unroll 32
  for (int i = 0; i < Count; ++i) to[i] = from[i];
}

// The first `count` lanes, where `count` may be negative or exceed the lanes. Loads make the others zero, stores leave
// them as they are.
template <class T> inline Vector<T> load_some(const T* p, int64_t count) {
  if (count >= lanes<T>) return load(p);
  Vector<T> v{};
  for (int i = 0; i < lanes<T>; ++i)
    if (i < count) v[i] = p[i];
  return v;
}

template <class T> inline void store_some(T* p, Vector<T> v, int64_t count) {
  if (count >= lanes<T>) return store(p, v);
  for (int i = 0; i < lanes<T>; ++i)
    if (i < count) p[i] = v[i];
}

#if defined(FASTUNROLL_AVX512)
inline unsigned first_lanes(int64_t count) { return count <= 0 ? 0 : (1u << count) - 1; }
template <> inline Vector<float> load_some(const float* p, int64_t count) {
  return count >= 16 ? load(p) : (Vector<float>)_mm512_maskz_loadu_ps(__mmask16(first_lanes(count)), p);
}
template <> inline Vector<double> load_some(const double* p, int64_t count) {
  return count >= 8 ? load(p) : (Vector<double>)_mm512_maskz_loadu_pd(__mmask8(first_lanes(count)), p);
}
template <> inline void store_some(float* p, Vector<float> v, int64_t count) {
  count >= 16 ? store(p, v) : _mm512_mask_storeu_ps(p, __mmask16(first_lanes(count)), v);
}
template <> inline void store_some(double* p, Vector<double> v, int64_t count) {
  count >= 8 ? store(p, v) : _mm512_mask_storeu_pd(p, __mmask8(first_lanes(count)), v);
}
#elif defined(FASTUNROLL_AVX2)
template <class T> inline __m256i first_lanes(int64_t count) {
  using Integer = typename Simd<T>::Integer;
  Integer lane;
  for (int i = 0; i < lanes<T>; ++i) lane[i] = i;
  return (__m256i)(lane < typename Simd<T>::Index(count) - Integer{});
}
template <> inline Vector<float> load_some(const float* p, int64_t count) {
  return count >= 8 ? load(p) : (Vector<float>)_mm256_maskload_ps(p, first_lanes<float>(count));
}
template <> inline Vector<double> load_some(const double* p, int64_t count) {
  return count >= 4 ? load(p) : (Vector<double>)_mm256_maskload_pd(p, first_lanes<double>(count));
}
template <> inline void store_some(float* p, Vector<float> v, int64_t count) {
  count >= 8 ? store(p, v) : _mm256_maskstore_ps(p, first_lanes<float>(count), v);
}
template <> inline void store_some(double* p, Vector<double> v, int64_t count) {
  count >= 4 ? store(p, v) : _mm256_maskstore_pd(p, first_lanes<double>(count), v);
}
#endif

template <class T> inline Vector<T> broadcast(T x) { return x - Vector<T>{}; }

// *p in every lane.
template <class T> inline Vector<T> broadcast_at(const T* p) { return broadcast(*p); }

// Writes the values whose bit is set one after another, and returns their end. It may write to the lanes of a
// vector beyond it.
template <class T> inline T* copy_selected(const T* from, uint64_t bits, T* to) {
  for (; bits; bits &= bits - 1) *to++ = from[__builtin_ctzll(bits)];
  return to;
}

#if defined(FASTUNROLL_AVX512)
// By an integer register, which does not keep the ports of vector loads from other loads.
template <class T> inline Vector<T> broadcast_by_integer(const T* p) {
  typename Simd<T>::Index value;
  __builtin_memcpy(&value, p, sizeof value);
  __asm__("" : "+r"(value));
  return (Vector<T>)(value - typename Simd<T>::Integer{});
}
template <> inline Vector<float> broadcast_at(const float* p) { return broadcast_by_integer(p); }
template <> inline Vector<double> broadcast_at(const double* p) { return broadcast_by_integer(p); }
template <> inline float* copy_selected(const float* from, uint64_t bits, float* to) {
  for (; bits; bits >>= 16, from += 16) {
    const __mmask16 some = __mmask16(bits);
    _mm512_storeu_ps(to, _mm512_maskz_compress_ps(some, _mm512_maskz_loadu_ps(some, from)));
    to += __builtin_popcount(some);
  }
  return to;
}
template <> inline double* copy_selected(const double* from, uint64_t bits, double* to) {
  for (; bits; bits >>= 8, from += 8) {
    const __mmask8 some = __mmask8(bits);
    _mm512_storeu_pd(to, _mm512_maskz_compress_pd(some, _mm512_maskz_loadu_pd(some, from)));
    to += __builtin_popcount(some);
  }
  return to;
}
#endif

// a * b + c with one rounding, on every processor that has the instruction.
template <class V> inline V multiply_add(V a, V b, V c);
template <class V> inline V square_root(V v);
// Bit i says that lane i is not zero; a NaN is not zero.
template <class V> inline unsigned nonzero_bits(V v);

#if defined(FASTUNROLL_AVX512)
template <> inline Vector<float> multiply_add(Vector<float> a, Vector<float> b, Vector<float> c) {
  return _mm512_fmadd_ps(a, b, c);
}
template <> inline Vector<double> multiply_add(Vector<double> a, Vector<double> b, Vector<double> c) {
  return _mm512_fmadd_pd(a, b, c);
}
template <> inline Vector<float> square_root(Vector<float> v) { return _mm512_maskz_sqrt_ps(0xffff, v); }
template <> inline Vector<double> square_root(Vector<double> v) { return _mm512_maskz_sqrt_pd(0xff, v); }
// Moves a mask to a general register. GCC 12 may spill a mask in fewer bytes than it reads back.
inline unsigned whole(unsigned mask) {
  __asm__("" : "+r"(mask));
  return mask;
}
template <> inline unsigned nonzero_bits(Vector<float> v) {
  return whole(_mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ));
}
template <> inline unsigned nonzero_bits(Vector<double> v) {
  return whole(_mm512_cmp_pd_mask(v, _mm512_setzero_pd(), _CMP_NEQ_UQ));
}
#elif defined(FASTUNROLL_AVX2)
template <> inline Vector<float> multiply_add(Vector<float> a, Vector<float> b, Vector<float> c) {
  return _mm256_fmadd_ps(a, b, c);
}
template <> inline Vector<double> multiply_add(Vector<double> a, Vector<double> b, Vector<double> c) {
  return _mm256_fmadd_pd(a, b, c);
}
template <> inline Vector<float> square_root(Vector<float> v) { return _mm256_sqrt_ps(v); }
template <> inline Vector<double> square_root(Vector<double> v) { return _mm256_sqrt_pd(v); }
template <> inline unsigned nonzero_bits(Vector<float> v) {
  return unsigned(_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_UQ)));
}
template <> inline unsigned nonzero_bits(Vector<double> v) {
  return unsigned(_mm256_movemask_pd(_mm256_cmp_pd(v, _mm256_setzero_pd(), _CMP_NEQ_UQ)));
}
#elif defined(FASTUNROLL_NEON)
template <> inline Vector<float> multiply_add(Vector<float> a, Vector<float> b, Vector<float> c) {
  return vfmaq_f32(c, a, b);
}
template <> inline Vector<double> multiply_add(Vector<double> a, Vector<double> b, Vector<double> c) {
  return vfmaq_f64(c, a, b);
}
template <> inline Vector<float> square_root(Vector<float> v) { return vsqrtq_f32(v); }
template <> inline Vector<double> square_root(Vector<double> v) { return vsqrtq_f64(v); }
template <> inline unsigned nonzero_bits(Vector<float> v) {
  return vaddvq_u32(vbicq_u32(uint32x4_t{1, 2, 4, 8}, vceqzq_f32(v)));
}
template <> inline unsigned nonzero_bits(Vector<double> v) {
  return unsigned(vaddvq_u64(vbicq_u64(uint64x2_t{1, 2}, vceqzq_f64(v))));
}
#else
template <class V> inline V multiply_add(V a, V b, V c) {
#ifdef __FP_FAST_FMA
  for (unsigned i = 0; i < sizeof(V) / sizeof(a[0]); ++i)
    c[i] = sizeof(a[0]) == 4 ? __builtin_fmaf(a[i], b[i], c[i]) : __builtin_fma(a[i], b[i], c[i]);
  return c;
#else
  return a * b + c;
#endif
}
template <class V> inline V square_root(V v) {
  for (unsigned i = 0; i < sizeof(V) / sizeof(v[0]); ++i)
    v[i] = sizeof(v[0]) == 4 ? __builtin_sqrtf(v[i]) : __builtin_sqrt(v[i]);
  return v;
}
template <class V> inline unsigned nonzero_bits(V v) {
  unsigned bits = 0;
  for (unsigned i = 0; i < sizeof(V) / sizeof(v[0]); ++i) bits |= unsigned(v[i] != 0) << i;
  return bits;
}
#endif

// v, which stays in its register: GCC may load a vector with several uses again for each of them.
template <class T> inline Vector<T> in_register(Vector<T> v) {
#if defined(FASTUNROLL_AVX512)
  __asm__("" : "+v"(v));
#elif defined(FASTUNROLL_NEON)
  __asm__("" : "+w"(v));
#elif defined(__x86_64__)
  __asm__("" : "+x"(v));
#endif
  return v;
}

// Lane i of the result is lane place(i) of a and b one after the other.
template <class T, class Place> inline Vector<T> rearrange(Vector<T> a, Vector<T> b, Place place) {
#if defined(__GNUC__) && !defined(__clang__)
  typename Simd<T>::Integer lane;
  for (int i = 0; i < lanes<T>; ++i) lane[i] = place(i);
  return __builtin_shuffle(a, b, lane);
#else
  Vector<T> found;
  for (int i = 0; i < lanes<T>; ++i) found[i] = place(i) < lanes<T> ? a[place(i)] : b[place(i) - lanes<T>];
  return found;
#endif
}

// The largest lane, if none is NaN.
template <class T, int Half = lanes<T> / 2> inline T largest_lane(Vector<T> v) {
  const Vector<T> other = rearrange<T>(v, v, [](int i) { return i ^ Half; });
  v = v > other ? v : other;
  if constexpr (Half > 1) return largest_lane<T, Half / 2>(v);
  return v[0];
}

// Lane i in every lane.
template <class T> inline Vector<T> spread_lane(Vector<T> v, int i) {
#if defined(__GNUC__) && !defined(__clang__)
  return __builtin_shuffle(v, i - typename Simd<T>::Integer{});
#else
  return broadcast(v[i]);
#endif
}

template <class T> inline Vector<T> magnitude(Vector<T> v) {
  using Integer = typename Simd<T>::Integer;
  return (Vector<T>)((Integer)v & ~Simd<T>::sign_bit);
}

// g times the sign of x, where x is not zero.
template <class T> inline Vector<T> with_sign_of(Vector<T> g, Vector<T> x) {
  using Integer = typename Simd<T>::Integer;
  return (Vector<T>)((Integer)g ^ ((Integer)x & Simd<T>::sign_bit));
}

// g where x is not zero, else zero.
template <class T> inline Vector<T> where_nonzero(Vector<T> x, Vector<T> g) { return x == 0 ? Vector<T>{} : g; }

// Transposes a square of vectors: squares of Half by Half off the diagonal are exchanged, then those within each
// quarter.
template <class T, int Half = lanes<T> / 2> __attribute__((always_inline)) inline void transpose(Vector<T>* v) {
  for (int i = 0; i < lanes<T>; ++i) {
    if (i / Half % 2) continue;
    const Vector<T> above = v[i], below = v[i + Half];
    v[i] = rearrange<T>(above, below, [](int j) { return j / Half % 2 ? lanes<T> + j - Half : j; });
    v[i + Half] = rearrange<T>(above, below, [](int j) { return j / Half % 2 ? lanes<T> + j : j + Half; });
  }
  if constexpr (Half > 1) transpose<T, Half / 2>(v);
}

// S_theta(z) = sign(z) max(|z| - theta, 0), elementwise; NaN in either stays NaN, and so does an infinite z under an
// infinite theta. With theta < 0 every z but zero moves outward, as the formula says, so that the result is not zero
// exactly where its derivative is one.
template <class T> inline Vector<T> shrink(Vector<T> z, Vector<T> theta) {
  const Vector<T> size = magnitude<T>(z), limit = theta < 0 ? Vector<T>{} : theta;
  return size - limit <= 0 ? Vector<T>{} : with_sign_of<T>(size - theta, z);
}

// max(z - theta, 0), elementwise; NaN in either stays NaN.
template <class T> inline Vector<T> shrink_nonnegative(Vector<T> z, Vector<T> theta) {
  const Vector<T> moved = z - theta;
  return moved <= 0 ? Vector<T>{} : moved;
}

}  // namespace fastunroll::FASTUNROLL_SET
