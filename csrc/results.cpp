#include "results.h"

#include <new>
#include <vector>

namespace py = pybind11;

namespace fastunroll {
namespace {

// Both live as long as PyTorch.
struct Makers {
  PyObject *empty_like, *from_dlpack;

  Makers() {
    const py::module_ torch = py::module_::import("torch");
    empty_like = py::object(torch.attr("empty_like")).release().ptr();
    from_dlpack = py::object(torch.attr("_C").attr("_from_dlpack")).release().ptr();
  }

  // Without a guard, as that of plain_tensor.cpp.
  static const Makers& get() {
    static const Makers* known = nullptr;
    if (!known) known = new Makers;
    return *known;
  }
};

py::object made_by(PyObject* maker, py::handle argument) {
  PyObject* const made = PyObject_CallOneArg(maker, argument.ptr());
  if (!made) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(made);
}

}  // namespace

py::object capsule_of(dlpack::ManagedTensor* tensor) {
  PyObject* const capsule = PyCapsule_New(tensor, "dltensor", [](PyObject* c) {
    if (!PyCapsule_IsValid(c, "dltensor")) return;
    auto* const left = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(c, "dltensor"));
    left->deleter(left);
  });
  if (!capsule) {
    tensor->deleter(tensor);
    throw py::error_already_set();
  }
  return py::reinterpret_steal<py::object>(capsule);
}

py::object result_like(py::handle like, const PlainTensor& look, size_t large) {
  const size_t bytes = look.bytes();
  if (bytes >= large && bytes < huge_result) {
    try {
      const std::vector<int64_t> shape(look.shape.data(), look.shape.data() + look.dimensions);
      return made_by(Makers::get().from_dlpack, capsule_of(empty_tensor(look.is_double, look.is_complex, shape)));
    } catch (const std::bad_alloc&) {  // PyTorch says so, with the size
    }
  }
  return made_by(Makers::get().empty_like, like);
}

}  // namespace fastunroll
