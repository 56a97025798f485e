"""A trained scene on disk: safetensors for numbers, JSON in its header for settings. No pickle."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from deblurgs.config import TrainConfig, from_dict, to_dict
from deblurgs.errors import UsageError
from deblurgs.files import write_bytes_atomic
from deblurgs.scene.camera import Camera
from deblurgs.scene.continuous import ContinuousTrajectory
from deblurgs.scene.gaussians import PARAMETERS, Gaussians
from deblurgs.scene.photometry import Photometry
from deblurgs.scene.trajectory import Trajectory
from deblurgs.scene.transform import Similarity
from deblurgs.train.model import AnyTrajectory
from deblurgs.train.trained import TrainedScene

FORMAT = "deblurgs-scene-3"


def save_scene(path: Path, scene: TrainedScene, names: list[str], scene_from_sfm: Similarity) -> None:
    """Write Gaussians, trajectories and everything needed to render them again. Atomic."""
    tensors = {f"gaussians.{name}": tensor for name, tensor in scene.gaussians.tensors().items()}
    for room, module in (("trajectory", scene.trajectory), ("photometry", scene.photometry)):
        tensors |= {f"{room}.{name}": tensor.detach().clone() for name, tensor in module.state_dict().items()}
    tensors["depths"] = scene.depths.clone()
    if scene.landmarks is not None:
        tensors["landmarks"] = scene.landmarks.clone()
    header = {
        "format": FORMAT,
        "kind": scene.trajectory.kind,
        "interval_s": getattr(scene.trajectory, "interval_s", None),
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


def load_scene(path: Path, device: torch.device | None = None) -> tuple[TrainedScene, list[str], Similarity]:
    """The counterpart of `save_scene`, to be rendered on `device` (default: CPU).

    Raises UsageError when the file is missing, damaged or of another version.
    """
    if not path.is_file():
        raise UsageError(f"no trained scene at {path}. Run `deblurgs train` on this run folder first.")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["deblurgs"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']!r}, expected {FORMAT!r}")
        gaussians = Gaussians(**{name: tensors[f"gaussians.{name}"] for name in PARAMETERS})
        trajectory = _trajectory(header, _room(tensors, "trajectory"))
        state = _room(tensors, "photometry")
        photometry = Photometry(len(state["log_gains"]), num_bends=len(state["bends"]))
        photometry.load_state_dict(state)
        s = header["scene_from_sfm"]
        similarity = Similarity(s["scale"], np.array(s["rotation"]), np.array(s["translation"]))
        scene = TrainedScene(
            gaussians, trajectory, photometry, [Camera(**c) for c in header["training_cameras"]], tensors["depths"],
            from_dict(TrainConfig(), header["config"]), header["seconds"], tensors.get("landmarks"),
            device or torch.device("cpu"),
        )  # fmt: skip
        return scene, header["names"], similarity
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{path} is not a scene this version can read ({error}). Train again with `deblurgs train --overwrite`."
        ) from error


def _room(tensors: dict[str, Tensor], room: str) -> dict[str, Tensor]:
    """The tensors of one module by their own names."""
    return {key.removeprefix(f"{room}."): t for key, t in tensors.items() if key.startswith(f"{room}.")}


def _trajectory(header: dict[str, Any], state: dict[str, Tensor]) -> AnyTrajectory:
    poses = state["camera_from_world_sfm"]
    if header["kind"] == ContinuousTrajectory.kind:
        trajectory = ContinuousTrajectory(poses, state["times"], num_controls=len(state["controls"]))
        trajectory.interval_s = header["interval_s"]
    else:
        trajectory = Trajectory(
            poses, header["kind"], state["knots"].shape[1], num_time_pieces=state["log_speeds"].shape[1]
        )
    trajectory.load_state_dict(state)
    return trajectory
