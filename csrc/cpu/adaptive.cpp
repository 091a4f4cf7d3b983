// Networks whose layers follow statistics of each sample: each tile goes through all layers, and back.
#include <initializer_list>
#include <new>

#include "cpu/glista.h"
#include "cpu/hyperlista.h"
#include "cpu/message_passing.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> void outer(const Outer<T>&);

namespace {

template <template <class> class Network> struct Kind {
  template <class T> using Of = Network<T>;
};

// Calls work with the class of the network's scheme.
template <class T, class Work> auto with_kind(const AdaptiveNetwork<T>& net, const Work& work) {
  switch (net.scheme) {
    case AdaptiveScheme::glista:
      return work(Kind<Glista>());
    case AdaptiveScheme::hyperlista:
      return work(Kind<Hyperlista>());
    case AdaptiveScheme::lamp:
      return work(Kind<Lamp>());
    default:
      return work(Kind<Lvamp>());
  }
}

template <class T> Factor<T> factor_of(const AdaptiveMatrix<T>& m, bool adjoint) {
  Factor<T> f = adjoint ? Factor<T>{m.rows, m.columns, nullptr, true, m.source, Layout::by_depth, true}
                        : Factor<T>{m.columns, m.rows, nullptr, true, m.source, Layout::by_column, true};
  if (const T* packed = adjoint ? m.packed_adjoint : m.packed) {
    f.panels = packed + packed_header<T>;
    f.finite = *packed != 0;
    f.bfloat16 = m.bfloat16;
  }
  return f;
}

// Whether a pass multiplies samples by matrix i, or by its adjoint.
template <class T> bool reads(const AdaptiveNetwork<T>& net, int64_t i, bool adjoint, bool backward) {
  if (net.scheme == AdaptiveScheme::lvamp) return i == 1 || (i == 0 && adjoint == backward);
  const bool straight = i == 0 || (net.scheme == AdaptiveScheme::hyperlista && i == 2);
  return adjoint == (straight ? backward : !backward);
}

// Packs matrices that are used again: by all layers, or by more than one tile of a thread. For a few samples, matrices
// that are read row by row stay as they are.
template <class T>
void pack_for(const AdaptiveNetwork<T>& net, bool backward, AdaptiveFactors<T>* factors, Workspace& memory) {
  const bool many = net.batch > 64 * net.threads;
  for (int64_t i = 0; i < net.matrix_count; ++i) {
    const bool shared = i == 0 || !learns(net) || net.matrix_count == 2;
    for (const bool adjoint : {false, true}) {
      Factor<T>& f = adjoint ? factors[i].adjoint : factors[i].forward;
      if (f.panels || !reads(net, i, adjoint, backward)) continue;
      if (many || (shared && net.layers > 1 && !adjoint)) pack(&f, 1, memory.take<T>(f.packed_size()), net.threads);
    }
  }
}

template <class T> AdaptiveCall<T> call_of(const AdaptiveNetwork<T>& net, bool backward, Workspace& memory) {
  AdaptiveFactors<T>* factors = memory.take<AdaptiveFactors<T>>(net.matrix_count);
  for (int64_t i = 0; i < net.matrix_count; ++i)
    factors[i] = {factor_of(net.matrices[i], false), factor_of(net.matrices[i], true)};
  pack_for(net, backward, factors, memory);
  return {net, factors, adaptive_saved_size(net), dense_above()};
}

// Tiles of whole strips, at least one for each thread that has work.
template <class T> struct AdaptiveTiles {
  int64_t batch, each, count;
  explicit AdaptiveTiles(const AdaptiveNetwork<T>& net) : batch(net.batch) {
    const int64_t fair = blocks(net.batch, net.threads);
    each = blocks(fair < 64 ? fair : 64, value_strip) * value_strip;
    count = blocks(net.batch, each);
  }
  int64_t rows(int64_t i) const { return batch - i * each < each ? batch - i * each : each; }
};

// Calls through(network, stops) for each tile; stops() is true once the call is interrupted.
template <class Network, class T, class Through>
void over_tiles(const AdaptiveCall<T>& call, Workspace& memory, const Through& through) {
  const AdaptiveNetwork<T>& net = call.net;
  const AdaptiveTiles<T> tiles(net);
  const int threads = int(tiles.count < net.threads ? tiles.count : net.threads);
  AdaptiveTile<T>* tile = memory.take<AdaptiveTile<T>>(threads);
  Network* networks = memory.take<Network>(threads);
  for (int i = 0; i < threads; ++i) {
    new (tile + i) AdaptiveTile<T>(call, tiles.each, memory);
    new (networks + i) Network(tile[i], net, memory);
  }
  bool stop = false;
  for_each(tiles.count, threads, [&](int64_t i, int rank) {
    tile[rank].begin(i * tiles.each, tiles.rows(i));
    through(networks[rank], [&] {
      if (rank == 0 && net.interrupted && net.interrupted()) __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
      return __atomic_load_n(&stop, __ATOMIC_RELAXED);
    });
  });
}

// Sums the strips in order.
template <class T> void sum_values(const AdaptiveCall<T>& call, T* out) {
  const int64_t size = call.net.layers * call.net.value_count;
  memset(out, 0, size_t(size) * sizeof(T));
  for (int64_t strip = 0; strip < blocks(call.net.batch, value_strip); ++strip)
    for (int64_t i = 0; i < size; ++i) out[i] += call.strips[strip * size + i];
}

// The gradients of W: sums over samples, and over the layers that share it.
template <class T> void sum_weights(const AdaptiveCall<T>& call, int64_t offset, T* const* out) {
  const AdaptiveNetwork<T>& net = call.net;
  const int64_t count = net.matrix_count - 1, layers = count == 1 ? net.layers : 1;
  for (int64_t k = 0; k < count; ++k) {
    Outer<T> sum{layers * net.batch,
                 net.m,
                 net.n,
                 net.threads,
                 call.saved + k * net.batch * call.saved_size + offset,
                 call.learned + k * net.batch * net.n,
                 out[k]};
    sum.g_stride = call.saved_size;
    FASTUNROLL_SET::outer(sum);
  }
}

}  // namespace

template <class T> int64_t adaptive_saved_size(const AdaptiveNetwork<T>& net) {
  return with_kind(net, [&](auto kind) { return decltype(kind)::template Of<T>::saved_size(net); });
}

template <class T> void adaptive_forward(const AdaptiveForward<T>& a) {
  if (a.net.batch == 0) return;
  Workspace memory;
  AdaptiveCall<T> call = call_of(a.net, false, memory);
  call.x = a.x, call.last = a.last, call.saved_out = a.saved;
  with_kind(a.net, [&](auto kind) {
    using Network = typename decltype(kind)::template Of<T>;
    over_tiles<Network>(call, memory, [&](Network& network, const auto& stops) {
      network.forward();
      for (int64_t k = 0; k < a.net.layers && !stops(); ++k) network.forward_layer(k);
    });
  });
}

template <class T> void adaptive_backward(const AdaptiveBackward<T>& a) {
  const AdaptiveNetwork<T>& net = a.net;
  Workspace memory;
  AdaptiveCall<T> call = call_of(net, true, memory);
  call.record = a.x, call.saved = a.saved, call.grad = a.grad, call.every_layer = a.every_layer;
  call.grad_y = a.grad_y, call.grad_x0 = a.grad_x0;
  if (a.grad_learned) call.learned = memory.take<T>(net.layers * net.batch * net.n);
  const int64_t strips = blocks(net.batch, value_strip) * net.layers * net.value_count;
  call.strips = memory.take<T>(strips);
  if (strips) memset(call.strips, 0, size_t(strips) * sizeof(T));
  with_kind(net, [&](auto kind) {
    using Network = typename decltype(kind)::template Of<T>;
    if (net.batch) {
      over_tiles<Network>(call, memory, [&](Network& network, const auto& stops) {
        network.backward();
        for (int64_t k = net.layers - 1; k >= 0 && !stops(); --k) network.backward_layer(k);
        network.finish();
      });
    }
    if (a.grad_learned) sum_weights(call, Network::of_weights(net), a.grad_learned);
  });
  if (a.grad_values) sum_values(call, a.grad_values);
}

template int64_t adaptive_saved_size(const AdaptiveNetwork<float>&);
template int64_t adaptive_saved_size(const AdaptiveNetwork<double>&);
template void adaptive_forward(const AdaptiveForward<float>&);
template void adaptive_forward(const AdaptiveForward<double>&);
template void adaptive_backward(const AdaptiveBackward<float>&);
template void adaptive_backward(const AdaptiveBackward<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
