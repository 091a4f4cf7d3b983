#include "plain_tensor.h"

namespace py = pybind11;

namespace fastunroll {
namespace {

PyObject* word(const char* text) { return PyUnicode_InternFromString(text); }

// What a look at a tensor asks for. These objects live as long as PyTorch.
struct Torch {
  PyObject *tensor, *parameter;
  PyObject* forward_mode;  // the names of its module
  std::array<PyObject*, 4> types;
  std::array<PyObject*, 4> watches;  // false or 0 where nothing watches
  PyObject* current_level = word("_current_level");
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
    forward_mode = py::object(py::module_::import("torch.autograd.forward_ad").attr("__dict__")).release().ptr();
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

bool is_direct() {
  const Torch& torch = Torch::get();
  PyObject* const level = PyDict_GetItemWithError(torch.forward_mode, torch.current_level);
  if (!level || PyLong_AsLong(level) >= 0) {
    if (PyErr_Occurred()) throw py::error_already_set();
    return false;
  }
  return !is_watched();
}

bool requires_grad(py::handle tensor) {
  const int found = answer(PyObject_GetAttr(tensor.ptr(), Torch::get().requires_grad));
  if (found < 0) throw py::error_already_set();
  return found == 1;
}

}  // namespace fastunroll
