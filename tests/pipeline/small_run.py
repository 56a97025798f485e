"""A finished run folder in a moment: three photos of a few Gaussians, without SfM and training."""

from pathlib import Path

import numpy as np
import torch

from deblurgs.capture.dataset import Capture, save_capture
from deblurgs.capture.image import write_png
from deblurgs.config import TrainConfig
from deblurgs.files import write_json_atomic
from deblurgs.log import Log
from deblurgs.run import RunFolder
from deblurgs.scene.camera import Camera
from deblurgs.scene.frame import Frame
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.photometry import Photometry
from deblurgs.scene.trajectory import Trajectory
from deblurgs.scene.transform import Similarity
from deblurgs.sfm.model import SparseModel, save_model
from deblurgs.train.checkpoint import save_scene
from deblurgs.train.trained import TrainedScene

CAMERA = Camera(61, 41, 50.0, 50.0, 30.5, 20.5)
SIMILARITY = Similarity(0.5, np.diag([1.0, -1.0, -1.0]), np.array([0.1, 0.2, 0.3]))


def make_run(folder: Path, names: list[str]) -> RunFolder:
    """An unlocked run folder whose frames are called `names`; the last of them has no camera."""
    rng = np.random.default_rng(5)
    frames = []
    for sub in ("frames", "renders/sharp", "renders/support", "export", "checkpoint", "sfm"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        path = folder / "frames" / f"{i:06d}.png"
        write_png(path, rng.random((CAMERA.height, CAMERA.width, 3)).astype(np.float32))
        frames.append(Frame(name, path, CAMERA.width, CAMERA.height, None, 0.5 + 0.1 * i))
    save_capture(Capture("images", frames, dropped=[("bad.jpg", "cannot be read")]), folder)
    poses = np.tile(np.eye(4), (len(names) - 1, 1, 1))
    poses[:, 0, 3] = np.arange(len(names) - 1) * 0.3
    points = np.concatenate([rng.uniform(-1, 1, (40, 2)), rng.uniform(3, 5, (40, 1))], axis=1)
    known = names[:-1]
    save_model(
        SparseModel(
            known, [CAMERA] * len(known), [f.path for f in frames[:-1]], poses, points,
            rng.integers(0, 255, (40, 3)).astype(np.uint8), np.ones(40, np.float32),
            [np.arange(40)] * len(known), [(names[-1], "too few matches")],
        ),
        folder / "sfm",
    )  # fmt: skip
    in_scene = SIMILARITY.apply_camera_from_world(poses)
    trajectory = Trajectory(torch.from_numpy(in_scene).float(), "linear", 2)
    with torch.no_grad():
        trajectory.knots[:, 0, 0], trajectory.knots[:, 1, 0] = -0.05, 0.05
    scene = TrainedScene(
        Gaussians.from_points(
            torch.from_numpy(SIMILARITY.apply_points(points)).float(), torch.rand(40, 3), 1, opacity=0.9
        ),
        trajectory, Photometry(len(known)), [CAMERA] * len(known), torch.full((len(known),), 2.0), TrainConfig(), 1.0,
    )  # fmt: skip
    save_scene(folder / "checkpoint" / "scene.safetensors", scene, known, SIMILARITY)
    stage = {"status": "done", "config": {}, "command": ["deblurgs", "run", "my clip.mp4"]}
    stages = {name: stage for name in ("capture", "sfm", "train")}
    write_json_atomic(
        folder / "manifest.json", {"format": 1, "stages": stages, "command": [], "versions": {}}
    )
    return open_run(folder)


def open_run(folder: Path) -> RunFolder:
    return RunFolder(folder, log=Log(quiet=True), command=["deblurgs", "report"])
