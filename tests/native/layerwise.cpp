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
      : p(problem), net(p.network()), m(p.size.m), n(p.size.n), batch(p.size.batch), scheme(net.scheme) {
    for (int64_t i = 0; i < n * n; ++i) identity.push_back(i % (n + 1) == 0);
  }

  Result<T> forward() {
    Array<T> x = p.given.x0.empty() ? zeros(n) : p.given.x0, s = p.given.s0, start = p.given.y, v = x;
    if (s.empty()) s = scheme == Scheme::fista ? x : zeros(net.state_size());
    for (size_t i = 0; i < v.size(); ++i) {
      if (scheme == Scheme::fista) v[i] += net.beta.value(0) * (x[i] - s[i]);
      if (scheme == Scheme::admm) v[i] -= s[i];
    }
    if (scheme == Scheme::amp) add(start, s);
    first_x = x;
    first_s = s;
    Result<T> out;
    for (int64_t k = 0; k < net.layers; ++k) {
      const bool more = k + 1 < net.layers, is_amp = scheme == Scheme::amp;
      const auto layer = layer_of(k);
      const T* step = net.is_gradient_step() && net.step.size == 1 ? net.step.of(k) : nullptr;
      Array<T> residual = start, z;
      if (net.is_gradient_step()) {
        Array<T> minus_v = v;
        for (T& value : minus_v) value = -value;
        residual = product(minus_v, net.W1.of(k), m, n, true, start);
        Array<T> stepped = residual;
        for (size_t i = 0; net.step.size > 1 && i < stepped.size(); ++i) stepped[i] *= net.step.of(k)[i % size_t(m)];
        z = product(stepped, second(k), m, n, false, step ? zeros(n) : v);
      } else {
        z = product(v, net.W2.of(k), n, n, true, product(p.given.y, net.W1.of(k), n, m, true, zeros(n)));
      }
      std::vector<uint8_t> selected(size_t(batch * n / net.group));
      Array<T> next = zeros(n), input = zeros(is_amp ? m : n), dual_residual = zeros(2 * n);
      queue(cuda::end_layer<T>, {layer, z.data(), step, step ? v.data() : nullptr, x.data(), residual.data(),
                                 p.given.y.data(), more && scheme == Scheme::fista ? &net.beta.value(k + 1) : nullptr,
                                 next.data(), more && scheme != Scheme::proximal_gradient ? input.data() : nullptr,
                                 data(s), dual_residual.data(), selected.data()});
      all_selected.push_back(selected);
      inputs.push_back(v);
      residuals.push_back(residual);
      dual_residuals.push_back(dual_residual);
      if (scheme == Scheme::fista) s = x;
      x = next;
      v = scheme == Scheme::proximal_gradient || is_amp ? x : input;
      if (is_amp) start = input;
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
    Array<T> grad_s = p.grad_s.empty() ? zeros(net.state_size()) : p.grad_s, grad_v, g = zeros(n);
    for (int64_t k = net.layers - 1; k >= 0; --k) {
      through_prox(k, grad_v, grad_s, g, out);
      grad_v = net.is_gradient_step() ? through_gradient_step(k, g, grad_s, out) : through_affine_step(k, g, out);
    }
    start_of(grad_v, grad_s, out);
    return out;
  }

 private:
  const Problem<T>& p;
  Network<T> net;
  int64_t m, n, batch;
  Scheme scheme;
  Array<T> first_x, first_s, identity;
  std::vector<Array<T>> inputs, residuals, dual_residuals, iterates;
  std::vector<std::vector<uint8_t>> all_selected;

  Array<T> zeros(int64_t columns) const { return Array<T>(size_t(batch * columns)); }
  const T* second(int64_t k) const {
    return net.linear == LinearStep::gram ? identity.data() : net.W2.given() ? net.W2.of(k) : net.W1.of(k);
  }

  cuda::Layer<T> layer_of(int64_t k) const {
    return {int(m),
            int(n),
            int(net.group),
            net.support_sizes ? int(net.support_sizes[k]) : 0,
            net.prox_kind,
            scheme,
            net.theta.given() ? net.theta.of(k) : nullptr,
            int(net.theta.size),
            net.gain.given() ? &net.gain.value(k) : nullptr,
            net.beta.given() ? &net.beta.value(k) : nullptr};
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

  void through_prox(int64_t k, const Array<T>& grad_v, Array<T>& grad_s, Array<T>& g, Arguments<T>& out) {
    const auto layer = layer_of(k);
    const bool is_fista = scheme == Scheme::fista, last = k + 1 == net.layers;
    const auto grad_x = p.grad.begin() + k * batch * n;
    const Array<T> of_layer(grad_x, grad_x + batch * n);
    Array<T> grad_theta = zeros(layer.theta_size), grad_gain = zeros(1), grad_beta = zeros(1),
             grad_next_beta = zeros(1);
    from_s = from_r = zeros(1);
    const Array<T>& before = k ? iterates[size_t(k - 1)] : first_x;
    queue(cuda::prox_gradient<T>,
          {layer, of_layer.data(), grad_v.empty() ? nullptr : grad_v.data(),
           is_fista && !last ? &net.beta.value(k + 1) : nullptr, iterates[size_t(k)].data(), before.data(),
           residuals[size_t(k)].data(), dual_residuals[size_t(k)].data(), all_selected[size_t(k)].data(), data(grad_s),
           g.data(), data(grad_theta), grad_gain.data(), grad_beta.data(), grad_next_beta.data(), from_s.data(),
           from_r.data()});
    auto& parameters = out.parameters;
    if (net.theta.given()) collect(parameters[3].get(), k, grad_theta);
    collect(parameters[4].get(), k, grad_gain, net.gain.given() ? net.gain.value(k) : T(1));
    if (scheme == Scheme::admm) collect(parameters[5].get(), k, grad_beta);
    if (is_fista && !last) collect(parameters[5].get(), k + 1, grad_next_beta);
  }
  Array<T> from_s, from_r;

  Array<T> through_affine_step(int64_t k, const Array<T>& g, Arguments<T>& out) const {
    out.y = product(g, net.W1.of(k), n, m, false, out.y);
    add_outer(out.parameters[0].get().of(k), g, n, p.given.y, m);
    add_outer(out.parameters[1].get().of(k), g, n, inputs[size_t(k)], n);
    return product(g, net.W2.of(k), n, n, false, zeros(n));
  }

  Array<T> through_gradient_step(int64_t k, const Array<T>& g, Array<T>& grad_s, Arguments<T>& out) const {
    const Array<T> h = product(g, second(k), m, n, true, zeros(m));
    const bool is_amp = scheme == Scheme::amp;
    Array<T> grad_Av = zeros(m), stepped = zeros(m), grad_step = zeros(net.step.given() ? net.step.size : 1);
    queue(cuda::residual_gradient<T>,
          {int(m), h.data(), residuals[size_t(k)].data(), net.step.given() ? net.step.of(k) : nullptr,
           int(net.step.size), from_s.data(), from_r.data(), is_amp ? grad_s.data() : nullptr, out.y.data(),
           grad_Av.data(), stepped.data(), net.step.given() ? grad_step.data() : nullptr});
    collect(out.parameters[2].get(), k, grad_step);
    if (net.linear != LinearStep::gram) add_outer(out.parameters[net.W2.given() ? 1 : 0].get().of(k), stepped, m, g, n);
    add_outer(out.parameters[0].get().of(k), grad_Av, m, inputs[size_t(k)], n);
    return product(grad_Av, net.W1.of(k), m, n, false, g);
  }

  // From the first layer's input to x0 and s0.
  void start_of(const Array<T>& grad_v, const Array<T>& grad_s, Arguments<T>& out) const {
    out.x0 = grad_v;
    out.s0 = grad_s;
    if (scheme == Scheme::admm) add(out.s0, grad_v, T(-1));
    if (scheme != Scheme::fista) return;
    const T beta = net.beta.value(0);
    add(out.x0, grad_s);
    if (p.given.s0.empty()) return;
    add(out.x0, grad_v, beta);
    out.s0 = zeros(n);
    add(out.s0, grad_v, -beta);
    Array<T> grad_beta = zeros(1);
    for (size_t i = 0; i < grad_v.size(); ++i) grad_beta[i / size_t(n)] += grad_v[i] * (first_x[i] - first_s[i]);
    collect(out.parameters[5].get(), 0, grad_beta);
  }
};

template <class T> void compare(const Form& form, const Size& size, const Options& options) {
  const Problem<T> p(form, size, options);
  const std::string what = text(form, size, options) + " layer by layer " + type_name<T> + ": ";
  const Reference wanted = reference(p);
  Layerwise<T> network(p);
  const Result<T> found = network.forward();
  CHECK(close(found.x, wanted.x, rounding<T>), what + "x");
  CHECK(close(found.s, wanted.s, rounding<T>), what + "the second scheme");

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
  for (const Form& form : forms()) {
    const int64_t n = form.group == 1 ? 17 : 18, few = form.group;
    Options options;
    compare<float>(form, {5, n, 3, 2}, options);
    options.x0 = options.vector = true;
    options.s0 = form.scheme != Scheme::proximal_gradient;
    compare<double>(form, {5, n, 3, 2}, options);
    compare<double>(form, {1, few, 2, 1}, options);
    compare<double>(form, {131, 258, 2, 1}, options);
    options.theta = -0.15;  // about half of the thresholds are negative
    compare<double>(form, {5, n, 2, 2}, options);
  }
}

}  // namespace fastunroll::testing
