// SPDX-License-Identifier: Apache-2.0
#define DEBLURGS_ISA avx2
#include "kernels.inl"

namespace deblurgs {
const Kernels* kernels_avx2() { return &avx2::kKernels; }
} // namespace deblurgs
