#pragma once
#ifdef _OPENMP
#include <omp.h>
#endif

namespace fastunroll::FASTUNROLL_SET {

// This thread's number within the innermost parallel region. A region may get fewer threads than it asks for, so work
// is cut by what was asked for, never by what came.
inline int this_thread() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

}  // namespace fastunroll::FASTUNROLL_SET
