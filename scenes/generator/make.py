"""From settings to a capture folder: images/, sharp/, test/, cameras.json."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scenes.generator import manifest, plan, sensor
from scenes.generator.plan import Plan, Video, View
from scenes.generator.sensor import Noise
from scenes.generator.shutter import Shutter

FOCAL_PER_WIDTH = 1.05
_WHITE_PERCENTILE, _WHITE = 99.0, 0.85


@dataclass(frozen=True)
class Settings:
    """All that decides what is written; the same settings give the same files.

    size: width and height in px. path_px: median over the frames of the blur path's length. readout_s: 0 is a global
    shutter. exposure_ev, balance_ev: spread of gain and white balance in stops. jpeg: quality, None writes PNG.
    """

    scene: str
    seed: int
    size: tuple[int, int] = (360, 240)
    views: int = 20
    test_views: int = 4
    path_px: float = 8.0
    exposure_s: float = 0.1
    readout_s: float = 0.0
    video: Video | None = None
    exposure_ev: float = 0.0
    balance_ev: float = 0.0
    noise: Noise = Noise()  # noqa: RUF009 - frozen
    response: str = "srgb"
    jpeg: int | None = None
    samples: int = 48


def make_capture(settings: Settings, output: Path, threads: int, say: Callable[[str], None]) -> None:
    """Build, render and write. `output` must not exist, or be empty; it appears only when it is complete.

    Raises FileExistsError for a folder with content, ValueError for settings that cannot be met, ImportError without
    bpy.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"{output} exists and is not an empty folder; choose another --output")
    from scenes.generator.blender import Studio

    layout = import_module(f"scenes.generator.layouts.{settings.scene}")
    width, height = settings.size
    focal_px = FOCAL_PER_WIDTH * width
    # One stream of random numbers per purpose: a change of noise must not move the camera.
    scene_rng, path_rng, gain_rng, noise_rng = (np.random.default_rng([settings.seed, i]) for i in range(4))
    studio = Studio(width, height, focal_px, settings.samples, threads)
    partial = output.with_name(output.name + ".partial")
    try:
        layout.build(studio, scene_rng)
        shots = _plan(settings, layout.STAND, focal_px, studio.points_seen, path_rng)
        smooth = settings.video is not None
        gains = sensor.frame_gains(
            settings.views, settings.exposure_ev, settings.balance_ev, smooth, gain_rng
        )
        shutil.rmtree(partial, ignore_errors=True)
        for folder in ("images", "sharp", "test"):
            (partial / folder).mkdir(parents=True)
        scale = _exposure_scale(studio.render(shots.views[0].mid, 0))
        suffix = ".png" if settings.jpeg is None else ".jpg"
        factors = iter(gains)
        for number, view in enumerate(shots.views):
            say(f"{number + 1}/{len(shots.views)} {view.split} {view.name}: path {view.path_px:.1f} px")
            sharp = scale * studio.render(view.mid, 2 * number)
            if view.open_path is None:
                _save(partial / "test" / f"{view.name}.png", sensor.respond(sharp, settings.response))
                continue
            gain = next(factors)
            _save(partial / "sharp" / f"{view.name}.png", sensor.respond(gain * sharp, settings.response))
            light = scale * studio.render(view.open_path, 2 * number + 1, shots.shutter.row_share)
            seen = gain * settings.noise.apply(light, noise_rng)
            encoded = sensor.respond(seen, settings.response)
            _save(partial / "images" / (view.name + suffix), encoded, settings.jpeg)
        made_with = asdict(settings) | {"shake_scale": shots.shake_scale, "exposure_scale": scale}
        value = manifest.as_json(shots, width, height, focal_px, gains, settings.noise, suffix, made_with)
        manifest.write(partial / "cameras.json", value)
        if output.exists():
            output.rmdir()
        partial.rename(output)
    finally:
        studio.close()


def _plan(
    settings: Settings, stand: plan.Stand, focal_px: float, points_at: plan.PointsAt, rng: np.random.Generator
) -> Plan:
    shutter = Shutter(settings.exposure_s, settings.readout_s)
    counts = (settings.views, settings.test_views)
    if settings.video is None:
        return plan.plan_burst(stand, *counts, shutter, settings.path_px, focal_px, points_at, rng)
    return plan.plan_video(
        stand, *counts, shutter, settings.video, settings.path_px, focal_px, points_at, rng
    )


def _exposure_scale(light: NDArray[np.float64]) -> float:
    """What a light meter does: the factor that brings the bright parts just below white."""
    return _WHITE / float(np.percentile(light.max(axis=-1), _WHITE_PERCENTILE))


def _save(path: Path, encoded: NDArray[np.float64], jpeg: int | None = None) -> None:
    image = Image.fromarray(sensor.to_8_bit(encoded))
    if jpeg is None:
        image.save(path, optimize=True)
    else:
        image.save(path, "JPEG", quality=jpeg, subsampling=2 if jpeg < 90 else 0, optimize=True)


__all__ = ["Settings", "View", "make_capture"]
