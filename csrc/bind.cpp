// The only file that knows Python. Tensors arrive as addresses; Python has checked shapes, types and layout.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "addresses.h"
#include "bind_adaptive.h"
#include "bind_cuda.h"
#include "bind_iterations.h"
#include "bind_lasso.h"
#include "bind_pictures.h"
#include "bind_samples.h"
#include "bind_spec.h"
#include "bind_spectral.h"
#include "cpu/kernels.h"
#include "cpu/workspace.h"
#include "fastunroll.h"
#include "interruption.h"
#include "monitor.h"
#include "packed_matrix.h"
#include "plain_tensor.h"
#include "tensors.h"

namespace py = pybind11;
using namespace fastunroll;

namespace {

using Addresses = std::vector<Address>;

template <class T> std::vector<T*> pointers(const Addresses& a) {
  std::vector<T*> p;
  p.reserve(a.size());
  for (Address address : a) p.push_back(pointer<T>(address));
  return p;
}

// Arrays of one parameter, and the size of each.
using Arrays = std::pair<Addresses, int64_t>;

template <class T> struct Owned {
  std::vector<T*> arrays;
  int64_t size;
  explicit Owned(const Arrays& a) : arrays(pointers<T>(a.first)), size(a.second) {}
  PerLayer<T> get() const { return {arrays.data(), int64_t(arrays.size()), size}; }
};

class PackedWeights;

// A network over parameters of Python tensors, which it does not own: valid while they stay where they are.
class NetworkView {
 public:
  NetworkView(bool is_double, py::handle spec, int64_t m, int64_t n, const Arrays& W1, const Arrays& W2,
              const Arrays& step, const Arrays& theta, const Arrays& gain, const Arrays& beta)
      : spec_(spec), m_(m), n_(n) {
    const std::array<Arrays, 6> parameters = {W1, W2, step, theta, gain, beta};
    for (const Arrays& arrays : parameters)
      addresses_.insert(addresses_.end(), arrays.first.begin(), arrays.first.end());
    if (is_double)
      double_ = std::make_unique<Parameters<double>>(parameters.begin(), parameters.end());
    else
      float_ = std::make_unique<Parameters<float>>(parameters.begin(), parameters.end());
  }

  // Whether the parameters, in order, still have the same addresses.
  bool is_at(const py::list& tensors) const { return lie_at(tensors, addresses_); }

  // The first layer whose gain is not positive, and that gain; -1 if there is none. NaN does not count: it shows.
  std::pair<int64_t, double> wrong_gain() const {
    return double_ ? wrong_gain_of(network(*double_)) : wrong_gain_of(network(*float_));
  }

  // Does nothing and returns false if the weights were packed for another instruction set.
  bool forward(int64_t batch, int threads, const PackedWeights* packed, Address y, Address x0, Address s0, Address x,
               Address last, Address s, Address saved, Address selected) const;

  void backward(int64_t batch, int threads, const std::array<Address, 5>& known, Address grad, bool every_layer,
                Address grad_s, Address selected, const std::array<Address, 3>& grad_inputs,
                const std::array<Arrays, 6>& grad_parameters) const {
    with_network([&](const auto& net) {
      using T = Value<decltype(net)>;
      std::vector<Owned<T>> out;
      for (const Arrays& arrays : grad_parameters) out.emplace_back(arrays);
      network_backward<T>({net,
                           batch,
                           threads,
                           pointer<const T>(known[0]),
                           pointer<const T>(known[1]),
                           pointer<const T>(known[2]),
                           pointer<const T>(known[3]),
                           pointer<const T>(known[4]),
                           pointer<const uint8_t>(selected),
                           pointer<const T>(grad),
                           every_layer,
                           pointer<const T>(grad_s),
                           Interruption::happened,
                           pointer<T>(grad_inputs[0]),
                           pointer<T>(grad_inputs[1]),
                           pointer<T>(grad_inputs[2]),
                           out[0].get(),
                           out[1].get(),
                           out[2].get(),
                           out[3].get(),
                           out[4].get(),
                           out[5].get()});
    });
  }

 private:
  friend class PackedWeights;
  template <class T> using Parameters = std::vector<Owned<const T>>;
  template <class N> struct ValueOf;
  template <class T> struct ValueOf<Network<T>> {
    using type = T;
  };
  template <class N> using Value = typename ValueOf<std::decay_t<N>>::type;

  template <class T> Network<T> network(const Parameters<T>& p) const {
    return {spec_.layers, m_,         n_,          spec_.linear,
            spec_.scheme, spec_.prox, spec_.group, spec_.support_sizes.empty() ? nullptr : spec_.support_sizes.data(),
            p[0].get(),   p[1].get(), p[2].get(),  p[3].get(),
            p[4].get(),   p[5].get()};
  }

  template <class T> static std::pair<int64_t, double> wrong_gain_of(const Network<T>& net) {
    for (int64_t k = 0; net.gain.given() && k < net.layers; ++k)
      if (net.gain.value(k) <= 0) return {k, double(net.gain.value(k))};
    return {-1, 0};
  }

  // Without the interpreter's lock; throws what Ctrl-C raised.
  template <class Call> void with_network(const Call& call) const {
    interruptibly([&] {
      py::gil_scoped_release release;
      if (double_)
        call(network(*double_));
      else
        call(network(*float_));
    });
  }

  Addresses addresses_;  // of all parameters
  NetworkSpec spec_;
  int64_t m_, n_;
  std::unique_ptr<Parameters<float>> float_;
  std::unique_ptr<Parameters<double>> double_;
};

// The matrices of a network as kernels read them, for all networks with the same matrices and linear step.
class PackedWeights {
 public:
  PackedWeights(const NetworkView& network, int threads, bool bfloat16) : bfloat16_(bfloat16) {
    network.with_network([&](const auto& net) {
      using T = NetworkView::Value<decltype(net)>;
      shape_ = shape_of(net);
      Packing<T> packing{net, bfloat16, threads, nullptr};
      memory_ = std::make_unique<Block>(size_t(network_packed_size(packing)) * sizeof(T));
      packing.packed = reinterpret_cast<T*>(memory_->data());
      network_pack(packing);
    });
  }

  bool bfloat16() const { return bfloat16_; }
  bool fits_instruction_set() const { return set_ == instruction_set(); }
  template <class T> const T* panels_for(const Network<T>& net) const {
    if (shape_ != shape_of(net)) throw std::invalid_argument("these weights were packed for another network");
    return reinterpret_cast<const T*>(memory_->data());
  }

 private:
  using Shape = std::tuple<size_t, LinearStep, int64_t, int64_t, int64_t, int64_t>;
  template <class T> static Shape shape_of(const Network<T>& net) {
    return {sizeof(T), net.linear, net.m, net.n, net.W1.count, net.W2.count};
  }

  const char* set_ = instruction_set();
  bool bfloat16_;
  Shape shape_;
  std::unique_ptr<Block> memory_;
};

bool NetworkView::forward(int64_t batch, int threads, const PackedWeights* packed, Address y, Address x0, Address s0,
                          Address x, Address last, Address s, Address saved, Address selected) const {
  if (packed && !packed->fits_instruction_set()) return false;
  with_network([&](const auto& net) {
    using T = Value<decltype(net)>;
    network_forward<T>({net, batch, threads, packed ? packed->panels_for(net) : nullptr, packed && packed->bfloat16(),
                        pointer<const T>(y), pointer<const T>(x0), pointer<const T>(s0), Interruption::happened,
                        pointer<T>(x), pointer<T>(last), pointer<T>(s), pointer<T>(saved), pointer<uint8_t>(selected)});
  });
  return true;
}

void bind_tensors(py::module_& module) {
  module.def("empty", [](bool is_double, bool is_complex, const std::vector<std::vector<int64_t>>& shapes) {
    py::list capsules(shapes.size());
    for (size_t i = 0; i < shapes.size(); ++i) capsules[i] = capsule_of(empty_tensor(is_double, is_complex, shapes[i]));
    return capsules;
  });
}

void bind_network(py::module_& module) {
  py::class_<Monitor>(module, "Monitor")
      .def(py::init<const py::list&, const std::vector<std::pair<int64_t, int64_t>>&>())
      .def("is_same", &Monitor::is_same)
      .def("is_current", &Monitor::is_current);
  py::class_<NetworkView>(module, "Network")
      .def(py::init<bool, py::handle, int64_t, int64_t, const Arrays&, const Arrays&, const Arrays&, const Arrays&,
                    const Arrays&, const Arrays&>(),
           py::arg("is_double"), py::arg("spec"), py::kw_only(), py::arg("m"), py::arg("n"), py::arg("W1"),
           py::arg("W2"), py::arg("step"), py::arg("theta"), py::arg("gain"), py::arg("beta"))
      .def("is_at", &NetworkView::is_at)
      .def("wrong_gain", &NetworkView::wrong_gain)
      .def("forward", &NetworkView::forward)
      .def("backward", &NetworkView::backward);
  py::class_<PackedWeights>(module, "PackedWeights").def(py::init<const NetworkView&, int, bool>());
}

void bind_products(py::module_& module) {
  py::class_<PackedMatrix>(module, "PackedMatrix")
      .def(py::init<bool, std::array<int64_t, 2>, int, bool, Address, bool>());
  module.def("product", [](bool is_double, std::array<int64_t, 3> shape, int threads, bool adjoint, Address a,
                           const PackedMatrix* packed, Address x, Address start, Address out) {
    with_type(is_double, [&](auto zero) {
      using T = decltype(zero);
      product<T>({shape[0], shape[1], shape[2], threads, adjoint, pointer<const T>(a), pointer<const T>(x),
                  pointer<const T>(start), pointer<T>(out), packed ? packed->panels<T>() : nullptr});
    });
  });
  module.def("outer", [](bool is_double, std::array<int64_t, 3> shape, int threads, Address g, Address x, Address out) {
    with_type(is_double, [&](auto zero) {
      using T = decltype(zero);
      outer<T>({shape[0], shape[1], shape[2], threads, pointer<const T>(g), pointer<const T>(x), pointer<T>(out)});
    });
  });
}

void bind_soft_threshold(py::module_& module) {
  module.def("soft_threshold", [](bool is_double, std::array<int64_t, 3> shape, int threads, bool complex, Address x,
                                  Address theta, Address out) {
    with_type(is_double, [&](auto zero) {
      using T = decltype(zero);
      soft_threshold<T>({shape[0], shape[1], shape[2], threads, complex, pointer<const T>(x), pointer<const T>(theta),
                         pointer<T>(out)});
    });
  });
  module.def("soft_threshold_backward",
             [](bool is_double, std::array<int64_t, 3> shape, int threads, bool complex, Address out, Address theta,
                Address grad, Address grad_x, Address grad_theta) {
               with_type(is_double, [&](auto zero) {
                 using T = decltype(zero);
                 soft_threshold_backward<T>({shape[0], shape[1], shape[2], threads, complex, pointer<const T>(out),
                                             pointer<const T>(theta), pointer<const T>(grad), pointer<T>(grad_x),
                                             pointer<T>(grad_theta)});
               });
             });
}

void bind_settings(py::module_& module) {
  module.def("instruction_set", [] { return std::string(instruction_set()); });
  module.def("instruction_set_reason", [] { return std::string(instruction_set_reason()); });
  module.def("compiled_instruction_sets", [] {
    std::vector<std::string> names;
    for (const char* const* name = compiled_instruction_sets(); *name; ++name) names.emplace_back(*name);
    return names;
  });
  module.def("use_instruction_set", [](const std::string& name) {
    if (const char* problem = use_instruction_set(name.c_str()))
      throw py::value_error("instruction set '" + name + "' cannot be used: " + problem);
  });
  module.def("dense_above", &dense_above);
  module.def("set_dense_above", &set_dense_above);
  // For benchmarks: GFLOP/s of the best of some runs.
  module.def_submodule("bench").def("roof", [](bool is_double, int threads, bool rows) {
    py::gil_scoped_release release;
    double best = 0;
    for (int run = 0; run < 20; ++run) {
      const Roof work{threads, rows, rows ? 4000 : 40000};
      const auto begin = std::chrono::steady_clock::now();
      const double operations = is_double ? roof(work, 0.0) : roof(work, 0.0f);
      const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
      best = std::max(best, operations / took.count());
    }
    return best;
  });
  module.def("openmp", [] {
#ifdef _OPENMP
    return true;
#else
    return false;
#endif
  });
#ifdef FASTUNROLL_HAS_CUDA
  module.attr("cuda_compiled") = true;
  bind_cuda(module.def_submodule("cuda"));
  module.def("cuda_devices", [] {
    char problem[256] = "";
    const int count = cuda::device_count(problem, sizeof problem);
    return py::make_tuple(count, std::string(problem));
  });
#else
  module.attr("cuda_compiled") = false;
  module.def("cuda_devices",
             [] { return py::make_tuple(0, "built without CUDA kernels, for which FASTUNROLL_CUDA=1 asks"); });
#endif
}

}  // namespace

PYBIND11_MODULE(_fastunroll, module) {
  module.doc() = "The native core of fastunroll, which only fastunroll.ops calls. It takes addresses of tensors.";
  bind_tensors(module);
  bind_network(module);
  bind_products(module);
  bind_adaptive(module);
  bind_lasso(module);
  bind_iterations(module);
  bind_soft_threshold(module);
  bind_samples(module);
  bind_pictures(module);
  bind_spectral(module);
  bind_settings(module);
}
