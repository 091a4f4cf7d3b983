// What the kernels are written with, emulated; and that the emulation sees what a kernel does wrong.
#include "primitives.h"

#include <stdexcept>

#include "check.h"

namespace fastunroll::testing {
namespace {

using namespace fastunroll::cuda;
using namespace fastunroll::cuda::testing;

// Memory as a device gives it: aligned to 256 bytes.
template <class T> class Memory {
 public:
  explicit Memory(const Array<T>& values) : memory_(values.size() * sizeof(T) + 256), size_(values.size()) {
    std::copy(values.begin(), values.end(), data());
  }
  T* data() {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    return reinterpret_cast<T*>((address + 255) / 256 * 256);
  }
  Array<T> values() { return Array<T>(data(), data() + size_); }

 private:
  Array<char> memory_;
  size_t size_;
};

// Enough to see what depends on the order of warps.
constexpr int orders = 20;

double rounded_to_bf16(float v) { return as_float(bf16_pair(v, 0) << 16); }

template <bool Half, bool Swapped> double error_of_fragments() {
  using Kernel = MultiplyFragments<Half, Swapped>;
  constexpr int depth = Kernel::depth;
  Random random(1);
  Memory<float> a(random.normals<float>(16 * depth, 1)), b(random.normals<float>(depth * 8, 1)), c{Array<float>(128)};
  launch<Kernel>({1, 0, {0, nullptr}}, {a.data(), b.data(), c.data()});
  double error = 0;
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      double sum = 0;
      for (int k = 0; k < depth; ++k) {
        const float x = a.data()[i * depth + k], y = b.data()[k * 8 + j];
        sum += Half ? rounded_to_bf16(x) * rounded_to_bf16(y) : double(rounded_to_tf32(x)) * rounded_to_tf32(y);
      }
      const double off = std::fabs(sum - c.data()[i * 8 + j]);
      if (!(off <= error)) error = off;
    }
  }
  return error;
}

template <int Blocks, bool Unsynchronised> bool passes_on() {
  using Kernel = PassOn<Blocks, Unsynchronised>;
  constexpr int clusters = 3, rows = clusters * Blocks;
  bool all = true;
  for (int order = 0; order < orders; ++order) {
    Array<Words4> in(size_t(rows * Kernel::threads));
    for (size_t i = 0; i < in.size(); ++i) in[i] = {{uint32_t(i), uint32_t(order), 2, 3}};
    Memory<Words4> from(in), to{Array<Words4>(in.size())};
    launch<Kernel>({clusters, Kernel::threads * sizeof(Words4), {0, nullptr}}, {from.data(), to.data()});
    for (int row = 0; row < rows; ++row) {
      const int source = row / Blocks * Blocks + (row + Blocks - 1) % Blocks;
      all = all && std::memcmp(to.data() + row * Kernel::threads, in.data() + source * Kernel::threads,
                               Kernel::threads * sizeof(Words4)) == 0;
    }
  }
  return all;
}

template <bool Unawaited, bool Early> bool sums_rows() {
  using Kernel = SumRows<Unawaited, Early>;
  bool all = true;
  for (int count : {1, 2, 3, 9}) {
    for (int order = 0; order < orders; ++order) {
      Random random(uint64_t(order + 1));
      Memory<float> rows(random.normals<float>(count * Kernel::threads, 1)), sums{Array<float>(Kernel::threads)};
      launch<Kernel>({1, Kernel::slots * (Kernel::bytes + sizeof(Arrival)), {0, nullptr}},
                     {rows.data(), count, sums.data()});
      for (int t = 0; t < Kernel::threads; ++t) {
        float sum = 0;
        for (int row = 0; row < count; ++row) sum += rows.data()[row * Kernel::threads + t];
        all = all && sum == sums.data()[t];
      }
    }
  }
  return all;
}

// What the emulation says to work that cannot go well.
template <class Work> std::string refusal(int threads, const Work& work) {
  try {
    emulation::launch(1, threads, 1, 64, 1, work);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

template <class Work> bool fails(const Work& work) {
  try {
    return !work();
  } catch (const std::runtime_error&) {
    return true;
  }
}

// Every half, and what lies beside and between two that are next to each other.
void check_halves() {
  const auto rounded = [](float v) {
    Float16 half;
    round_to(half, v);
    return uint32_t(half.bits);
  };
  bool right_values = true, right_rounding = true;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const uint32_t size = bits & 0x7fff, exponent = size >> 10, fraction = size & 0x3ff;
    const float value = value_of(Float16{uint16_t(bits)});
    if (size > 0x7c00) {
      right_values = right_values && value != value && rounded(value) == (bits | 0x200);
      continue;
    }
    const double significand = exponent ? 1024 + fraction : fraction;
    const double wanted =
        size == 0x7c00 ? double(INFINITY) : std::ldexp(significand, int(exponent ? exponent : 1) - 25);
    right_values = right_values && value == (bits == size ? wanted : -wanted) && rounded(value) == bits;
    right_values = right_values && std::signbit(value) == (bits != size);
    if (size == 0x7c00) continue;
    const float next = size == 0x7bff ? std::copysign(0x1p16f, value) : value_of(Float16{uint16_t(bits + 1)});
    const float middle = (value + next) / 2;
    right_rounding = right_rounding && rounded(middle) == bits + bits % 2;
    right_rounding = right_rounding && rounded(std::nextafter(middle, value)) == bits;
    right_rounding = right_rounding && rounded(std::nextafter(middle, next)) == bits + 1;
  }
  CHECK(right_values, "values of halves");
  CHECK(right_rounding, "the nearest half");
  CHECK(rounded(1e30f) == 0x7c00 && rounded(-INFINITY) == 0xfc00 && rounded(-1e-30f) == 0x8000, "halves out of range");
}

}  // namespace

void test_primitives() {
  CHECK((error_of_fragments<false, false>() < 1e-5), "tf32 fragments");
  CHECK((error_of_fragments<true, false>() < 1e-5), "bf16 fragments");
  CHECK((error_of_fragments<false, true>() > 0.1), "swapped tf32 fragments show");
  CHECK((error_of_fragments<true, true>() > 0.1), "swapped bf16 fragments show");

  CHECK((passes_on<1, false>() && passes_on<2, false>() && passes_on<8, false>()), "stores to peers");
  CHECK((!passes_on<4, true>()), "a missing cluster barrier shows");

  CHECK((sums_rows<false, false>()), "bulk copies");
  CHECK((fails(sums_rows<true, false>)), "a missing wait shows");
  CHECK((fails(sums_rows<false, true>)), "a slot given back too early shows");

  Random random(1);
  Memory<float> in(random.normals<float>(SumWarps::threads, 1)), out{Array<float>(SumWarps::threads)};
  launch<SumWarps>({1, 0, {0, nullptr}}, {in.data(), out.data()});
  for (int t = 0; t < SumWarps::threads; ++t) {
    double sum = 0;
    for (int l = 0; l < warp_size; ++l) sum += in.data()[t / warp_size * warp_size + l];
    CHECK(std::fabs(sum - out.data()[t]) < 1e-5, "shuffled sums");
  }

  CHECK(bf16_pair(1, -2) == 0xc0003f80u && bf16_pair(1.00390625f, 1.01171875f) == 0x3f823f80u, "ties go to even");
  CHECK(rounded_to_tf32(1 + 0x1p-11f) == 1 + 0x1p-10f && rounded_to_tf32(1 + 0x1p-12f) == 1, "tf32 rounds");

  check_halves();

  const std::string deadlock = "deadlock: not all threads come to a barrier", alignment = "an address is not aligned";
  CHECK(refusal(64,
                [] {
                  if (warp() == 0) sync_block();
                }) == deadlock,
        "half a barrier");
  CHECK(refusal(32,
                [] {
                  if (lane() < 31) shuffle_xor(1, 1);
                }) == deadlock,
        "half a shuffle");
  CHECK(refusal(32, [] { load_constant(shared() + 8); }) == alignment, "a load across its size");
  CHECK(refusal(33, [] {}) != "", "half a warp");
  CHECK(refusal(32, [] { copy_in_bulk(shared(), shared(), 16, reinterpret_cast<Arrival*>(shared() + 32)); }) ==
            "an arrival was used before it was initialised",
        "an arrival as it is");
}

}  // namespace fastunroll::testing
