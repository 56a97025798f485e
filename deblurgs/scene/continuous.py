"""One camera path through a whole video: exposures are pieces of it, as long as the duty cycle says.

The path is a cumulative cubic B-spline in SE(3) (Lovegrove, Patron-Perez, Sibley, "Spline Fusion", BMVC 2013, eq. 4),
C2 in time. Its control poses stand at even times and are deltas on the SfM path, right-multiplied as in trajectory.py.
Time is counted in frame intervals (the median distance of two frames in time), so that

    time of row r of frame f at u in [0,1] = time_f + duty * (u - 0.5) + readout * (r - 0.5).

`duty` is the share of the frame interval during which the shutter is open: one number for the whole video, learnt from
it, because the path between the frames fixes how far the camera moves in a given time.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from deblurgs.math.lie import se3_exp, se3_inverse, se3_log

KNOTS_PER_INTERVAL = 2
ROOM = 2.5
"""Frame intervals before the first frame and after the last: half an exposure and half of the longest readout."""
MAX_READOUT = 4.0


class ContinuousTrajectory(nn.Module):
    """The interface of `Trajectory` for frames of one video.

    Parameters: `knots` [M,6] deltas on the control poses; `logit_duty`, `readout` (frame intervals) scalars. Buffers:
    `camera_from_world_sfm` [F,4,4], `times` [F] in frame intervals, `controls` [M,4,4] world_from_camera.
    `interval_s`: the frame interval in seconds; the owner sets None when `times_s` were in no such unit.
    Raises ValueError unless the times are finite and strictly increasing.
    """

    kind = "continuous"
    knots: nn.Parameter
    logit_duty: nn.Parameter
    readout: nn.Parameter
    camera_from_world_sfm: Tensor
    times: Tensor
    controls: Tensor
    frame_numbers: Tensor

    def __init__(
        self,
        camera_from_world: Tensor,
        times_s: Tensor,
        *,
        duty: float = 0.5,
        num_controls: int | None = None,
    ) -> None:
        """num_controls: of a path that was saved before, so that rounding cannot give it another number."""
        super().__init__()
        gaps = times_s[1:] - times_s[:-1]
        if len(times_s) < 2 or not bool(torch.isfinite(times_s).all()) or not bool((gaps > 0).all()):
            raise ValueError("a continuous trajectory needs at least two frames with increasing times")
        if not 0 < duty < 1:
            raise ValueError(f"duty must lie between 0 and 1, not {duty}")
        interval = float(gaps.median())
        self.interval_s: float | None = interval
        dtype = camera_from_world.dtype
        times = ((times_s - times_s[0]) / interval).to(dtype)
        self.register_buffer("camera_from_world_sfm", camera_from_world.clone())
        self.register_buffer("times", times)
        self.register_buffer("frame_numbers", torch.arange(len(times)), persistent=False)
        # The number of rows that a frame depends on must be known without waiting for a GPU.
        self._host_times: list[float] = times.tolist()
        self._known_readout: tuple[int, float] | None = None
        # Room at both ends, and the neighbours that a piece of the spline reaches for.
        self.first_time = -ROOM - 1.0 / KNOTS_PER_INTERVAL
        count = num_controls or int((float(times[-1]) + 2.0 * ROOM) * KNOTS_PER_INTERVAL) + 4
        at = self.first_time + torch.arange(count, dtype=dtype) / KNOTS_PER_INTERVAL
        self.register_buffer("controls", _resampled(se3_inverse(camera_from_world), times, at))
        self.knots = nn.Parameter(torch.zeros(count, 6, dtype=dtype))
        self.logit_duty = nn.Parameter(torch.tensor(duty, dtype=dtype).logit())
        self.readout = nn.Parameter(torch.zeros((), dtype=dtype), requires_grad=False)

    @property
    def num_frames(self) -> int:
        return self.times.shape[0]

    @property
    def num_knots(self) -> int:
        """Control poses that one exposure depends on at least."""
        return 4

    @property
    def duty(self) -> Tensor:
        """Share of the frame interval during which the shutter is open, in (0,1)."""
        return self.logit_duty.sigmoid()

    @property
    def exposure_s(self) -> float | None:
        """How long the shutter is open; None where the frames' times are not known in seconds."""
        return None if self.interval_s is None else float(self.duty.detach()) * self.interval_s

    @property
    def rolling(self) -> bool:
        return self.readout.requires_grad or self._fixed_readout() != 0.0

    def _fixed_readout(self) -> float:
        """The readout as a number, remembered until it is written again: looking at it means waiting for a GPU."""
        if self._known_readout is None or self._known_readout[0] != self.readout._version:
            self._known_readout = self.readout._version, float(self.readout.detach())
        return self._known_readout[1]

    def forward(self, frame_idx: Tensor, u: Tensor, row: float = 0.5) -> Tensor:
        """camera_from_world of the frames at the positions u inside their exposures: [F'], [V] -> [F',V,4,4]."""
        offset = self.duty * (u.to(self.times.dtype) - 0.5) + self.readout * (row - 0.5)
        return se3_inverse(self.at(self.times[frame_idx][:, None] + offset))

    def at(self, time: Tensor) -> Tensor:
        """world_from_camera at times [...] in frame intervals -> [...,4,4]. Differentiable in the time as well."""
        place = (time - self.first_time) * KNOTS_PER_INTERVAL - 1.0
        piece = place.detach().floor().long().clamp(0, len(self.controls) - 4)
        s = (place - piece)[..., None]
        if piece.device.type == "cpu":
            # Few pieces are in use at once, and their logarithms are shared by all times on them.
            used, where = piece.unique(return_inverse=True)
        else:  # How many they are is not asked of a GPU: it would have to be waited for.
            used = piece.flatten()
            where = torch.arange(len(used), device=piece.device).reshape(piece.shape)
        rows = used[:, None] + torch.arange(4, device=piece.device)
        poses = self.controls[rows] @ se3_exp(self.knots[rows])
        steps = se3_log(se3_inverse(poses[:, :-1]) @ poses[:, 1:])  # [pieces,3,6]
        result, steps = poses[:, 0][where], steps[where]
        blend = (
            (5 + 3 * s - 3 * s**2 + s**3) / 6,
            (1 + 3 * s + 3 * s**2 - 2 * s**3) / 6,
            s**3 / 6,
        )
        for j, weight in enumerate(blend):
            result = result @ se3_exp(weight * steps[..., j, :])
        return result

    def knot_rows(self, frame: int) -> Tensor:
        """Indices of the control poses that one frame's exposure (at any duty and readout) may depend on."""
        device, dtype = self.knots.device, self.times.dtype
        if device.type == "cpu":
            readout, time = float(self.readout.detach()), self.times[frame]
        else:  # Nothing is asked of a GPU; a readout that is being learnt is taken as large as it may ever be.
            readout = MAX_READOUT if self.readout.requires_grad else self._fixed_readout()
            time = torch.tensor(self._host_times[frame], dtype=dtype)
        reach = 0.5 + 0.5 * abs(readout)
        span = torch.tensor([-reach, reach], dtype=dtype) + time
        place = ((span - self.first_time) * KNOTS_PER_INTERVAL - 1.0).floor().long().tolist()
        return torch.arange(max(place[0], 0), min(place[1] + 4, len(self.controls)), device=device)

    def bend(self, frame: int) -> Tensor:
        """Second differences of the deltas around one frame, [.,6]."""
        knots = self.knots[self.knot_rows(frame)]
        return knots[2:] - 2 * knots[1:-1] + knots[:-2]

    def straighten(self, frame: int) -> None:
        """Nothing to do: the frames before and after keep a path through all of them from folding back."""

    def of_frame(self, frame: int, u: Tensor, row: float = 0.5) -> Tensor:
        """`forward` of a single frame: [V] -> [V,4,4]."""
        return self(self.frame_numbers[frame : frame + 1], u, row)[0]

    def all_at(self, u: float) -> Tensor:
        """camera_from_world of every frame at one position of the exposure: [F,4,4]. 0.5 is the sharp pose."""
        return self(self.frame_numbers, self.times.new_tensor([u]))[:, 0]

    def knot_poses(self, frame: int) -> Tensor:
        """camera_from_world of the control poses around one frame, [K,4,4]; the path passes near them."""
        rows = self.knot_rows(frame)
        return se3_inverse(self.controls[rows] @ se3_exp(self.knots[rows]))


def _resampled(world_from_camera: Tensor, times: Tensor, at: Tensor) -> Tensor:
    """Poses at other times along geodesics between the given ones, extrapolated at the ends: [F,4,4] -> [M,4,4]."""
    steps = torch.stack([se3_log(se3_inverse(a) @ b) for a, b in pairwise(world_from_camera)])
    piece = (torch.searchsorted(times, at, right=True) - 1).clamp(0, len(times) - 2)
    s = (at - times[piece]) / (times[piece + 1] - times[piece])
    return world_from_camera[piece] @ se3_exp(s[:, None] * steps[piece])
