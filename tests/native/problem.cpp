#include "problem.h"

namespace fastunroll::testing {

const std::vector<Form>& forms() {
  constexpr LinearStep affine = LinearStep::affine, gradient = LinearStep::gradient, gram = LinearStep::gram;
  constexpr Count none = Count::none, one = Count::one, each = Count::each;
  constexpr Scheme plain = Scheme::proximal_gradient, momentum = Scheme::fista, splitting = Scheme::admm;
  constexpr Scheme onsager = Scheme::amp;
  constexpr ProxKind soft = ProxKind::soft, nonnegative = ProxKind::nonnegative, linear = ProxKind::identity;
  static const std::vector<Form> all = {
      {"lista", affine, each, each},
      {"lista-tied", affine, one, one},
      {"lista-shared-w1", affine, one, each, plain, soft, 1, true},
      {"lista-shared-w2", affine, each, one, plain, soft, 1, true, true},
      {"lista-nonnegative", affine, each, each, plain, nonnegative, 1, true},
      {"lista-group", affine, each, each, plain, soft, 3},
      {"lista-momentum", affine, each, each, momentum},
      {"lista-momentum-tied", affine, one, one, momentum, nonnegative, 1, false, true},
      {"admm-dense", affine, each, each, splitting},
      {"admm-dense-tied", affine, one, one, splitting, soft, 3, true, true},
      {"ista", gradient, one, none},
      {"ista-group", gradient, one, none, plain, soft, 3, true, true},
      {"ista-each", gradient, each, none},
      {"elastic-net", gradient, one, none, plain, soft, 1, false, true},
      {"gradient", gradient, one, none, plain, linear},
      {"gradient-momentum", gradient, one, one, momentum, linear, 1, false, true},
      {"nonnegative", gradient, one, none, plain, nonnegative},
      {"lista-cp", gradient, one, each, plain, soft, 1, true},
      {"lista-cp-each", gradient, each, each},
      {"alista", gradient, one, one, plain, soft, 1, true},
      {"fista", gradient, one, none, momentum},
      {"fista-own", gradient, one, each, momentum, soft, 1, true},
      {"admm", gradient, one, each, splitting},
      {"admm-same", gradient, one, none, splitting, nonnegative, 1, true, true},
      {"admm-shared", gradient, one, one, splitting, soft, 3},
      {"amp", gradient, one, none, onsager},
      {"lamp", gradient, one, each, onsager, soft, 1, true},
      {"lamp-gain", gradient, one, one, onsager, soft, 1, false, true},
      {"lamp-group", gradient, each, each, onsager, soft, 3, false, true},
      {"gram", gram, one, none},
      {"gram-each", gram, each, none, plain, soft, 1, true, true},
      {"gram-momentum", gram, one, none, momentum, soft, 3},
      {"gram-splitting", gram, one, none, splitting},
      {"amp-nonnegative", gradient, each, none, onsager, nonnegative},
  };
  return all;
}

std::string text(const Form& form, const Size& size, const Options& options) {
  std::string s = form.name;
  for (int64_t value : {size.m, size.n, size.layers, size.batch}) s += " " + std::to_string(value);
  return s + (options.vector ? " vector" : "") + (options.x0 ? " x0" : "") + (options.s0 ? " s0" : "");
}

template <class T>
Problem<T>::Problem(const Form& what, const Size& how_large, const Options& options) : form(what), size(how_large) {
  if (form.linear == LinearStep::gram) size.m = size.n;
  const int64_t m = size.m, n = size.n, layers = size.layers, batch = size.batch;
  Random random(uint64_t(m * 1000 + n));
  const auto matrices = [&](Parameter<T>& p, Count count, int64_t values, double scale) {
    for (int64_t k = 0; k < (count == Count::none ? 0 : count == Count::one ? 1 : layers); ++k)
      p.add(random.normals<T>(values, scale));
  };
  const auto numbers = [&](Parameter<T>& p, int64_t arrays, int64_t values, double low, double range) {
    for (int64_t k = 0; k < arrays; ++k) {
      Array<T> a(static_cast<size_t>(values));
      for (T& value : a) value = T(low + range * random.uniform());
      p.add(std::move(a));
    }
  };
  auto& [first, second, step, theta, gain, beta] = given.parameters;
  if (form.linear != LinearStep::affine) {
    matrices(first, form.first, m * n, 1 / std::sqrt(double(m + n)));
    matrices(second, form.second, m * n, 1 / std::sqrt(double(n)));
    if (form.scheme != Scheme::amp) numbers(step, layers, options.vector ? m : 1, 0.4, 0.3);
  } else {
    matrices(first, form.first, n * m, 1 / std::sqrt(double(m)));
    matrices(second, form.second, n * n, 1 / std::sqrt(double(n)));
  }
  if (form.prox_kind != ProxKind::identity) {
    const double low = options.theta * std::sqrt(double(form.group));
    numbers(theta, options.vector ? layers : 1, options.vector ? n / form.group : 1, low, 0.3);
  }
  const bool blends = form.scheme == Scheme::fista || form.scheme == Scheme::admm;
  if (form.gain) numbers(gain, options.vector ? 1 : layers, options.vector ? layers : 1, 0.6, 0.8);
  if (blends) numbers(beta, options.vector ? 1 : layers, options.vector ? layers : 1, 0, 1);
  for (int64_t k = 0; form.selects && k < layers; ++k) support_sizes.push_back(k == 1 ? n : 1 + 2 * k);

  const int64_t state = network().state_size();
  given.y = random.normals<T>(batch * m, 2);
  if (options.x0) given.x0 = random.normals<T>(batch * n, 1);
  for (T& value : given.x0)
    if (std::abs(value) < 1) value = 0;
  if (options.s0) given.s0 = random.normals<T>(batch * state, 0.5);
  grad = random.normals<T>(layers * batch * n, 1);
  grad_s = random.normals<T>(batch * state, 1);
}

template <class T> void Problem<T>::keep_only(int64_t first, int64_t count) {
  const auto keep = [&](Array<T>& a, int64_t blocks, int64_t columns) {
    Array<T> kept;
    kept.reserve(a.empty() ? 0 : size_t(blocks * count * columns));
    for (int64_t i = 0; !a.empty() && i < blocks; ++i) {
      const auto begin = a.begin() + (i * size.batch + first) * columns;
      kept.insert(kept.end(), begin, begin + count * columns);
    }
    a = std::move(kept);
  };
  const int64_t state = network().state_size();
  keep(given.y, 1, size.m);
  keep(given.x0, 1, size.n);
  keep(given.s0, 1, state);
  keep(grad, size.layers, size.n);
  keep(grad_s, 1, state);
  size.batch = count;
}

template <class T> Network<T> Problem<T>::network() const {
  const auto& [first, second, step, theta, gain, beta] = given.parameters;
  return {size.layers, size.m,         size.n,     form.linear,
          form.scheme, form.prox_kind, form.group, support_sizes.empty() ? nullptr : support_sizes.data(),
          first.get(), second.get(),   step.get(), theta.get(),
          gain.get(),  beta.get()};
}

template <class T> Array<T> Problem<T>::packed(int threads, bool bfloat16) const {
  Packing<T> packing{network(), bfloat16, threads, nullptr};
  Array<T> memory(size_t(network_packed_size(packing)));
  packing.packed = memory.data();
  network_pack(packing);
  return memory;
}

template <class T> T* data(Array<T>& a) { return a.empty() ? nullptr : a.data(); }
template <class T> const T* data(const Array<T>& a) { return a.empty() ? nullptr : a.data(); }

template <class T> Result<T> Problem<T>::forward(const Call& call, const Array<T>& packed) const {
  Forward<T> f{};
  f.net = network();
  const int64_t rows = size.batch;
  Result<T> r{Array<T>(size_t(call.return_layers ? size.layers * rows * size.n : 0)), Array<T>(size_t(rows * size.n)),
              Array<T>(size_t(rows * f.net.state_size())),
              Array<T>(size_t(call.save_for_backward ? size.layers * rows * f.net.saved_size() : 0)),
              std::vector<uint8_t>(
                  size_t(call.save_for_backward && form.selects ? size.layers * rows * size.n / form.group : 0))};
  f.batch = rows;
  f.threads = call.threads;
  f.packed = data(packed);
  f.bfloat16 = call.bfloat16;
  f.y = data(given.y);
  f.x0 = data(given.x0);
  f.s0 = data(given.s0);
  f.interrupted = call.interrupted;
  f.x = data(r.x);
  f.last = data(r.last);
  f.s = data(r.s);
  f.saved = data(r.saved);
  f.selected = r.selected.empty() ? nullptr : r.selected.data();
  network_forward(f);
  return r;
}

template <class T>
Arguments<T> Problem<T>::backward(const Result<T>& r, const Call& call, unsigned wanted, bool every_layer) const {
  Backward<T> b{};
  b.net = network();
  const int64_t rows = size.batch, state = b.net.state_size(), last = (size.layers - 1) * rows * size.n;
  const Array<T> of_last(grad.begin() + last, grad.end());
  Arguments<T> g;
  const auto input = [&](Array<T>& a, unsigned bit, int64_t columns) {
    if (wanted >> bit & 1) a.resize(size_t(rows * columns));
    return data(a);
  };
  const auto parameter = [&](unsigned i) {
    for (const Array<T>& a : given.parameters[i].arrays)
      if (wanted >> (3 + i) & 1) g.parameters[i].add(Array<T>(a.size()));
    return g.parameters[i].get();
  };
  b.batch = rows;
  b.threads = call.threads;
  b.y = data(given.y);
  b.x0 = data(given.x0);
  b.s0 = data(given.s0);
  b.x = data(r.x);
  b.saved = data(r.saved);
  b.selected = r.selected.empty() ? nullptr : r.selected.data();
  b.grad = every_layer ? data(grad) : data(of_last);
  b.every_layer = every_layer;
  b.grad_s = data(grad_s);
  b.interrupted = call.interrupted;
  b.grad_y = input(g.y, 0, size.m);
  b.grad_x0 = input(g.x0, 1, size.n);
  b.grad_s0 = input(g.s0, 2, state);
  b.grad_W1 = parameter(0);
  b.grad_W2 = parameter(1);
  b.grad_step = parameter(2);
  b.grad_theta = parameter(3);
  b.grad_gain = parameter(4);
  b.grad_beta = parameter(5);
  network_backward(b);
  return g;
}

template <class T> Array<T> Problem<T>::everything(const Call& call, const Array<T>& packed) const {
  const Result<T> r = forward(call, packed);
  Arguments<T> g = backward(r, call);
  Array<T> all;
  for (const Array<T>* a : {&r.x, &r.last, &r.s, &r.saved}) all.insert(all.end(), a->begin(), a->end());
  for (const Array<T>* a : g.arrays()) all.insert(all.end(), a->begin(), a->end());
  return all;
}

template class Problem<float>;
template class Problem<double>;

}  // namespace fastunroll::testing
