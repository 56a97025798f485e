"""Detail that the scene model lacks, taken from the observed frame wherever that frame was not blurred.

What an observed frame shows beyond its own re-blurred render is detail too fine for the Gaussians (and noise). Where
the path of the camera was shorter than a pixel that detail is sharp, and leaving it out would hand back a frame softer
than the one that came in. Where the path was long it is smear, and only the model knows better. In between the share
falls with the length of the path at each pixel:

    sharp + share(length) * (observed - reblur).

For an exposure without motion reblur and sharp are the same, and the result is the observed frame itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from deblurgs.scene.camera import Camera
from deblurgs.train.model import AnyTrajectory

ALL_BELOW_PX = 1.0
"""Paths up to this length blur less than the pixels do: all detail is kept."""
NONE_ABOVE_PX = 4.0
"""From this length on nothing is taken: a box of 4 px has its first zero at half the finest frequency."""
_STEP = 8  # path lengths vary slowly: one sample for this many pixels
_SAMPLES = 9


def add_detail(sharp: Tensor, reblur: Tensor, observed: Tensor, length_px: Tensor) -> Tensor:
    """sharp, reblur, observed [H,W,3] encoded sRGB in [0,1], length_px [H,W] -> [H,W,3] in [0,1]."""
    share = ((NONE_ABOVE_PX - length_px) / (NONE_ABOVE_PX - ALL_BELOW_PX)).clamp(0.0, 1.0)
    return (sharp + share[..., None] * (observed - reblur)).clamp(0.0, 1.0)


@torch.no_grad()
def blur_length_px(trajectory: AnyTrajectory, frame: int, camera: Camera, depth: Tensor) -> Tensor:
    """Length of the path that each pixel of the sharp frame takes through the picture while the shutter is open.

    depth [H,W]: camera z at mid-exposure, 0 where nothing is; such pixels take the median depth. -> [H,W] pixels.
    """
    height, width = camera.height, camera.width
    x = (torch.arange(0, width + _STEP, _STEP, dtype=torch.float32)).clamp(max=width - 1)
    y = (torch.arange(0, height + _STEP, _STEP, dtype=torch.float32)).clamp(max=height - 1)
    z = depth[y.long()][:, x.long()]
    known = z[z > 0]
    z = torch.where(z > 0, z, known.median() if len(known) else torch.ones(()))
    rays = torch.stack(
        [
            ((x + 0.5 - camera.cx) / camera.fx).expand(len(y), -1),
            ((y + 0.5 - camera.cy) / camera.fy)[:, None].expand(-1, len(x)),
            torch.ones(len(y), len(x)),
        ],
        dim=-1,
    )
    poses = trajectory(torch.tensor([frame]), torch.linspace(0.0, 1.0, _SAMPLES))[0]
    middle = poses[_SAMPLES // 2]
    world = (rays * z[..., None] - middle[:3, 3]) @ middle[:3, :3]  # R^T (x - t)
    moved = torch.einsum("uij,yxj->uyxi", poses[:, :3, :3], world) + poses[:, None, None, :3, 3]
    ahead = moved[..., 2].clamp_min(1e-6)
    px = torch.stack([camera.fx * moved[..., 0] / ahead, camera.fy * moved[..., 1] / ahead], dim=-1)
    length = (px[1:] - px[:-1]).norm(dim=-1).sum(dim=0)  # [y,x] on the coarse grid
    rows = torch.linspace(-1.0, 1.0, height)
    columns = torch.linspace(-1.0, 1.0, width)
    # Grid points stand at 0, 8, 16 ... and at the last pixel; their places are not even there, which is below a pixel
    # of error in a slowly varying map.
    at = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]
    return F.grid_sample(length[None, None], at, align_corners=True)[0, 0]
