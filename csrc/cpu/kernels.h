// What one instruction set provides.
#pragma once
#include "fastunroll.h"

namespace fastunroll {

template <class T> struct Kernels {
  int64_t (*lista_panels_size)(int64_t m, int64_t n, int64_t w1_count, int64_t w2_count);
  void (*lista_pack)(const ListaPack<T>&);
  void (*lista_forward)(const ListaForward<T>&);
  void (*lista_backward)(const ListaBackward<T>&);
  void (*ista)(const Ista<T>&);
  void (*product)(const Product<T>&);
  void (*outer)(const Outer<T>&);
  void (*soft_threshold)(const SoftThreshold<T>&);
  void (*soft_threshold_backward)(const SoftThresholdBackward<T>&);
};

struct InstructionSet {
  const char* name;
  Kernels<float> f32;
  Kernels<double> f64;
};

}  // namespace fastunroll
