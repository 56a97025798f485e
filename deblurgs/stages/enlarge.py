"""The sharp frames of a run with more pixels: drawn from the scene where it holds the detail, else by the network."""

from pathlib import Path

from deblurgs.log import Log
from deblurgs.raster.devices import DeviceName, resolve
from deblurgs.run import RunFolder
from deblurgs.stages.render import unique_stems
from deblurgs.stages.train import scene_path

MADE_BY_SPLATS = "splats"
MADE_BY_NETWORK = "network"


def enlarge_frames(
    run: RunFolder, scale: int, log: Log, *, overwrite: bool = False, device: DeviceName = "auto"
) -> Path:
    """renders/sharp_x<scale>: every sharp frame, `scale` times as many pixels per side. -> the folder.

    A scene trained with `train_scale` > 1 has learnt detail finer than the photos' pixels and is drawn at the larger
    size; of any other scene a larger drawing would hold nothing new, and the network of `restore.causal_sr` enlarges.
    Which one made the pixels is recorded in upscale.json beside them and in trust.json.
    """
    from deblurgs.files import read_json, write_json_atomic
    from deblurgs.train.checkpoint import load_scene

    folder = run.renders / f"sharp_x{scale}"
    scene, names, _ = load_scene(scene_path(run, log))
    made_by = MADE_BY_SPLATS if scene.config.train_scale > 1 else MADE_BY_NETWORK
    stems = unique_stems(names)
    record = {"format": "deblurgs-upscale", "version": 1, "scale": scale, "pixels_made_by": made_by}

    def work() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.png"):  # of an earlier run with other frames
            old.unlink()
        if made_by == MADE_BY_SPLATS:
            _draw(run, folder, scale, stems, device, log)
            write_json_atomic(folder / "upscale.json", record | {"train_scale": scene.config.train_scale})
        else:
            from deblurgs.stages.upscale import UpscaleSettings, upscale

            # The blur that is left is motion, not the lens blur of the filters, which ring on it.

            upscale([run.sharp], folder, UpscaleSettings(scale=scale, do=("blur=0",)), log, overwrite=True)

    # A stage of its own per scale, so that the manifest tells who made the pixels; nothing depends on it.
    sharp = sorted(run.sharp.glob("*.png"))
    settings = {
        "scale": scale, "pixels_made_by": made_by, "scene": _fingerprint([scene_path(run, log)]),
        "sharp": _fingerprint(sharp),
    }  # fmt: skip
    run.stage(
        f"enlarge_x{scale}", settings, work, outputs=[folder / f"{s}.png" for s in stems], overwrite=overwrite
    )
    # Beside the stage, since rendering again writes a new self-check.
    trust = read_json(run.trust_json)
    trust["enlarged"] = trust.get("enlarged", {}) | {str(scale): made_by}
    write_json_atomic(run.trust_json, trust)
    by = "drawn from the scene" if made_by == MADE_BY_SPLATS else "enlarged by the network"
    log.info(f"sharp frames at {scale}x were {by}")
    return folder


def _fingerprint(paths: list[Path]) -> str:
    """Of names and content; not of times, which a copy of the run folder changes."""
    import hashlib

    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\0{path.stat().st_size}\n".encode("utf-8", "surrogateescape"))
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _draw(run: RunFolder, folder: Path, scale: int, stems: list[str], device: DeviceName, log: Log) -> None:
    from deblurgs.capture.image import read_rgb, write_png
    from deblurgs.render.render import enlarged_frame
    from deblurgs.sfm.model import load_model
    from deblurgs.train.checkpoint import load_scene
    from deblurgs.train.data import as_tensor

    scene, _, _ = load_scene(scene_path(run, log), resolve(device))
    cameras = load_model(run.sfm).cameras
    with log.progress("enlarge", len(stems)) as ticker:
        for f, stem in enumerate(stems):
            restored = as_tensor(read_rgb(run.sharp / f"{stem}.png"))
            write_png(folder / f"{stem}.png", enlarged_frame(scene, f, cameras[f], restored, scale).numpy())
            ticker.update(f + 1)
