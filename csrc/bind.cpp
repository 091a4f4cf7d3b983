// The only file that knows Python. Tensors arrive as addresses; Python has checked shapes, types and layout.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "fastunroll.h"

namespace py = pybind11;
using namespace fastunroll;

namespace {

using Address = std::uintptr_t;
using Addresses = std::vector<Address>;

template <class T> T* pointer(Address a) { return reinterpret_cast<T*>(a); }

template <class T> std::vector<T*> pointers(const Addresses& a) {
  std::vector<T*> p;
  p.reserve(a.size());
  for (Address address : a) p.push_back(pointer<T>(address));
  return p;
}

template <class T> T* const* data(const std::vector<T*>& p) { return p.empty() ? nullptr : p.data(); }

// Runs `call` with a zero of the element type, without the interpreter's lock.
template <class Call> void with_type(bool is_double, const Call& call) {
  py::gil_scoped_release release;
  if (is_double)
    call(0.0);
  else
    call(0.0f);
}

// Whether Ctrl-C was pressed; the error it raises is left for the caller to throw.
bool interrupted() {
  py::gil_scoped_acquire acquire;
  return PyErr_CheckSignals() != 0;
}

void bind_lista(py::module_& module) {
  module.def("lista_panels_size", [](bool is_double, int64_t m, int64_t n, int64_t w1_count, int64_t w2_count) {
    return is_double ? lista_panels_size<double>(m, n, w1_count, w2_count)
                     : lista_panels_size<float>(m, n, w1_count, w2_count);
  });
  module.def("lista_pack", [](bool is_double, int64_t m, int64_t n, int threads, const Addresses& w1,
                              const Addresses& w2, Address panels) {
    with_type(is_double, [&](auto zero) {
      using T = decltype(zero);
      const auto w1s = pointers<const T>(w1), w2s = pointers<const T>(w2);
      lista_pack<T>(
          {m, n, threads, w1s.data(), w2s.data(), int64_t(w1.size()), int64_t(w2.size()), pointer<T>(panels)});
    });
  });
  module.def("lista_forward", [](bool is_double, std::array<int64_t, 4> shape, int threads, Address panels,
                                 int64_t w1_count, int64_t w2_count, const Addresses& theta, int64_t theta_size,
                                 Address y, Address x0, bool keep_layers, Address x) {
    with_type(is_double, [&](auto zero) {
      using T = decltype(zero);
      const auto thetas = pointers<const T>(theta);
      lista_forward<T>({shape[0], shape[1], shape[2], shape[3], threads, pointer<const T>(panels), thetas.data(),
                        w1_count, w2_count, int64_t(theta.size()), theta_size, pointer<const T>(y),
                        pointer<const T>(x0), keep_layers, pointer<T>(x)});
    });
  });
  module.def("lista_backward", [](bool is_double, std::array<int64_t, 4> shape, int threads, const Addresses& w1,
                                  const Addresses& w2, int64_t theta_count, int64_t theta_size, Address y, Address x0,
                                  Address x, Address grad, bool every_layer, Address grad_y, Address grad_x0,
                                  const Addresses& grad_w1, const Addresses& grad_w2, const Addresses& grad_theta) {
    with_type(is_double, [&](auto zero) {
      using T = decltype(zero);
      const auto w1s = pointers<const T>(w1), w2s = pointers<const T>(w2);
      const auto g1 = pointers<T>(grad_w1), g2 = pointers<T>(grad_w2), gt = pointers<T>(grad_theta);
      lista_backward<T>({shape[0],
                         shape[1],
                         shape[2],
                         shape[3],
                         threads,
                         w1s.data(),
                         w2s.data(),
                         int64_t(w1.size()),
                         int64_t(w2.size()),
                         theta_count,
                         theta_size,
                         pointer<const T>(y),
                         pointer<const T>(x0),
                         pointer<const T>(x),
                         pointer<const T>(grad),
                         every_layer,
                         pointer<T>(grad_y),
                         pointer<T>(grad_x0),
                         data(g1),
                         data(g2),
                         data(gt)});
    });
  });
}

void bind_products(py::module_& module) {
  module.def("ista", [](bool is_double, std::array<int64_t, 3> shape, int threads, Address a, double step,
                        Address theta, int64_t theta_size, const std::vector<double>& momentum, Address y, Address x0,
                        bool keep_iterates, Address x) {
    with_type(is_double, [&](auto zero) {
      using T = decltype(zero);
      const std::vector<T> beta(momentum.begin(), momentum.end());
      ista<T>({int64_t(beta.size()), shape[0], shape[1], shape[2], threads, pointer<const T>(a), T(step),
               pointer<const T>(theta), theta_size, beta.data(), pointer<const T>(y), pointer<const T>(x0),
               keep_iterates, interrupted, pointer<T>(x)});
    });
    if (PyErr_Occurred()) throw py::error_already_set();
  });
  module.def("product", [](bool is_double, std::array<int64_t, 3> shape, int threads, bool adjoint, Address a,
                           Address x, Address start, Address out) {
    with_type(is_double, [&](auto zero) {
      using T = decltype(zero);
      product<T>({shape[0], shape[1], shape[2], threads, adjoint, pointer<const T>(a), pointer<const T>(x),
                  pointer<const T>(start), pointer<T>(out)});
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

// A hash of 64 values of each of `addresses`, evenly spread over its bytes: weights that changed as a whole differ.
uint64_t fingerprint(const Addresses& addresses, int64_t bytes) {
  constexpr int64_t samples = 64, word = 4;
  uint64_t hash = 14695981039346656037u;
  for (Address address : addresses) {
    const int64_t words = bytes / word, count = words < samples ? words : samples;
    for (int64_t i = 0; i < count; ++i) {
      uint32_t value;
      std::memcpy(&value, pointer<const char>(address) + i * words / count * word, word);
      hash = (hash ^ value) * 1099511628211u;
    }
  }
  return hash;
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
  module.def("fingerprint", &fingerprint);
  module.def("dense_above", &dense_above);
  module.def("set_dense_above", &set_dense_above);
  module.def("openmp", [] {
#ifdef _OPENMP
    return true;
#else
    return false;
#endif
  });
#ifdef FASTUNROLL_HAS_CUDA
  module.attr("cuda_compiled") = true;
  module.def("cuda_devices", [] {
    char problem[256] = "";
    const int count = cuda::device_count(problem, sizeof problem);
    return py::make_tuple(count, std::string(problem));
  });
#else
  module.attr("cuda_compiled") = false;
  module.def("cuda_devices", [] { return py::make_tuple(0, std::string("built without nvcc 11.8 or later")); });
#endif
}

}  // namespace

PYBIND11_MODULE(_fastunroll, module) {
  module.doc() = "fastunroll's native core. Addresses in, nothing out: called by fastunroll.ops alone.";
  bind_lista(module);
  bind_products(module);
  bind_soft_threshold(module);
  bind_settings(module);
}
