// The gradients of linear steps: from the gradient of z to those of v, y and the matrices.
//
// If there is only one task, a team works on it together: its ranks divide the panels of products, and rank 0 computes
// everything between them. Otherwise the team of a task is one thread.
#pragma once
#include "cpu/backward.h"
#include "cpu/product_in_place.h"

namespace fastunroll::FASTUNROLL_SET {

// v of layer k for the samples of a task, from memory or computed again.
template <class T>
Rows<T> input_rows(const BackwardMemory<T>& m, int64_t k, int64_t begin, int64_t count, TaskMemory<T>& s) {
  const int64_t n = m.net.n;
  if (m.net.scheme == Scheme::admm) return {m.saved_of(begin, k), m.net.saved_size(), count, nullptr, 0};
  const T* x = m.iterate(k, begin);
  if (m.net.scheme == Scheme::fista && !m.starts_from_zero(k)) {
    const T* before = m.iterate_before(k, begin);
    memset(s.along, 0, size_t(m.stride) * sizeof(T));
    for (int64_t r = 0; r < count; ++r)
      extrapolate(s.v + r * m.stride, x ? x + r * n : s.along, before ? before + r * n : s.along, beta_of(m.net, k), n);
  } else if (x) {
    return {x, n, count, nullptr, 0};
  } else {
    memset(s.v, 0, size_t(count * m.stride) * sizeof(T));
  }
  return {s.v, m.stride, count, nullptr, 0};
}

// The panels of a factor for a rank.
template <class T> Range share_of(const Factor<T>& w, const Team& team) {
  return {w.panel_count() * team.rank / team.size, w.panel_count() * (team.rank + 1) / team.size};
}

// x W into rows of a padded tile; added to them if the tile has sums already.
template <class T>
void product_into(T* tile, int64_t stride, bool add, const Factor<T>& w, const Rows<T>& x, Range panels,
                  const ProductScratch<T>& scratch, double above) {
  if (!w.panels && w.layout == Layout::by_depth && x.count <= few_by_rows) {
    const int64_t first = panels.first * panel_width<T>, size = (panels.last - panels.first) * panel_width<T>;
    for (int64_t r = 0; r < x.count && !add; ++r) memset(tile + r * stride + first, 0, size_t(size) * sizeof(T));
    return add_product_by_rows(w, x, panels, tile, stride);
  }
  product(w, x, panels, scratch, above, StartFrom<T>{add ? tile : nullptr, stride}, Store<T>{tile, stride});
}

// Adds the gradient g of W1 y to the gradient of y.
template <class T>
void add_to_y(const BackwardMemory<T>& m, const Factor<T>& w1, int64_t begin, const Rows<T>& g, TaskMemory<T>& s,
              const Team& team) {
  product_into(m.g_y + begin * m.stride_y, m.stride_y, true, w1, g, share_of(w1, team), s.products, m.above);
}

// z = W1 y + W2 v
template <class T>
void adjoint_affine_step(const BackwardMemory<T>& m, int64_t k, int64_t begin, const Rows<T>& g, TaskMemory<T>& s,
                         const Team& team) {
  const Factor<T>& w2 = m.adjoint.second.of(k);
  if (m.needs_input(k))
    product_into(m.g_x + begin * m.stride, m.stride, false, w2, g, share_of(w2, team), s.products, m.above);
  const bool shared = m.net.W1.shared();
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
  const auto place = m.of_W2.place(k, m.count);
  if (m.of_W2.wanted() || (m.of_W1.wanted() && !shared)) m.of_W2.put_g(place, begin, g);
  if (m.of_W2.wanted() && !m.starts_from_zero(k)) m.of_W2.put_x(place, begin, input_rows(m, k, begin, g.count, s));
}

// z = v + W^T (step r), r = y - A v [+ s]. With h = W g, the gradient of r is step h; that of v is g - A^T (step h).
// With a Gram matrix W is the identity.
template <class T>
void adjoint_gradient_step(const BackwardMemory<T>& m, int64_t k, int64_t begin, const Rows<T>& g, TaskMemory<T>& s,
                           const Team& team) {
  const Network<T>& net = m.net;
  const int64_t stride_y = m.stride_y, size = net.m;
  for (int64_t r = 0; team.rank == 0 && r < g.count; ++r) {
    T* residual = s.residual + r * stride_y;
    const T* saved = m.saved_of(begin + r, k) + net.residual_at();
    for (int64_t c = 0; c < size; c += lanes<T>) store(residual + c, load_some(saved + c, size - c));
  }
  const bool gram = net.linear == LinearStep::gram;
  const Factor<T>& first = m.adjoint.first.of(k);
  const Factor<T>& second = gram ? first : m.adjoint.second.of(k);
  if (!gram)
    product(second, g, share_of(second, team), s.products, m.above, StartFrom<T>{}, Store<T>{s.seen, stride_y});
  else if (team.rank == 0)
    memcpy(s.seen, g.data, size_t(g.count * stride_y) * sizeof(T));
  team.wait();

  const T* step = m.step.of(k);
  for (int64_t r = 0; team.rank == 0 && r < g.count; ++r) {
    T *seen = s.seen + r * stride_y, *residual = s.residual + r * stride_y;
    T* const to_y = m.g_y ? m.g_y + (begin + r) * stride_y : nullptr;
    T* const to_step = m.to_step.at(begin + r);
    T* const state = net.scheme == Scheme::amp ? m.g_state + (begin + r) * stride_y : nullptr;
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
      if (step) store(residual + c, load(residual + c) * load(step + c));
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
  if (m.of_W2.wanted()) put(m.of_W2, g, s.residual);
  if (m.of_W1.wanted()) put(m.of_W1, input_rows(m, k, begin, g.count, s), s.seen);
}

}  // namespace fastunroll::FASTUNROLL_SET
