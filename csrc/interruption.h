#pragma once
#include <pybind11/pybind11.h>

#include <chrono>

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
