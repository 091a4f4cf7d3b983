// The functions of a device that kernels use: the only file with PTX.
//
// A kernel is a struct with a type Arguments and a function `run(const Arguments&)` that every thread calls. It uses
// CUDA only through this file, so that the same source also runs on the host, with emulate.h.
#pragma once
#include <cstddef>
#include <cstdint>

#include "fastunroll_cuda.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#define FASTUNROLL_DEVICE __device__ __forceinline__
#define FASTUNROLL_ANYWHERE __host__ __device__ __forceinline__
#else
#include "cuda/emulate.h"
#define FASTUNROLL_DEVICE inline
#define FASTUNROLL_ANYWHERE inline
#endif

namespace fastunroll::cuda {

constexpr int warp_size = 32;
constexpr size_t max_shared = 227 << 10;  // bytes a block can have on sm_90

// Words that are loaded and stored at once, from addresses that are multiples of their size.
struct alignas(8) Words2 {
  uint32_t word[2];
};
struct alignas(16) Words4 {
  uint32_t word[4];
};

// Counts the bytes of copies that are under way, in shared memory. Its uses have parity 0, 1, 0, and so on.
struct Arrival {
  uint64_t state;
};

#if defined(__CUDACC__)

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define FASTUNROLL_HAS_CLUSTERS 1
#else
#define FASTUNROLL_HAS_CLUSTERS 0
#endif

FASTUNROLL_DEVICE int thread() { return int(threadIdx.x); }
FASTUNROLL_DEVICE int block() { return int(blockIdx.x); }

// The shared memory that the launch asked for.
FASTUNROLL_DEVICE char* shared() {
  extern __shared__ __align__(128) char memory[];
  return memory;
}

FASTUNROLL_DEVICE uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

FASTUNROLL_DEVICE void sync_block() { __syncthreads(); }

// The compiler moves no load across this; otherwise all loads would need registers at once.
FASTUNROLL_DEVICE void keep_order() { asm volatile("" ::: "memory"); }

// The block's place in its cluster of `Blocks`.
template <int Blocks> FASTUNROLL_DEVICE int cluster_rank() {
  uint32_t rank = 0;
#if FASTUNROLL_HAS_CLUSTERS
  if constexpr (Blocks > 1) asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
#endif
  return int(rank);
}

template <int Blocks> FASTUNROLL_DEVICE void sync_cluster() {
  if constexpr (Blocks == 1) {
    __syncthreads();
  } else {
#if FASTUNROLL_HAS_CLUSTERS
    asm volatile(
        "barrier.cluster.arrive.release.aligned;\n"
        "barrier.cluster.wait.acquire.aligned;" ::
            : "memory");
#endif
  }
}

#if FASTUNROLL_HAS_CLUSTERS
FASTUNROLL_DEVICE void store_at(uint32_t address, float v) {
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(address), "f"(v) : "memory");
}
FASTUNROLL_DEVICE uint32_t peer_address(const void* p, int rank) {
  uint32_t address;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(p)), "r"(rank));
  return address;
}
FASTUNROLL_DEVICE void store_at(uint32_t address, Words2 v) {
  asm volatile("st.shared::cluster.v2.b32 [%0], {%1, %2};" ::"r"(address), "r"(v.word[0]), "r"(v.word[1]) : "memory");
}
FASTUNROLL_DEVICE void store_at(uint32_t address, Words4 v) {
  asm volatile("st.shared::cluster.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.word[0]), "r"(v.word[1]),
               "r"(v.word[2]), "r"(v.word[3])
               : "memory");
}
#endif

// Stores to the address in the shared memory of block `rank` that corresponds to `p` in this block.
template <int Blocks, class Words> FASTUNROLL_DEVICE void store_to_peer(Words* p, int rank, Words v) {
  if constexpr (Blocks == 1) {
    *p = v;
  } else {
#if FASTUNROLL_HAS_CLUSTERS
    store_at(peer_address(p, rank), v);
#endif
  }
}

// A barrier must follow before other threads use it.
FASTUNROLL_DEVICE void initialise(Arrival* a) {
#if FASTUNROLL_HAS_CLUSTERS
  asm volatile(
      "mbarrier.init.shared::cta.b64 [%0], 1;\n"
      "fence.mbarrier_init.release.cluster;" ::"r"(shared_address(a))
      : "memory");
#endif
}

// One thread calls this. It copies bytes, a multiple of 16, from global to shared memory, both aligned to 16 bytes. The
// copy is complete when the arrival is.
FASTUNROLL_DEVICE void copy_in_bulk(void* to, const void* from, uint32_t bytes, Arrival* a) {
#if FASTUNROLL_HAS_CLUSTERS
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(a)), "r"(bytes)
               : "memory");
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(a))
               : "memory");
#endif
}

FASTUNROLL_DEVICE void wait_for(Arrival* a, uint32_t parity) {
#if FASTUNROLL_HAS_CLUSTERS
  uint32_t arrived = 0;
  while (!arrived)
    asm volatile(
        "{\n"
        "  .reg .pred p;\n"
        "  mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "  selp.u32 %0, 1, 0, p;\n"
        "}"
        : "=r"(arrived)
        : "r"(shared_address(a)), "r"(parity)
        : "memory");
#endif
}

// From memory that no thread writes while the kernel runs.
FASTUNROLL_DEVICE Words4 load_constant(const void* p) {
  const uint4 v = __ldg(static_cast<const uint4*>(p));
  return {{v.x, v.y, v.z, v.w}};
}

FASTUNROLL_DEVICE float as_float(uint32_t bits) { return __uint_as_float(bits); }
FASTUNROLL_DEVICE uint32_t as_bits(float v) { return __float_as_uint(v); }
FASTUNROLL_DEVICE uint64_t as_bits(double v) { return uint64_t(__double_as_longlong(v)); }
FASTUNROLL_DEVICE float magnitude(float v) { return fabsf(v); }
FASTUNROLL_DEVICE double magnitude(double v) { return fabs(v); }
FASTUNROLL_DEVICE float with_sign(float v, float sign) { return copysignf(v, sign); }
FASTUNROLL_DEVICE double with_sign(double v, double sign) { return copysign(v, sign); }
FASTUNROLL_DEVICE float fused_multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
FASTUNROLL_DEVICE double fused_multiply_add(double a, double b, double c) { return fma(a, b, c); }
FASTUNROLL_DEVICE float square_root(float v) { return sqrtf(v); }
FASTUNROLL_DEVICE double square_root(double v) { return sqrt(v); }

// Converts numbers of 16 bits to float, and rounds back.
FASTUNROLL_DEVICE float value_of(Bfloat16 v) { return __uint_as_float(uint32_t(v.bits) << 16); }
FASTUNROLL_DEVICE float value_of(Float16 v) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(v.bits));
  return value;
}
FASTUNROLL_DEVICE void round_to(Bfloat16& out, float v) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(v)); }
FASTUNROLL_DEVICE void round_to(Float16& out, float v) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(v)); }

// Two numbers rounded to bfloat16, `low` in the lower half.
FASTUNROLL_DEVICE uint32_t bf16_pair(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// c += a b by a warp; each thread holds its fragments: PTX ISA, mma.m16n8k8 with .tf32 operands. The lower 13 bits of a
// and b are ignored.
FASTUNROLL_DEVICE void multiply_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The same with mma.m16n8k16 and .bf16 operands, two in a word.
FASTUNROLL_DEVICE void multiply_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The value of the thread of the warp whose lane number differs in these bits.
template <class T> FASTUNROLL_DEVICE T shuffle_xor(T v, int bits) { return __shfl_xor_sync(0xffffffffu, v, bits); }

#endif

template <class T> using Bits = decltype(as_bits(T()));

FASTUNROLL_DEVICE float value_of(float v) { return v; }
FASTUNROLL_DEVICE double value_of(double v) { return v; }
FASTUNROLL_DEVICE void round_to(float& out, float v) { out = v; }
FASTUNROLL_DEVICE void round_to(double& out, double v) { out = v; }
template <class T> FASTUNROLL_DEVICE T rounded(Computed<T> v) {
  T out;
  round_to(out, v);
  return out;
}

FASTUNROLL_DEVICE int lane() { return thread() % warp_size; }
FASTUNROLL_DEVICE int warp() { return thread() / warp_size; }

// Rounds to the 11 bits that multiply_tf32 uses, halves away from zero; the second clears the others. (The conversion
// instruction takes four times as long.)
FASTUNROLL_DEVICE uint32_t tf32(float v) { return as_bits(v) + 0x1000u; }
FASTUNROLL_DEVICE float rounded_to_tf32(float v) { return as_float(tf32(v) & 0xffffe000u); }

// Replaces NaN by one that rounding to tf32 keeps: it would make the NaN of devices zero.
FASTUNROLL_DEVICE float quiet(float v) { return v != v ? as_float(0x7fc00000u) : v; }

}  // namespace fastunroll::cuda
