// This instruction set's kernels, for dispatch.cpp to choose from.
#include "cpu/kernels.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> int64_t lista_panels_size(int64_t, int64_t, int64_t, int64_t);
template <class T> void lista_pack(const ListaPack<T>&);
template <class T> void lista_forward(const ListaForward<T>&);
template <class T> void lista_backward(const ListaBackward<T>&);
template <class T> void ista(const Ista<T>&);
template <class T> void product(const Product<T>&);
template <class T> void outer(const Outer<T>&);
template <class T> void soft_threshold(const SoftThreshold<T>&);
template <class T> void soft_threshold_backward(const SoftThresholdBackward<T>&);

#define FASTUNROLL_TEXT_(x) #x
#define FASTUNROLL_TEXT(x) FASTUNROLL_TEXT_(x)

template <class T> constexpr Kernels<T> all() {
  return {lista_panels_size<T>,   lista_pack, lista_forward, lista_backward, ista, product, outer, soft_threshold,
          soft_threshold_backward};
}

extern const InstructionSet kernels;
const InstructionSet kernels = {FASTUNROLL_TEXT(FASTUNROLL_SET), all<float>(), all<double>()};

}  // namespace fastunroll::FASTUNROLL_SET
