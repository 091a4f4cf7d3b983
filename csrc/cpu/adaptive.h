// The common part of networks that follow statistics of each sample: a tile of samples, its products and its rows.
//
// A tile goes through all layers alone. Its rows are padded. The padding may hold any values, so sums along a row leave
// it out.
#pragma once
#include "cpu/network.h"
#include "cpu/row_sum.h"

namespace fastunroll::FASTUNROLL_SET {

constexpr int64_t value_strip = 4;  // samples of a strip: strips are summed first, and a tile consists of whole strips

template <class T> struct AdaptiveFactors {
  Factor<T> forward, adjoint;  // of x M^T and x M
};

// Whether W is learned: one for all layers, or one for each.
template <class T> bool learns(const AdaptiveNetwork<T>& net) {
  return net.scheme == AdaptiveScheme::glista || net.scheme == AdaptiveScheme::lamp;
}

// The arguments that all tiles of a call share.
template <class T> struct AdaptiveCall {
  const AdaptiveNetwork<T>& net;
  const AdaptiveFactors<T>* factors;
  int64_t saved_size;
  double above;
  // Forward: results; null if the caller does not want them.
  T *x = nullptr, *last = nullptr, *saved_out = nullptr;
  // Backward: the results of forward, the gradient of x, and the gradients to compute.
  const T *record = nullptr, *saved = nullptr, *grad = nullptr;
  bool every_layer = false;
  T *grad_y = nullptr, *grad_x0 = nullptr;
  T* learned = nullptr;  // (layers, batch, n): the gradient of W is a sum of its products with saved values
  T* strips = nullptr;   // (strips, layers, value_count)

  const AdaptiveFactors<T>& factor(int64_t i) const { return factors[i]; }
  // W of a layer, of networks that learn it.
  const AdaptiveFactors<T>& weights(int64_t k) const { return factors[net.matrix_count == 2 ? 1 : 1 + k]; }
  const T* values(int64_t k) const { return net.values + k * net.value_count; }
};

template <class T> struct PaddedRows {
  T* data;
  int64_t stride;
  T* operator[](int64_t r) const { return data + r * stride; }
};

template <class T> class AdaptiveTile {
 public:
  // For tiles of at most `rows` samples.
  AdaptiveTile(const AdaptiveCall<T>& c, int64_t rows, Workspace& memory) : call(c), most(rows), memory_(memory) {
    int64_t deepest = 0;
    for (int64_t i = 0; i < c.net.matrix_count; ++i) {
      const AdaptiveMatrix<T>& m = c.net.matrices[i];
      deepest = m.rows > deepest ? m.rows : deepest;
      deepest = m.columns > deepest ? m.columns : deepest;
    }
    words_ = tile_words<T>(deepest);
    masks_ = memory.take<uint64_t>(rows * words_);
    scratch_ = ProductScratch<T>::make(rows, rows * deepest, memory, memory.take<T>(deepest * panel_width<T>));
    magnitudes = take(c.net.n).data;
    selected = memory.take<uint8_t>(c.net.n);
  }

  // A row of `columns` values for each sample, or one number for each.
  PaddedRows<T> take(int64_t columns) {
    const int64_t stride = tile_stride<T>(columns);
    return {memory_.template take<T>(most * stride), stride};
  }
  T* numbers() { return memory_.template take<T>(most); }

  void begin(int64_t sample, int64_t samples) { first = sample, count = samples; }

  const T* y(int64_t r) const { return call.net.y + (first + r) * call.net.m; }
  Rows<T> all_y() const { return {y(0), call.net.m, count, nullptr, 0}; }
  const T* x0(int64_t r) const { return call.net.x0 ? call.net.x0 + (first + r) * call.net.n : nullptr; }
  T* saved_out(int64_t k, int64_t r) const { return call.saved_out ? call.saved_out + at(k, r) : nullptr; }
  const T* saved(int64_t k, int64_t r) const { return call.saved + at(k, r); }
  T* learned(int64_t k, int64_t r) const {
    return call.learned ? call.learned + (k * call.net.batch + first + r) * call.net.n : nullptr;
  }
  // x after layer k; -1 is x0, which is null if it is zero.
  const T* iterate(int64_t k, int64_t r) const {
    return k < 0 ? x0(r) : call.record + (k * call.net.batch + first + r) * call.net.n;
  }
  // The sums for the gradient of the values of a layer.
  T* to_values(int64_t k, int64_t r) const {
    const AdaptiveNetwork<T>& net = call.net;
    return call.strips + ((first + r) / value_strip * net.layers + k) * net.value_count;
  }

  // out = x W, added to `start` if it is given. `sparse` skips the zeros of x.
  void product(const Factor<T>& w, const Rows<T>& x, bool sparse, const PaddedRows<T>& out,
               const T* start = nullptr) const {
    Rows<T> rows = x;
    if (sparse) {
      rows.masks = masks_;
      rows.words = tile_words<T>(w.depth);
      for (int64_t r = 0; r < x.count; ++r)
        mark_row(masks_ + r * rows.words, rows.words, x.data + r * x.stride, w.depth);
    }
    FASTUNROLL_SET::product(w, rows, scratch_, call.above, StartFrom<T>{start, out.stride},
                            Store<T>{out.data, out.stride});
  }
  void product(const Factor<T>& w, const PaddedRows<T>& x, bool sparse, const PaddedRows<T>& out,
               const T* start = nullptr) const {
    product(w, Rows<T>{x.data, x.stride, count, nullptr, 0}, sparse, out, start);
  }

  // x0 as padded rows.
  void begin_with_x0(const PaddedRows<T>& x) const {
    for (int64_t r = 0; r < count; ++r) {
      if (x0(r))
        memcpy(x[r], x0(r), size_t(call.net.n) * sizeof(T));
      else
        memset(x[r], 0, size_t(call.net.n) * sizeof(T));
    }
  }

  // Copies the results of a layer for the caller.
  void finish_layer(int64_t k, const PaddedRows<T>& x) const {
    const int64_t n = call.net.n;
    for (int64_t r = 0; r < count; ++r) {
      if (call.x) memcpy(call.x + (k * call.net.batch + first + r) * n, x[r], size_t(n) * sizeof(T));
      if (call.last && k + 1 == call.net.layers) memcpy(call.last + (first + r) * n, x[r], size_t(n) * sizeof(T));
    }
  }

  // Adds the caller's gradient of the output of layer k to g; with `fresh`, writes it.
  void enter(int64_t k, const PaddedRows<T>& g, bool fresh) const {
    const int64_t n = call.net.n;
    const bool enters = call.every_layer || k + 1 == call.net.layers;
    for (int64_t r = 0; r < count; ++r) {
      const T* from = call.grad + ((call.every_layer ? k * call.net.batch : 0) + first + r) * n;
      for (int64_t c = 0; c < n; c += lanes<T>) {
        const Vector<T> more = enters ? load_some(from + c, n - c) : Vector<T>{};
        store(g[r] + c, fresh ? more : load(g[r] + c) + more);
      }
    }
  }

  void give(T* out, int64_t columns, const PaddedRows<T>& rows) const {
    for (int64_t r = 0; out && r < count; ++r)
      memcpy(out + (first + r) * columns, rows[r], size_t(columns) * sizeof(T));
  }

  const AdaptiveCall<T>& call;
  const int64_t most;
  int64_t first = 0, count = 0;
  T* magnitudes;
  uint8_t* selected;  // of the current sample

 private:
  int64_t at(int64_t k, int64_t r) const { return (k * call.net.batch + first + r) * call.saved_size; }

  Workspace& memory_;
  uint64_t* masks_;
  int64_t words_;
  ProductScratch<T> scratch_;
};

// Calls body(column) for the vectors of a padded row.
template <class T, class Body> inline void over_row(int64_t size, const Body& body) {
  for (int64_t c = 0; c < size; c += lanes<T>) body(c);
}

// v without the lanes from `count` on.
template <class T> inline Vector<T> inside(Vector<T> v, int64_t count) {
  if (count >= lanes<T>) return v;
  T values[lanes<T>];
  store(values, v);
  return load_some(values, count);
}

// The sum of body(column) over a row.
template <class T, class Body> inline T sum_over_row(int64_t size, const Body& body) {
  RowSum<T> sum;
  along_row<T>(size, [&](int64_t c, int j) { sum.add(j, inside<T>(body(c), size - c)); });
  return sum.total();
}

// Several sums at once: body(column, add) calls add(i, vector).
template <int Count, class T, class Body> inline void sums_over_row(int64_t size, T* out, const Body& body) {
  RowSum<T> sums[Count];
  along_row<T>(size,
               [&](int64_t c, int j) { body(c, [&](int i, Vector<T> v) { sums[i].add(j, inside<T>(v, size - c)); }); });
  for (int i = 0; i < Count; ++i) out[i] = sums[i].total();
}

// The sign of x, -1, 0 or 1; a NaN shows.
template <class T> inline Vector<T> sign_of(Vector<T> x) {
  return x == 0 ? Vector<T>{} : x != x ? x : with_sign_of<T>(broadcast(T(1)), x);
}

template <class T> inline T clamp(T x, T least, T most) { return x < least ? least : x > most ? most : x; }
template <class T> inline bool is_within(T x, T least, T most) { return x >= least && x <= most; }

}  // namespace fastunroll::FASTUNROLL_SET
