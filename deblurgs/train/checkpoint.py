"""A trained scene on disk: safetensors for numbers, JSON in its header for settings. No pickle."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from deblurgs.config import TrainConfig, from_dict, to_dict
from deblurgs.errors import UsageError
from deblurgs.files import write_bytes_atomic
from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import PARAMETERS, Gaussians
from deblurgs.scene.trajectory import Trajectory
from deblurgs.scene.transform import Similarity
from deblurgs.train.loop import TrainedScene

FORMAT = "deblurgs-scene-1"


def save_scene(path: Path, scene: TrainedScene, names: list[str], scene_from_sfm: Similarity) -> None:
    """Write Gaussians, trajectories and everything needed to render them again. Atomic."""
    tensors = {f"gaussians.{name}": tensor for name, tensor in scene.gaussians.tensors().items()}
    tensors["trajectory.knots"] = scene.trajectory.knots.detach().clone()
    tensors["trajectory.camera_from_world_sfm"] = scene.trajectory.camera_from_world_sfm.clone()
    tensors["depths"] = scene.depths.clone()
    header = {
        "format": FORMAT,
        "kind": scene.trajectory.kind,
        "names": names,
        "training_cameras": [vars(c) for c in scene.training_cameras],
        "scene_from_sfm": {
            "scale": float(scene_from_sfm.scale),
            "rotation": np.asarray(scene_from_sfm.rotation).tolist(),
            "translation": np.asarray(scene_from_sfm.translation).tolist(),
        },
        "config": to_dict(scene.config),
        "seconds": scene.seconds,
    }
    contiguous = {k: v.contiguous() for k, v in tensors.items()}
    write_bytes_atomic(path, save(contiguous, metadata={"deblurgs": json.dumps(header)}))


def load_scene(path: Path) -> tuple[TrainedScene, list[str], Similarity]:
    """The counterpart of `save_scene`. Raises UsageError when the file is missing, damaged or of another version."""
    if not path.is_file():
        raise UsageError(f"no trained scene at {path}. Run `deblurgs train` on this run folder first.")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["deblurgs"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']!r}, expected {FORMAT!r}")
        gaussians = Gaussians(**{name: tensors[f"gaussians.{name}"] for name in PARAMETERS})
        knots = tensors["trajectory.knots"]
        trajectory = Trajectory(tensors["trajectory.camera_from_world_sfm"], header["kind"], knots.shape[1])
        with torch.no_grad():
            trajectory.knots.copy_(knots)
        s = header["scene_from_sfm"]
        similarity = Similarity(s["scale"], np.array(s["rotation"]), np.array(s["translation"]))
        scene = TrainedScene(
            gaussians, trajectory, [Camera(**c) for c in header["training_cameras"]], tensors["depths"],
            from_dict(TrainConfig(), header["config"]), header["seconds"],
        )  # fmt: skip
        return scene, header["names"], similarity
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{path} is not a scene this version can read ({error}). Train again with `deblurgs train --overwrite`."
        ) from error
