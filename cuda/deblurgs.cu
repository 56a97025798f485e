// SPDX-License-Identifier: Apache-2.0
//
// The exposure rasterizer for NVIDIA GPUs: all kernels, one translation unit. Which runs when is written in
// deblurgs/raster/cuda.py; docs/gpu-kernels.md tells how the data flow and in which order sums are made.
#include "backward.cuh"
#include "bin.cuh"
#include "forward.cuh"
#include "loss.cuh"
#include "poses.cuh"
#include "project.cuh"
#include "project_backward.cuh"
#include "sort.cuh"
