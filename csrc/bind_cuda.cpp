// The kernels of a device, for Python: addresses of its tensors, a stream, and an error if a launch is refused.
#include "bind_cuda.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bind_spec.h"
#include "fastunroll_cuda.h"

namespace py = pybind11;
using namespace fastunroll;

namespace {

using DeviceStream = std::pair<int, Address>;

void require_launched(const char* problem) {
  if (problem) throw std::runtime_error(std::string("CUDA refused to launch a kernel: ") + problem);
}

void bind_device(py::module_& module) {
  module.def("describe", [](int device) {
    cuda::Device found;
    if (const char* problem = cuda::describe(device, &found)) throw std::runtime_error(problem);
    return py::make_tuple(found.processors, found.clusters);
  });
}

// Calls with a zero of the element type, in the order of ops/cuda/device.py.
template <class Call> void with_element(int element, const Call& call) {
  const char* problem = nullptr;
  switch (element) {
    case 0:
      problem = call(0.0f);
      break;
    case 1:
      problem = call(0.0);
      break;
    case 2:
      problem = call(cuda::Bfloat16());
      break;
    case 3:
      problem = call(cuda::Float16());
      break;
    default:
      problem = "no kernel for this type of element";
  }
  require_launched(problem);
}

cuda::Stream stream_of(const DeviceStream& s) { return {s.first, pointer<void>(s.second)}; }

template <class T> cuda::Layer<T> layer_of(const NetworkSpec& spec, const Fields& of) {
  const auto& sizes = spec.support_sizes;
  return {of.number<int>("m"),
          of.number<int>("n"),
          int(spec.group),
          sizes.empty() ? 0 : int(sizes[of.number<size_t>("layer")]),
          spec.prox,
          spec.scheme,
          of.array<const T>("theta"),
          of.number<int>("theta_size"),
          of.array<const T>("gain"),
          of.array<const T>("beta")};
}

void bind_layers(py::module_& module) {
  module.def("end_layer",
             [](int element, const DeviceStream& stream, int64_t batch, py::handle spec, const py::kwargs& kwargs) {
               const Fields of(kwargs);
               with_element(element, [&](auto zero) {
                 using T = decltype(zero);
                 return cuda::end_layer<T>(
                     stream_of(stream), batch,
                     {layer_of<T>(NetworkSpec(spec), of), of.array<const T>("z"), of.array<const T>("step"),
                      of.array<const T>("start"), of.array<const T>("before"), of.array<const T>("residual"),
                      of.array<const T>("y"), of.array<const T>("next_beta"), of.array<T>("x"), of.array<T>("input"),
                      of.array<T>("s"), of.array<T>("dual_residual"), of.array<uint8_t>("selected")});
               });
             });
  module.def("prox_gradient", [](int element, const DeviceStream& stream, int64_t batch, py::handle spec,
                                 const py::kwargs& kwargs) {
    const Fields of(kwargs);
    with_element(element, [&](auto zero) {
      using T = decltype(zero);
      using V = cuda::Computed<T>;
      return cuda::prox_gradient<T>(
          stream_of(stream), batch,
          {layer_of<T>(NetworkSpec(spec), of), of.array<const T>("grad_x"), of.array<const T>("grad_v"),
           of.array<const T>("next_beta"), of.array<const T>("x"), of.array<const T>("before"),
           of.array<const T>("residual"), of.array<const T>("dual_residual"), of.array<const uint8_t>("selected"),
           of.array<T>("grad_s"), of.array<T>("grad_z"), of.array<V>("grad_theta"), of.array<V>("grad_gain"),
           of.array<V>("grad_beta"), of.array<V>("grad_next_beta"), of.array<V>("from_s"), of.array<V>("from_r")});
    });
  });
  module.def("residual_gradient", [](int element, const DeviceStream& stream, int64_t batch, py::handle,
                                     const py::kwargs& kwargs) {
    const Fields of(kwargs);
    with_element(element, [&](auto zero) {
      using T = decltype(zero);
      using V = cuda::Computed<T>;
      return cuda::residual_gradient<T>(
          stream_of(stream), batch,
          {of.number<int>("m"), of.array<const T>("Wz"), of.array<const T>("residual"), of.array<const T>("step"),
           of.number<int>("step_size"), of.array<const V>("from_s"), of.array<const V>("from_r"), of.array<T>("grad_s"),
           of.array<T>("grad_y"), of.array<T>("grad_Av"), of.array<T>("stepped"), of.array<V>("grad_step")});
    });
  });
}

// A plan of ops/cuda/kernel_choice.py, read by field.
struct Plan {
  cuda::Precision precision;
  cuda::FusedShape shape;
  explicit Plan(py::handle plan)
      : precision(choice<cuda::Precision>(plan, "precision", {"single", "tf32", "bfloat16"})),
        shape{field<int>(plan, "row_tiles"), field<int>(plan, "blocks"), field<bool>(plan, "weights_in_smem")} {}
};

// The layers of a fused network, for calls with any batch.
struct FusedLayers {
  cuda::FusedLayers<float> layers = {};  // the matrices are of the stored type

  FusedLayers(py::handle of, int m, int n, const py::kwargs& kwargs) {
    const NetworkSpec spec(of);
    const Fields given(kwargs);
    const auto padded = [](int size) {
      return (size + cuda::fused_padding - 1) / cuda::fused_padding * cuda::fused_padding;
    };
    layers.layers = int(spec.layers), layers.group = int(spec.group), layers.scheme = spec.scheme;
    layers.prox_kind = spec.prox, layers.is_gradient_step = spec.linear != LinearStep::affine;
    layers.m = m, layers.n = n, layers.padded_m = padded(m), layers.padded_n = padded(n);
    if (kwargs.empty()) return;  // to ask what could run
    layers.first = given.array<float>("first"), layers.second = given.array<float>("second");
    layers.step = given.array<float>("step"), layers.theta = given.array<float>("theta");
    layers.gain = given.array<float>("gain"), layers.beta = given.array<float>("beta");
    layers.first_stride = given.number<int64_t>("first_stride");
    layers.second_stride = given.number<int64_t>("second_stride");
    layers.step_stride = given.number<int64_t>("step_stride");
    layers.theta_stride = given.number<int64_t>("theta_stride");
  }

  template <class T> cuda::FusedLayers<T> over(int64_t batch) const {
    cuda::FusedLayers<T> of;
    static_assert(sizeof of == sizeof layers, "they differ in the types of pointers alone");
    std::memcpy(static_cast<void*>(&of), &layers, sizeof of);
    of.batch = batch;
    return of;
  }
};

// Calls with a zero of float or Bfloat16.
template <class Call> const char* with_stored(bool is_bfloat16, const Call& call) {
  return is_bfloat16 ? call(cuda::Bfloat16()) : call(0.0f);
}

void bind_fused(py::module_& module) {
  module.attr("fused_padding") = cuda::fused_padding;
  module.attr("fused_warps") = cuda::fused_warps;
  py::class_<FusedLayers>(module, "FusedLayers", py::module_local())
      .def(py::init<py::handle, int, int, const py::kwargs&>());
  module.def("max_active_clusters", [](const DeviceStream& stream, py::handle plan, bool gradient,
                                       const FusedLayers& layers) {
    const Plan how(plan);
    int clusters = 0;
    with_stored(how.precision == cuda::Precision::bfloat16, [&](auto zero) -> const char* {
      const auto net = layers.over<decltype(zero)>(1);
      clusters = gradient ? cuda::fused_gradient_max_active_clusters(stream_of(stream), how.precision, how.shape, net)
                          : cuda::fused_max_active_clusters(stream_of(stream), how.precision, how.shape, net);
      return nullptr;
    });
    return clusters;
  });
  module.def("fused_network", [](const DeviceStream& stream, py::handle plan, const FusedLayers& layers, int64_t batch,
                                 Address y, Address x0, Address s0, Address x, Address last, Address s, Address saved) {
    const Plan how(plan);
    require_launched(with_stored(how.precision == cuda::Precision::bfloat16, [&](auto zero) {
      using T = decltype(zero);
      const cuda::Fused<T> net = {layers.over<T>(batch), pointer<const T>(y), pointer<const T>(x0),
                                  pointer<const T>(s0),  pointer<T>(x),       pointer<T>(last),
                                  pointer<T>(s),         pointer<T>(saved)};
      return cuda::fused_network(stream_of(stream), how.precision, how.shape, net);
    }));
  });
  module.def("fused_gradient", [](const DeviceStream& stream, py::handle plan, const FusedLayers& layers, int64_t batch,
                                  bool every_layer, const py::kwargs& kwargs) {
    const Plan how(plan);
    const Fields of(kwargs);
    require_launched(with_stored(how.precision == cuda::Precision::bfloat16, [&](auto zero) {
      using T = decltype(zero);
      const cuda::FusedBackward<T> net = {layers.over<T>(batch),        of.array<const T>("x"),
                                          of.array<const T>("x0"),      of.array<const T>("saved"),
                                          of.array<const T>("grad"),    every_layer,
                                          of.array<T>("grad_z"),        of.array<T>("Wz"),
                                          of.array<T>("grad_x0"),       of.array<float>("grad_theta"),
                                          of.array<float>("grad_beta"), of.array<float>("grad_gain")};
      return cuda::fused_gradient(stream_of(stream), how.precision, how.shape, net);
    }));
  });
  // Copies arrays of one shape to padded arrays one after another: out[l][r][c] = arrays[l][r, c], zero elsewhere.
  module.def(
      "pack",
      [](const DeviceStream& stream, bool from_bfloat16, bool to_bfloat16, const std::vector<Address>& arrays,
         std::array<int64_t, 2> shape, std::array<int64_t, 2> strides, std::array<int64_t, 2> out_shape,
         std::array<int64_t, 2> out_strides, Address out) {
        require_launched(with_stored(from_bfloat16, [&](auto in) {
          return with_stored(to_bfloat16, [&](auto of) {
            using From = decltype(in);
            using To = decltype(of);
            cuda::Pack<From, To> p = {};
            const size_t max = size_t(p.max);
            const char* problem = nullptr;
            for (size_t first = 0; first < arrays.size() && !problem; first += max) {
              const size_t count = std::min(max, arrays.size() - first);
              for (size_t l = 0; l < count; ++l) p.from[l] = pointer<const From>(arrays[first + l]);
              p.layers = int(count);
              p.rows = int(shape[0]);
              p.columns = int(shape[1]);
              p.row_step = strides[0];
              p.column_step = strides[1];
              p.padded_rows = int(out_shape[0]);
              p.padded_columns = int(out_shape[1]);
              p.layer_stride = out_strides[0];
              p.row_stride = out_strides[1];
              p.out = pointer<To>(out) + int64_t(first) * out_strides[0];
              problem = cuda::pack(stream_of(stream), p);
            }
            return problem;
          });
        }));
      },
      py::arg("stream"), py::kw_only(), py::arg("from_bfloat16"), py::arg("to_bfloat16"), py::arg("arrays"),
      py::arg("shape"), py::arg("strides"), py::arg("out_shape"), py::arg("out_strides"), py::arg("out"));
}

void bind_soft_threshold(py::module_& module) {
  module.def("soft_threshold", [](int element, const DeviceStream& stream, const std::array<int64_t, 3>& shape,
                                  bool complex, Address x, Address theta, Address out) {
    with_element(element, [&](auto zero) {
      using T = decltype(zero);
      return cuda::soft_threshold<T>(stream_of(stream), {shape[0], shape[1], shape[2], 1, complex, pointer<const T>(x),
                                                         pointer<const T>(theta), pointer<T>(out)});
    });
  });
  module.def("soft_threshold_gradient", [](int element, const DeviceStream& stream, const std::array<int64_t, 3>& shape,
                                           bool complex, Address out, Address theta, Address grad, Address grad_x,
                                           Address grad_theta) {
    with_element(element, [&](auto zero) {
      using T = decltype(zero);
      return cuda::soft_threshold_gradient<T>(
          stream_of(stream), {shape[0], shape[1], shape[2], 1, complex, pointer<const T>(out), pointer<const T>(theta),
                              pointer<const T>(grad), pointer<T>(grad_x), pointer<T>(grad_theta)});
    });
  });
}

}  // namespace

void bind_cuda(py::module_ module) {
  bind_device(module);
  bind_layers(module);
  bind_fused(module);
  bind_soft_threshold(module);
}

#ifdef FASTUNROLL_EMULATED
PYBIND11_MODULE(_emulated, module) {
  module.doc() = "The kernels of fastunroll's devices, run on the host. For tests.";
  bind_cuda(module);
}
#endif
