// Memory for results, as tensors that other libraries take over by the DLPack protocol.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fastunroll {

// https://dmlc.github.io/dlpack, version 0: the content of a capsule named "dltensor".
namespace dlpack {

enum DeviceType : int32_t { cpu = 1 };
enum TypeCode : uint8_t { floating = 2, complex = 5 };

struct Device {
  DeviceType type;
  int32_t id;
};

struct DataType {
  TypeCode code;
  uint8_t bits;
  uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  int32_t dimensions;
  DataType type;
  int64_t* shape;
  int64_t* strides;  // null if rows follow each other
  uint64_t byte_offset;
};

struct ManagedTensor {
  Tensor tensor;
  void* manager;
  void (*deleter)(ManagedTensor*);
};

}  // namespace dlpack

constexpr size_t reused_from = size_t(256)
                               << 10;  // bytes from which a search for used pages costs less than fresh ones

// An uninitialised tensor. Large ones take memory that earlier ones gave back. Throws std::bad_alloc.
dlpack::ManagedTensor* empty_tensor(bool is_double, bool is_complex, std::vector<int64_t> shape);

}  // namespace fastunroll
