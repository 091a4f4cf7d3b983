#pragma once
#include <pybind11/pybind11.h>

#include <chrono>
#include <new>

// Asks the interpreter now and then whether Ctrl-C was pressed; the error it raises is left for the caller to throw.
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

// Does `work`, which gives up the interpreter's lock; throws what Ctrl-C raised meanwhile, or that memory is short.
template <class Work> void interruptibly(const Work& work) {
  Interruption watch;
  try {
    work();
  } catch (const std::bad_alloc&) {
    PyErr_SetString(PyExc_MemoryError, "there is no memory for the work of this call: use fewer samples at a time");
  }
  if (PyErr_Occurred()) throw pybind11::error_already_set();
}
