// The peak speed of the machine, to compare kernels with: multiply-adds between registers, and multiply-adds with rows
// of a block in the level-1 cache, which is how the masked product reads its weights.
#include "cpu/kernels.h"
#include "cpu/product_masked.h"
#include "cpu/threads.h"
#include "cpu/workspace.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

template <class T> T multiply_registers(int64_t rounds) {
  constexpr int chains = vector_registers == 32 ? 24 : 12;
  Vector<T> sum[chains];
  for (int j = 0; j < chains; ++j) sum[j] = broadcast(T(j));  // else the compiler merges them
  const Vector<T> factor = broadcast(T(0.5)), one = broadcast(T(1));
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
    for (int j = 0; j < chains; ++j) sum[j] = multiply_add(sum[j], factor, one);
  }
  T total = 0;
  for (int j = 0; j < chains; ++j) total += sum[j][0];
  return total;
}

template <class T> T multiply_rows(int64_t rounds, const T* block, const T* values) {
  Vector<T> sum[panel_vectors] = {};
  uint64_t mask = 0x9e3779b97f4a7c15;  // half of the rows, at random
  for (int64_t i = 0; i < rounds; ++i) {
    accumulate<Read::packed>(sum, values, mask, Block<T>{block, panel_width<T>, panel_width<T>, true});
    mask = mask << 7 | mask >> 57;
  }
  T total = 0;
  for (int j = 0; j < panel_vectors; ++j) total += sum[j][0];
  return total;
}

}  // namespace

template <class T> double roof(const Roof& p, T) {
  constexpr int64_t rows = __builtin_popcountll(0x9e3779b97f4a7c15);
  constexpr int64_t of_registers = (vector_registers == 32 ? 24 : 12) * lanes<T>, of_rows = rows * panel_width<T>;
  Workspace memory;
  T* const blocks_of_threads = memory.take<T>(p.threads * (block_size<T> + block_rows));
  T* const results = memory.take<T>(p.threads);
  in_parallel(p.threads, [&](Team team) {
    T* const block = blocks_of_threads + team.rank * (block_size<T> + block_rows);
    for (int64_t i = 0; i < block_size<T> + block_rows; ++i) block[i] = T(1) / T(i + 1);
    results[team.rank] =
        p.rows ? multiply_rows(p.rounds, block, block + block_size<T>) : multiply_registers<T>(p.rounds);
  });
  return 2.0 * double(p.rounds) * double(p.threads) * double(p.rows ? of_rows : of_registers);
}

template double roof(const Roof&, float);
template double roof(const Roof&, double);

}  // namespace fastunroll::FASTUNROLL_SET
