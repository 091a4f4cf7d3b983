#pragma once
#include <array>
#include <memory>

#include "addresses.h"
#include "cpu/workspace.h"
#include "fastunroll.h"

namespace fastunroll {

// The matrix of a product as kernels read it, of one type, shape and direction.
class PackedMatrix {
 public:
  PackedMatrix(bool is_double, std::array<int64_t, 2> shape, int threads, bool adjoint, Address a, bool bfloat16)
      : halved_(bfloat16) {
    with_type(is_double, [&](auto zero) {
      using T = decltype(zero);
      Product<T> of{0,       shape[0], shape[1], threads, adjoint, pointer<const T>(a),
                    nullptr, nullptr,  nullptr,  nullptr, bfloat16};
      memory_ = std::make_unique<Block>(size_t(product_packed_size(of)) * sizeof(T));
      of.packed = reinterpret_cast<T*>(memory_->data());
      product_pack(of);
    });
  }

  // Whether it is rounded to bfloat16.
  bool bfloat16() const { return halved_; }
  // Null if the instruction set has changed since.
  template <class T> T* panels() const {
    return set_ == instruction_set() ? reinterpret_cast<T*>(memory_->data()) : nullptr;
  }

 private:
  bool halved_;
  const char* set_ = instruction_set();
  std::unique_ptr<Block> memory_;
};

}  // namespace fastunroll
