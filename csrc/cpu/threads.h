#pragma once
#ifdef _OPENMP
#include <omp.h>
#endif

namespace fastunroll::FASTUNROLL_SET {

// This thread's number within the innermost parallel region, and how many take part in it.
inline int this_thread() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

inline int team_size() {
#ifdef _OPENMP
  return omp_get_num_threads();
#else
  return 1;
#endif
}

}  // namespace fastunroll::FASTUNROLL_SET
