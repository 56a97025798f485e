// SPDX-License-Identifier: Apache-2.0
//
// Runs one block of a kernel on the calling thread: every CUDA thread is a fiber with its own stack.
#pragma once

#include <cstdint>
#include <functional>

namespace emulated {

struct Block {
    unsigned grid[3], block[3], index[3];
};

// Runs `body` for every thread of the block. Draws the order of threads from `seed`. Returns null, or why the block
// could not be finished (a collective without all lanes, a barrier that some threads never reach, memory out of bounds);
// the text lives until the next call.
const char* run_block(const Block& block, uint64_t seed, const std::function<void()>& body);

} // namespace emulated
