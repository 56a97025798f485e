// SPDX-License-Identifier: Apache-2.0
#define DEBLURGS_ISA baseline
#include "kernels.inl"

namespace deblurgs {
const Kernels* kernels_baseline() { return &baseline::kKernels; }
} // namespace deblurgs
