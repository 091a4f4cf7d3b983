// The start of both passes over a network: its matrices as factors of products, its parameters as padded rows.
#pragma once
#include "cpu/prox.h"
#include "cpu/workspace.h"

namespace fastunroll::FASTUNROLL_SET {

// The matrices of all layers for one product, as factors.
template <class T> struct Factors {
  Factor<T>* each;
  int64_t count;
  const Factor<T>& of(int64_t layer) const { return each[count == 1 ? 0 : layer]; }
};

// From matrices of `rows` by `columns`: for x W, or x W^T.
template <class T>
Factors<T> factors_of(const PerLayer<const T>& w, int64_t rows, int64_t columns, bool transposed, Workspace& memory,
                      bool bfloat16 = false) {
  Factors<T> f{memory.take<Factor<T>>(w.count), w.count};
  for (int64_t i = 0; i < w.count; ++i) {
    f.each[i] = transposed ? Factor<T>{columns, rows, nullptr, true, w.arrays[i], Layout::by_column, w.count > 1}
                           : Factor<T>{rows, columns, nullptr, true, w.arrays[i], Layout::by_depth, w.count > 1};
    f.each[i].bfloat16 = bfloat16;
  }
  return f;
}

// The two products of a linear step. Affine: y W1^T and v W2^T. Gradient: v A^T and r W. Gram: v G^T alone.
template <class T> struct LinearFactors {
  Factors<T> first, second;
};

template <class T> LinearFactors<T> linear_factors(const Network<T>& net, Workspace& memory, bool bfloat16 = false) {
  const int64_t m = net.m, n = net.n;
  const PerLayer<const T>& second = net.is_own_adjoint() ? net.W1 : net.W2;
  if (net.is_gradient_step())
    return {factors_of(net.W1, m, n, true, memory, bfloat16), factors_of(second, m, n, false, memory, bfloat16)};
  return {factors_of(net.W1, n, m, true, memory, bfloat16), factors_of(net.W2, n, n, true, memory, bfloat16)};
}

// The transposed products, for gradients. Affine: g W1 and g W2. Gradient: g A and g W^T. Gram: g G alone.
template <class T> LinearFactors<T> adjoint_factors(const Network<T>& net, Workspace& memory) {
  const int64_t m = net.m, n = net.n;
  const PerLayer<const T>& second = net.is_own_adjoint() ? net.W1 : net.W2;
  if (net.is_gradient_step()) return {factors_of(net.W1, m, n, false, memory), factors_of(second, m, n, true, memory)};
  return {factors_of(net.W1, n, m, false, memory), factors_of(net.W2, n, n, false, memory)};
}

template <class T> int64_t packed_size(const Factors<T>& f) { return f.count ? f.count * f.each[0].packed_size() : 0; }

// One block of memory holds all packed factors: a flag for each that says whether it is finite, then their panels.
template <class T> int64_t flags_size(const LinearFactors<T>& f) {
  return blocks((f.first.count + f.second.count) * int64_t(sizeof(T)), 64) * 64 / int64_t(sizeof(T));
}

template <class T> int64_t packed_size(const LinearFactors<T>& f) {
  return flags_size(f) + packed_size(f.first) + packed_size(f.second);
}

template <class T> void pack(const LinearFactors<T>& f, int threads, T* memory) {
  T* const panels = memory + flags_size(f);
  pack(f.first.each, f.first.count, panels, threads);
  pack(f.second.each, f.second.count, panels + packed_size(f.first), threads);
  for (int64_t i = 0; i < f.first.count; ++i) memory[i] = f.first.each[i].finite;
  for (int64_t i = 0; i < f.second.count; ++i) memory[f.first.count + i] = f.second.each[i].finite;
}

template <class T> void use_packed(const LinearFactors<T>& f, const T* memory) {
  const T *panels = memory + flags_size(f), *finite = memory;
  const Factors<T> kinds[] = {f.first, f.second};
  for (const Factors<T>& kind : kinds) {
    for (int64_t i = 0; i < kind.count; ++i) {
      kind.each[i].panels = panels;
      kind.each[i].finite = *finite++ != 0;
      panels += packed_size(kind) / kind.count;
    }
  }
}

template <class T> int64_t bytes_of_a_layer(const Network<T>& net) {
  const int64_t second = net.linear == LinearStep::gram ? 0 : net.is_gradient_step() ? net.m : net.n;
  return net.n * (net.m + second) * int64_t(sizeof(T));
}

template <class T> int64_t deepest(const Network<T>& net) { return larger(net.n, net.m); }

// Whether all layers share their matrices, which then stay in a cache that is large enough.
template <class T> bool shares_matrices(const Network<T>& net) { return net.W1.shared() && net.W2.count <= 1; }

// The number of threads that have enough work: with less than about 5 us of a layer each, the barriers cost more. A
// matrix that layers do not share has to be loaded, or its gradient written, which takes as long as a sample.
template <class T> int useful_threads(const Network<T>& net, int64_t batch, int threads) {
  constexpr int64_t grain = 64 << 10;  // multiply-adds
  const int64_t passes = shares_matrices(net) ? batch : batch + 1;
  const int64_t work = passes * (bytes_of_a_layer(net) / int64_t(sizeof(T))) / grain;
  return work < 1 ? 1 : work < threads ? int(work) : threads;
}

// The samples of a tile. It decides how often a matrix is loaded; 64 samples and their accumulators fit in the cache.
template <class T> int64_t tile_rows(const Network<T>& net) {
  constexpr int64_t cache = 4 << 20;
  return !shares_matrices(net) ? 256 : bytes_of_a_layer(net) > cache ? 128 : 64;
}

// Packing pays for factors that are used again: by several layers, or by more than two tiles of each thread. Otherwise
// packing each panel when it is read costs less than writing packed matrices.
template <class T>
void pack_if_used_again(const LinearFactors<T>& f, const Network<T>& net, int64_t batch, int threads,
                        Workspace& memory) {
  const Factors<T> kinds[] = {f.first, f.second};
  for (const Factors<T>& kind : kinds)
    if ((kind.count == 1 && net.layers > 1) || batch > 2 * tile_rows(net) * threads)
      pack(kind.each, kind.count, memory.take<T>(packed_size(kind)), threads);
}

// Whether it is faster if all threads share a tile: with few samples, where loading the matrices takes the time, since
// the layers do not share them or they do not fit in the cache of a core. Threads must then load each other's results.
template <class T> bool gains_from_a_team(const Network<T>& net, int64_t batch) {
  constexpr int64_t large = 4 << 20, own = 512 << 10;
  const int64_t bytes = bytes_of_a_layer(net);
  return bytes >= large ? batch <= 128 : !shares_matrices(net) && bytes >= own && batch <= 16;
}

// The size of a buffer for one panel of the deepest factor that is not packed.
template <class T> int64_t buffer_size(const LinearFactors<T>& f) {
  int64_t depth = 0;
  const Factors<T> kinds[] = {f.first, f.second};
  for (const Factors<T>& kind : kinds)
    if (kind.count && !kind.each[0].panels && kind.each[0].depth > depth) depth = kind.each[0].depth;
  return depth * panel_width<T>;
}

// Parameters of all layers as padded rows.
template <class T> struct ParameterRows {
  T* data;  // null if there are none
  int64_t count, stride;
  const T* of(int64_t layer) const { return data ? data + (count == 1 ? 0 : layer) * stride : nullptr; }
};

template <class T> ParameterRows<T> rows_of(const PerLayer<const T>& p, int64_t columns, Workspace& memory) {
  ParameterRows<T> rows{p.given() ? memory.take<T>(p.count * padded<T>(columns)) : nullptr, p.count,
                        padded<T>(columns)};
  for (int64_t k = 0; k < p.count; ++k) spread(rows.data + k * rows.stride, p.arrays[k], p.size, columns);
  return rows;
}

template <class T> Prox<T> prox_of(const Network<T>& net, const ParameterRows<T>& theta, int64_t k) {
  return {net.prox_kind, net.n, net.group, net.support_size(k), net.gain.given() ? net.gain.value(k) : T(1),
          theta.of(k)};
}

template <class T> T beta_of(const Network<T>& net, int64_t k) { return net.beta.given() ? net.beta.value(k) : 0; }

// The sum of a[i] b[i] scale^2, computed with Sum, in 16 chains side by side on every instruction set.
template <class Sum, class T> Sum dot(const T* a, const T* b, int64_t size, Sum scale = 1) {
  constexpr int chains = 16;
  Sum sum[chains] = {};
  for (int64_t i = 0; i < size; ++i) sum[i % chains] += (Sum(a[i]) * scale) * (Sum(b[i]) * scale);
  for (int width = chains / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) sum[i] += sum[i + width];
  return sum[0];
}

// |x|_2 / sqrt(size). Squares of single precision are exact in double. Squares of double precision that overflow or
// vanish are computed again, scaled by a power of two.
template <class T> T rms(const T* x, int64_t size) {
  const double squares = dot(x, x, size, 1.0);
  if (sizeof(T) == 4 || !(squares < 1e-270 || squares > 1e270)) return T(__builtin_sqrt(squares / double(size)));
  const double scale = squares < 1 ? 0x1p600 : 0x1p-600;
  return T(__builtin_sqrt(dot(x, x, size, scale) / double(size)) / scale);
}

// v = x + beta (x - before)
template <class T> void extrapolate(T* v, const T* x, const T* before, T beta, int64_t n) {
  for (int64_t c = 0; c < n; c += lanes<T>) {
    const Vector<T> now = load_some(x + c, n - c);
    store(v + c, multiply_add(broadcast(beta), now - load_some(before + c, n - c), now));
  }
}

}  // namespace fastunroll::FASTUNROLL_SET
