#include "problem.h"

namespace fastunroll::testing {

const std::vector<Form>& forms() {
  constexpr Linear direct = Linear::direct, coupled = Linear::coupled, gram = Linear::gram;
  constexpr Count none = Count::none, one = Count::one, each = Count::each;
  constexpr State plain = State::none, momentum = State::momentum, splitting = State::splitting;
  constexpr State onsager = State::onsager;
  constexpr Shrinkage soft = Shrinkage::soft, nonnegative = Shrinkage::nonnegative, linear = Shrinkage::none;
  static const std::vector<Form> all = {
      {"lista", direct, each, each},
      {"lista-tied", direct, one, one},
      {"lista-shared-w1", direct, one, each, plain, soft, 1, true},
      {"lista-shared-w2", direct, each, one, plain, soft, 1, true, true},
      {"lista-nonnegative", direct, each, each, plain, nonnegative, 1, true},
      {"lista-group", direct, each, each, plain, soft, 3},
      {"lista-momentum", direct, each, each, momentum},
      {"lista-momentum-tied", direct, one, one, momentum, nonnegative, 1, false, true},
      {"admm-dense", direct, each, each, splitting},
      {"admm-dense-tied", direct, one, one, splitting, soft, 3, true, true},
      {"ista", coupled, one, none},
      {"ista-group", coupled, one, none, plain, soft, 3, true, true},
      {"ista-each", coupled, each, none},
      {"elastic-net", coupled, one, none, plain, soft, 1, false, true},
      {"gradient", coupled, one, none, plain, linear},
      {"gradient-momentum", coupled, one, one, momentum, linear, 1, false, true},
      {"nonnegative", coupled, one, none, plain, nonnegative},
      {"lista-cp", coupled, one, each, plain, soft, 1, true},
      {"lista-cp-each", coupled, each, each},
      {"alista", coupled, one, one, plain, soft, 1, true},
      {"fista", coupled, one, none, momentum},
      {"fista-own", coupled, one, each, momentum, soft, 1, true},
      {"admm", coupled, one, each, splitting},
      {"admm-same", coupled, one, none, splitting, nonnegative, 1, true, true},
      {"admm-shared", coupled, one, one, splitting, soft, 3},
      {"amp", coupled, one, none, onsager},
      {"lamp", coupled, one, each, onsager, soft, 1, true},
      {"lamp-gain", coupled, one, one, onsager, soft, 1, false, true},
      {"lamp-group", coupled, each, each, onsager, soft, 3, false, true},
      {"gram", gram, one, none},
      {"gram-each", gram, each, none, plain, soft, 1, true, true},
      {"gram-momentum", gram, one, none, momentum, soft, 3},
      {"gram-splitting", gram, one, none, splitting},
      {"amp-nonnegative", coupled, each, none, onsager, nonnegative},
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
  if (form.linear == Linear::gram) size.m = size.n;
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
  auto& [first, second, step, theta, gain, blend] = given.parameters;
  if (form.linear != Linear::direct) {
    matrices(first, form.first, m * n, 1 / std::sqrt(double(m + n)));
    matrices(second, form.second, m * n, 1 / std::sqrt(double(n)));
    if (form.state != State::onsager) numbers(step, layers, options.vector ? m : 1, 0.4, 0.3);
  } else {
    matrices(first, form.first, n * m, 1 / std::sqrt(double(m)));
    matrices(second, form.second, n * n, 1 / std::sqrt(double(n)));
  }
  if (form.shrinkage != Shrinkage::none) {
    const double low = options.theta * std::sqrt(double(form.group));
    numbers(theta, options.vector ? layers : 1, options.vector ? n / form.group : 1, low, 0.3);
  }
  const bool blends = form.state == State::momentum || form.state == State::splitting;
  if (form.gain) numbers(gain, options.vector ? 1 : layers, options.vector ? layers : 1, 0.6, 0.8);
  if (blends) numbers(blend, options.vector ? 1 : layers, options.vector ? layers : 1, 0, 1);
  for (int64_t k = 0; form.passing && k < layers; ++k) passing.push_back(k == 1 ? n : 1 + 2 * k);

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
  const auto& [first, second, step, theta, gain, blend] = given.parameters;
  return {size.layers,
          size.m,
          size.n,
          form.linear,
          form.state == State::momentum,
          form.state == State::splitting,
          form.state == State::onsager,
          form.shrinkage,
          form.group,
          passing.empty() ? nullptr : passing.data(),
          first.get(),
          second.get(),
          step.get(),
          theta.get(),
          gain.get(),
          blend.get()};
}

template <class T> Array<T> Problem<T>::packed(int threads, bool halved) const {
  Packing<T> packing{network(), halved, threads, nullptr};
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
  Result<T> r{Array<T>(size_t(call.keep ? size.layers * rows * size.n : 0)), Array<T>(size_t(rows * size.n)),
              Array<T>(size_t(rows * f.net.state_size())),
              Array<T>(size_t(call.record ? size.layers * rows * f.net.trace_size() : 0)),
              std::vector<uint8_t>(size_t(call.record && form.passing ? size.layers * rows * size.n / form.group : 0))};
  f.batch = rows;
  f.threads = call.threads;
  f.packed = data(packed);
  f.halved = call.halved;
  f.y = data(given.y);
  f.x0 = data(given.x0);
  f.s0 = data(given.s0);
  f.interrupted = call.interrupted;
  f.x = data(r.x);
  f.last = data(r.last);
  f.s = data(r.s);
  f.trace = data(r.trace);
  f.passed = r.passed.empty() ? nullptr : r.passed.data();
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
  b.trace = data(r.trace);
  b.passed = r.passed.empty() ? nullptr : r.passed.data();
  b.grad = every_layer ? data(grad) : data(of_last);
  b.every_layer = every_layer;
  b.grad_s = data(grad_s);
  b.interrupted = call.interrupted;
  b.grad_y = input(g.y, 0, size.m);
  b.grad_x0 = input(g.x0, 1, size.n);
  b.grad_s0 = input(g.s0, 2, state);
  b.grad_first = parameter(0);
  b.grad_second = parameter(1);
  b.grad_step = parameter(2);
  b.grad_theta = parameter(3);
  b.grad_gain = parameter(4);
  b.grad_blend = parameter(5);
  network_backward(b);
  return g;
}

template <class T> Array<T> Problem<T>::everything(const Call& call, const Array<T>& packed) const {
  const Result<T> r = forward(call, packed);
  Arguments<T> g = backward(r, call);
  Array<T> all;
  for (const Array<T>* a : {&r.x, &r.last, &r.s, &r.trace}) all.insert(all.end(), a->begin(), a->end());
  for (const Array<T>* a : g.arrays()) all.insert(all.end(), a->begin(), a->end());
  return all;
}

template class Problem<float>;
template class Problem<double>;

}  // namespace fastunroll::testing
