// SPDX-License-Identifier: Apache-2.0
//
// The kernels, compiled for the host, behind one C function that starts a kernel by name like a driver does.
#include <algorithm>
#include <cstdio>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "../deblurgs.cu"
#include "faults.cuh"
#include "fibers.h"

namespace {

struct Kernel {
    const char* name;
    int num_arguments;
    const char* kinds; // p pointer, i int32, l int64, f float32
    void (*call)(void** arguments);
};

template <class T> constexpr char kind_of() {
    if (std::is_pointer_v<T>) return 'p';
    if (std::is_same_v<T, float>) return 'f';
    if (std::is_same_v<T, int>) return 'i';
    if (std::is_same_v<T, long long>) return 'l';
    return '?';
}

template <auto kFunction> struct Call;
template <class... T, void (*kFunction)(T...)> struct Call<kFunction> {
    static constexpr char kinds[] = {kind_of<T>()..., 0};
    template <size_t... I> static void unpack(void** arguments, std::index_sequence<I...>) {
        kFunction(*(std::remove_const_t<T>*)arguments[I]...);
    }
    static void call(void** arguments) { unpack(arguments, std::index_sequence_for<T...>{}); }
    static constexpr Kernel describe(const char* name) { return {name, (int)sizeof...(T), kinds, call}; }
};

#define KERNEL(name) Call<name>::describe(#name)
const Kernel kKernels[] = {
    KERNEL(deblurgs_poses),
    KERNEL(deblurgs_pose_gradients),
    KERNEL(deblurgs_project_0),
    KERNEL(deblurgs_project_1),
    KERNEL(deblurgs_project_2),
    KERNEL(deblurgs_project_3),
    KERNEL(deblurgs_project_backward_0),
    KERNEL(deblurgs_project_backward_1),
    KERNEL(deblurgs_project_backward_2),
    KERNEL(deblurgs_project_backward_3),
    KERNEL(deblurgs_count_tiles),
    KERNEL(deblurgs_order_counts),
    KERNEL(deblurgs_admit_entries),
    KERNEL(deblurgs_emit_entries),
    KERNEL(deblurgs_tile_starts),
    KERNEL(deblurgs_sort_count),
    KERNEL(deblurgs_sort_move),
    KERNEL(deblurgs_raster_forward),
    KERNEL(deblurgs_raster_backward),
    KERNEL(deblurgs_collect),
    KERNEL(deblurgs_background_gradient),
    KERNEL(deblurgs_loss_weight),
    KERNEL(deblurgs_loss_similarity),
    KERNEL(deblurgs_loss_terms),
    KERNEL(deblurgs_loss_gradient),
    KERNEL(deblurgs_fault_write_beyond),
    KERNEL(deblurgs_fault_read_beyond),
    KERNEL(deblurgs_fault_race),
    KERNEL(deblurgs_fault_missing_lane),
    KERNEL(deblurgs_fault_divergence),
    KERNEL(deblurgs_fault_barrier),
};

char message[512];

} // namespace

// Kinds of a kernel's arguments, one letter each; null for an unknown name.
extern "C" const char* emulated_kinds(const char* name) {
    for (const Kernel& k : kKernels)
        if (!std::strcmp(k.name, name)) return k.kinds;
    return nullptr;
}

// Runs a kernel on grid x block threads; blocks and threads in an order drawn from `seed`. Null, or what went wrong.
extern "C" const char* emulated_launch(const char* name, const unsigned* grid, const unsigned* block, void** arguments,
                                       uint64_t seed) {
    const Kernel* kernel = nullptr;
    for (const Kernel& k : kKernels)
        if (!std::strcmp(k.name, name)) kernel = &k;
    if (!kernel) return "unknown kernel";
    std::vector<uint64_t> order((size_t)grid[0] * grid[1] * grid[2]);
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    uint64_t state = seed ^ 0x9e3779b97f4a7c15ull;
    for (size_t i = order.size(); i > 1; --i) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        std::swap(order[i - 1], order[(state >> 33) % i]);
    }
    for (uint64_t i : order) {
        emulated::Block b = {{grid[0], grid[1], grid[2]},
                             {block[0], block[1], block[2]},
                             {(unsigned)(i % grid[0]), (unsigned)(i / grid[0] % grid[1]), (unsigned)(i / grid[0] / grid[1])}};
        const char* failure = emulated::run_block(b, seed + i + 1, [&] { kernel->call(arguments); });
        if (failure) {
            std::snprintf(message, sizeof message, "%s: %s", name, failure);
            return message;
        }
    }
    return nullptr;
}
