// Whether tensors are still those that something was made of.
#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

using Address = std::uintptr_t;

inline int64_t number_of(PyObject* new_reference) {
  if (!new_reference) throw pybind11::error_already_set();
  const int64_t value = PyLong_AsLongLong(new_reference);
  Py_DECREF(new_reference);
  return value;
}

struct TensorNames {
  PyObject* data_ptr = PyUnicode_InternFromString("data_ptr");
  PyObject* version = PyUnicode_InternFromString("_version");
  static const TensorNames& get() {
    static const TensorNames names;
    return names;
  }
};

inline PyObject* item_of(const pybind11::list& list, size_t i) { return PyList_GET_ITEM(list.ptr(), Py_ssize_t(i)); }
inline int64_t version_of(PyObject* tensor) { return number_of(PyObject_GetAttr(tensor, TensorNames::get().version)); }
inline Address address_of(PyObject* tensor) {
  return Address(number_of(PyObject_CallMethodNoArgs(tensor, TensorNames::get().data_ptr)));
}

inline bool lie_at(const pybind11::list& tensors, const std::vector<Address>& addresses) {
  if (tensors.size() != addresses.size()) return false;
  for (size_t i = 0; i < addresses.size(); ++i)
    if (address_of(item_of(tensors, i)) != addresses[i]) return false;
  return true;
}

// Takes note of tensors, and of the first `versioned` ones as they are. Python's lock must be held throughout.
class Watch {
 public:
  Watch(const pybind11::list& tensors, size_t versioned) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      PyObject* const tensor = item_of(tensors, i);
      watched_.push_back({pybind11::weakref(tensor), i < versioned ? version_of(tensor) : -1});
      addresses_.push_back(address_of(tensor));
    }
  }

  // Whether these are the same objects, at the same addresses, with the same versions.
  bool is_current(const pybind11::list& tensors) const {
    if (!lie_at(tensors, addresses_)) return false;
    for (size_t i = 0; i < watched_.size(); ++i) {
      if (item_of(tensors, i) != referent(watched_[i].tensor.ptr())) return false;
      if (watched_[i].version >= 0 && version_of(item_of(tensors, i)) != watched_[i].version) return false;
    }
    return true;
  }

 private:
  struct Watched {
    pybind11::weakref tensor;
    int64_t version;  // -1: any
  };

  // What a weak reference refers to, to be compared only: it may be gone.
  static const PyObject* referent(PyObject* reference) {
#if PY_VERSION_HEX >= 0x030D0000
    PyObject* found = nullptr;
    if (PyWeakref_GetRef(reference, &found) == 1) Py_DECREF(found);
    return found;
#else
    return PyWeakref_GET_OBJECT(reference);
#endif
  }

  std::vector<Watched> watched_;
  std::vector<Address> addresses_;
};
