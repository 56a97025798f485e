"""Novel camera paths through the poses of a capture."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from deblurgs.math import quaternion
from deblurgs.scene.camera import Camera


def film_camera(cameras: Sequence[Camera]) -> Camera:
    """The one camera of a film through a capture, whose lens and size must not jump: of the frames with the commonest
    size that with the middle focal length. Without frames of different cameras it is that of all."""
    (size, _), *_ = Counter((camera.width, camera.height) for camera in cameras).most_common(1)
    alike = sorted((c for c in cameras if (c.width, c.height) == size), key=lambda camera: camera.fy)
    return alike[(len(alike) - 1) // 2]


def smooth_path(camera_from_world: Tensor, num_poses: int, *, smoothing: float = 1.0) -> Tensor:
    """A calm path through the capture's own viewpoints: [F,4,4] in capture order -> [num_poses,4,4].

    Centres and orientations are averaged with a Gaussian window of `smoothing` frames, so that hand shake does not
    come back as a shaking novel view, and read at equal steps of travelled distance (turning counts like moving by the
    same angle at unit depth).
    """
    if num_poses < 1:
        raise ValueError(f"num_poses must be at least 1, not {num_poses}")
    rotation = camera_from_world[:, :3, :3].transpose(1, 2)  # world_from_camera
    centre = -(rotation @ camera_from_world[:, :3, 3:])[..., 0]  # [F,3]
    wxyz = _same_hemisphere(quaternion.from_matrix(rotation))
    turn = 2.0 * (wxyz[1:] * wxyz[:-1]).sum(-1).abs().clamp(max=1.0).acos()
    travelled = torch.cat([centre.new_zeros(1), ((centre[1:] - centre[:-1]).norm(dim=-1) + turn).cumsum(0)])
    total = travelled[-1].clamp_min(1e-9)
    at = torch.linspace(0.0, float(total), num_poses, dtype=centre.dtype)  # [P]
    width = smoothing * total / max(len(centre) - 1, 1)
    weight = torch.exp(-0.5 * ((at[:, None] - travelled[None]) / width) ** 2) + 1e-12  # [P,F]
    weight = weight / weight.sum(dim=1, keepdim=True)
    mean_centre = weight @ centre
    mean_rotation = quaternion.to_matrix(quaternion.normalize(weight @ wxyz))
    out = torch.eye(4, dtype=centre.dtype).repeat(num_poses, 1, 1)
    out[:, :3, :3] = mean_rotation.transpose(1, 2)
    out[:, :3, 3] = -torch.einsum("pji,pj->pi", mean_rotation, mean_centre)
    return out


def _same_hemisphere(wxyz: Tensor) -> Tensor:
    """Flip signs so that neighbours in the sequence never lie on opposite sides: q and -q are the same rotation."""
    out = wxyz.clone()
    for i in range(1, len(out)):
        if (out[i] * out[i - 1]).sum() < 0:
            out[i] = -out[i]
    return out
