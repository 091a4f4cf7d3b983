#include "bind_spectral.h"

#include <pybind11/stl.h>

#include <array>
#include <cstring>
#include <utility>

#include "interruption.h"
#include "kept.h"
#include "packed_spectrum.h"
#include "plain_tensor.h"
#include "results.h"

namespace py = pybind11;
using namespace fastunroll;

namespace {

// tensors: x, z, maps, y. maps: coils, number of sets of maps, images in a row with the same set. Does nothing and
// returns false if d was packed for another instruction set.
bool apply(const PackedSpectrum& d, int64_t batch, int threads, bool adjoint, int64_t repeat,
           std::array<int64_t, 3> maps, std::array<Address, 4> tensors) {
  if (!d.is_current()) return false;
  interruptibly([&] {
    with_type(d.is_double(), [&](auto zero) {
      using T = decltype(zero);
      fourier_filter<T>({d.get<T>(), batch, threads, adjoint, repeat, pointer<const T>(tensors[0]),
                         pointer<const T>(tensors[1]), pointer<const T>(tensors[2]), maps[0], maps[1], maps[2],
                         Interruption::happened, pointer<T>(tensors[3])});
    });
  });
  return true;
}

// The values of pictures, rows and values of a row.
using Shape = std::array<int64_t, 2>;

// Work on the grid of d, which is larger than the pictures: a copy of them with zeros after them goes through it.
template <class T> void filter_on_grid(FourierFilter<T> p, Shape own, Shape grid) {
  const int64_t count = p.batch * grid[0] * grid[1];
  Block memory = reused_block(size_t(2 * count) * sizeof(T));
  T* const copy = reinterpret_cast<T*>(memory.data());
  const T *from = std::exchange(p.x, copy), *z = std::exchange(p.z, nullptr), *added = std::exchange(p.added, nullptr);
  T* to = std::exchange(p.y, copy + count);
  std::memset(copy, 0, size_t(count) * sizeof(T));
  for (int64_t row = 0; row < p.batch * own[0]; ++row, from += own[1], added = added ? added + own[1] : added) {
    T* const of_row = copy + (row / own[0] * grid[0] + row % own[0]) * grid[1];
    for (int64_t i = 0; i < own[1]; ++i) of_row[i] = added ? added[i] + p.scale * from[i] : from[i];
  }
  fourier_filter<T>(p);
  for (int64_t row = 0; row < p.batch * own[0]; ++row, to += own[1], z = z ? z + own[1] : z) {
    const T* const found = p.y + (row / own[0] * grid[0] + row % own[0]) * grid[1];
    for (int64_t i = 0; i < own[1]; ++i) to[i] = z ? found[i] - z[i] : found[i];
  }
  give_back(std::move(memory));
}

bool ends_with(const PlainTensor& t, std::array<int64_t, 2> shape) {
  const size_t dimensions = size_t(t.dimensions);
  return dimensions >= 2 && t.shape[dimensions - 2] == shape[0] && t.shape[dimensions - 1] == shape[1];
}

// The same for tensors that arrive as they are: pictures (..., rows, columns), on whose grid or on a larger one d is,
// z or None, maps (coils, rows, columns) or None, and pictures to which x is added after `scale`, or None. None, and
// nothing is done, where one is not plain or they do not fit each other, or with `records` where one requires a
// gradient; on a larger grid where there are many pictures, which soon leave the cache; and where the result is huge.
py::object filter(const PackedSpectrum& d, std::array<int64_t, 2> shape, py::handle x, py::handle z, py::handle maps,
                  bool adjoint, int64_t repeat, int threads, bool records, py::handle added, double scale) {
  constexpr int64_t most_on_grid = int64_t(1) << 18;
  const PlainTensor from(x);
  const Spectrum<float> of = d.get<float>();
  const bool is_larger = of.rows != shape[0] || of.columns != shape[1];
  if (!d.is_current() || !from.is_plain || from.is_double != d.is_double() || from.is_complex == of.real_images ||
      !ends_with(from, shape) || from.count() == 0 || from.bytes() >= huge_result || (records && from.requires_grad))
    return py::none();
  const int64_t batch = from.count() / (shape[0] * shape[1]), parts = of.real_images ? 1 : 2;
  Address minus = 0, sensitivities = 0, plus = 0;
  int64_t coils = 0;
  if (!z.is_none()) {
    const PlainTensor other(z);
    if (!other.is_like(from) || (records && other.requires_grad)) return py::none();
    minus = other.address;
  }
  if (!maps.is_none()) {
    const PlainTensor other(maps);
    if (!other.is_plain || other.dimensions != 3 || !ends_with(other, shape) || !other.is_complex || of.real_images ||
        of.complex || other.is_double != d.is_double() || (records && other.requires_grad) || is_larger)
      return py::none();
    sensitivities = other.address;
    coils = other.shape[0];
  }
  if (!added.is_none()) {
    const PlainTensor other(added);
    if (!other.is_like(from) || of.complex || coils > 0 || (records && other.requires_grad)) return py::none();
    plus = other.address;
  }
  if (is_larger && batch * of.rows * of.columns > most_on_grid) return py::none();
  py::object y = result_like(x, from);
  const Address to = address_of(y.ptr());
  interruptibly([&] {
    with_type(d.is_double(), [&](auto zero) {
      using T = decltype(zero);
      const FourierFilter<T> p{d.get<T>(),
                               batch,
                               threads,
                               adjoint,
                               repeat,
                               pointer<const T>(from.address),
                               pointer<const T>(minus),
                               pointer<const T>(sensitivities),
                               coils,
                               1,
                               1,
                               Interruption::happened,
                               pointer<T>(to),
                               pointer<const T>(plus),
                               T(scale)};
      if (is_larger)
        filter_on_grid<T>(p, {shape[0], parts * shape[1]}, {of.rows, parts * of.columns});
      else
        fourier_filter<T>(p);
    });
  });
  return y;
}

}  // namespace

void bind_spectral(py::module_& module) {
  py::class_<PackedSpectrum>(module, "PackedSpectrum")
      .def(py::init<bool, std::array<int64_t, 3>, bool, bool, bool, int, Address>())
      .def("apply", apply)
      .def("filter", [](const PackedSpectrum& d, const Monitor& monitor, py::handle tensor,
                        std::array<int64_t, 2> shape, py::handle x, py::handle z, py::handle maps, bool adjoint,
                        int64_t repeat, int threads, bool records, py::handle added, double scale) {
        return of_kept(monitor, tensor, records,
                       [&] { return filter(d, shape, x, z, maps, adjoint, repeat, threads, records, added, scale); });
      });
}
