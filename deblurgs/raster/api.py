"""The border of the rasterizer: `render_exposure` (V poses, weighted mean) and `rasterize` (one pose).

Words on this border are the field's: means, quats, scales, opacities, viewmats. Conventions:
- means [N,3] world; quats [N,4] wxyz, any non-zero length; scales [N,3] standard deviations, world units;
  opacities [N] in (0,1); sh0 [N,1,3] and shN [N,K-1,3], K = (sh_degree_stored+1)^2. A Gaussian's colour is
  max(0, 0.5 + sum_k Y_k(direction) sh_k), direction from the camera centre of *that* view to the mean, world
  axes.
- viewmats [V,4,4] = camera_from_world, OpenCV axes. Pixel centres at +0.5.
- EWA projection with the first-order perspective Jacobian, blur of `EPS2D` px^2 added to the 2-D covariance,
  Gaussians with camera z < `NEAR` dropped. In the Jacobian only, the mean's x/z is clamped to
  +-`FRUSTUM_MARGIN` * `Camera.extent`, max(cx, width - cx) / fx (y/z likewise, with cy, height, fy; no gradient
  through a clamp that acts), so that Gaussians far outside the picture do not smear across it; for a band of its
  rows the whole picture counts. The projected mean is never clamped.
- Alpha of a pixel: opacity * exp(-0.5 d^T conic d), dropped below `ALPHA_CUTOFF`; *opacity* is clamped to
  `OPACITY_MAX` once per Gaussian (not alpha per pixel). Compositing runs front to back by camera z of the
  mean, ties by index; a Gaussian is composited while the transmittance before it is >= `TRANSMITTANCE_STOP`.
- `antialiased` multiplies opacity by sqrt(det(cov2d) / det(cov2d + EPS2D I)) (Mip-Splatting's 2-D filter),
  before the clamp to `OPACITY_MAX`.
- A Gaussian with a non-finite number (input or projected), a zero quaternion or a 2-D covariance whose
  determinant is not positive is dropped like a culled one, with zero gradient. A non-finite pose is a
  ValueError on the CPU; on a GPU, which would have to be waited for, the picture is undefined.

Colour: splats live in display (sRGB-encoded) space, as in every splat viewer, so an exported PLY looks right.
With `linear_mean` every virtual view is decoded to linear light before averaging and the returned image is
*linear*; without it the encoded values are averaged as they are.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from deblurgs.scene.camera import Camera

FRUSTUM_MARGIN = 1.3
# Shared with include/deblurgs/raster.h; a test compares them.
NEAR = 0.01
EPS2D = 0.3
ALPHA_CUTOFF = 1.0 / 255.0
OPACITY_MAX = 0.99
TRANSMITTANCE_STOP = 1e-4

BackendName = Literal["auto", "cpu", "cuda", "gsplat", "reference"]


@dataclass
class ScreenStatistics:
    """What density control wants to know; filled in place by forward and backward when passed in.

    visible: bool [N], the Gaussian touched at least one pixel of at least one view.
    gradient_px: float32 [N], norm of the loss gradient w.r.t. the projected mean in pixels, summed over the
    views.
    """

    visible: "Tensor | None" = field(default=None)
    gradient_px: "Tensor | None" = field(default=None)


@dataclass(frozen=True)
class Rendered:
    """image [H,W,3]; alpha [H,W] = 1 - transmittance; depth [H,W] = sum of weight * camera z (not
    normalised).

    alpha and depth are means over the views like the image; on the native backends they carry no gradient.
    """

    image: "Tensor"
    alpha: "Tensor"
    depth: "Tensor"


def render_exposure(
    means: "Tensor",
    quats: "Tensor",
    scales: "Tensor",
    opacities: "Tensor",
    sh0: "Tensor",
    shN: "Tensor",
    viewmats: "Tensor",
    weights: "Tensor",
    camera: "Camera",
    *,
    background: "Tensor | None" = None,
    sh_degree: int | None = None,
    linear_mean: bool = True,
    antialiased: bool = False,
    statistics: ScreenStatistics | None = None,
    backend: BackendName = "auto",
) -> Rendered:
    """Mean image of V virtual views: sum_i weights[i] * decode(view_i). V images are never held.

    viewmats [V,4,4], weights [V] (sum 1), background [3] encoded colour (None = black), sh_degree <= stored
    degree (None = all stored). Differentiable in means, quats, scales, opacities, sh0, shN, viewmats (all 12
    numbers of the upper 3x4) and background. Raises ValueError for wrong shapes, dtypes or devices.
    """
    from deblurgs.raster.backend import choose

    return choose(backend, means).render_exposure(
        means, quats, scales, opacities, sh0, shN, viewmats, weights, camera,
        background=background, sh_degree=sh_degree, linear_mean=linear_mean, antialiased=antialiased,
        statistics=statistics,
    )  # fmt: skip


def rasterize(
    means: "Tensor",
    quats: "Tensor",
    scales: "Tensor",
    opacities: "Tensor",
    sh0: "Tensor",
    shN: "Tensor",
    viewmat: "Tensor",
    camera: "Camera",
    *,
    background: "Tensor | None" = None,
    sh_degree: int | None = None,
    antialiased: bool = False,
    backend: BackendName = "auto",
) -> Rendered:
    """One sharp view in encoded (sRGB) space: an exposure with a single pose. viewmat [4,4]."""
    return render_exposure(
        means, quats, scales, opacities, sh0, shN, viewmat[None], viewmat.new_ones(1), camera,
        background=background, sh_degree=sh_degree, linear_mean=False, antialiased=antialiased,
        backend=backend,
    )  # fmt: skip
