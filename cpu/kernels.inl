// SPDX-License-Identifier: Apache-2.0
//
// The table of kernels of one instruction set. Included once by each of kernels_*.cpp.
#include "color.inl"
#include "loss.inl"
#include "project.inl"
#include "simd.h"
#include "tiles.inl"

namespace deblurgs {
namespace DEBLURGS_ISA {

#define DEBLURGS_STRINGIFY_(x) #x
#define DEBLURGS_STRINGIFY(x) DEBLURGS_STRINGIFY_(x)

static const Kernels kKernels = {
    DEBLURGS_STRINGIFY(DEBLURGS_ISA), kLanes, (int)sizeof(MicroMask), project, forward_tile, spread_gradient, backward_tile, collect,
    project_backward, loss_band, loss_map_row,
};

} // namespace DEBLURGS_ISA
} // namespace deblurgs
