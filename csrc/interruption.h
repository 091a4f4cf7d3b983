#pragma once
#include <pybind11/pybind11.h>

#include <chrono>
#include <new>

// Asks the interpreter from time to time whether Ctrl-C was pressed. The caller throws the error that it sets.
class Interruption {
 public:
  Interruption() { asked = Clock::now(); }
  static bool happened() {
    const Clock::time_point now = Clock::now();
    if (now - asked < std::chrono::milliseconds(50)) return false;
    asked = now;
    pybind11::gil_scoped_acquire acquire;
    return PyErr_CheckSignals() != 0;
  }

 private:
  using Clock = std::chrono::steady_clock;
  inline static thread_local Clock::time_point asked;
};

// Does `work`, which releases the lock of the interpreter. Throws the error of Ctrl-C, or that memory is short.
template <class Work> void interruptibly(const Work& work) {
  Interruption watch;
  try {
    work();
  } catch (const std::bad_alloc&) {
    PyErr_SetString(PyExc_MemoryError, "there is no memory for the work of this call: use fewer samples at a time");
  }
  if (PyErr_Occurred()) throw pybind11::error_already_set();
}
