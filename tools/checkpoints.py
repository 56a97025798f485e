"""A training that can be stopped: network, moving average, optimiser, step and time, in files below 16 MB each."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Generic, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deblurgs.files import atomic_path, write_json_atomic

PART_BYTES = 15 * 2**20
WARM_UP_STEPS = 50

N = TypeVar("N", bound=nn.Module)


class Trained(Generic[N]):
    """A network, its exponential moving average and AdamW."""

    def __init__(self, network: N, average: N, slower: Mapping[str, float] | None = None) -> None:
        """average: a network of the same shape; it begins as a copy. slower: direct children of the network by
        name and what share of the learning rate they get.
        """
        self.network, self.average = network, average
        average.load_state_dict(network.state_dict())
        shares = dict(slower or {})
        groups: dict[str, list[nn.Parameter]] = {part: [] for part in [*shares, ""]}
        for name, parameter in network.named_parameters():
            part = name.split(".")[0]
            groups[part if part in shares else ""].append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": learns, "share": shares.get(part, 1.0)} for part, learns in groups.items()],
            lr=1e-3,
            weight_decay=1e-4,
        )
        self.step, self.seconds = 0, 0.0

    def descend(self, loss: Tensor, rate: float) -> None:
        """One step. The moving average's memory grows from 10 to 1000 steps."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(0.999, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)

    def save(self, folder: Path) -> None:
        """Checkpoint parts and the list that names them; the list is replaced last, so a kill loses nothing."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
        parts: list[dict[str, Tensor]] = [{}]
        used = 0
        for name, tensor in tensors.items():
            size = tensor.numel() * tensor.element_size()
            if used + size > PART_BYTES:
                parts.append({})
                used = 0
            parts[-1][name] = tensor.detach().cpu().clone().contiguous()
            used += size
        names = [f"checkpoint-{self.step}-{index}.safetensors" for index in range(len(parts))]
        for name, part in zip(names, parts, strict=True):
            with atomic_path(folder / name) as temporary:
                save_file(part, temporary)
        write_json_atomic(
            folder / "checkpoint.json", {"step": self.step, "seconds": self.seconds, "parts": names}
        )
        for old in folder.glob("checkpoint-*.safetensors"):
            if old.name not in names:
                old.unlink()

    def resume(self, folder: Path) -> bool:
        """Continue from `save`; False when there is nothing to continue from. Raises ValueError when it was the
        training of another network.
        """
        if not (folder / "checkpoint.json").exists():
            return False
        record = json.loads((folder / "checkpoint.json").read_text())
        tensors: dict[str, Tensor] = {}
        for name in record["parts"]:
            tensors |= load_file(folder / name)
        for prefix, module in (("network.", self.network), ("average.", self.average)):
            own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            if problem := misfit(own, module):
                raise ValueError(
                    f"{folder} holds the training of another network ({problem}); name another folder"
                )
            module.load_state_dict(own)
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.step, self.seconds = record["step"], record["seconds"]
        return True


def learning_rate(peak: float, step: int, done: float) -> float:
    """Linear warm-up, then half a cosine down to 1 % of the peak; done in [0,1]."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return peak * min(1.0, (step + 1) / WARM_UP_STEPS) * (0.01 + 0.99 * cosine)


def misfit(state: Mapping[str, Tensor], module: nn.Module) -> str | None:
    """None when these tensors are those of the module, else what is wrong with them."""
    expected = module.state_dict()
    if names := sorted(expected.keys() ^ state.keys()):
        return f"{names[0]} is {'missing' if names[0] in expected else 'unknown'}"
    wrong = [name for name, value in expected.items() if value.shape != state[name].shape]
    return f"{wrong[0]} has the shape {list(state[wrong[0]].shape)}" if wrong else None
