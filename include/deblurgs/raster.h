/* SPDX-License-Identifier: Apache-2.0
 *
 * Plain C interface of the exposure rasterizer. Raw pointers to contiguous float32 arrays, sizes, an int status.
 * The semantics are written down once, in deblurgs/raster/api.py; this header repeats only its constants, and a test
 * compares them. Nothing here knows Python or torch, so one library serves every version of both.
 */
#ifndef DEBLURGS_RASTER_H
#define DEBLURGS_RASTER_H

/* The run-time compiler of the GPU kernels has no standard headers; it needs the constants and flags only. */
#if !defined(__CUDACC_RTC__)
#include <stdint.h>
#endif

#if defined(_WIN32)
#define DEBLURGS_API __declspec(dllexport)
#else
#define DEBLURGS_API __attribute__((visibility("default")))
#endif

#define DEBLURGS_ABI_VERSION 3

#define DEBLURGS_NEAR 0.01f
#define DEBLURGS_EPS2D 0.3f
#define DEBLURGS_ALPHA_CUTOFF (1.0f / 255.0f)
#define DEBLURGS_OPACITY_MAX 0.99f
#define DEBLURGS_TRANSMITTANCE_STOP 1e-4f
#define DEBLURGS_TILE 16
#define DEBLURGS_MAX_SH_COEFFICIENTS 16
#define DEBLURGS_MAX_IMAGE_SIDE 32768

#ifdef __cplusplus
extern "C" {
#endif

enum deblurgs_status {
    DEBLURGS_OK = 0,
    DEBLURGS_BAD_ARGUMENT = 1,    /* a null pointer, a size out of range, an unknown flag */
    DEBLURGS_BAD_POSE = 2,        /* a non-finite pose; deblurgs_cpu_bad_view tells which */
    DEBLURGS_OUT_OF_MEMORY = 3,   /* scratch memory could not be had */
    DEBLURGS_TOO_MANY_ENTRIES = 4,/* one view has more than 2^31 - 1 (tile, Gaussian) entries */
    DEBLURGS_NO_FORWARD = 5       /* backward without a matching forward that kept its state */
};

enum deblurgs_flags {
    DEBLURGS_LINEAR_MEAN = 1,     /* decode sRGB before the weighted mean */
    DEBLURGS_ANTIALIASED = 2,     /* Mip-Splatting's 2-D filter compensation */
    DEBLURGS_KEEP = 4             /* a backward pass will follow */
};

#if !defined(__CUDACC_RTC__)

/* One exposure. Arrays: means [N,3], quats [N,4] wxyz, scales [N,3], opacities [N], sh0 [N,1,3], sh_rest
 * [N,stored-1,3] (null when stored is 1), viewmats [V,4,4] camera from world, weights [V], background [3] or null. */
typedef struct deblurgs_exposure {
    int64_t num_gaussians;
    int32_t num_views, width, height;
    int32_t sh_degree;            /* degree to evaluate, 0..3 */
    int32_t sh_stored;            /* stored coefficients per channel: 1, 4, 9 or 16 */
    int32_t flags;
    float fx, fy, cx, cy;         /* pixels; the centre of the top-left pixel is (0.5, 0.5) */
    float limit_u, limit_v;       /* bounds of |x/z| and |y/z| of a mean in the Jacobian */
    const float *means, *quats, *scales, *opacities, *sh0, *sh_rest, *viewmats, *weights, *background;
} deblurgs_exposure;

/* Outputs of the forward pass. image [H,W,3]; alpha, depth [H,W] and visible [N] may be null (not wanted). */
typedef struct deblurgs_images {
    float *image, *alpha, *depth;
    uint8_t *visible;
} deblurgs_images;

/* Outputs of the backward pass, shaped like their inputs; each may be null. Overwritten, not added to.
 * gradient_px [N]: sum over the views of |dL/d mean2d|, added to what is there. */
typedef struct deblurgs_gradients {
    float *means, *quats, *scales, *opacities, *sh0, *sh_rest, *viewmats, *background, *gradient_px;
} deblurgs_gradients;

/* State and scratch memory of one exposure, reused from call to call; it grows to the largest exposure seen. */
typedef struct deblurgs_cpu_handle deblurgs_cpu_handle;

DEBLURGS_API int deblurgs_abi_version(void);
/* The value of a shared constant by its name in api.py, NaN for an unknown name. */
DEBLURGS_API double deblurgs_constant(const char *name);
/* Name of the instruction set in use: "baseline", "avx2" or "avx512". */
DEBLURGS_API const char *deblurgs_cpu_isa(void);
/* Choose an instruction set by name, null for the best one. Returns DEBLURGS_BAD_ARGUMENT when it cannot run here. */
DEBLURGS_API int deblurgs_cpu_select_isa(const char *name);

DEBLURGS_API deblurgs_cpu_handle *deblurgs_cpu_create(void);
DEBLURGS_API void deblurgs_cpu_destroy(deblurgs_cpu_handle *handle);
/* Bytes held by a handle. */
DEBLURGS_API int64_t deblurgs_cpu_bytes(const deblurgs_cpu_handle *handle);
/* Index of the view that the last DEBLURGS_BAD_POSE was about. */
DEBLURGS_API int deblurgs_cpu_bad_view(const deblurgs_cpu_handle *handle);
/* Gaussian-pixel pairs that the last forward evaluated (whole micro-tiles), summed over the views. */
DEBLURGS_API int64_t deblurgs_cpu_pairs(const deblurgs_cpu_handle *handle);

DEBLURGS_API int deblurgs_cpu_forward(deblurgs_cpu_handle *handle, const deblurgs_exposure *exposure,
                                      const deblurgs_images *images, int threads);
/* Needs the same exposure as the last forward of this handle, which had DEBLURGS_KEEP; consumes its state. */
DEBLURGS_API int deblurgs_cpu_backward(deblurgs_cpu_handle *handle, const deblurgs_exposure *exposure,
                                       const float *image_gradient, const deblurgs_gradients *gradients, int threads);

/* (1 - ssim_weight) * mean |d| + ssim_weight * (1 - mean SSIM) + edge_weight * mean |step of d| between an [H,W,3]
 * prediction (linear light when encode_srgb, else display values) and an observed [H,W,3] in display values. A step
 * leads from a pixel to the one on its right or below; half the sum over both counts. weight [H,W] may be null (all
 * one); a step has the product of its ends'. gradient [H,W,3] and l1_map [H,W] may be null. terms[4] = loss, mean |d|,
 * mean SSIM, mean |step of d|. */
DEBLURGS_API int deblurgs_cpu_loss(const float *prediction, const float *observed, const float *weight, int32_t width,
                                   int32_t height, float ssim_weight, float edge_weight, int32_t encode_srgb,
                                   double *terms, float *gradient, float *l1_map, int threads);

/* One step of diffusion: out [H,W,3] = light [H,W,3] blurred by kernels of the covariances [3,rows,columns] (xx, xy, yy
 * in square pixels), which are given at the middles of a coarse grid's cells. */
DEBLURGS_API int deblurgs_cpu_spread(const float *light, const float *covariance, int32_t rows, int32_t columns,
                                     int32_t width, int32_t height, float *out, int threads);

#endif /* __CUDACC_RTC__ */

#ifdef __cplusplus
}
#endif
#endif
