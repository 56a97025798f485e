// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace deblurgs {

constexpr int kMaxThreads = 256;

// Runs task(context, i, worker) for i in [0, num_tasks) on at most `threads` threads including the caller, handing out
// tasks one by one; worker < threads. Returns when all are done. Calls from several threads run one after the other.
void parallel_for(int threads, int64_t num_tasks, void (*task)(void* context, int64_t index, int worker), void* context);

// The same for a callable.
template <class Function> void parallel(int threads, int64_t num_tasks, Function&& function) {
    parallel_for(
        threads, num_tasks,
        [](void* context, int64_t index, int worker) { (*static_cast<Function*>(context))(index, worker); },
        const_cast<void*>(static_cast<const void*>(&function)));
}

} // namespace deblurgs
