"""Everything a training needs to go on as if nothing had happened: tensors by name, and the rest as JSON.

Taken between two steps. On the CPU a training that goes on from it makes the same steps, bit for bit, as one that was
never stopped; only the snapshot for non-finite numbers (`Trainer._strike`) is then that of the moment of going on.
"""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deblurgs.scene.gaussians import PARAMETERS, Gaussians
from deblurgs.train.density import STATISTICS, AnnealedDensity, make_density
from deblurgs.train.holdout import BestState
from deblurgs.train.optimizer import FrameAdam, GaussianAdam

if TYPE_CHECKING:
    from deblurgs.train.loop import Trainer

ROOMS = ("gaussians", "trajectory", "photometry")
_MOMENTS = ("visits", "first", "second")


def state_of(trainer: "Trainer") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors on the CPU by dotted name (not copied where they are there already), and plain JSON data."""
    t = trainer
    tensors: dict[str, Tensor] = {"rng": t.rng.get_state(), "device_rng": t.device_rng.get_state()}
    tensors |= {f"gaussians.{name}": getattr(t.gaussians, name) for name in PARAMETERS}
    for room, module in (("trajectory", t.trajectory), ("photometry", t.photometry)):
        tensors |= {f"{room}.{name}": value for name, value in module.state_dict().items()}
    tensors |= _adam_tensors("adam", t.optimizer.adam)
    if t.shared_optimizer is not None:
        tensors |= _adam_tensors("shared_adam", t.shared_optimizer)
    for name, adam in _frame_adams(t):
        tensors |= {f"{name}.{key}": getattr(adam, key) for key in _MOMENTS}
    tensors["sampler.losses"] = t.sampler.losses
    if isinstance(t.density, AnnealedDensity):
        tensors |= {f"density.{name}": getattr(t.density, name) for name in STATISTICS}
    best = t.best.state
    if best is not None:
        for room, values in zip(ROOMS, best, strict=True):
            tensors |= {f"best.{room}.{name}": value for name, value in values.items()}
    score = t.best.score
    data = {
        "step": t.step,
        "device": t.device.type,
        "relieved": t.relieved,
        "strikes": t.strikes,
        "restores": t.restores,
        "lr_factor": t.lr_factor,
        "held_out_psnr": t.held_out_psnr,
        "order": t.sampler.order,
        "views": t.views,
        "most_views": t.most_views,
        "losses": t.losses[-t.data.num_frames :],
        "growth": t.density.growth,
        "best_score": None if math.isinf(score) else score,
        "best_latest": t.best.latest,
        "best_stale": t.best.stale,
    }
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}, data


def restore(trainer: "Trainer", tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
    """The counterpart of `state_of`, on a trainer that was just made from the same data and settings.

    Raises KeyError, TypeError, ValueError or RuntimeError where the state is that of another training; the trainer is
    then not to be used any more.
    """
    t = trainer
    device = t.gaussians.means.device
    gaussians = {name: tensors[f"gaussians.{name}"] for name in PARAMETERS}
    counts = {len(value) for value in gaussians.values()}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"the Gaussians' parameters have different lengths: {sorted(counts)}")
    t.gaussians = Gaussians(**gaussians).to(device)
    for room, module in (("trajectory", t.trajectory), ("photometry", t.photometry)):
        module.load_state_dict(_room(tensors, room))
    t.optimizer = GaussianAdam(t.gaussians, t.config)
    _load_adam("adam", t.optimizer.adam, tensors)
    if t.shared_optimizer is not None:
        _load_adam("shared_adam", t.shared_optimizer, tensors)
    for name, adam in _frame_adams(t):
        _load_frame_adam(name, adam, tensors)
    t.density = make_density(t.config.density, t.gaussians, t.optimizer, t.config.total_steps, t.device_rng)
    if isinstance(t.density, AnnealedDensity):
        for name in STATISTICS:
            setattr(t.density, name, tensors[f"density.{name}"].to(device))
    t.density.growth = float(data["growth"])
    t.sampler.losses.copy_(tensors["sampler.losses"])
    t.sampler.order = [_frame(f, t.data.num_frames) for f in data["order"]]
    t.best = _best(tensors, data, device)
    t.step, t.strikes, t.restores = int(data["step"]), int(data["strikes"]), int(data["restores"])
    t.lr_factor = float(data["lr_factor"])
    t.held_out_psnr = None if data["held_out_psnr"] is None else float(data["held_out_psnr"])
    t.views, t.losses = [int(v) for v in data["views"]], [float(x) for x in data["losses"]]
    t.most_views, t.relieved = int(data["most_views"]), bool(data["relieved"])
    if len(t.views) not in (0, t.data.num_frames) or not 0 <= t.step <= t.config.total_steps:
        raise ValueError(f"step {t.step} with views of {len(t.views)} frames")
    t.rng.set_state(tensors["rng"])
    # A training that goes on elsewhere keeps the fresh generator: states of different devices do not fit each other.
    if data["device"] == t.device.type:
        t.device_rng.set_state(tensors["device_rng"])


def _frame_adams(trainer: "Trainer") -> list[tuple[str, FrameAdam]]:
    """The optimisers of what belongs to single frames, by name."""
    t = trainer
    times = [] if t.times_optimizer is None else [("times_adam", t.times_optimizer)]
    return [("knot_adam", t.knot_optimizer), ("gain_adam", t.gain_optimizer), *times]


def is_whole(trainer: "Trainer") -> bool:
    """Whether all parameters of the Gaussians and their moments have one length: not in the middle of a change."""
    lengths = {getattr(trainer.gaussians, name).shape[0] for name in PARAMETERS}
    for group in trainer.optimizer.adam.param_groups:
        state = trainer.optimizer.adam.state.get(group["params"][0], {})
        lengths |= {state[key].shape[0] for key in ("exp_avg", "exp_avg_sq") if key in state}
    return len(lengths) == 1


def _room(tensors: dict[str, Tensor], room: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{room}."): v for key, v in tensors.items() if key.startswith(f"{room}.")}


def _frame(value: Any, num_frames: int) -> int:
    if not isinstance(value, int) or not 0 <= value < num_frames:
        raise ValueError(f"{value!r} is not one of {num_frames} frames")
    return value


def _adam_tensors(name: str, adam: torch.optim.Adam) -> dict[str, Tensor]:
    """The moments and step counts of each group's only parameter."""
    found = {}
    for i, group in enumerate(adam.param_groups):
        state = adam.state.get(group["params"][0], {})
        found |= {f"{name}.{i}.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
    return found


def _load_adam(name: str, adam: torch.optim.Adam, tensors: dict[str, Tensor]) -> None:
    for i, group in enumerate(adam.param_groups):
        parameter: nn.Parameter = group["params"][0]
        state = _room(tensors, f"{name}.{i}")
        for key, value in state.items():
            if key != "step" and value.shape != parameter.shape:
                raise ValueError(
                    f"{name}.{i}.{key} has shape {list(value.shape)}, not {list(parameter.shape)}"
                )
        if state:
            adam.state[parameter] = {key: value.to(parameter.device) for key, value in state.items()}


def _load_frame_adam(name: str, adam: FrameAdam, tensors: dict[str, Tensor]) -> None:
    for key in _MOMENTS:
        mine, saved = getattr(adam, key), tensors[f"{name}.{key}"]
        if mine.shape != saved.shape:
            raise ValueError(f"{name}.{key} has shape {list(saved.shape)}, not {list(mine.shape)}")
        mine.copy_(saved)


def _best(tensors: dict[str, Tensor], data: dict[str, Any], device: torch.device) -> BestState:
    latest, score = data["best_latest"], data["best_score"]
    rooms = [{k: v.to(device) for k, v in _room(tensors, f"best.{room}").items()} for room in ROOMS]
    state = (rooms[0], rooms[1], rooms[2]) if rooms[0] else None
    return BestState(-math.inf if score is None else float(score), latest, state, int(data["best_stale"]))
