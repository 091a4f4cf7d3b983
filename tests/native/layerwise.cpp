// Networks of every form with the kernels for what lies between products, emulated, and the products in plain loops.
#include "fastunroll_cuda.h"
#include "problem.h"

namespace fastunroll::testing {
namespace {

template <class T> struct Same {
  using type = T;
};
template <class T> using Identity = typename Same<T>::type;  // not deduced from

template <class T> T* data(Array<T>& a) { return a.empty() ? nullptr : a.data(); }

template <class T> void add(Array<T>& to, const Array<T>& values, T factor = 1) {
  for (size_t i = 0; i < to.size(); ++i) to[i] += factor * values[i];
}

// out + x W, or x W^T; W is (rows, columns).
template <class T>
Array<T> product(const Array<T>& x, const T* w, int64_t rows, int64_t columns, bool transposed, Array<T> out) {
  const int64_t inner = transposed ? columns : rows, outer = transposed ? rows : columns;
  for (int64_t b = 0; b < int64_t(out.size()) / outer; ++b)
    for (int64_t i = 0; i < outer; ++i)
      for (int64_t j = 0; j < inner; ++j)
        out[b * outer + i] += x[b * inner + j] * (transposed ? w[i * columns + j] : w[j * columns + i]);
  return out;
}

// out += the sum over samples of g x^T
template <class T> void add_outer(T* out, const Array<T>& g, int64_t rows, const Array<T>& x, int64_t columns) {
  for (int64_t b = 0; b < int64_t(g.size()) / rows; ++b)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) out[i * columns + j] += g[b * rows + i] * x[b * columns + j];
}

template <class T> class Layerwise {
 public:
  explicit Layerwise(const Problem<T>& problem)
      : p(problem), net(p.network()), m(p.size.m), n(p.size.n), batch(p.size.batch), state(cuda::State(p.form.state)) {
    for (int64_t i = 0; i < n * n; ++i) identity.push_back(i % (n + 1) == 0);
  }

  Result<T> forward() {
    Array<T> x = p.given.x0.empty() ? zeros(n) : p.given.x0, s = p.given.s0, start = p.given.y, v = x;
    if (s.empty()) s = state == cuda::State::momentum ? x : zeros(net.state_size());
    for (size_t i = 0; i < v.size(); ++i) {
      if (state == cuda::State::momentum) v[i] += net.blend.value(0) * (x[i] - s[i]);
      if (state == cuda::State::splitting) v[i] -= s[i];
    }
    if (state == cuda::State::onsager) add(start, s);
    first_x = x;
    first_s = s;
    Result<T> out;
    for (int64_t k = 0; k < net.layers; ++k) {
      const bool more = k + 1 < net.layers, onsager = state == cuda::State::onsager;
      const auto layer = layer_of(k);
      const T* step = net.coupled() && net.step.size == 1 ? net.step.of(k) : nullptr;
      Array<T> residual = start, z;
      if (net.coupled()) {
        Array<T> minus = v;
        for (T& value : minus) value = -value;
        residual = product(minus, net.first.of(k), m, n, true, start);
        Array<T> scaled = residual;
        for (size_t i = 0; net.step.size > 1 && i < scaled.size(); ++i) scaled[i] *= net.step.of(k)[i % size_t(m)];
        z = product(scaled, second(k), m, n, false, step ? zeros(n) : v);
      } else {
        z = product(v, net.second.of(k), n, n, true, product(p.given.y, net.first.of(k), n, m, true, zeros(n)));
      }
      std::vector<uint8_t> passed(size_t(batch * n / net.group));
      Array<T> next = zeros(n), input = zeros(onsager ? m : n), moved = zeros(2 * n);
      queue(cuda::end_layer<T>,
            {layer, z.data(), step, step ? v.data() : nullptr, x.data(), residual.data(), p.given.y.data(),
             more && state == cuda::State::momentum ? &net.blend.value(k + 1) : nullptr, next.data(),
             more && state != cuda::State::none ? input.data() : nullptr, data(s), moved.data(), passed.data()});
      all_passed.push_back(passed);
      inputs.push_back(v);
      residuals.push_back(residual);
      all_moved.push_back(moved);
      if (state == cuda::State::momentum) s = x;
      x = next;
      v = state == cuda::State::none || onsager ? x : input;
      if (onsager) start = input;
      iterates.push_back(x);
      out.x.insert(out.x.end(), x.begin(), x.end());
    }
    out.s = s;
    return out;
  }

  // Of the sum of grad x, of every layer, and grad_s s.
  Arguments<T> backward() {
    Arguments<T> out;
    for (int i = 0; i < 6; ++i)
      for (const Array<T>& a : p.given.parameters[i].arrays) out.parameters[i].add(Array<T>(a.size()));
    out.y = zeros(m);
    Array<T> g_s = p.grad_s.empty() ? zeros(net.state_size()) : p.grad_s, above, g = zeros(n);
    for (int64_t k = net.layers - 1; k >= 0; --k) {
      through_prox(k, above, g_s, g, out);
      above = net.coupled() ? through_coupled(k, g, g_s, out) : through_direct(k, g, out);
    }
    start_of(above, g_s, out);
    return out;
  }

 private:
  const Problem<T>& p;
  Network<T> net;
  int64_t m, n, batch;
  cuda::State state;
  Array<T> first_x, first_s, identity;
  std::vector<Array<T>> inputs, residuals, all_moved, iterates;
  std::vector<std::vector<uint8_t>> all_passed;

  Array<T> zeros(int64_t columns) const { return Array<T>(size_t(batch * columns)); }
  const T* second(int64_t k) const {
    return net.linear == Linear::gram ? identity.data() : net.second.given() ? net.second.of(k) : net.first.of(k);
  }

  cuda::Layer<T> layer_of(int64_t k) const {
    return {int(m),
            int(n),
            int(net.group),
            net.passing ? int(net.passing[k]) : 0,
            net.shrinkage,
            state,
            net.theta.given() ? net.theta.of(k) : nullptr,
            int(net.theta.size),
            net.gain.given() ? &net.gain.value(k) : nullptr,
            net.blend.given() ? &net.blend.value(k) : nullptr};
  }

  template <class Arguments>
  void queue(const char* (*kernel)(const cuda::Stream&, int64_t, const Arguments&),
             const Identity<Arguments>& a) const {
    CHECK(!kernel({0, nullptr}, batch, a) && !finished(), "a launch");
  }

  // Adds rows to a parameter of one value, or as many as there are columns.
  void collect(const PerLayer<T>& to, int64_t k, const Array<T>& rows, T divisor = 1) const {
    if (!to.given()) return;
    const int64_t columns = int64_t(rows.size()) / batch;
    for (size_t i = 0; i < rows.size(); ++i)
      (columns == 1 ? to.value(k) : to.of(k)[i % size_t(columns)]) += rows[i] / divisor;
  }

  void through_prox(int64_t k, const Array<T>& above, Array<T>& g_s, Array<T>& g, Arguments<T>& out) {
    const auto layer = layer_of(k);
    const bool momentum = state == cuda::State::momentum, last = k + 1 == net.layers;
    const auto entering = p.grad.begin() + k * batch * n;
    const Array<T> of_layer(entering, entering + batch * n);
    Array<T> to_theta = zeros(layer.theta_size), to_gain = zeros(1), to_blend = zeros(1), to_bent = zeros(1);
    shares = pulls = zeros(1);
    const Array<T>& before = k ? iterates[size_t(k - 1)] : first_x;
    queue(cuda::prox_gradient<T>,
          {layer, of_layer.data(), above.empty() ? nullptr : above.data(),
           momentum && !last ? &net.blend.value(k + 1) : nullptr, iterates[size_t(k)].data(), before.data(),
           residuals[size_t(k)].data(), all_moved[size_t(k)].data(), all_passed[size_t(k)].data(), data(g_s), g.data(),
           data(to_theta), to_gain.data(), to_blend.data(), to_bent.data(), shares.data(), pulls.data()});
    auto& parameters = out.parameters;
    if (net.theta.given()) collect(parameters[3].get(), k, to_theta);
    collect(parameters[4].get(), k, to_gain, net.gain.given() ? net.gain.value(k) : T(1));
    if (state == cuda::State::splitting) collect(parameters[5].get(), k, to_blend);
    if (momentum && !last) collect(parameters[5].get(), k + 1, to_bent);
  }
  Array<T> shares, pulls;

  Array<T> through_direct(int64_t k, const Array<T>& g, Arguments<T>& out) const {
    out.y = product(g, net.first.of(k), n, m, false, out.y);
    add_outer(out.parameters[0].get().of(k), g, n, p.given.y, m);
    add_outer(out.parameters[1].get().of(k), g, n, inputs[size_t(k)], n);
    return product(g, net.second.of(k), n, n, false, zeros(n));
  }

  Array<T> through_coupled(int64_t k, const Array<T>& g, Array<T>& g_s, Arguments<T>& out) const {
    const Array<T> h = product(g, second(k), m, n, true, zeros(m));
    const bool onsager = state == cuda::State::onsager;
    Array<T> minus = zeros(m), scaled = zeros(m), to_step = zeros(net.step.given() ? net.step.size : 1);
    queue(cuda::residual_gradient<T>,
          {int(m), h.data(), residuals[size_t(k)].data(), net.step.given() ? net.step.of(k) : nullptr,
           int(net.step.size), shares.data(), pulls.data(), onsager ? g_s.data() : nullptr, out.y.data(), minus.data(),
           scaled.data(), net.step.given() ? to_step.data() : nullptr});
    collect(out.parameters[2].get(), k, to_step);
    if (net.linear != Linear::gram) add_outer(out.parameters[net.second.given() ? 1 : 0].get().of(k), scaled, m, g, n);
    add_outer(out.parameters[0].get().of(k), minus, m, inputs[size_t(k)], n);
    return product(minus, net.first.of(k), m, n, false, g);
  }

  // From the first layer's input to x0 and s0.
  void start_of(const Array<T>& g_v, const Array<T>& g_s, Arguments<T>& out) const {
    out.x0 = g_v;
    out.s0 = g_s;
    if (state == cuda::State::splitting) add(out.s0, g_v, T(-1));
    if (state != cuda::State::momentum) return;
    const T blend = net.blend.value(0);
    add(out.x0, g_s);
    if (p.given.s0.empty()) return;
    add(out.x0, g_v, blend);
    out.s0 = zeros(n);
    add(out.s0, g_v, -blend);
    Array<T> to_blend = zeros(1);
    for (size_t i = 0; i < g_v.size(); ++i) to_blend[i / size_t(n)] += g_v[i] * (first_x[i] - first_s[i]);
    collect(out.parameters[5].get(), 0, to_blend);
  }
};

template <class T> void compare(const Form& form, const Size& size, const Options& options) {
  const Problem<T> p(form, size, options);
  const std::string what = text(form, size, options) + " layer by layer " + type_name<T> + ": ";
  const Reference wanted = reference(p);
  Layerwise<T> network(p);
  const Result<T> found = network.forward();
  CHECK(close(found.x, wanted.x, rounding<T>), what + "x");
  CHECK(close(found.s, wanted.s, rounding<T>), what + "the second state");

  Arguments<T> by_engine = p.backward(p.forward()), by_layers = network.backward();
  const auto engine = by_engine.arrays(), layers = by_layers.arrays();
  CHECK(engine.size() == layers.size(), what + "as many gradients");
  for (size_t i = 0; i < engine.size() && i < layers.size(); ++i) {
    if ((i == 1 && !options.x0) || (i == 2 && !options.s0)) continue;
    const Array<double> expected(engine[i]->begin(), engine[i]->end());
    CHECK(close(*layers[i], expected, 50 * rounding<T>), what + "gradient " + std::to_string(i));
  }
}

}  // namespace

void test_layerwise() {
  if (without_fibers()) return;
  for (const Form& form : forms()) {
    const int64_t n = form.group == 1 ? 17 : 18, few = form.group;
    Options options;
    compare<float>(form, {5, n, 3, 2}, options);
    options.x0 = options.vector = true;
    options.s0 = form.state != State::none;
    compare<double>(form, {5, n, 3, 2}, options);
    compare<double>(form, {1, few, 2, 1}, options);
    compare<double>(form, {131, 258, 2, 1}, options);
    options.theta = -0.15;  // about half of the thresholds are negative
    compare<double>(form, {5, n, 2, 2}, options);
  }
}

}  // namespace fastunroll::testing
