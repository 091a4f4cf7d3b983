// Lasso problems from Python.
#include "bind_lasso.h"

#include <pybind11/stl.h>

#include <array>
#include <memory>

#include "addresses.h"
#include "cpu/workspace.h"
#include "fastunroll.h"
#include "interruption.h"

namespace py = pybind11;
using namespace fastunroll;

namespace {

// What is kept for a matrix; the matrix itself is not needed any more.
class BoundDictionary {
 public:
  BoundDictionary(bool is_double, std::array<int64_t, 2> shape, int threads, double ridge, Address a)
      : is_double_(is_double), m_(shape[0]), n_(shape[1]), ridge_(ridge), set_(instruction_set()) {
    with_type(is_double_, [&](auto zero) {
      using T = decltype(zero);
      Dictionary<T> d = dictionary<T>(threads);
      d.a = pointer<const T>(a);
      prepared_ = std::make_unique<Block>(size_t(dictionary_size(d)) * sizeof(T));
      d.prepared = reinterpret_cast<T*>(prepared_->data());
      dictionary_prepare(d);
    });
  }

  // Whether it was made for the instruction set in use.
  bool is_current() const { return set_ == instruction_set(); }

  // Returns how many samples have not converged.
  int64_t solve(int64_t batch, int threads, bool nonnegative, double tol, int64_t most_steps,
                const std::array<Address, 4>& given, const std::array<Address, 3>& out) const {
    int64_t left = 0;
    interruptibly([&] {
      with_type(is_double_, [&](auto zero) {
        using T = decltype(zero);
        lasso<T>({dictionary<T>(threads), batch, threads, nonnegative, T(tol), most_steps, pointer<const T>(given[0]),
                  pointer<const T>(given[1]), pointer<const T>(given[2]), pointer<const T>(given[3]),
                  Interruption::happened, pointer<T>(out[0]), pointer<T>(out[1]), pointer<int64_t>(out[2])});
        for (int64_t i = 0; i < batch; ++i) left += !(pointer<T>(out[1])[i] <= T(tol));
      });
    });
    return left;
  }

 private:
  template <class T> Dictionary<T> dictionary(int threads) const {
    return {m_, n_, threads, T(ridge_), nullptr, prepared_ ? reinterpret_cast<T*>(prepared_->data()) : nullptr};
  }

  bool is_double_;
  int64_t m_, n_;
  double ridge_;
  const char* set_;
  std::unique_ptr<Block> prepared_;
};

}  // namespace

void bind_lasso(py::module_& module) {
  py::class_<BoundDictionary>(module, "Dictionary")
      .def(py::init<bool, std::array<int64_t, 2>, int, double, Address>())
      .def("is_current", &BoundDictionary::is_current)
      .def("solve", &BoundDictionary::solve);
}
