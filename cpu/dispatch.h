// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels.h"

namespace deblurgs {

// The kernels of the chosen instruction set; DEBLURGS_CPU_ISA decides at the first call, else the best that runs here.
const Kernels& kernels();

} // namespace deblurgs
