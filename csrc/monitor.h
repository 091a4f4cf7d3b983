// Monitors of tensors: whether they are still the same objects, with the same values.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
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
  PyObject* is_contiguous = PyUnicode_InternFromString("is_contiguous");
  PyObject* is_neg = PyUnicode_InternFromString("is_neg");
  PyObject* is_conj = PyUnicode_InternFromString("is_conj");
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

inline bool answer_of(PyObject* tensor, PyObject* method) {
  PyObject* const answer = PyObject_CallMethodNoArgs(tensor, method);
  if (!answer) throw pybind11::error_already_set();
  Py_DECREF(answer);  // True and False are immortal
  return answer == Py_True;
}

// Whether the memory of a tensor holds its values, row after row. Only setting .data can change that.
inline bool lies_plainly(PyObject* tensor) {
  const TensorNames& names = TensorNames::get();
  return answer_of(tensor, names.is_contiguous) && !answer_of(tensor, names.is_neg) &&
         !answer_of(tensor, names.is_conj);
}

// A hash of values of a matrix in memory.
//
// The hash covers a small matrix, and 8 pieces of 64 bytes of a large one: at columns that follow the golden ratio,
// and at rows that are spread over the matrix and fall into every residue class modulo 2, 3 and 4. An edit of a
// quarter of the rows or of the columns, or of every second, third or fourth of them, therefore changes a piece.
class Sample {
 public:
  Sample(int64_t rows, int64_t row_bytes) : rows_(rows), row_bytes_(row_bytes) {}

  bool is_matrix() const { return rows_ > 1; }

  uint64_t hash(const char* data) const {
    if (rows_ * row_bytes_ <= whole) return hash_of(data, size_t(rows_ * row_bytes_), start);
    uint64_t hash = start;
    for (int64_t i = 0; i < pieces; ++i) hash = hash_of(data + offset(i), piece, hash);
    return hash;
  }

 private:
  static constexpr int64_t whole = 4096, pieces = 8, piece = 64;
  static constexpr uint64_t start = 14695981039346656037u;

  int64_t offset(int64_t i) const {
    constexpr int64_t cycle = 12, stride = 5;  // 0, 5, 10, 3, 8, 1, 6, 11: every class modulo 2, 3 and 4
    constexpr int64_t golden[pieces] = {0, 618, 236, 854, 472, 90, 708, 326};
    const int64_t base = i * rows_ / pieces, turned = base - base % cycle + i * stride % cycle;
    const int64_t row = turned < rows_ ? turned : base;
    const int64_t column = golden[i] * std::max<int64_t>(0, row_bytes_ - piece) / 854 / 8 * 8;
    return std::min(row * row_bytes_ + column, rows_ * row_bytes_ - piece);
  }

  static uint64_t hash_of(const char* data, size_t bytes, uint64_t hash) {
    size_t i = 0;
    for (; i + 8 <= bytes; i += 8) hash = mixed(hash, data + i, 8);
    return i < bytes ? mixed(hash, data + i, bytes - i) : hash;
  }
  static uint64_t mixed(uint64_t hash, const char* data, size_t bytes) {
    uint64_t word = 0;
    std::memcpy(&word, data, bytes);
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 29;
  }

  int64_t rows_, row_bytes_;
};

// Records the identity and values of tensors. Each has (rows, bytes of a row), or (0, 0) if the processor cannot read
// it.
//
// Values must be made of the tensors after their monitor, which then notices a change that happens meanwhile. The
// caller holds the lock of Python.
class Monitor {
 public:
  Monitor(const pybind11::list& tensors, const std::vector<std::pair<int64_t, int64_t>>& shapes) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      PyObject* const tensor = item_of(tensors, i);
      const Sample sample(shapes[i].first, shapes[i].second);
      const int64_t version = version_of(tensor);
      const Address address = address_of(tensor);
      monitored_.push_back(
          {pybind11::weakref(tensor), address, version, sample, sample.hash(reinterpret_cast<const char*>(address))});
    }
  }

  // Whether these are the same objects at the same addresses, with any values. At first all tensors are contiguous.
  bool is_same(const pybind11::list& tensors) const {
    if (tensors.size() != monitored_.size()) return false;
    for (size_t i = 0; i < monitored_.size(); ++i)
      if (item_of(tensors, i) != referent(monitored_[i].tensor.ptr())) return false;
    for (size_t i = 0; i < monitored_.size(); ++i)
      if (address_of(item_of(tensors, i)) != monitored_[i].address) return false;
    for (size_t i = 0; i < monitored_.size(); ++i)
      if (monitored_[i].sample.is_matrix() && !lies_plainly(item_of(tensors, i))) return false;
    return true;
  }

  // Whether, besides, their version counters and the samples of their values are the same.
  bool is_current(const pybind11::list& tensors) const {
    if (!is_same(tensors)) return false;
    for (size_t i = 0; i < monitored_.size(); ++i)
      if (version_of(item_of(tensors, i)) != monitored_[i].version) return false;
    for (const Monitored& w : monitored_)
      if (w.sample.hash(reinterpret_cast<const char*>(w.address)) != w.hash) return false;
    return true;
  }

 private:
  struct Monitored {
    pybind11::weakref tensor;
    Address address;
    int64_t version;
    Sample sample;
    uint64_t hash;
  };

  // The object of a weak reference, only to compare it: it may be gone.
  static const PyObject* referent(PyObject* reference) {
#if PY_VERSION_HEX >= 0x030D0000
    PyObject* found = nullptr;
    if (PyWeakref_GetRef(reference, &found) == 1) Py_DECREF(found);
    return found;
#else
    return PyWeakref_GET_OBJECT(reference);
#endif
  }

  std::vector<Monitored> monitored_;
};
