#include "plain_tensor.h"

namespace py = pybind11;

namespace fastunroll {
namespace {

PyObject* word(const char* text) { return PyUnicode_InternFromString(text); }

// What a look at a tensor asks for. These objects live as long as PyTorch.
struct Torch {
  PyObject *tensor, *parameter, *empty_like, *from_dlpack;
  std::array<PyObject*, 4> types;
  std::array<PyObject*, 4> watches;  // false or 0 where nothing watches
  PyObject* dtype = word("dtype");
  PyObject* is_cpu = word("is_cpu");
  PyObject* requires_grad = word("requires_grad");
  PyObject* shape = word("shape");
  PyObject* is_contiguous = word("is_contiguous");
  PyObject* is_neg = word("is_neg");
  PyObject* is_conj = word("is_conj");
  PyObject* data_ptr = word("data_ptr");

  Torch() {
    const py::module_ torch = py::module_::import("torch");
    tensor = py::object(torch.attr("Tensor")).release().ptr();
    parameter = py::object(torch.attr("nn").attr("Parameter")).release().ptr();
    empty_like = py::object(torch.attr("empty_like")).release().ptr();
    from_dlpack = py::object(py::module_::import("torch.utils.dlpack").attr("from_dlpack")).release().ptr();
    const std::array<const char*, 4> names = {"float32", "float64", "complex64", "complex128"};
    for (size_t i = 0; i < names.size(); ++i) types[i] = py::object(torch.attr(names[i])).release().ptr();
    const std::array<const char*, 4> questions = {"_is_tracing", "_are_functorch_transforms_active",
                                                  "_len_torch_dispatch_stack", "_len_torch_function_stack"};
    for (size_t i = 0; i < questions.size(); ++i)
      watches[i] = py::object(torch.attr("_C").attr(questions[i])).release().ptr();
  }

  // Without a guard, for which a thread would wait with Python's lock: at worst two threads make it, and one is left.
  static const Torch& get() {
    static const Torch* known = nullptr;
    if (!known) known = new Torch;
    return *known;
  }
};

// 1 for True, 0 for anything else, -1 after an error.
int answer(PyObject* new_reference) {
  if (!new_reference) return -1;
  Py_DECREF(new_reference);
  return new_reference == Py_True;  // True is immortal
}

bool read_shape(PyObject* tensor, PlainTensor& found) {
  const py::object shape = py::reinterpret_steal<py::object>(PyObject_GetAttr(tensor, Torch::get().shape));
  if (!shape || !PyTuple_Check(shape.ptr()) || PyTuple_GET_SIZE(shape.ptr()) > PlainTensor::most_dimensions)
    return false;
  found.dimensions = int(PyTuple_GET_SIZE(shape.ptr()));
  for (int i = 0; i < found.dimensions; ++i) {
    found.shape[size_t(i)] = PyLong_AsLongLong(PyTuple_GET_ITEM(shape.ptr(), i));
    if (found.shape[size_t(i)] < 0) return false;  // no number, where PyTorch traces
  }
  return true;
}

}  // namespace

PlainTensor::PlainTensor(py::handle object) {
  const auto* const type = reinterpret_cast<PyObject*>(Py_TYPE(object.ptr()));
  if (type != Torch::get().tensor && type != Torch::get().parameter) return;
  is_plain = read(object.ptr());
  if (PyErr_Occurred()) PyErr_Clear();  // sparse, nested and hidden tensors have no layout, shape or address
}

bool PlainTensor::read(PyObject* tensor) {
  const Torch& torch = Torch::get();
  const py::object dtype = py::reinterpret_steal<py::object>(PyObject_GetAttr(tensor, torch.dtype));
  size_t type = 0;
  while (type < torch.types.size() && torch.types[type] != dtype.ptr()) ++type;
  if (type == torch.types.size()) return false;
  is_double = type % 2 == 1;
  is_complex = type >= 2;
  if (answer(PyObject_GetAttr(tensor, torch.is_cpu)) != 1) return false;
  if (!read_shape(tensor, *this)) return false;
  if (answer(PyObject_CallMethodNoArgs(tensor, torch.is_contiguous)) != 1) return false;
  if (answer(PyObject_CallMethodNoArgs(tensor, torch.is_neg)) != 0) return false;
  if (is_complex && answer(PyObject_CallMethodNoArgs(tensor, torch.is_conj)) != 0) return false;
  requires_grad = answer(PyObject_GetAttr(tensor, torch.requires_grad)) != 0;
  const py::object at = py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(tensor, torch.data_ptr));
  if (!at) return false;
  address = std::uintptr_t(PyLong_AsUnsignedLongLong(at.ptr()));
  return address != 0 || count() == 0;  // zeros that PyTorch has not written have no address
}

bool PlainTensor::is_like(const PlainTensor& other) const {
  return is_plain && other.is_plain && is_double == other.is_double && is_complex == other.is_complex &&
         dimensions == other.dimensions && shape == other.shape;
}

int64_t PlainTensor::count() const {
  int64_t count = 1;
  for (int i = 0; i < dimensions; ++i) count *= shape[size_t(i)];
  return count;
}

size_t PlainTensor::bytes() const {
  return size_t(count()) * (is_double ? sizeof(double) : sizeof(float)) * (is_complex ? 2 : 1);
}

bool is_watched() {
  const Torch& torch = Torch::get();
  for (PyObject* const question : torch.watches) {
    PyObject* const found = PyObject_CallNoArgs(question);
    if (!found) throw py::error_already_set();
    const bool is_nothing = found == Py_False || (PyLong_CheckExact(found) && PyLong_AsLong(found) == 0);
    Py_DECREF(found);
    if (!is_nothing) return true;
  }
  return false;
}

py::object empty_like(py::handle tensor) {
  PyObject* const made = PyObject_CallOneArg(Torch::get().empty_like, tensor.ptr());
  if (!made) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(made);
}

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

py::object result_like(py::handle tensor, const PlainTensor& like) {
  if (like.bytes() < reused_from) return empty_like(tensor);
  const py::object capsule = capsule_of(
      empty_tensor(like.is_double, like.is_complex, {like.shape.data(), like.shape.data() + like.dimensions}));
  PyObject* const made = PyObject_CallOneArg(Torch::get().from_dlpack, capsule.ptr());
  if (!made) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(made);
}

}  // namespace fastunroll
