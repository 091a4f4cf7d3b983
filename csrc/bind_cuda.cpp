// The kernels of a device, for Python: addresses of its tensors, a stream, and an error if a launch is refused.
#include "bind_cuda.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bind_spec.h"
#include "fastunroll_cuda.h"

namespace py = pybind11;
using namespace fastunroll;
using py::arg;

namespace {

using Address = std::uintptr_t;
using DeviceStream = std::pair<int, Address>;

template <class T> T* pointer(Address a) { return reinterpret_cast<T*>(a); }

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

template <class T>
cuda::Layer<T> layer_of(const NetworkSpec& spec, int64_t layer, int m, int n, Address theta, int theta_size,
                        Address gain, Address beta) {
  return {m,
          n,
          int(spec.group),
          int(spec.support_size(layer)),
          spec.prox,
          spec.scheme,
          pointer<const T>(theta),
          theta_size,
          pointer<const T>(gain),
          pointer<const T>(beta)};
}

// The keywords that describe a layer; those of a kernel's arrays are the names of its struct.
#define FASTUNROLL_LAYER \
  arg("layer"), arg("m"), arg("n"), arg("theta"), arg("theta_size"), arg("gain"), arg("beta"), py::kw_only()

void bind_layers(py::module_& module) {
  module.def(
      "end_layer",
      [](int element, const DeviceStream& stream, int64_t batch, const NetworkSpec& spec, int64_t layer, int m, int n,
         Address theta, int theta_size, Address gain, Address beta, Address z, Address step, Address start,
         Address before, Address residual, Address y, Address next_beta, Address x, Address input, Address s,
         Address dual_residual, Address selected) {
        with_element(element, [&](auto zero) {
          using T = decltype(zero);
          return cuda::end_layer<T>(
              stream_of(stream), batch,
              {layer_of<T>(spec, layer, m, n, theta, theta_size, gain, beta), pointer<const T>(z),
               pointer<const T>(step), pointer<const T>(start), pointer<const T>(before), pointer<const T>(residual),
               pointer<const T>(y), pointer<const T>(next_beta), pointer<T>(x), pointer<T>(input), pointer<T>(s),
               pointer<T>(dual_residual), pointer<uint8_t>(selected)});
        });
      },
      arg("element"), arg("stream"), arg("batch"), arg("spec"), FASTUNROLL_LAYER, arg("z"), arg("step"), arg("start"),
      arg("before"), arg("residual"), arg("y"), arg("next_beta"), arg("x"), arg("input"), arg("s"),
      arg("dual_residual"), arg("selected"));
  module.def(
      "prox_gradient",
      [](int element, const DeviceStream& stream, int64_t batch, const NetworkSpec& spec, int64_t layer, int m, int n,
         Address theta, int theta_size, Address gain, Address beta, Address grad_x, Address grad_v, Address next_beta,
         Address x, Address before, Address residual, Address dual_residual, Address selected, Address grad_s,
         Address grad_z, Address grad_theta, Address grad_gain, Address grad_beta, Address grad_next_beta,
         Address from_s, Address from_r) {
        with_element(element, [&](auto zero) {
          using T = decltype(zero);
          using V = cuda::Computed<T>;
          return cuda::prox_gradient<T>(
              stream_of(stream), batch,
              {layer_of<T>(spec, layer, m, n, theta, theta_size, gain, beta), pointer<const T>(grad_x),
               pointer<const T>(grad_v), pointer<const T>(next_beta), pointer<const T>(x), pointer<const T>(before),
               pointer<const T>(residual), pointer<const T>(dual_residual), pointer<const uint8_t>(selected),
               pointer<T>(grad_s), pointer<T>(grad_z), pointer<V>(grad_theta), pointer<V>(grad_gain),
               pointer<V>(grad_beta), pointer<V>(grad_next_beta), pointer<V>(from_s), pointer<V>(from_r)});
        });
      },
      arg("element"), arg("stream"), arg("batch"), arg("spec"), FASTUNROLL_LAYER, arg("grad_x"), arg("grad_v"),
      arg("next_beta"), arg("x"), arg("before"), arg("residual"), arg("dual_residual"), arg("selected"), arg("grad_s"),
      arg("grad_z"), arg("grad_theta"), arg("grad_gain"), arg("grad_beta"), arg("grad_next_beta"), arg("from_s"),
      arg("from_r"));
  module.def(
      "residual_gradient",
      [](int element, const DeviceStream& stream, int64_t batch, int m, int step_size, Address Wz, Address residual,
         Address step, Address from_s, Address from_r, Address grad_s, Address grad_y, Address grad_Av, Address stepped,
         Address grad_step) {
        with_element(element, [&](auto zero) {
          using T = decltype(zero);
          using V = cuda::Computed<T>;
          return cuda::residual_gradient<T>(
              stream_of(stream), batch,
              {m, pointer<const T>(Wz), pointer<const T>(residual), pointer<const T>(step), step_size,
               pointer<const V>(from_s), pointer<const V>(from_r), pointer<T>(grad_s), pointer<T>(grad_y),
               pointer<T>(grad_Av), pointer<T>(stepped), pointer<V>(grad_step)});
        });
      },
      arg("element"), arg("stream"), arg("batch"), py::kw_only(), arg("m"), arg("step_size"), arg("Wz"),
      arg("residual"), arg("step"), arg("from_s"), arg("from_r"), arg("grad_s"), arg("grad_y"), arg("grad_Av"),
      arg("stepped"), arg("grad_step"));
}

// A plan of ops/cuda/kernel_choice.py, read by field.
struct Plan {
  cuda::Precision precision;
  cuda::FusedShape shape;
  explicit Plan(py::handle plan)
      : precision(choice<cuda::Precision>(plan, "precision", {"single", "tf32", "bfloat16"})),
        shape{field<int>(plan, "row_tiles"), field<int>(plan, "blocks"), field<bool>(plan, "weights_in_smem")} {}
};

// The layers of a fused network, with addresses of packed parameters.
struct FusedLayers {
  NetworkSpec spec;
  int m, n;
  Address first, second, step, theta, gain, beta;
  int64_t first_stride, second_stride, step_stride, theta_stride;

  template <class T> cuda::FusedLayers<T> over(int64_t batch) const {
    const auto padded = [](int size) {
      return (size + cuda::fused_padding - 1) / cuda::fused_padding * cuda::fused_padding;
    };
    return {batch,
            int(spec.layers),
            m,
            n,
            padded(m),
            padded(n),
            spec.linear != LinearStep::affine,
            spec.scheme,
            spec.prox,
            int(spec.group),
            pointer<const T>(first),
            pointer<const T>(second),
            first_stride,
            second_stride,
            pointer<const float>(step),
            pointer<const float>(theta),
            step_stride,
            theta_stride,
            pointer<const float>(gain),
            pointer<const float>(beta)};
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
      .def(py::init([](const NetworkSpec& spec, int m, int n, Address first, Address second, Address step,
                       Address theta, Address gain, Address beta, int64_t first_stride, int64_t second_stride,
                       int64_t step_stride, int64_t theta_stride) {
             return FusedLayers{spec,          m,           n,           first, second,
                                step,          theta,       gain,        beta,  first_stride,
                                second_stride, step_stride, theta_stride};
           }),
           arg("spec"), arg("m"), arg("n"), py::kw_only(), arg("first") = 0, arg("second") = 0, arg("step") = 0,
           arg("theta") = 0, arg("gain") = 0, arg("beta") = 0, arg("first_stride") = 0, arg("second_stride") = 0,
           arg("step_stride") = 0, arg("theta_stride") = 0);
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
  module.def(
      "fused_gradient",
      [](const DeviceStream& stream, py::handle plan, const FusedLayers& layers, int64_t batch, bool every_layer,
         Address x, Address x0, Address saved, Address grad, Address grad_z, Address Wz, Address grad_x0,
         Address grad_theta, Address grad_beta, Address grad_gain) {
        const Plan how(plan);
        require_launched(with_stored(how.precision == cuda::Precision::bfloat16, [&](auto zero) {
          using T = decltype(zero);
          const cuda::FusedBackward<T> net = {layers.over<T>(batch),     pointer<const T>(x),
                                              pointer<const T>(x0),      pointer<const T>(saved),
                                              pointer<const T>(grad),    every_layer,
                                              pointer<T>(grad_z),        pointer<T>(Wz),
                                              pointer<T>(grad_x0),       pointer<float>(grad_theta),
                                              pointer<float>(grad_beta), pointer<float>(grad_gain)};
          return cuda::fused_gradient(stream_of(stream), how.precision, how.shape, net);
        }));
      },
      arg("stream"), arg("plan"), arg("layers"), arg("batch"), py::kw_only(), arg("every_layer"), arg("x"), arg("x0"),
      arg("saved"), arg("grad"), arg("grad_z"), arg("Wz"), arg("grad_x0"), arg("grad_theta"), arg("grad_beta"),
      arg("grad_gain"));
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
      arg("stream"), py::kw_only(), arg("from_bfloat16"), arg("to_bfloat16"), arg("arrays"), arg("shape"),
      arg("strides"), arg("out_shape"), arg("out_strides"), arg("out"));
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
