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
  double *sizes = memory.take<double>(stride), *squares = memory.take<double>(stride);
  for (int64_t j = 0; j < stride; ++j) sizes[j] = j < n ? __builtin_sqrt(double(d.ridge)) : 0, squares[j] = 0;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      const double size = __builtin_fabs(double(d.a[i * n + j]));
      sizes[j] = size > sizes[j] ? size : sizes[j];
    }
  // In units of their largest entry, so that no square overflows or vanishes.
  const auto add = [&](double value, int64_t j) {
    if (sizes[j] > 0) squares[j] += (value / sizes[j]) * (value / sizes[j]);
  };
  for (int64_t j = 0; j < n; ++j) add(__builtin_sqrt(double(d.ridge)), j);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) add(double(d.a[i * n + j]), j);
  for (int64_t j = 0; j < stride; ++j) {
    const T scale = T(1 / sizes[j] / __builtin_sqrt(squares[j]));
    p.scale[j] = scale - scale == 0 ? scale : T(0);
  }

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
