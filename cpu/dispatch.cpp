// SPDX-License-Identifier: Apache-2.0
#include "dispatch.h"

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace deblurgs {
namespace {

const Kernels* best() {
#if defined(DEBLURGS_HAS_X86_KERNELS)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"))
        return kernels_avx512();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kernels_avx2();
#endif
    return kernels_baseline();
}

const Kernels* by_name(const char* name) {
    const Kernels* top = best();
    if (!std::strcmp(name, "baseline")) return kernels_baseline();
#if defined(DEBLURGS_HAS_X86_KERNELS)
    if (!std::strcmp(name, "avx2") && top != kernels_baseline()) return kernels_avx2();
    if (!std::strcmp(name, "avx512") && top == kernels_avx512()) return kernels_avx512();
#endif
    (void)top;
    return nullptr;
}

std::atomic<const Kernels*> g_kernels{nullptr};

} // namespace

const Kernels& kernels() {
    const Kernels* k = g_kernels.load(std::memory_order_acquire);
    if (!k) {
        const char* wish = std::getenv("DEBLURGS_CPU_ISA");
        if (wish) k = by_name(wish);
        if (!k) k = best();
        g_kernels.store(k, std::memory_order_release);
    }
    return *k;
}

} // namespace deblurgs

extern "C" {

int deblurgs_abi_version(void) { return DEBLURGS_ABI_VERSION; }

const char* deblurgs_cpu_isa(void) { return deblurgs::kernels().name; }

int deblurgs_cpu_select_isa(const char* name) {
    const deblurgs::Kernels* k = name ? deblurgs::by_name(name) : deblurgs::best();
    if (!k) return DEBLURGS_BAD_ARGUMENT;
    deblurgs::g_kernels.store(k, std::memory_order_release);
    return DEBLURGS_OK;
}

double deblurgs_constant(const char* name) {
    const struct {
        const char* name;
        double value;
    } constants[] = {
        {"NEAR", DEBLURGS_NEAR},
        {"EPS2D", DEBLURGS_EPS2D},
        {"ALPHA_CUTOFF", DEBLURGS_ALPHA_CUTOFF},
        {"OPACITY_MAX", DEBLURGS_OPACITY_MAX},
        {"TRANSMITTANCE_STOP", DEBLURGS_TRANSMITTANCE_STOP},
    };
    for (const auto& c : constants)
        if (!std::strcmp(c.name, name)) return c.value;
    return std::nan("");
}

} // extern "C"
