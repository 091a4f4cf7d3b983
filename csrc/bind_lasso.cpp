// Lasso problems from Python.
#include "bind_lasso.h"

#include <pybind11/stl.h>

#include <array>
#include <memory>
#include <mutex>
#include <utility>

#include "addresses.h"
#include "cpu/workspace.h"
#include "fastunroll.h"
#include "interruption.h"

namespace py = pybind11;
using namespace fastunroll;

namespace {

// A prepared matrix; the matrix itself is not needed any more.
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
  int64_t solve(int64_t batch, int threads, bool nonnegative, double tol, int64_t max_steps,
                const std::array<Address, 4>& given, const std::array<Address, 3>& out) const {
    int64_t left = 0;
    interruptibly([&] {
      with_type(is_double_, [&](auto zero) {
        using T = decltype(zero);
        lasso<T>({dictionary<T>(threads), batch, threads, nonnegative, T(tol), max_steps, pointer<const T>(given[0]),
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

// Lasso problems of a matrix whose columns are read in place: the caller keeps the matrix.
class BoundColumns {
 public:
  // at: values; of a sparse matrix also where columns begin, and the row of each value. strides: of rows and columns.
  BoundColumns(bool is_double, std::array<int64_t, 2> shape, double ridge, std::array<Address, 3> at,
               std::array<int64_t, 2> strides, bool wide)
      : is_double_(is_double), shape_(shape), ridge_(ridge), at_(at), strides_(strides), wide_(wide) {}

  // Returns how many samples have not converged; -1 where a working set would have more than `max_columns`.
  int64_t solve(int64_t batch, int threads, bool nonnegative, double tol, int64_t max_steps, int64_t max_columns,
                const std::array<Address, 4>& given, const std::array<Address, 3>& out) {
    std::unique_ptr<ColumnStore> store = take();
    bool crowded = false;
    int64_t left = 0;
    interruptibly([&] {
      with_type(is_double_, [&](auto zero) {
        using T = decltype(zero);
        const Columns<T> a{shape_[0],
                           shape_[1],
                           pointer<const T>(at_[0]),
                           strides_[0],
                           strides_[1],
                           pointer<const void>(at_[1]),
                           pointer<const void>(at_[2]),
                           wide_};
        lasso_columns<T>({a, ridge_, store.get(), batch, threads, nonnegative, tol, max_steps, max_columns,
                          pointer<const T>(given[0]), pointer<const T>(given[1]), pointer<const T>(given[2]),
                          pointer<const T>(given[3]), Interruption::happened, pointer<T>(out[0]), pointer<T>(out[1]),
                          pointer<int64_t>(out[2]), &crowded});
        for (int64_t i = 0; !crowded && i < batch; ++i) left += !(pointer<T>(out[1])[i] <= T(tol));
      });
    });
    if (!crowded) keep(std::move(store));
    return crowded ? -1 : left;
  }

 private:
  // The store of earlier calls, if no call uses it now.
  std::unique_ptr<ColumnStore> take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const char* const set = instruction_set();  // which may round sums differently
    if (set != set_) kept_.reset();
    set_ = set;
    return kept_ ? std::move(kept_) : std::make_unique<ColumnStore>();
  }
  void keep(std::unique_ptr<ColumnStore> store) {
    constexpr int64_t most = int64_t(256) << 20;
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t bytes = store->capacity * (store->capacity + shape_[0]) * int64_t(sizeof(double));
    if (bytes <= most && (!kept_ || kept_->count < store->count)) kept_ = std::move(store);
  }

  bool is_double_;
  std::array<int64_t, 2> shape_;
  double ridge_;
  std::array<Address, 3> at_;
  std::array<int64_t, 2> strides_;
  bool wide_;
  std::mutex mutex_;
  std::unique_ptr<ColumnStore> kept_;
  const char* set_ = nullptr;  // for which it was made
};

}  // namespace

void bind_lasso(py::module_& module) {
  py::class_<BoundDictionary>(module, "Dictionary")
      .def(py::init<bool, std::array<int64_t, 2>, int, double, Address>())
      .def("is_current", &BoundDictionary::is_current)
      .def("solve", &BoundDictionary::solve);
  py::class_<BoundColumns>(module, "Columns")
      .def(py::init<bool, std::array<int64_t, 2>, double, std::array<Address, 3>, std::array<int64_t, 2>, bool>())
      .def("solve", &BoundColumns::solve);
}
