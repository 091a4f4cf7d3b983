// The package's own threads, where there is no OpenMP.
#pragma once
#include "cpu/threads.h"

namespace fastunroll {

// Runs work(what, team) on the calling thread, which has rank 0, and on up to `threads` - 1 helpers. The helpers of a
// thread live as long as it does.
void run_with_helpers(int threads, void (*work)(const void*, Team), const void* what);

}  // namespace fastunroll
