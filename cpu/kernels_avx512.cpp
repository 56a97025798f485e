// SPDX-License-Identifier: Apache-2.0
#define DEBLURGS_ISA avx512
#include "kernels.inl"

namespace deblurgs {
const Kernels* kernels_avx512() { return &avx512::kKernels; }
} // namespace deblurgs
