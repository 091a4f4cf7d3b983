// Numbers of 16 bits on the host, by the bits of float, since compilers for some processors lack them.
#pragma once
#include <cstdint>
#include <cstring>

#include "fastunroll_cuda.h"

namespace fastunroll::cuda {

inline float as_float(uint32_t bits) {
  float v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}
inline uint32_t as_bits(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  return bits;
}

inline float value_of(Bfloat16 v) { return as_float(uint32_t(v.bits) << 16); }
inline void round_to(Bfloat16& out, float v) {
  const uint32_t bits = as_bits(v);
  out.bits = uint16_t(v != v ? 0x7fffu : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// The exponent of a float is 112 larger than that of a half.
constexpr uint32_t exponent_shift = 112, float_infinity = 255u << 23, half_infinity = 31u << 10;

inline float value_of(Float16 v) {
  const uint32_t sign = uint32_t(v.bits & 0x8000) << 16, size = v.bits & 0x7fff;
  uint32_t found = (size << 13) + (exponent_shift << 23);
  if (size < 1u << 10) found = as_bits(float(size) * 0x1p-24f);  // subnormal
  if (size >= half_infinity) found = size << 13 | float_infinity;
  return as_float(sign | found);
}
inline void round_to(Float16& out, float v) {
  constexpr uint32_t least_normal = 113u << 23, too_large = 143u << 23;  // 2^-14 and 2^16
  const uint32_t bits = as_bits(v), size = bits & 0x7fffffff;
  uint32_t found = ((size + 0xfff + (size >> 13 & 1)) >> 13) - (exponent_shift << 10);
  if (size < least_normal) found = as_bits(as_float(size) + 0.5f) - as_bits(0.5f);  // 0.5 ends at the same place
  if (size >= too_large) found = half_infinity;
  if (size > float_infinity) found = half_infinity | 0x200 | (size >> 13 & 0x1ff);
  out.bits = uint16_t((bits >> 16 & 0x8000) | found);
}

inline uint32_t bf16_pair(float low, float high) {
  Bfloat16 first, second;
  round_to(first, low);
  round_to(second, high);
  return first.bits | uint32_t(second.bits) << 16;
}

}  // namespace fastunroll::cuda
