// Networks that follow statistics of each sample: to the last bit the same whatever the threads, the instruction set,
// the matrices packed beforehand and the batch; and the gradient of the values by differences.
#include "problem.h"

namespace fastunroll::testing {
namespace {

struct Kind {
  const char* name;
  AdaptiveScheme scheme;
  AdaptiveProx prox;
  Gate gate;
  int64_t weights, values;  // the number of W, 0 if W is fixed
  bool selects;
};

constexpr int64_t layers = 3;
constexpr AdaptiveProx soft = AdaptiveProx::soft, bernoulli_gaussian = AdaptiveProx::bernoulli_gaussian;
const Kind kinds[] = {{"glista", AdaptiveScheme::glista, soft, Gate::relu, layers, 4, true},
                      {"glista-shared", AdaptiveScheme::glista, soft, Gate::sigmoid, 1, 4, false},
                      {"glista-vector", AdaptiveScheme::glista, soft, Gate::exponential, layers, 0, true},
                      {"hyperlista", AdaptiveScheme::hyperlista, soft, Gate::relu, 0, 3, false},
                      {"lamp", AdaptiveScheme::lamp, bernoulli_gaussian, Gate::relu, layers, 2, false},
                      {"lamp-soft", AdaptiveScheme::lamp, soft, Gate::relu, 1, 2, false},
                      {"lvamp", AdaptiveScheme::lvamp, bernoulli_gaussian, Gate::relu, 0, 3, false},
                      {"lvamp-soft", AdaptiveScheme::lvamp, soft, Gate::relu, 0, 3, false}};

template <class T> class Problem {
 public:
  Problem(const Kind& k, int64_t rows, int64_t columns, int64_t samples)
      : kind(k), m(rows), n(columns), batch(samples), value_count(k.values ? k.values : n + 3) {
    Random random(7);
    const auto matrix = [&](int64_t r, int64_t c) {
      shapes.push_back({r, c});
      arrays.push_back(random.normals<T>(r * c, 0.5 / std::sqrt(double(r))));
    };
    const bool vamp = kind.scheme == AdaptiveScheme::lvamp;
    if (vamp) {
      matrix(m, m), matrix(m, n), matrix(1, m);
      for (T& s : arrays[2]) s = std::abs(s) + T(0.5);
    } else {
      matrix(m, n);
      for (int64_t i = 0; i < (kind.weights ? kind.weights : 1); ++i) matrix(m, n);
      if (kind.scheme == AdaptiveScheme::hyperlista) matrix(n, m);
    }
    values.resize(size_t(layers * value_count));
    for (T& v : values) v = T(0.05 + 0.1 * random.uniform());
    y = random.normals<T>(batch * m, 1);
    x0 = random.normals<T>(batch * n, 0.1);
    grad = random.normals<T>(layers * batch * n, 1);
  }

  // Every layer, the gradients of y, x0, values and W; with matrices packed beforehand, or not.
  Array<T> everything(int threads, bool packs = false) const {
    std::vector<Array<T>> packed;
    std::vector<AdaptiveMatrix<T>> matrices;
    for (size_t i = 0; i < arrays.size(); ++i) {
      matrices.push_back({shapes[i].first, shapes[i].second, data(arrays[i]), nullptr, nullptr, false});
      for (bool adjoint : {false, true}) {
        if (!packs) continue;
        Product<T> p{0,       shapes[i].first, shapes[i].second, threads, adjoint, data(arrays[i]),
                     nullptr, nullptr,         nullptr};
        packed.emplace_back(size_t(product_packed_size(p)));
        p.packed = packed.back().data();
        product_pack(p);
        (adjoint ? matrices.back().packed_adjoint : matrices.back().packed) = p.packed;
      }
    }
    const int64_t support_sizes[layers] = {3, 0, n};
    const AdaptiveNetwork<T> net{kind.scheme,
                                 kind.prox,
                                 kind.gate,
                                 layers,
                                 m,
                                 n,
                                 batch,
                                 threads,
                                 matrices.data(),
                                 int64_t(matrices.size()),
                                 data(values),
                                 value_count,
                                 kind.selects ? support_sizes : nullptr,
                                 data(y),
                                 data(x0),
                                 nullptr};
    Array<T> x(grad.size()), saved(size_t(layers * batch * adaptive_saved_size(net)));
    adaptive_forward<T>({net, data(x), nullptr, data(saved)});
    Array<T> last(size_t(batch * n));
    adaptive_forward<T>({net, nullptr, data(last), nullptr});
    CHECK(same_bits(last, Array<T>(x.end() - batch * n, x.end())), std::string(kind.name) + ": the last layer alone");

    Array<T> grad_y(y.size()), grad_x0(x0.size()), grad_values(values.size());
    std::vector<Array<T>> learned(size_t(kind.weights), Array<T>(size_t(m * n)));
    std::vector<T*> pointers;
    for (Array<T>& w : learned) pointers.push_back(w.data());
    adaptive_backward<T>({net, data(x), data(saved), data(grad), true, data(grad_y), data(grad_x0), data(grad_values),
                          pointers.empty() ? nullptr : pointers.data()});
    Array<T> all = x;
    for (const Array<T>& part : {grad_y, grad_x0, grad_values}) all.insert(all.end(), part.begin(), part.end());
    for (const Array<T>& part : learned) all.insert(all.end(), part.begin(), part.end());
    return all;
  }

  double loss() const {
    const Array<T> all = everything(1);
    double sum = 0;
    for (size_t i = 0; i < grad.size(); ++i) sum += double(all[i]) * double(grad[i]);
    return sum;
  }

  const Kind& kind;
  int64_t m, n, batch, value_count;
  std::vector<std::pair<int64_t, int64_t>> shapes;
  std::vector<Array<T>> arrays;
  Array<T> values, y, x0, grad;
};

template <class T> void compare_settings(const Kind& kind, int64_t m, int64_t n, int64_t batch) {
  const Settings restored;
  const Problem<T> p(kind, m, n, batch);
  Array<T> fused;
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    const std::string what = std::string(kind.name) + " " + set + " " + type_name<T> + " " + std::to_string(batch);
    const Array<T> wanted = p.everything(1);
    record(kind.name, wanted);
    if (is_fused(set) && fused.empty()) fused = wanted;
    if (is_fused(set)) CHECK(same_bits(fused, wanted), what + ": another instruction set");
    for (int threads : {2, 5}) CHECK(same_bits(p.everything(threads), wanted), what + ": threads");
    CHECK(same_bits(p.everything(2, true), wanted), what + ": packed");
  }
}

// The gradient of values, one by one.
void compare_differences(const Kind& kind) {
  Problem<double> p(kind, 9, 21, 5);
  const Array<double> all = p.everything(1);
  const size_t first = p.grad.size() + p.y.size() + p.x0.size();
  const double step = 1e-6;
  Array<double> found, wanted;
  for (size_t i = 0; i < p.values.size(); i += 2) {
    const double value = p.values[i];
    p.values[i] = value + step;
    const double above = p.loss();
    p.values[i] = value - step;
    wanted.push_back((above - p.loss()) / (2 * step));
    p.values[i] = value;
    found.push_back(all[first + i]);
  }
  CHECK(close(found, wanted, 1e-5), std::string(kind.name) + ": gradient of values");
}

}  // namespace

void test_adaptive() {
  for (const Kind& kind : kinds) {
    for (const int64_t batch : {1, 9}) compare_settings<float>(kind, 9, 66, batch);
    if (quick) continue;
    compare_settings<double>(kind, 20, 35, 70);
    compare_settings<double>(kind, 3, 5, 200);  // several tiles of a thread
    compare_settings<float>(kind, 9, 20, 0);
    compare_differences(kind);
  }
}

}  // namespace fastunroll::testing
