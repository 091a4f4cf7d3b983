// The proximal step x = gain P(z), and its gradient, which follows from x and from the record of support selection.
#pragma once
#include "cpu/largest.h"
#include "cpu/tile.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> inline T absolute(T x) { return __builtin_signbit(x) ? -x : x; }

template <class T> struct Prox {
  ProxKind prox_kind;
  int64_t n, group, support_size;
  T gain;
  const T* theta;  // a padded row with a value for each column or, if there are groups, for each group

  // Whether P treats every element alone, so that apply() suffices; otherwise it needs whole rows.
  bool by_element() const { return group == 1 && support_size == 0; }

  // P of the elements at `column`, with theta times `scale`.
  template <int Count> void apply(Vector<T>* v, int64_t column, T scale) const {
    if (prox_kind == ProxKind::soft) {
      for (int j = 0; j < Count; ++j) v[j] = shrink<T>(v[j], load(theta + column + j * lanes<T>) * scale);
    } else if (prox_kind == ProxKind::nonnegative) {
      for (int j = 0; j < Count; ++j) v[j] = shrink_nonnegative<T>(v[j], load(theta + column + j * lanes<T>) * scale);
    }
    if (gain != 1)
      for (int j = 0; j < Count; ++j) v[j] *= gain;
  }

  // `selected`, if not null, gets a 1 for each element or group that support selection leaves unshrunk, else a 0.
  void apply_to_row(T* x, T scale, T* magnitudes, uint8_t* selected) const;

  // From the gradient of x to the gradient of z, in `grad`. Adds the gradients of theta and of the gain to `to_theta`
  // and `to_gain`, a value for each column or group, unless these are null.
  void gradient_of_row(const T* x, const uint8_t* selected, T* grad, T scale, T* magnitudes, T* to_theta,
                       T* to_gain) const;

 private:
  void magnitudes_of(const T* x, T* magnitudes) const;
  T threshold(int64_t g, T scale) const {
    const T t = theta[g] * scale;
    return support_size && t < 0 ? 0 : t;
  }
  void select_by_element(T* x, T scale, const T* magnitudes, Largest<T> chosen, uint8_t* selected) const;
  void gradient_by_element(const T* x, const uint8_t* selected, T* grad, T* to_theta, T* to_gain) const;
};

// The lanes whose flag is 1; there are `count` flags at most.
template <class T> inline typename Simd<T>::Integer lanes_set(const uint8_t* flags, int64_t count) {
  typename Simd<T>::Bytes bytes{};
  memcpy(&bytes, flags, size_t(count < lanes<T> ? count : lanes<T>));
  return -__builtin_convertvector(bytes, typename Simd<T>::Integer);
}

// |x|, its positive part, or the norms of its groups. Negative numbers pad the row.
template <class T> void Prox<T>::magnitudes_of(const T* x, T* magnitudes) const {
  const int64_t count = n / group;
  for (int64_t c = 0; group == 1 && c < count; c += lanes<T>) {
    const Vector<T> v = load(x + c), size = magnitude<T>(v);
    store(magnitudes + c, prox_kind == ProxKind::nonnegative ? (v < 0 ? Vector<T>{} : size) : size);
  }
  for (int64_t g = 0; group > 1 && g < count; ++g) {
    double sum = 0;  // in which squares of single precision neither overflow nor vanish
    for (int64_t i = g * group; i < (g + 1) * group; ++i) sum += double(x[i]) * double(x[i]);
    magnitudes[g] = absolute(T(__builtin_sqrt(sum)));  // NaN may have a sign; it counts as the largest
  }
  for (int64_t g = count; g % lanes<T>; ++g) magnitudes[g] = -1;
}

template <class T> void Prox<T>::apply_to_row(T* x, T scale, T* magnitudes, uint8_t* selected) const {
  if (by_element()) {
    for (int64_t c = 0; c < n; c += lanes<T>) {
      Vector<T> v = load(x + c);
      apply<1>(&v, c, scale);
      store(x + c, v);
    }
    return;
  }
  const int64_t count = n / group;
  magnitudes_of(x, magnitudes);
  Largest<T> chosen = support_size ? largest(magnitudes, count, support_size) : Largest<T>{};
  if (group == 1) return select_by_element(x, scale, magnitudes, chosen, selected);
  for (int64_t g = 0; g < count; ++g) {
    const T size = magnitudes[g], limit = threshold(g, scale);
    const bool zero = size - (limit < 0 ? 0 : limit) <= 0;  // false if one is NaN, or both are infinite
    const bool passes = support_size && chosen.take(size) && size > limit;
    if (selected) selected[g] = passes;
    for (int64_t i = g * group; i < (g + 1) * group; ++i) {
      if (zero)
        x[i] = 0 * gain;  // NaN if the gain is not finite
      else
        x[i] = (passes ? x[i] : x[i] * ((size - limit) / size)) * gain;
    }
  }
}

template <class T>
void Prox<T>::select_by_element(T* x, T scale, const T* magnitudes, Largest<T> chosen, uint8_t* selected) const {
  using Integer = typename Simd<T>::Integer;
  for (int64_t c = 0; c < n; c += lanes<T>) {
    const int64_t left = n - c;
    const Vector<T> v = load(x + c), size = load(magnitudes + c), given = load(theta + c) * scale,
                    limit = given < 0 ? Vector<T>{} : given;
    const Integer bits = (Integer)size;
    Integer passes = bits > chosen.cut;
    if (chosen.ties > 0)
      for (int i = 0; i < lanes<T> && i < left; ++i)
        if (bits[i] == chosen.cut && chosen.ties-- > 0) passes[i] = -1;
    passes &= size > limit;
    const Vector<T> kept = passes ? v : with_sign_of<T>(size - limit, v);
    store_some(x + c, (size - limit <= 0 ? Vector<T>{} : kept) * gain, left);
    if (!selected) continue;
    const auto bytes = __builtin_convertvector(passes & 1, typename Simd<T>::Bytes);
    memcpy(selected + c, &bytes, size_t(left < lanes<T> ? left : lanes<T>));
  }
}

// The threshold has no gradient at an element that stayed unshrunk, or if theta < 0 acts as zero.
template <class T>
void Prox<T>::gradient_by_element(const T* x, const uint8_t* selected, T* grad, T* to_theta, T* to_gain) const {
  for (int64_t c = 0; c < n; c += lanes<T>) {
    const Vector<T> out = load_some(x + c, n - c);
    Vector<T> g = load(grad + c);
    if (to_gain) store(to_gain + c, multiply_add(g, out, load(to_gain + c)));
    if (gain != 1) g *= gain;
    if (prox_kind != ProxKind::identity) g = where_nonzero<T>(out, g);
    store(grad + c, g);
    if (!to_theta) continue;
    Vector<T> along = prox_kind == ProxKind::soft ? with_sign_of<T>(g, out) : g;
    if (support_size) along = (lanes_set<T>(selected + c, n - c) | (load(theta + c) < 0)) ? Vector<T>{} : along;
    store(to_theta + c, load(to_theta + c) - along);
  }
}

// The gradient of a group before P: (1 - theta / r) g + (theta / r) <u, g> u, u = x / |x|, r = |z| = |x| / gain +
// theta.
template <class T>
void Prox<T>::gradient_of_row(const T* x, const uint8_t* selected, T* grad, T scale, T* magnitudes, T* to_theta,
                              T* to_gain) const {
  if (group == 1) return gradient_by_element(x, selected, grad, to_theta, to_gain);
  const int64_t count = n / group;
  magnitudes_of(x, magnitudes);
  for (int64_t g = 0; g < count; ++g) {
    const T size = magnitudes[g];
    const bool passes = support_size && selected[g];
    T along = 0;  // the gradient along u
    for (int64_t i = g * group; i < (g + 1) * group; ++i) {
      if (to_gain) to_gain[g] += grad[i] * x[i];
      grad[i] = size == 0 ? 0 : grad[i] * gain;
      along += size == 0 ? 0 : grad[i] * (x[i] / size);
    }
    if (passes || size == 0) continue;
    const T limit = threshold(g, scale);
    if (to_theta && !(support_size && theta[g] < 0)) to_theta[g] -= along;
    const T share = limit / (size / gain + limit);
    for (int64_t i = g * group; i < (g + 1) * group; ++i)
      grad[i] = (1 - share) * grad[i] + share * along * (x[i] / size);
  }
}

}  // namespace fastunroll::FASTUNROLL_SET
