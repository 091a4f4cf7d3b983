// Networks of every form with parameters at random, and calls of them.
#pragma once
#include "check.h"
#include "fastunroll.h"

namespace fastunroll::testing {

enum class Count { none, one, each };  // of matrices: for no layer, for all of them together, for each

struct Form {
  const char* name;
  LinearStep linear;
  Count first, second;
  Scheme scheme = Scheme::proximal_gradient;
  ProxKind prox_kind = ProxKind::soft;
  int64_t group = 1;
  bool selects = false, gain = false;
};

const std::vector<Form>& forms();

struct Size {
  int64_t m, n, layers, batch;
};

// In each form enough work for two threads.
constexpr Size of_threads{20, 66, 2, 70};

struct Options {
  bool vector = false;  // a threshold for each element or group, a step for each row; gains and betas in one array
  bool x0 = false, s0 = false;
  double theta = 0.3;  // the least threshold
};

std::string text(const Form&, const Size&, const Options&);

// One parameter of all layers.
template <class T> struct Parameter {
  std::vector<Array<T>> arrays;
  std::vector<T*> pointers;
  int64_t size = 0;

  Parameter() = default;
  Parameter(const Parameter&) = delete;
  Parameter(Parameter&&) = default;
  Parameter& operator=(Parameter&&) = default;

  void add(Array<T> values) {
    size = int64_t(values.size());
    arrays.push_back(std::move(values));
    pointers.push_back(arrays.back().data());
  }
  PerLayer<T> get() { return {pointers.data(), int64_t(pointers.size()), size}; }
  PerLayer<const T> get() const { return {pointers.data(), int64_t(pointers.size()), size}; }
  // The value of layer k at column c.
  double at(int64_t k, int64_t c, double otherwise) const {
    if (arrays.empty()) return otherwise;
    const Array<T>& values = arrays[arrays.size() == 1 ? 0 : size_t(k)];
    return double(values[values.size() == 1 ? 0 : size_t(c)]);
  }
};

// How a call is made; no result depends on it.
struct Call {
  int threads = 1;
  bool (*interrupted)() = nullptr;
  bool return_layers = true, save_for_backward = true;
  bool bfloat16 = false;  // as the matrices were packed
};

template <class T> struct Result {
  Array<T> x, last, s, saved;     // every layer; the last; the last; every layer
  std::vector<uint8_t> selected;  // of every layer
};

// The arguments of a network that have gradients, or these.
template <class T> struct Arguments {
  Array<T> y, x0, s0;
  Parameter<T> parameters[6];  // W1, W2, step, theta, gain, beta

  // All arrays, in one order; those not given are empty or missing.
  std::vector<Array<T>*> arrays() {
    std::vector<Array<T>*> all = {&y, &x0, &s0};
    for (Parameter<T>& p : parameters)
      for (Array<T>& a : p.arrays) all.push_back(&a);
    return all;
  }
};

template <class T> class Problem {
 public:
  Problem(const Form&, const Size&, const Options&);

  // Samples first .. first + count - 1 alone.
  void keep_only(int64_t first, int64_t count);

  Network<T> network() const;
  Array<T> packed(int threads, bool bfloat16 = false) const;
  Result<T> forward(const Call& = {}, const Array<T>& packed = {}) const;
  // Gradients of the sum of grad x and grad_s s; of what `wanted` says, a flag for each of y, x0, s0 and the
  // parameters.
  Arguments<T> backward(const Result<T>&, const Call& = {}, unsigned wanted = ~0u, bool every_layer = true) const;
  // All that the two compute, one after another.
  Array<T> everything(const Call& = {}, const Array<T>& packed = {}) const;

  Form form;
  Size size;
  Arguments<T> given;
  std::vector<int64_t> support_sizes;
  Array<T> grad, grad_s;  // (layers, batch, n), (batch, state_size)
};

// Every layer (layers, batch, n), and the second state after the last (batch, state_size), in plain loops.
struct Reference {
  Array<double> x, s;
};
template <class T> Reference reference(const Problem<T>&);

}  // namespace fastunroll::testing
