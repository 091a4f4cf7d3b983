// The linear steps of a layer, backwards: from the gradient of z to those of v, y and the matrices.
//
// A team goes through a task together if there is but one: its ranks share out the panels of products, and rank 0 does
// what is between them. Otherwise a task has a team of one.
#pragma once
#include "cpu/backward.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> struct StartNegative {  // minus a matrix that ends at its last column
  const T* data;
  int64_t columns;
  Vector<T> operator()(int64_t row, int64_t column) const {
    return -load_some(data + row * columns + column, columns - column);
  }
};

// v of layer k for the samples of a task: where it lies, or made again.
template <class T>
Rows<T> input_rows(const BackwardMemory<T>& m, int64_t k, int64_t begin, int64_t count, TaskMemory<T>& s) {
  const int64_t n = m.net.n;
  if (m.net.splitting) return {m.given(m.a.trace, 2 * n, begin, k), 2 * n, count, nullptr, 0};
  const T* x = m.iterate(k, begin);
  if (m.net.momentum && !m.starts_from_zero(k)) {
    const T* before = m.iterate_before(k, begin);
    memset(s.along, 0, size_t(m.stride) * sizeof(T));
    for (int64_t r = 0; r < count; ++r)
      extrapolate(s.v + r * m.stride, x ? x + r * n : s.along, before ? before + r * n : s.along, blend_of(m.net, k),
                  n);
  } else if (x) {
    return {x, n, count, nullptr, 0};
  } else {
    memset(s.v, 0, size_t(count * m.stride) * sizeof(T));
  }
  return {s.v, m.stride, count, nullptr, 0};
}

// Minus a matrix whose rows come again and again, from row `first` on.
template <class T> struct StartNegativeAgain {
  const T* data;
  int64_t columns, first, rows;
  Vector<T> operator()(int64_t row, int64_t column) const {
    return StartNegative<T>{data, columns}((first + row) % rows, column);
  }
};

// r = y - A v of a part of the samples of all layers: for few samples A costs as much as for those of all layers.
template <class T> void make_residuals(const BackwardMemory<T>& m, int64_t part, TaskMemory<T>& s) {
  const Network<T>& net = m.net;
  const int64_t all = net.layers * m.count, end = all * (part + 1) / m.threads;
  for (int64_t i = all * part / m.threads, last; i < end; i = last) {
    last = i + m.task < end ? i + m.task : end;
    const int64_t k = i / m.count;
    if (!net.splitting && k == 0 && last > m.count) last = m.count;  // x0 lies elsewhere
    Rows<T> v = input_rows(m, k, i % m.count, last - i, s);
    v.masks = s.v_masks;
    v.words = m.words;
    for (int64_t r = 0; r < v.count; ++r) mark_row(s.v_masks + r * m.words, m.words, v.data + r * v.stride, net.n);
    product(m.forward.first.of(0), v, s.products, m.above, StartNegativeAgain<T>{m.a.y, net.m, i, m.count},
            StoreNegated<T>{m.residuals + i * m.stride_y, m.stride_y, nullptr});
  }
}

// A rank's panels of a factor.
template <class T> Range share_of(const Factor<T>& w, const Team& team) {
  return {w.panel_count() * team.rank / team.size, w.panel_count() * (team.rank + 1) / team.size};
}

// y's share of a gradient g of W1 y, added to that of y.
template <class T>
void add_to_y(const BackwardMemory<T>& m, const Factor<T>& w1, int64_t begin, const Rows<T>& g, TaskMemory<T>& s,
              const Team& team) {
  T* out = m.g_y + begin * m.stride_y;
  product(w1, g, share_of(w1, team), s.products, m.above, StartFrom<T>{out, m.stride_y}, Store<T>{out, m.stride_y});
}

// z = W1 y + W2 v
template <class T>
void adjoint_direct(const BackwardMemory<T>& m, int64_t k, int64_t begin, const Rows<T>& g, TaskMemory<T>& s,
                    const Team& team) {
  const Factor<T>& w2 = m.adjoint.second.of(k);
  if (m.needs_input(k))
    product(w2, g, share_of(w2, team), s.products, m.above, StartAtZero<T>{},
            Store<T>{m.g_x + begin * m.stride, m.stride});
  const bool shared = m.net.first.shared();
  if (m.g_y && !shared) add_to_y(m, m.adjoint.first.of(k), begin, g, s, team);
  if (team.rank != 0) return;
  if (m.g_bias) {
    for (int64_t r = 0; r < g.count; ++r) {
      T* sum = m.g_bias + (begin + r) * m.stride;
      const T* row = g.data + r * g.stride;
      for (int64_t c = 0; c < m.net.n; c += lanes<T>)
        store(sum + c, k + 1 < m.net.layers ? load(sum + c) + load(row + c) : load(row + c));
    }
  }
  const auto place = m.of_second.place(k, m.count);
  if (m.of_second.wanted() || (m.of_first.wanted() && !shared)) m.of_second.put_g(place, begin, g);
  if (m.of_second.wanted() && !m.starts_from_zero(k))
    m.of_second.put_x(place, begin, input_rows(m, k, begin, g.count, s));
}

// z = v + W^T (step r), r = y - A v [+ s]. With h = W g, the gradient of r is step h; that of v is g - A^T (step h).
// With a Gram matrix W is the identity.
template <class T>
void adjoint_coupled(const BackwardMemory<T>& m, int64_t k, int64_t begin, const Rows<T>& g, TaskMemory<T>& s,
                     const Team& team) {
  const Network<T>& net = m.net;
  const int64_t stride_y = m.stride_y, size = net.m;
  const bool needs_residual = m.to_step.strips || m.of_second.wanted() || m.of_first.wanted() || net.onsager;
  Rows<T> v{};
  if (team.rank == 0) {
    if (m.of_first.wanted() || (needs_residual && !m.residuals && !net.onsager)) {
      v = input_rows(m, k, begin, g.count, s);
      v.masks = s.v_masks;
      v.words = m.words;
      for (int64_t r = 0; r < v.count; ++r) mark_row(s.v_masks + r * m.words, m.words, v.data + r * v.stride, net.n);
    }
    if (net.onsager) {
      for (int64_t r = 0; r < g.count; ++r) {
        T* residual = s.residual + r * stride_y;
        const T* trace = m.given(m.a.trace, size, begin + r, k);
        for (int64_t c = 0; c < size; c += lanes<T>) store(residual + c, load_some(trace + c, size - c));
      }
    } else if (m.residuals) {
      memcpy(s.residual, m.residuals + (k * m.count + begin) * stride_y, size_t(g.count * stride_y) * sizeof(T));
    } else if (needs_residual) {
      product(m.forward.first.of(k), v, s.products, m.above, StartNegative<T>{m.given(m.a.y, size, begin), size},
              StoreNegated<T>{s.residual, stride_y, nullptr});
    }
  }
  const bool gram = net.linear == Linear::gram;
  const Factor<T>& first = m.adjoint.first.of(k);
  const Factor<T>& second = gram ? first : m.adjoint.second.of(k);
  if (!gram)
    product(second, g, share_of(second, team), s.products, m.above, StartAtZero<T>{}, Store<T>{s.seen, stride_y});
  else if (team.rank == 0)
    memcpy(s.seen, g.data, size_t(g.count * stride_y) * sizeof(T));
  team.wait();

  const T* step = m.step.of(k);
  for (int64_t r = 0; team.rank == 0 && r < g.count; ++r) {
    T *seen = s.seen + r * stride_y, *residual = s.residual + r * stride_y;
    T* const to_y = m.g_y ? m.g_y + (begin + r) * stride_y : nullptr;
    T* const to_step = m.to_step.at(begin + r);
    T* const state = net.onsager ? m.g_state + (begin + r) * stride_y : nullptr;
    for (int64_t c = 0; c < size; c += lanes<T>) {
      Vector<T> h = load(seen + c);
      if (to_step) store(to_step + c, multiply_add(h, load(residual + c), load(to_step + c)));
      if (step) h *= load(step + c);
      if (state) {  // s+ = share r, and the scale of theta is |r| / sqrt(m)
        h = multiply_add(broadcast(s.shares[r]), load(state + c), h);
        h = multiply_add(broadcast(s.scales[r]), load(residual + c) / broadcast(s.norms[r]), h);
        store(state + c, h);
      }
      if (to_y) store(to_y + c, load(to_y + c) + h);
      store(seen + c, -h);
      if (step && needs_residual) store(residual + c, load(residual + c) * load(step + c));
    }
  }
  team.wait();
  if (m.needs_input(k)) {
    const Rows<T> minus{s.seen, stride_y, g.count, gram ? g.masks : nullptr, g.words};
    product(first, minus, share_of(first, team), s.products, m.above, StartFrom<T>{g.data, g.stride},
            Store<T>{m.g_x + begin * m.stride, m.stride});
  }
  if (team.rank != 0) return;
  const auto put = [&](const SampleSum<T>& sum, const Rows<T>& of_n, const T* of_m) {
    const Rows<T> rows{of_m, stride_y, g.count, nullptr, 0};
    const auto place = sum.place(k, m.count);
    sum.put_g(place, begin, m.upright ? rows : of_n);
    sum.put_x(place, begin, m.upright ? of_n : rows);
  };
  if (m.of_second.wanted()) put(m.of_second, g, s.residual);
  if (m.of_first.wanted()) put(m.of_first, v, s.seen);
}

}  // namespace fastunroll::FASTUNROLL_SET
