// The layers of a network for one tile of samples after another: a tile's iterates never leave the cache.
//
// A team of threads shares a tile where there are fewer samples than keep the threads busy; else each takes tiles of
// its own. Within a tile, products are shared out by panels and everything else by rows.
#include "cpu/network.h"
#include "cpu/threads.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

template <class T> struct TileMemory {
  T *x, *next;       // (rows, stride): the iterate before and after a layer
  T *state, *input;  // where there is a second state: s, (rows, stride) or (rows, stride_y), and v
  T* start;          // where products with y begin: W1 y, (rows, stride); or y, (rows, stride_y)
  T* residual;       // step r, (rows, stride_y)
  T* scales;         // of theta, a row each
  uint64_t *masks, *next_masks, *input_masks;
};

constexpr int64_t never = INT64_MAX;

template <class T> class ForwardPass {
 public:
  ForwardPass(const Forward<T>& arguments, Workspace& memory);
  void run();

 private:
  const Forward<T>& a;
  const Network<T>& net;
  LinearFactors<T> factors;
  ParameterRows<T> theta, step;
  int64_t stride, stride_y, words, stride_state;
  double above;
  Tiles tiles;
  bool together;  // whether all threads work on one tile
  int threads;
  TileMemory<T>* tile_memory;
  ProductScratch<T>* scratch;
  T** magnitudes;
  int64_t stop_after = never;  // so many layers, of all tiles if a team shares them

  // One tile, as one thread of a team sees it.
  struct Tile {
    TileMemory<T>& t;
    ProductScratch<T>& scratch;
    T* magnitudes;
    Team team;
    int64_t index, first, rows;

    int64_t first_row() const { return rows * team.rank / team.size; }
    int64_t last_row() const { return rows * (team.rank + 1) / team.size; }
    // Whole words of masks.
    Range panels(int64_t count) const {
      constexpr int64_t unit = panel_width<T> < mask_bits ? mask_bits / panel_width<T> : 1;
      const int64_t units = blocks(count, unit), last = units * (team.rank + 1) / team.size * unit;
      return {units * team.rank / team.size * unit, last < count ? last : count};
    }
  };

  void run_tile(Tile tile);
  void start(const Tile& tile);
  void make_input(const Tile& tile, int64_t k);
  void linear_direct(const Tile& tile, int64_t k, const Rows<T>& v);
  void linear_coupled(const Tile& tile, int64_t k, const Rows<T>& v);
  void linear_gram(const Tile& tile, int64_t k, const Rows<T>& v);
  template <class Start, class Finish = AsItIs<T>>
  void into_next(const Tile& tile, int64_t k, const Factor<T>& w, const Rows<T>& left, const Start& start,
                 const Finish& finish = {});
  void finish_rows(const Tile& tile, int64_t k);
  bool ends_by_row(int64_t k) const { return net.splitting || !prox_of(net, theta, k).by_element(); }
  // What the trace has of layer k and sample b; null where there is no trace.
  T* traced(int64_t k, int64_t b) const { return a.trace ? a.trace + (k * a.batch + b) * net.trace_size() : nullptr; }
  Record<T> record_of(const Tile& tile, int64_t k) const {
    return {a.trace ? traced(k, tile.first) + net.residual_at() : nullptr, net.trace_size(), net.m};
  }
  bool stopped(const Tile& tile, int64_t step);
  bool goes_on() const { return __atomic_load_n(&stop_after, __ATOMIC_RELAXED) == never; }
};

template <class T>
ForwardPass<T>::ForwardPass(const Forward<T>& arguments, Workspace& memory) : a(arguments), net(arguments.net) {
  factors = linear_factors(net, memory, a.packed && a.halved);
  if (a.packed) {
    use_packed(factors, a.packed);
  } else {
    pack_if_used_again(factors, net, a.batch, a.threads, memory);
  }
  theta = rows_of(net.theta, net.n / net.group, memory);
  step = rows_of(net.step, net.m, memory);
  stride = tile_stride<T>(net.n);
  stride_y = tile_stride<T>(net.m);
  words = tile_words<T>(net.n);
  stride_state = net.onsager ? stride_y : stride;
  above = dense_above();

  threads = useful_threads(net, a.batch, a.threads);
  together = threads > 1 && gains_from_a_team(net, a.batch);
  tiles = cut(a.batch, tile_rows(net), together ? 1 : threads);
  if (!together && tiles.count < threads) threads = int(tiles.count);

  const int64_t most = tiles.most_rows();
  const bool second_state = net.state_size() > 0, has_input = net.momentum || net.splitting;
  tile_memory = memory.take<TileMemory<T>>(threads);
  scratch = memory.take<ProductScratch<T>>(threads);
  magnitudes = memory.take<T*>(threads);
  for (int i = 0; i < threads; ++i) {
    scratch[i] = {memory.take<T>(most * panel_width<T>), memory.take<T>(buffer_size(factors))};
    magnitudes[i] = memory.take<T>(stride);
    if (together && i > 0) continue;
    TileMemory<T>& t = tile_memory[i];
    t.x = memory.take<T>(most * stride);
    t.next = memory.take<T>(most * stride);
    t.state = second_state ? memory.take<T>(most * stride_state) : nullptr;
    t.input = has_input ? memory.take<T>(most * stride) : nullptr;
    t.start = memory.take<T>(most * (net.coupled() ? stride_y : stride));
    t.residual = net.linear == Linear::coupled ? memory.take<T>(most * stride_y) : nullptr;
    t.scales = net.onsager ? memory.take<T>(most) : nullptr;
    t.masks = memory.take<uint64_t>(most * words);
    t.next_masks = memory.take<uint64_t>(most * words);
    t.input_masks = has_input ? memory.take<uint64_t>(most * words) : nullptr;
  }
}

// x and s as given, with their masks.
template <class T> void ForwardPass<T>::start(const Tile& tile) {
  const TileMemory<T>& t = tile.t;
  const int64_t n = net.n, m = net.m, size = net.state_size();
  for (int64_t r = tile.first_row(); r < tile.last_row(); ++r) {
    T* x = t.x + r * stride;
    memset(x, 0, size_t(stride) * sizeof(T));
    if (a.x0) memcpy(x, a.x0 + (tile.first + r) * n, size_t(n) * sizeof(T));
    mark_row(t.masks + r * words, words, x, n);
    if (t.input) memset(t.input + r * stride, 0, size_t(stride) * sizeof(T));
    if (t.state) {
      T* s = t.state + r * stride_state;
      memset(s, 0, size_t(stride_state) * sizeof(T));
      if (a.s0)
        memcpy(s, a.s0 + (tile.first + r) * size, size_t(size) * sizeof(T));
      else if (net.momentum)
        memcpy(s, x, size_t(n) * sizeof(T));
    }
    if (net.coupled()) {
      const T* y = a.y + (tile.first + r) * m;
      for (int64_t c = 0; c < stride_y; ++c) t.start[r * stride_y + c] = c < m ? -y[c] : 0;
    }
  }
}

template <class T> void ForwardPass<T>::make_input(const Tile& tile, int64_t k) {
  const TileMemory<T>& t = tile.t;
  const int64_t n = net.n;
  for (int64_t r = tile.first_row(); r < tile.last_row(); ++r) {
    const T *x = t.x + r * stride, *s = t.state + r * stride;
    T* v = t.input + r * stride;
    if (net.momentum) {
      extrapolate(v, x, s, blend_of(net, k), n);
    } else {
      for (int64_t c = 0; c < n; c += lanes<T>) store(v + c, load(x + c) - load(s + c));
      if (T* const to = traced(k, tile.first + r)) memcpy(to, v, size_t(n) * sizeof(T));
    }
    mark_row(t.input_masks + r * words, words, v, n);
  }
}

// The product that ends in x+, or in z where whole rows are needed to go on.
template <class T>
template <class Start, class Finish>
void ForwardPass<T>::into_next(const Tile& tile, int64_t k, const Factor<T>& w, const Rows<T>& left, const Start& start,
                               const Finish& finish) {
  const TileMemory<T>& t = tile.t;
  const Range panels = tile.panels(w.panel_count());
  const auto run = [&](const auto& place) {
    product(w, left, panels, tile.scratch, above, start, finish.before(place));
  };
  if (ends_by_row(k)) return run(Store<T>{t.next, stride});
  const int64_t first = panels.first * panel_width<T> / mask_bits;
  int64_t last = blocks(panels.last * panel_width<T>, mask_bits);
  if (last > words) last = words;
  for (int64_t r = 0; r < tile.rows; ++r)
    for (int64_t q = first; q < last; ++q) t.next_masks[r * words + q] = 0;
  const Prox<T> prox = prox_of(net, theta, k);
  run(StoreThrough<T>{t.next, stride, prox, t.scales, t.next_masks, words});
}

template <class T> void ForwardPass<T>::linear_direct(const Tile& tile, int64_t k, const Rows<T>& v) {
  const TileMemory<T>& t = tile.t;
  if (k < net.first.count) {  // once if all layers share it
    const Rows<T> y{a.y + tile.first * net.m, net.m, tile.rows, nullptr, 0};
    const Factor<T>& w1 = factors.first.of(k);
    product(w1, y, tile.panels(w1.panel_count()), tile.scratch, above, StartAtZero<T>{}, Store<T>{t.start, stride});
  }
  into_next(tile, k, factors.second.of(k), v, StartFrom<T>{t.start, stride});
}

template <class T> void ForwardPass<T>::linear_coupled(const Tile& tile, int64_t k, const Rows<T>& v) {
  const TileMemory<T>& t = tile.t;
  const Factor<T>& forward = factors.first.of(k);
  const Range panels = tile.panels(forward.panel_count());
  const StoreNegated<T> store_residual{t.residual, stride_y, step.of(k), record_of(tile, k)};
  if (net.onsager) {  // start from -y - s
    for (int64_t r = tile.first_row(); r < tile.last_row(); ++r)
      for (int64_t c = r * stride_y; c < r * stride_y + net.m; ++c) t.state[c] = t.start[c] - t.state[c];
    tile.team.wait();
  }
  product(forward, v, panels, tile.scratch, above, StartFrom<T>{net.onsager ? t.state : t.start, stride_y},
          store_residual);
  tile.team.wait();
  if (net.onsager) {
    for (int64_t r = tile.first_row(); r < tile.last_row(); ++r) t.scales[r] = rms(t.residual + r * stride_y, net.m);
    tile.team.wait();
  }
  const Rows<T> residual{t.residual, stride_y, tile.rows, nullptr, 0};
  into_next(tile, k, factors.second.of(k), residual, StartFrom<T>{v.data, stride});
}

template <class T> void ForwardPass<T>::linear_gram(const Tile& tile, int64_t k, const Rows<T>& v) {
  into_next(tile, k, factors.first.of(k), v, StartFrom<T>{tile.t.start, stride_y},
            StepBack<T>{v.data, stride, step.of(k), record_of(tile, k)});
}

// What needs whole rows: some prox, the second state, copies for the caller.
template <class T> void ForwardPass<T>::finish_rows(const Tile& tile, int64_t k) {
  const TileMemory<T>& t = tile.t;
  const int64_t n = net.n, m = net.m;
  const bool last = k + 1 == net.layers;
  const Prox<T> prox = prox_of(net, theta, k);
  for (int64_t r = tile.first_row(); r < tile.last_row(); ++r) {
    const int64_t b = tile.first + r;
    T *x = t.next + r * stride, *s = t.state + r * stride_state;
    const T scale = t.scales ? t.scales[r] : 1;
    const int64_t groups = n / net.group;
    uint8_t* const passed = a.passed ? a.passed + (k * a.batch + b) * groups : nullptr;
    if (net.splitting) {  // s + blend (z - x+) with z from the product, as s + z waits in x
      T* z = t.input + r * stride;
      const T blend = blend_of(net, k);
      for (int64_t c = 0; c < n; c += lanes<T>) {
        const Vector<T> sum = load(x + c) + load(s + c);
        store(z + c, load(x + c));
        store(x + c, sum);
      }
      prox.apply_to_row(x, scale, tile.magnitudes, passed);
      T* const trace = traced(k, b);
      for (int64_t c = 0; c < n; c += lanes<T>) {
        const Vector<T> difference = load(z + c) - load(x + c);
        if (trace) store_some(trace + n + c, difference, n - c);
        store(s + c, multiply_add(broadcast(blend), difference, load(s + c)));
      }
    } else if (ends_by_row(k)) {
      prox.apply_to_row(x, scale, tile.magnitudes, passed);
    }
    if (ends_by_row(k)) mark_row(t.next_masks + r * words, words, x, n);
    if (net.onsager) {
      const T* residual = t.residual + r * stride_y;
      const T b_onsager = prox.gain * T(count_nonzeros(t.next_masks + r * words, n)) / T(m);
      for (int64_t c = 0; c < m; c += lanes<T>) store(s + c, load(residual + c) * b_onsager);
    }
    if (a.x) memcpy(a.x + (k * a.batch + b) * n, x, size_t(n) * sizeof(T));
    if (last && a.last) memcpy(a.last + b * n, x, size_t(n) * sizeof(T));
    if (last && a.s) {
      const T* out = net.momentum ? t.x + r * stride : s;
      memcpy(a.s + b * net.state_size(), out, size_t(net.state_size()) * sizeof(T));
    }
  }
}

// The calling thread asks whether to go on, and tells the others. A team stops after one and the same layer.
template <class T> bool ForwardPass<T>::stopped(const Tile& tile, int64_t step) {
  const bool asks = a.interrupted && tile.team.rank == 0 && &tile.t == tile_memory;
  int64_t stop = __atomic_load_n(&stop_after, __ATOMIC_RELAXED);
  if (asks && stop == never && a.interrupted()) {
    stop = together ? step + 1 : 0;  // the others have begun the next layer perhaps, and will wait in it
    __atomic_store_n(&stop_after, stop, __ATOMIC_RELAXED);
  }
  return step >= stop;
}

template <class T> void ForwardPass<T>::run_tile(Tile tile) {
  start(tile);
  tile.team.wait();
  TileMemory<T>& t = tile.t;
  TileMemory<T> mine = t;  // each thread of a team swaps pointers of its own
  Tile own{mine, tile.scratch, tile.magnitudes, tile.team, tile.index, tile.first, tile.rows};
  for (int64_t k = 0; k < net.layers; ++k) {
    if (mine.input) {
      make_input(own, k);
      tile.team.wait();
    }
    const Rows<T> v{mine.input ? mine.input : mine.x, stride, tile.rows, mine.input ? mine.input_masks : mine.masks,
                    words};
    if (net.linear == Linear::direct)
      linear_direct(own, k, v);
    else if (net.linear == Linear::coupled)
      linear_coupled(own, k, v);
    else
      linear_gram(own, k, v);
    tile.team.wait();
    finish_rows(own, k);
    if (ends_by_row(k) || mine.state) tile.team.wait();
    T* const before = mine.x;
    mine.x = mine.next;
    mine.next = net.momentum ? mine.state : before;
    if (net.momentum) mine.state = before;
    uint64_t* const masks = mine.masks;
    mine.masks = mine.next_masks;
    mine.next_masks = masks;
    if (stopped(tile, tile.index * net.layers + k)) return;
  }
  tile.team.wait();
}

template <class T> void ForwardPass<T>::run() {
  Queue queue;
  in_parallel(threads, [&](Team team) {
    for (int64_t i = 0; together && i < tiles.count; ++i)
      run_tile({tile_memory[0], scratch[team.rank], magnitudes[team.rank], team, i, tiles.first(i), tiles.rows(i)});
    for (int64_t i; !together && goes_on() && queue.take(i, tiles.count);)
      run_tile({tile_memory[team.rank],
                scratch[team.rank],
                magnitudes[team.rank],
                {0, 1, nullptr},
                i,
                tiles.first(i),
                tiles.rows(i)});
  });
}

}  // namespace

template <class T> int64_t network_packed_size(const Packing<T>& p) {
  Workspace memory;
  return packed_size(linear_factors(p.net, memory, p.halved));
}

template <class T> void network_pack(const Packing<T>& p) {
  Workspace memory;
  pack(linear_factors(p.net, memory, p.halved), p.threads, p.packed);
}

template <class T> void network_forward(const Forward<T>& a) {
  if (a.batch == 0) return;
  Workspace memory;
  ForwardPass<T>(a, memory).run();
}

template int64_t network_packed_size(const Packing<float>&);
template int64_t network_packed_size(const Packing<double>&);
template void network_pack(const Packing<float>&);
template void network_pack(const Packing<double>&);
template void network_forward(const Forward<float>&);
template void network_forward(const Forward<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
