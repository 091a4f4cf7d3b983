#include "tensors.h"

#include <memory>
#include <utility>

#include "cpu/workspace.h"

namespace fastunroll {
namespace {

struct Owner {
  dlpack::ManagedTensor managed;
  std::vector<int64_t> shape;
  size_t size;
  Block block;

  static void destroy(dlpack::ManagedTensor* managed) {
    const std::unique_ptr<Owner> self(static_cast<Owner*>(managed->manager));
    if (self->size >= reused_from) give_back(std::move(self->block));
  }
};

}  // namespace

dlpack::ManagedTensor* empty_tensor(bool is_double, bool is_complex, std::vector<int64_t> shape) {
  const size_t number_size = (is_double ? sizeof(double) : sizeof(float)) * (is_complex ? 2 : 1);
  auto owner = std::make_unique<Owner>();
  owner->shape = std::move(shape);
  owner->size = number_size;
  for (const int64_t length : owner->shape) owner->size *= size_t(length);
  owner->block = owner->size >= reused_from ? reused_block(owner->size) : Block(owner->size ? owner->size : 1);
  owner->managed = {{owner->block.data(),
                     {dlpack::cpu, 0},
                     int32_t(owner->shape.size()),
                     {is_complex ? dlpack::complex : dlpack::floating, uint8_t(8 * number_size), 1},
                     owner->shape.data(),
                     nullptr,
                     0},
                    owner.get(),
                    Owner::destroy};
  return &owner.release()->managed;
}

}  // namespace fastunroll
