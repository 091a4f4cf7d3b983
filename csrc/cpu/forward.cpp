// The layers of a network for one tile of samples after another: the iterates of a tile never leave the cache.
//
// With too few samples to keep the threads busy, a team of threads shares each tile; otherwise each thread takes its
// own tiles. Within a tile the team divides products by panels and everything else by rows.
#include "cpu/layer_end.h"
#include "cpu/network.h"
#include "cpu/product_in_place.h"
#include "cpu/threads.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

template <class T> struct TileMemory {
  T *x, *next;       // (rows, stride): the iterate before and after a layer
  T *state, *input;  // if there is a second state: s, (rows, stride) or (rows, stride_y), and v
  T* start;          // the start of products: W1 y, (rows, stride); or -y, (rows, stride_y)
  T* residual;       // step r, (rows, stride_y)
  T* scales;         // of theta, one for each row
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
  int64_t stop_after = never;  // the number of layers after which to stop, over all tiles if a team shares them

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
  void affine_step(const Tile& tile, int64_t k, const Rows<T>& v);
  void gradient_step(const Tile& tile, int64_t k, const Rows<T>& v);
  void gram_step(const Tile& tile, int64_t k, const Rows<T>& v);
  template <class End>
  void multiply(const Tile& tile, const Factor<T>& w, const Rows<T>& left, const StartFrom<T>& start, const End& end);
  template <class Work> void into_next(const Tile& tile, int64_t k, const Factor<T>& w, const Work& work);
  void finish_rows(const Tile& tile, int64_t k);
  bool ends_by_row(int64_t k) const { return net.scheme == Scheme::admm || !prox_of(net, theta, k).by_element(); }
  // The values saved of layer k and sample b; null if nothing is saved.
  T* saved_of(int64_t k, int64_t b) const { return a.saved ? a.saved + (k * a.batch + b) * net.saved_size() : nullptr; }
  Record<T> record_of(const Tile& tile, int64_t k) const {
    return {a.saved ? saved_of(k, tile.first) + net.residual_at() : nullptr, net.saved_size(), net.m};
  }
  bool stopped(const Tile& tile, int64_t step);
  bool goes_on() const { return __atomic_load_n(&stop_after, __ATOMIC_RELAXED) == never; }
};

template <class T>
ForwardPass<T>::ForwardPass(const Forward<T>& arguments, Workspace& memory) : a(arguments), net(arguments.net) {
  factors = linear_factors(net, memory, a.packed && a.bfloat16);
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
  stride_state = net.scheme == Scheme::amp ? stride_y : stride;
  above = dense_above();

  threads = useful_threads(net, a.batch, a.threads);
  together = threads > 1 && gains_from_a_team(net, a.batch);
  tiles = cut(a.batch, tile_rows(net), together ? 1 : threads);
  if (!together && tiles.count < threads) threads = int(tiles.count);

  const int64_t most = tiles.max_rows();
  const bool second_state = net.state_size() > 0, has_input = net.scheme == Scheme::fista || net.scheme == Scheme::admm;
  tile_memory = memory.take<TileMemory<T>>(threads);
  scratch = memory.take<ProductScratch<T>>(threads);
  magnitudes = memory.take<T*>(threads);
  for (int i = 0; i < threads; ++i) {
    scratch[i] = ProductScratch<T>::make(most, most * deepest(net), memory, memory.take<T>(buffer_size(factors)));
    magnitudes[i] = memory.take<T>(stride);
    if (together && i > 0) continue;
    TileMemory<T>& t = tile_memory[i];
    t.x = memory.take<T>(most * stride);
    t.next = memory.take<T>(most * stride);
    t.state = second_state ? memory.take<T>(most * stride_state) : nullptr;
    t.input = has_input ? memory.take<T>(most * stride) : nullptr;
    t.start = memory.take<T>(most * (net.is_gradient_step() ? stride_y : stride));
    t.residual = net.linear == LinearStep::gradient ? memory.take<T>(most * stride_y) : nullptr;
    t.scales = net.scheme == Scheme::amp ? memory.take<T>(most) : nullptr;
    t.masks = memory.take<uint64_t>(most * words);
    t.next_masks = memory.take<uint64_t>(most * words);
    t.input_masks = has_input ? memory.take<uint64_t>(most * words) : nullptr;
  }
}

// x and s at the start, with their masks.
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
      else if (net.scheme == Scheme::fista)
        memcpy(s, x, size_t(n) * sizeof(T));
    }
    if (net.is_gradient_step()) {
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
    if (net.scheme == Scheme::fista) {
      extrapolate(v, x, s, beta_of(net, k), n);
    } else {
      for (int64_t c = 0; c < n; c += lanes<T>) store(v + c, load(x + c) - load(s + c));
      if (T* const to = saved_of(k, tile.first + r)) memcpy(to, v, size_t(n) * sizeof(T));
    }
    mark_row(t.input_masks + r * words, words, v, n);
  }
}

// The thread's panels of a product.
template <class T>
template <class End>
void ForwardPass<T>::multiply(const Tile& tile, const Factor<T>& w, const Rows<T>& left, const StartFrom<T>& start,
                              const End& end) {
  const Range panels = tile.panels(w.panel_count());
  if (w.panels || w.layout != Layout::by_column || left.count > few_in_place)
    return product(w, left, panels, tile.scratch, above, start, end);
  with_count(left.count, [&](auto count) { product_by_columns<decltype(count)::value>(w, left, panels, start, end); });
}

// Calls work(end) with the end of the product that ends in x+; or in z, if the proximal step needs whole rows.
template <class T>
template <class Work>
void ForwardPass<T>::into_next(const Tile& tile, int64_t k, const Factor<T>& w, const Work& work) {
  const TileMemory<T>& t = tile.t;
  if (ends_by_row(k)) return work(StoreSum<T>{t.next, stride});
  const Range panels = tile.panels(w.panel_count());
  const int64_t first = panels.first * panel_width<T> / mask_bits;
  int64_t last = blocks(panels.last * panel_width<T>, mask_bits);
  if (last > words) last = words;
  for (int64_t r = 0; r < tile.rows; ++r)
    for (int64_t q = first; q < last; ++q) t.next_masks[r * words + q] = 0;
  const Prox<T> prox = prox_of(net, theta, k);
  work(StoreSum<T>{t.next, stride, &prox, t.scales, t.next_masks, words});
}

template <class T> void ForwardPass<T>::affine_step(const Tile& tile, int64_t k, const Rows<T>& v) {
  const TileMemory<T>& t = tile.t;
  if (k < net.W1.count) {  // once if all layers share W1
    const Rows<T> y{a.y + tile.first * net.m, net.m, tile.rows, nullptr, 0};
    const Factor<T>& w1 = factors.first.of(k);
    multiply(tile, w1, y, {}, StoreSum<T>{t.start, stride});
  }
  const Factor<T>& w2 = factors.second.of(k);
  into_next(tile, k, w2, [&](const StoreSum<T>& end) { multiply(tile, w2, v, {t.start, stride}, end); });
}

template <class T> void ForwardPass<T>::gradient_step(const Tile& tile, int64_t k, const Rows<T>& v) {
  const TileMemory<T>& t = tile.t;
  const Factor<T>& forward = factors.first.of(k);
  const SubtractSum<T> store_residual{nullptr, step.of(k), record_of(tile, k), {t.residual, stride_y}};
  if (net.scheme == Scheme::amp) {  // start from -y - s
    for (int64_t r = tile.first_row(); r < tile.last_row(); ++r)
      for (int64_t c = r * stride_y; c < r * stride_y + net.m; ++c) t.state[c] = t.start[c] - t.state[c];
    tile.team.wait();
  }
  multiply(tile, forward, v, {net.scheme == Scheme::amp ? t.state : t.start, stride_y}, store_residual);
  tile.team.wait();
  if (net.scheme == Scheme::amp) {
    for (int64_t r = tile.first_row(); r < tile.last_row(); ++r) t.scales[r] = rms(t.residual + r * stride_y, net.m);
    tile.team.wait();
  }
  const Rows<T> residual{t.residual, stride_y, tile.rows, nullptr, 0};
  const Factor<T>& back = factors.second.of(k);
  into_next(tile, k, back, [&](const StoreSum<T>& end) { multiply(tile, back, residual, {v.data, stride}, end); });
}

template <class T> void ForwardPass<T>::gram_step(const Tile& tile, int64_t k, const Rows<T>& v) {
  const Factor<T>& w = factors.first.of(k);
  into_next(tile, k, w, [&](const StoreSum<T>& end) {
    const SubtractSum<T> step_back{v.data, step.of(k), record_of(tile, k), end};
    multiply(tile, w, v, {tile.t.start, stride_y}, step_back);
  });
}

// The parts of a layer that need whole rows: some proximal steps, the second state, copies for the caller.
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
    uint8_t* const selected = a.selected ? a.selected + (k * a.batch + b) * groups : nullptr;
    if (net.scheme == Scheme::admm) {  // s + beta (z - x+) with z from the product; x holds s + z
      T* z = t.input + r * stride;
      const T beta = beta_of(net, k);
      for (int64_t c = 0; c < n; c += lanes<T>) {
        const Vector<T> sum = load(x + c) + load(s + c);
        store(z + c, load(x + c));
        store(x + c, sum);
      }
      prox.apply_to_row(x, scale, tile.magnitudes, selected);
      T* const saved = saved_of(k, b);
      for (int64_t c = 0; c < n; c += lanes<T>) {
        const Vector<T> difference = load(z + c) - load(x + c);
        if (saved) store_some(saved + n + c, difference, n - c);
        store(s + c, multiply_add(broadcast(beta), difference, load(s + c)));
      }
    } else if (ends_by_row(k)) {
      prox.apply_to_row(x, scale, tile.magnitudes, selected);
    }
    if (ends_by_row(k)) mark_row(t.next_masks + r * words, words, x, n);
    if (net.scheme == Scheme::amp) {
      const T* residual = t.residual + r * stride_y;
      const T amp_share = prox.gain * T(count_nonzeros(t.next_masks + r * words, n)) / T(m);
      for (int64_t c = 0; c < m; c += lanes<T>) store(s + c, load(residual + c) * amp_share);
    }
    if (a.x) memcpy(a.x + (k * a.batch + b) * n, x, size_t(n) * sizeof(T));
    if (last && a.last) memcpy(a.last + b * n, x, size_t(n) * sizeof(T));
    if (last && a.s) {
      const T* out = net.scheme == Scheme::fista ? t.x + r * stride : s;
      memcpy(a.s + b * net.state_size(), out, size_t(net.state_size()) * sizeof(T));
    }
  }
}

// The calling thread asks whether to stop, and tells the others. All threads of a team stop after the same layer.
template <class T> bool ForwardPass<T>::stopped(const Tile& tile, int64_t step) {
  const bool asks = a.interrupted && tile.team.rank == 0 && &tile.t == tile_memory;
  int64_t stop = __atomic_load_n(&stop_after, __ATOMIC_RELAXED);
  if (asks && stop == never && a.interrupted()) {
    stop = together ? step + 1 : 0;  // the others may have begun the next layer, and will wait in it
    __atomic_store_n(&stop_after, stop, __ATOMIC_RELAXED);
  }
  return step >= stop;
}

template <class T> void ForwardPass<T>::run_tile(Tile tile) {
  start(tile);
  tile.team.wait();
  TileMemory<T>& t = tile.t;
  TileMemory<T> mine = t;  // each thread of a team swaps its own copy of the pointers
  Tile own{mine, tile.scratch, tile.magnitudes, tile.team, tile.index, tile.first, tile.rows};
  for (int64_t k = 0; k < net.layers; ++k) {
    if (mine.input) {
      make_input(own, k);
      tile.team.wait();
    }
    const Rows<T> v{mine.input ? mine.input : mine.x, stride, tile.rows, mine.input ? mine.input_masks : mine.masks,
                    words};
    if (net.linear == LinearStep::affine)
      affine_step(own, k, v);
    else if (net.linear == LinearStep::gradient)
      gradient_step(own, k, v);
    else
      gram_step(own, k, v);
    tile.team.wait();
    finish_rows(own, k);
    if (ends_by_row(k) || mine.state) tile.team.wait();
    T* const before = mine.x;
    mine.x = mine.next;
    mine.next = net.scheme == Scheme::fista ? mine.state : before;
    if (net.scheme == Scheme::fista) mine.state = before;
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
  return packed_size(linear_factors(p.net, memory, p.bfloat16));
}

template <class T> void network_pack(const Packing<T>& p) {
  Workspace memory;
  pack(linear_factors(p.net, memory, p.bfloat16), p.threads, p.packed);
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
