// The kernels of a device, for Python: addresses of its tensors, a stream, and an error if a launch is refused.
#include "bind_cuda.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "fastunroll_cuda.h"

namespace py = pybind11;
using namespace fastunroll;

namespace {

using Address = std::uintptr_t;
using Where = std::pair<int, Address>;  // device and stream

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

// Calls with a zero of the element type, in the order of ops/device.py.
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

cuda::Stream stream_of(const Where& where) { return {where.first, pointer<void>(where.second)}; }

using LayerNumbers = std::array<int64_t, 7>;
using LayerArrays = std::array<Address, 3>;

template <class T> cuda::Layer<T> layer_of(const LayerNumbers& n, const LayerArrays& a) {
  return {int(n[0]),
          int(n[1]),
          int(n[2]),
          int(n[3]),
          Shrinkage(n[4]),
          cuda::State(n[5]),
          pointer<const T>(a[0]),
          int(n[6]),
          pointer<const T>(a[1]),
          pointer<const T>(a[2])};
}

void bind_layers(py::module_& module) {
  module.def("end_layer", [](int element, const Where& where, int64_t batch, const LayerNumbers& numbers,
                             const LayerArrays& arrays, const std::array<Address, 12>& p) {
    with_element(element, [&](auto zero) {
      using T = decltype(zero);
      return cuda::end_layer<T>(
          stream_of(where), batch,
          {layer_of<T>(numbers, arrays), pointer<const T>(p[0]), pointer<const T>(p[1]), pointer<const T>(p[2]),
           pointer<const T>(p[3]), pointer<const T>(p[4]), pointer<const T>(p[5]), pointer<const T>(p[6]),
           pointer<T>(p[7]), pointer<T>(p[8]), pointer<T>(p[9]), pointer<T>(p[10]), pointer<uint8_t>(p[11])});
    });
  });
  module.def("prox_gradient", [](int element, const Where& where, int64_t batch, const LayerNumbers& numbers,
                                 const LayerArrays& arrays, const std::array<Address, 16>& p) {
    with_element(element, [&](auto zero) {
      using T = decltype(zero);
      using V = cuda::Computed<T>;
      return cuda::prox_gradient<T>(
          stream_of(where), batch,
          {layer_of<T>(numbers, arrays), pointer<const T>(p[0]), pointer<const T>(p[1]), pointer<const T>(p[2]),
           pointer<const T>(p[3]), pointer<const T>(p[4]), pointer<const T>(p[5]), pointer<const T>(p[6]),
           pointer<const uint8_t>(p[7]), pointer<T>(p[8]), pointer<T>(p[9]), pointer<V>(p[10]), pointer<V>(p[11]),
           pointer<V>(p[12]), pointer<V>(p[13]), pointer<V>(p[14]), pointer<V>(p[15])});
    });
  });
  module.def("residual_gradient", [](int element, const Where& where, int64_t batch, int m, int step_size,
                                     const std::array<Address, 10>& p) {
    with_element(element, [&](auto zero) {
      using T = decltype(zero);
      using V = cuda::Computed<T>;
      return cuda::residual_gradient<T>(stream_of(where), batch,
                                        {m, pointer<const T>(p[0]), pointer<const T>(p[1]), pointer<const T>(p[2]),
                                         step_size, pointer<const V>(p[3]), pointer<const V>(p[4]), pointer<T>(p[5]),
                                         pointer<T>(p[6]), pointer<T>(p[7]), pointer<T>(p[8]), pointer<V>(p[9])});
    });
  });
}

// Sizes and choices, strides, and addresses, in the order of the struct.
template <class T>
cuda::FusedLayers<T> fused_of(const std::array<int64_t, 10>& n, const std::array<int64_t, 4>& strides,
                              const std::array<Address, 6>& p) {
  return {n[0],
          int(n[1]),
          int(n[2]),
          int(n[3]),
          int(n[4]),
          int(n[5]),
          n[6] != 0,
          cuda::State(n[7]),
          Shrinkage(n[8]),
          int(n[9]),
          pointer<const T>(p[0]),
          pointer<const T>(p[1]),
          strides[0],
          strides[1],
          pointer<const float>(p[2]),
          pointer<const float>(p[3]),
          strides[2],
          strides[3],
          pointer<const float>(p[4]),
          pointer<const float>(p[5])};
}

using Shape = std::tuple<int, int, bool>;

cuda::FusedShape shape_of(const Shape& s) { return {std::get<0>(s), std::get<1>(s), std::get<2>(s)}; }

// Calls with a zero of float or Bfloat16.
template <class Call> const char* with_stored(bool half, const Call& call) {
  return half ? call(cuda::Bfloat16()) : call(0.0f);
}

void bind_fused(py::module_& module) {
  module.attr("fused_padding") = cuda::fused_padding;
  module.def("fused_room", [](const Where& where, bool gradient, int precision, const Shape& shape,
                              const std::array<int64_t, 10>& numbers) {
    const cuda::FusedShape how = shape_of(shape);
    const auto which = cuda::Precision(precision);
    int room = 0;
    with_stored(which == cuda::Precision::bfloat16, [&](auto zero) -> const char* {
      using T = decltype(zero);
      const cuda::FusedLayers<T> net = fused_of<T>(numbers, {}, {});
      room = gradient ? cuda::fused_gradient_room(stream_of(where), which, how, net)
                      : cuda::fused_room(stream_of(where), which, how, net);
      return nullptr;
    });
    return room;
  });
  module.attr("fused_warps") = cuda::fused_warps;
  module.def("fused_network", [](const Where& where, int precision, const Shape& shape,
                                 const std::array<int64_t, 10>& numbers, const std::array<int64_t, 4>& strides,
                                 const std::array<Address, 6>& parameters, const std::array<Address, 7>& p) {
    const auto which = cuda::Precision(precision);
    require_launched(with_stored(which == cuda::Precision::bfloat16, [&](auto zero) {
      using T = decltype(zero);
      const cuda::Fused<T> net = {fused_of<T>(numbers, strides, parameters),
                                  pointer<const T>(p[0]),
                                  pointer<const T>(p[1]),
                                  pointer<const T>(p[2]),
                                  pointer<T>(p[3]),
                                  pointer<T>(p[4]),
                                  pointer<T>(p[5]),
                                  pointer<T>(p[6])};
      return cuda::fused_network(stream_of(where), which, shape_of(shape), net);
    }));
  });
  module.def("fused_gradient",
             [](const Where& where, int precision, const Shape& shape, const std::array<int64_t, 10>& numbers,
                const std::array<int64_t, 4>& strides, const std::array<Address, 6>& parameters, bool every_layer,
                const std::array<Address, 10>& p) {
               const auto which = cuda::Precision(precision);
               require_launched(with_stored(which == cuda::Precision::bfloat16, [&](auto zero) {
                 using T = decltype(zero);
                 const cuda::FusedBackward<T> net = {fused_of<T>(numbers, strides, parameters),
                                                     pointer<const T>(p[0]),
                                                     pointer<const T>(p[1]),
                                                     pointer<const T>(p[2]),
                                                     pointer<const T>(p[3]),
                                                     every_layer,
                                                     pointer<T>(p[4]),
                                                     pointer<T>(p[5]),
                                                     pointer<T>(p[6]),
                                                     pointer<float>(p[7]),
                                                     pointer<float>(p[8]),
                                                     pointer<float>(p[9])};
                 return cuda::fused_gradient(stream_of(where), which, shape_of(shape), net);
               }));
             });
  // Arrays of equal shape, laid out one after the other: shape (rows, columns), steps between these, padded shape, and
  // strides between layers and rows.
  module.def("pack", [](const Where& where, bool from_half, bool to_half, const std::vector<Address>& from,
                        const std::array<int64_t, 8>& n, Address out) {
    require_launched(with_stored(from_half, [&](auto in) {
      return with_stored(to_half, [&](auto of) {
        using From = decltype(in);
        using To = decltype(of);
        cuda::Pack<From, To> p = {};
        const size_t most = size_t(p.most);
        const char* problem = nullptr;
        for (size_t first = 0; first < from.size() && !problem; first += most) {
          const size_t count = std::min(most, from.size() - first);
          for (size_t l = 0; l < count; ++l) p.from[l] = pointer<const From>(from[first + l]);
          p.layers = int(count);
          p.rows = int(n[0]);
          p.columns = int(n[1]);
          p.row_step = n[2];
          p.column_step = n[3];
          p.padded_rows = int(n[4]);
          p.padded_columns = int(n[5]);
          p.layer_stride = n[6];
          p.row_stride = n[7];
          p.out = pointer<To>(out) + int64_t(first) * n[6];
          problem = cuda::pack(stream_of(where), p);
        }
        return problem;
      });
    }));
  });
}

void bind_soft_threshold(py::module_& module) {
  module.def("soft_threshold", [](int element, const Where& where, const std::array<int64_t, 3>& shape, bool complex,
                                  Address x, Address theta, Address out) {
    with_element(element, [&](auto zero) {
      using T = decltype(zero);
      return cuda::soft_threshold<T>(stream_of(where), {shape[0], shape[1], shape[2], 1, complex, pointer<const T>(x),
                                                        pointer<const T>(theta), pointer<T>(out)});
    });
  });
  module.def("soft_threshold_gradient", [](int element, const Where& where, const std::array<int64_t, 3>& shape,
                                           bool complex, Address out, Address theta, Address grad, Address grad_x,
                                           Address grad_theta) {
    with_element(element, [&](auto zero) {
      using T = decltype(zero);
      return cuda::soft_threshold_gradient<T>(
          stream_of(where), {shape[0], shape[1], shape[2], 1, complex, pointer<const T>(out), pointer<const T>(theta),
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
