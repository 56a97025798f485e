"""Detail finer than a photo's pixel, from the sub-pixel shifts between photos."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import torch

from deblurgs.config import DensityConfig, TrainConfig, TrajectoryConfig
from deblurgs.log import Log
from deblurgs.math.color import downscale_linear, srgb_from_linear
from deblurgs.math.lie import se3_exp
from deblurgs.raster.api import rasterize
from deblurgs.render.render import enlarged_frame, enlarged_smoothly, sharp_frame
from deblurgs.run import RunFolder
from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.transform import Similarity
from deblurgs.stages.enlarge import enlarge_frames
from deblurgs.train.data import TrainingSet
from deblurgs.train.loop import train
from deblurgs.train.memory import estimate_memory

FINE = Camera(80, 64, 90.0, 90.0, 40.0, 32.0)
COARSE = FINE.resized(40, 32)
NUM_FRAMES = 10


def captured() -> tuple[TrainingSet, list[torch.Tensor]]:
    """A wall seen by a still camera from places that differ by fractions of a coarse pixel; (photos, fine truth)."""
    g = torch.Generator().manual_seed(5)
    num = 700
    truth = Gaussians(
        means=torch.rand(num, 3, generator=g) * torch.tensor([1.2, 0.95, 0.05]) + torch.tensor([-0.6, -0.48, 1.0]),
        quats=torch.randn(num, 4, generator=g), log_scales=torch.full((num, 3), -4.4),
        logit_opacities=torch.full((num,), 2.5), sh0=torch.randn(num, 1, 3, generator=g) * 1.3,
        shN=torch.zeros(num, 0, 3),
    )  # fmt: skip
    poses, fine, photos = [], [], []
    for f in range(NUM_FRAMES):
        shift = torch.tensor([0.0037 * (f % 4), 0.0041 * (f // 4), 0.0, 0.0, 0.0, 0.0])
        poses.append(se3_exp(shift))
        with torch.no_grad():
            light = rasterize(
                truth.means, truth.quats, truth.scales, truth.opacities, truth.sh0, truth.shN, poses[-1], FINE
            ).image
        fine.append(srgb_from_linear(light).clamp(0, 1))
        photos.append(downscale_linear(fine[-1], COARSE.width, COARSE.height).contiguous())
    data = TrainingSet(
        names=[f"{f}.png" for f in range(NUM_FRAMES)], images=photos, cameras=[COARSE] * NUM_FRAMES,
        camera_from_world=torch.stack(poses), points=truth.means.detach(),
        colors=torch.rand(num, 3, generator=g), depths=torch.ones(NUM_FRAMES), scene_from_sfm=Similarity.identity(),
    )  # fmt: skip
    return data, fine


def test_training_at_scale_2_finds_more_than_bicubic() -> None:
    data, fine = captured()
    config = TrainConfig(
        scales=(1.0,), steps=(400,), train_scale=2, sh_degree=0, held_out=0.0,
        trajectory=TrajectoryConfig(kind="static", num_knots=1), density=DensityConfig(max_gaussians=1500),
    )  # fmt: skip
    scene = train(data, config, Log(quiet=True))
    ours, plain = [], []
    for f in (0, 5):
        drawn = enlarged_frame(scene, f, COARSE, data.images[f], 2)
        assert drawn.shape == fine[f].shape
        assert sharp_frame(scene, f, COARSE).shape == data.images[f].shape
        ours.append(float((drawn - fine[f]).square().mean()))
        plain.append(float((enlarged_smoothly(data.images[f], 2) - fine[f]).square().mean()))
    assert sum(ours) < 0.8 * sum(plain)  # 1 dB


def test_finer_pixels_are_counted_in_the_memory_of_a_frame() -> None:
    plain, fine = (estimate_memory([FINE], TrainConfig(train_scale=s)).full_size for s in (1, 4))
    # Image, alpha and depth of 16 pixels instead of one.
    assert fine - plain >= 15 * 20 * FINE.width * FINE.height


def test_frames_that_were_rendered_again_are_enlarged_again(tmp_path: Path, monkeypatch) -> None:
    """Another picture of the same scene counts; a copy with other times does not."""
    calls: list[int] = []

    def upscaled(sources: list[Path], folder: Path, *rest: object, **more: object) -> None:
        calls.append(1)
        for path in sources[0].glob("*.png"):
            shutil.copy(path, folder)

    scene = SimpleNamespace(config=TrainConfig())
    monkeypatch.setattr("deblurgs.train.checkpoint.load_scene", lambda *_: (scene, ["a.jpg", "b.jpg"], None))
    monkeypatch.setattr("deblurgs.stages.upscale.upscale", upscaled)
    with RunFolder(tmp_path / "run") as run:
        for folder in (run.checkpoint, run.sharp):
            folder.mkdir(parents=True)
        for name in ("capture", "sfm"):
            run.stage(name, {}, lambda: None)
        run.stage("train", {}, lambda: (run.checkpoint / "scene.safetensors").write_bytes(b"scene"))
        run.trust_json.write_text("{}")
        for name in "ab":
            (run.sharp / f"{name}.png").write_bytes(name.encode())
        for _ in range(2):
            enlarge_frames(run, 2, Log(quiet=True))
        os.utime(run.sharp / "a.png", (1, 1))
        enlarge_frames(run, 2, Log(quiet=True))
        assert len(calls) == 1
        (run.sharp / "a.png").write_bytes(b"c")
        enlarge_frames(run, 2, Log(quiet=True))
        assert len(calls) == 2 and (run.renders / "sharp_x2" / "a.png").read_bytes() == b"c"
