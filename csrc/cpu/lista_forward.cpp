// K layers x+ = S_theta(W1 y + W2 x) for one tile of samples after another: a tile's iterates never leave the cache.
#include "cpu/lista_panels.h"
#include "cpu/threads.h"
#include "cpu/tile.h"
#include "cpu/workspace.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

template <class T> struct Layers {
  ListaPanels<T> weights;
  T* theta;  // padded rows of `stride`
  int64_t stride, words;
};

template <class T> struct Scratch {
  T* bias;  // W1 y
  T* x[2];  // the iterate before and after a layer
  uint64_t* masks[2];
  T* spill;
};

template <class T>
void forward_tile(const ListaForward<T>& a, const Layers<T>& net, const Scratch<T>& s, int64_t first, int64_t rows) {
  const int64_t stride = net.stride, words = net.words, n = a.n;
  const size_t mask_bytes = size_t(rows * words) * sizeof(uint64_t);
  const double above = dense_above();

  memset(s.masks[0], 0, mask_bytes);
  for (int64_t r = 0; r < rows; ++r) {
    T* x = s.x[0] + r * stride;
    if (a.x0) {
      memcpy(x, a.x0 + (first + r) * n, size_t(n) * sizeof(T));
      mark_row(s.masks[0] + r * words, words, x, n);
    } else {
      memset(x, 0, size_t(stride) * sizeof(T));
    }
  }

  for (int64_t k = 0; k < a.layers; ++k) {
    const int from = k % 2, to = 1 - from;
    if (k < a.w1_count) {  // once if all layers share it
      const Rows<T> y{a.y + first * a.m, a.m, rows, nullptr, 0};
      product_dense(net.weights.w1(k), y, StartAtZero<T>{}, Store<T>{s.bias, stride});
    }
    memset(s.masks[to], 0, mask_bytes);
    const T* theta = net.theta + (a.theta_count == 1 ? 0 : k) * stride;
    const Rows<T> x{s.x[from], stride, rows, s.masks[from], words};
    product(net.weights.w2(k), x, s.spill, above, StartFrom<T>{s.bias, stride},
            StoreShrunk<T>{s.x[to], stride, theta, s.masks[to], words});
    if (a.keep_layers || k + 1 == a.layers) {
      T* out = a.x + (a.keep_layers ? k * a.batch * n : 0) + first * n;
      for (int64_t r = 0; r < rows; ++r) memcpy(out + r * n, s.x[to] + r * stride, size_t(n) * sizeof(T));
    }
  }
}

}  // namespace

template <class T> int64_t lista_panels_size(int64_t m, int64_t n, int64_t w1_count, int64_t w2_count) {
  return ListaPanels<T>{nullptr, m, n, w1_count, w2_count}.size();
}

template <class T> void lista_pack(const ListaPack<T>& a) {
  const ListaPanels<T> weights{a.panels, a.m, a.n, a.w1_count, a.w2_count};
  Workspace memory;
  const int64_t count = a.w1_count + a.w2_count;
  Panels<T>* panels = memory.take<Panels<T>>(count);
  for (int64_t i = 0; i < count; ++i) panels[i] = i < a.w1_count ? weights.w1(i) : weights.w2(i - a.w1_count);
  pack(panels, a.w1, a.w1_count, Layout::by_column, a.threads);
  pack(panels + a.w1_count, a.w2, a.w2_count, Layout::by_column, a.threads);
  for (int64_t i = 0; i < count; ++i) a.panels[i] = panels[i].finite;
}

template <class T> void lista_forward(const ListaForward<T>& a) {
  if (a.batch == 0) return;
  Workspace memory;
  Layers<T> net;
  net.weights = {const_cast<T*>(a.panels), a.m, a.n, a.w1_count, a.w2_count};
  net.stride = tile_stride<T>(a.n);
  net.words = tile_words<T>(a.n);
  net.theta = memory.take<T>(a.theta_count * net.stride);
  for (int64_t k = 0; k < a.theta_count; ++k) spread(net.theta + k * net.stride, a.theta[k], a.theta_size, a.n);

  const Tiles tiles = cut(a.batch, a.n * a.n * int64_t(sizeof(T)), a.threads);
  const int64_t most = tiles.most_rows();
  const int threads = int(a.threads < tiles.count ? a.threads : tiles.count);
  Scratch<T>* scratch = memory.take<Scratch<T>>(threads);
  for (int t = 0; t < threads; ++t) {
    Scratch<T>& s = scratch[t];
    s.bias = memory.take<T>(most * net.stride);
    for (T*& x : s.x) x = memory.take<T>(most * net.stride);
    for (uint64_t*& m : s.masks) m = memory.take<uint64_t>(most * net.words);
    s.spill = memory.take<T>(most * panel_width<T>);
  }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
  for (int64_t i = 0; i < tiles.count; ++i) forward_tile(a, net, scratch[this_thread()], tiles.first(i), tiles.rows(i));
}

template int64_t lista_panels_size<float>(int64_t, int64_t, int64_t, int64_t);
template int64_t lista_panels_size<double>(int64_t, int64_t, int64_t, int64_t);
template void lista_pack(const ListaPack<float>&);
template void lista_pack(const ListaPack<double>&);
template void lista_forward(const ListaForward<float>&);
template void lista_forward(const ListaForward<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
