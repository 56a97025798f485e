"""The camera's path during every exposure, as knots that are deltas on the SfM pose.

world_from_camera(u) = world_from_camera_sfm * exp(xi(u)),   xi(u) = sum_k basis_k(u) * knot_k,   u in [0, 1],

with tangents (v, omega) in the camera's own axes: right-multiplied on the pose, so that a knot does not depend on
where the world's origin lies, and the logarithm is never taken near pi. Bezier in se(3) as DeblurGS
(arXiv 2404.11358, section 3.2), but relative to the SfM pose; linear and cubic B-spline as BAD-NeRF (2211.12853).

A rolling shutter exposes row r (0 top, 1 bottom) later than the middle row by (r - 0.5) * `readout`, in units of the
exposure: the path then covers all that any row sees, and `forward` takes the row.
"""

import torch
from torch import Tensor, nn

from deblurgs.math.lie import se3_exp
from deblurgs.math.spline import basis
from deblurgs.scene.camera import Camera
from deblurgs.scene.subframe import warped


class Trajectory(nn.Module):
    """Paths of F frames. Parameter `knots` [F,K,6]; buffer `camera_from_world_sfm` [F,4,4].

    kind "static" has a single knot: one pose per frame, as plain splatting with pose refinement uses. Parameter
    `readout`: time from the first to the last row in units of the exposure, 0 for a global shutter; shared by all
    frames and learnt only where `requires_grad` is set. Parameter `log_speeds` [F,P]: how unevenly each path is
    travelled (scene/subframe.py); P is 0 where the speed is left to the knots.
    """

    knots: nn.Parameter
    readout: nn.Parameter
    log_speeds: nn.Parameter
    camera_from_world_sfm: Tensor
    frame_numbers: Tensor

    def __init__(
        self,
        camera_from_world: Tensor,
        kind: str,
        num_knots: int,
        *,
        start_spread: float = 0.0,
        num_time_pieces: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if kind != "static" and num_knots < 2:
            raise ValueError(f"a {kind} trajectory needs at least 2 knots, not {num_knots}")
        self.kind = kind
        num_frames = camera_from_world.shape[0]
        shape = (num_frames, 1 if kind == "static" else num_knots, 6)
        spread = torch.randn(shape, generator=generator).double() * start_spread
        # The spread must not move the frame as a whole: only the shape of the path is unknown at the start.
        spread = spread - spread.mean(dim=1, keepdim=True)
        self.knots = nn.Parameter(spread.to(camera_from_world.dtype))
        self.readout = nn.Parameter(camera_from_world.new_zeros(()), requires_grad=False)
        self.log_speeds = nn.Parameter(camera_from_world.new_zeros(num_frames, num_time_pieces))
        self.register_buffer("camera_from_world_sfm", camera_from_world.clone())
        self.register_buffer(
            "frame_numbers", torch.arange(num_frames, device=camera_from_world.device), persistent=False
        )
        self._known_readout: tuple[int, bool] | None = None

    @property
    def num_frames(self) -> int:
        return self.knots.shape[0]

    @property
    def num_knots(self) -> int:
        return self.knots.shape[1]

    @property
    def rolling(self) -> bool:
        """Whether rows are exposed at different times."""
        if self.readout.requires_grad:
            return True
        # Remembered until the number is written again: looking at it means waiting for a GPU.
        if self._known_readout is None or self._known_readout[0] != self.readout._version:
            self._known_readout = self.readout._version, float(self.readout.detach()) != 0.0
        return self._known_readout[1]

    def bend(self, frame: int) -> Tensor:
        """Second differences of the knots of one frame, [K-2,6]: zero for uniform motion."""
        knots = self.knots[frame]
        return knots[2:] - 2 * knots[1:-1] + knots[:-2]

    def tangents(self, frame_idx: Tensor, u: Tensor) -> Tensor:
        """xi(u): frame_idx [F'], u [V] -> [F',V,6]."""
        knots = self.knots[frame_idx]  # [F',K,6]
        if self.kind == "static":
            return knots.expand(-1, u.shape[0], -1)
        if self.log_speeds.shape[1] > 0:
            u = warped(u, self.log_speeds[frame_idx])  # [F',V]
        return basis(self.kind, self.num_knots, u).to(knots.dtype) @ knots  # [V,K] or [F',V,K] @ [F',K,6]

    def knot_rows(self, frame: int) -> Tensor:
        """Indices of the rows of `knots` that one frame depends on."""
        return self.frame_numbers[frame : frame + 1]

    def forward(self, frame_idx: Tensor, u: Tensor, row: float = 0.5) -> Tensor:
        """camera_from_world of the frames at the positions u inside their exposures: [F'], [V] -> [F',V,4,4].

        row in [0,1]: the picture's row, top to bottom; it matters with a rolling shutter only.
        """
        if self.rolling:
            u = 0.5 + (u - 0.5 + (row - 0.5) * self.readout) / (1.0 + self.readout.abs())
            u = u.clamp(0.0, 1.0)  # rounding
        # camera_from_world = exp(xi)^-1 * camera_from_world_sfm, and exp(xi)^-1 = exp(-xi).
        return se3_exp(-self.tangents(frame_idx, u)) @ self.camera_from_world_sfm[frame_idx][:, None]

    def of_frame(self, frame: int, u: Tensor, row: float = 0.5) -> Tensor:
        """`forward` of a single frame: [V] -> [V,4,4]."""
        return self(self.frame_numbers[frame : frame + 1], u, row)[0]

    @torch.no_grad()
    def straighten(self, frame: int) -> None:
        """Replace one frame's knots by the nearest evenly spaced ones on a line: uniform motion cannot fold back.

        A path from A to B and back leaves the same blur as one from A to B, but its middle is B. Curves that start
        straight end on the right side of this ambiguity.
        """
        if self.num_knots > 2:
            at = torch.linspace(-1.0, 1.0, self.num_knots, dtype=self.knots.dtype, device=self.knots.device)[
                :, None
            ]
            knots = self.knots[frame]
            slope = (at * knots).sum(dim=0) / at.square().sum()
            self.knots[frame] = knots.mean(dim=0) + at * slope

    def all_at(self, u: float) -> Tensor:
        """camera_from_world of every frame at one position of the exposure: [F,4,4]. 0.5 is the sharp pose."""
        return self(self.frame_numbers, self.knots.new_tensor([u]))[:, 0]

    def knot_poses(self, frame: int) -> Tensor:
        """camera_from_world at the knots of one frame, [K,4,4]; only `linear` passes through all of them."""
        return se3_exp(-self.knots[frame]) @ self.camera_from_world_sfm[frame]


def path_length_px(poses: Tensor, cameras: list[Camera], depths: Tensor) -> Tensor:
    """Length in pixels of the path that image points take during an exposure; the longest over a 3x3 grid of points.

    poses [F,U,4,4] camera_from_world along each exposure in order of u, depths [F] typical scene depth -> [F].
    """
    num_frames, num_samples = poses.shape[:2]
    middle = poses[:, num_samples // 2]  # [F,4,4]
    grid = poses.new_tensor([0.05, 0.5, 0.95])
    gy, gx = torch.meshgrid(grid, grid, indexing="ij")
    intrinsics = poses.new_tensor([[c.fx, c.fy, c.cx, c.cy, c.width, c.height] for c in cameras])
    fx, fy, cx, cy, width, height = intrinsics.T[..., None]  # each [F,1]
    x = (gx.reshape(1, -1) * width - cx) / fx
    y = (gy.reshape(1, -1) * height - cy) / fy
    z = depths[:, None].to(poses.dtype).expand_as(x)
    points = torch.stack([x * z, y * z, z], dim=-1)  # [F,9,3] in the middle camera
    rotation, translation = middle[:, :3, :3], middle[:, :3, 3]
    world = torch.einsum("fji,fpj->fpi", rotation, points - translation[:, None])  # R^T (x - t)
    moved = torch.einsum("fuij,fpj->fupi", poses[:, :, :3, :3], world) + poses[:, :, None, :3, 3]
    depth = moved[..., 2].clamp_min(1e-6)
    px = torch.stack([fx[:, None] * moved[..., 0] / depth, fy[:, None] * moved[..., 1] / depth], dim=-1)
    length = (px[:, 1:] - px[:, :-1]).norm(dim=-1).sum(dim=1)  # [F,9]
    return length.amax(dim=1) if num_samples > 1 else poses.new_zeros(num_frames)
