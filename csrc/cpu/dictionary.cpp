// Prepares a matrix for Lasso problems: norms, Gram matrix, packed copies.
#include "cpu/dictionary.h"

#include "cpu/workspace.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T> void outer(const Outer<T>&);

template <class T> int64_t dictionary_size(const Dictionary<T>& d) { return PreparedDictionary<T>::size(d.m, d.n); }

template <class T> void dictionary_prepare(const Dictionary<T>& d) {
  const PreparedDictionary<T> p = PreparedDictionary<T>::in(d.prepared, d.m, d.n);
  const int64_t m = d.m, n = d.n, stride = code_stride<T>(n);
  Workspace memory;
  double* squares = memory.take<double>(stride);
  for (int64_t j = 0; j < stride; ++j) squares[j] = j < n ? double(d.ridge) : 0;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) squares[j] += double(d.a[i * n + j]) * double(d.a[i * n + j]);
  for (int64_t j = 0; j < stride; ++j) p.scale[j] = squares[j] > 0 ? T(1 / __builtin_sqrt(squares[j])) : T(0);

  T* unit = memory.take<T>(m * stride);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < stride; ++j) unit[i * stride + j] = j < n ? d.a[i * n + j] * p.scale[j] : T(0);
  FASTUNROLL_SET::outer(Outer<T>{m, stride, stride, d.threads, unit, unit, p.gram});
  for (int64_t j = 0; j < n; ++j) p.gram[j * stride + j] = p.scale[j] > 0 ? T(1) : T(0);

  Factor<T> to_samples{n, m, nullptr, true, d.a, Layout::by_column, false};
  pack(&to_samples, 1, p.to_samples, d.threads);
  Factor<T> to_codes{m, n, nullptr, true, d.a, Layout::by_depth, false};
  pack(&to_codes, 1, p.to_codes, d.threads);
}

template int64_t dictionary_size(const Dictionary<float>&);
template int64_t dictionary_size(const Dictionary<double>&);
template void dictionary_prepare(const Dictionary<float>&);
template void dictionary_prepare(const Dictionary<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
