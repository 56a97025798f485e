"""Train the single-photo restorer (MIMO-UNet) on synthetic camera shake.

    python tools/collect_photos.py --budgie budgie-backgrounds --output photos
    python tools/train_restore.py --photos photos/train --output work --minutes 100 --bf16
    python tools/train_restore.py --photos photos/train --output work --base --device cuda --minutes 25
    python tools/train_restore.py --photos photos/train --output steered --steered \\
        --init work/weights.safetensors --minutes 66 --rate 7e-4 --bf16 --threads 2

A steered network first learns with the true code of every blur (`--taught`, a share of the time) while its estimator
learns to read codes, then with what the estimator reads.

Writes OUTPUT/checkpoint.safetensors (network, moving average and optimiser state, in several files of less than
16 MB each; the same command continues from them) and OUTPUT/weights.safetensors (moving average, fp16: what
`deblurgs deblur --weights` reads). The learning rate follows a cosine over the steps or the minutes, whichever
ends first.
"""

import argparse
import io
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from deblurgs.files import JsonLines, atomic_path, write_json_atomic
from deblurgs.restore.blur_code import WINDOW_PX, kernel_code
from deblurgs.restore.losses import restoration_loss
from deblurgs.restore.mimo_unet import MIMO_UNET, MimoConfig, MimoUNet
from deblurgs.restore.shake import kernel_size, shake_image
from deblurgs.restore.weights import load_network, read_notes, save_weights

MAX_EXTENT_PX = 24.0
PART_BYTES = 15 * 2**20
WARM_UP_STEPS = 50
CODE_WEIGHT = 0.2
# Reading a code costs far less than restoring a picture, so the estimator sees more of them while it is taught; most of
# their time is that of drawing them.
TAUGHT_PICTURES = 16


@dataclass(frozen=True)
class Batch:
    """blurred and sharp sRGB [B,3,P,P]; codes [B,CODE_SIZE]."""

    blurred: Tensor
    sharp: Tensor
    codes: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.blurred.to(device), self.sharp.to(device), self.codes.to(device))


def load_photos(folder: Path) -> list[Tensor]:
    """All PNG tiles as uint8 [3,H,W]."""
    return [
        torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).contiguous()
        for path in sorted(folder.glob("*.png"))
    ]


def draw_extent(rng: np.random.Generator) -> float:
    """Pixels: 15 % sharp or nearly so, the rest log-normal around 10 px."""
    if rng.random() < 0.15:
        return float(rng.choice([0.0, 0.0, rng.uniform(0.5, 2.0)]))
    return float(np.clip(10.0 * np.exp(rng.normal() * 0.45), 2.0, MAX_EXTENT_PX))


def draw_batch(rng: np.random.Generator, photos: list[Tensor], patch: int, count: int) -> Batch:
    """Random crops, turns, brightness and shakes, then light noise and JPEG."""
    rows = [_draw_pair(rng, photos, patch) for _ in range(count)]
    return Batch(*(torch.stack(column) for column in zip(*rows, strict=True)))


def _draw_pair(rng: np.random.Generator, photos: list[Tensor], patch: int) -> tuple[Tensor, Tensor, Tensor]:
    extent = draw_extent(rng)
    size = patch + kernel_size(1.25 * extent) - 1
    photo = photos[rng.integers(len(photos))]
    top, left = rng.integers(photo.shape[1] - size + 1), rng.integers(photo.shape[2] - size + 1)
    crop = photo[:, top : top + size, left : left + size].float() / 255
    crop = torch.rot90(crop, int(rng.integers(4)), (1, 2))
    if rng.random() < 0.5:
        crop = crop.flip(2)
    crop = crop * float(rng.uniform(0.6, 1.0))
    shaken = shake_image(rng, crop, extent, segments=int(rng.integers(1, 3)))
    codes = [share * kernel_code(k) for share, k in zip(shaken.shares, shaken.kernels, strict=True)]
    return degrade(rng, shaken.blurred), shaken.sharp, torch.stack(codes).sum(0)


def degrade(rng: np.random.Generator, image: Tensor) -> Tensor:
    """Sensor noise (deviation up to 0.01) and, every second time, JPEG of quality 75 to 97; 8 bits."""
    noisy = image + torch.from_numpy(rng.normal(size=tuple(image.shape)).astype(np.float32)) * float(
        rng.uniform(0, 0.01)
    )
    pixels = (noisy.clamp(0, 1) * 255).round().to(torch.uint8)
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(
            buffer, "JPEG", quality=int(rng.integers(75, 98))
        )
        pixels = torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1)
    return pixels.float() / 255


class Training:
    """Network, its exponential moving average and the optimiser, with saving and continuing."""

    def __init__(self, config: MimoConfig, device: str, bf16: bool = False, init: Path | None = None) -> None:
        """bf16: also on a CPU. On a GPU that has it, it is always used. init: weights to begin with."""
        self.config = config
        self.device = torch.device(device)
        self.bf16 = bf16 or (self.device.type == "cuda" and torch.cuda.is_bf16_supported())
        self.network = MimoUNet(config).to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if init is not None:
            begin = load_network(init)
            if (begin.config.width, begin.config.blocks) != (config.width, config.blocks):
                raise ValueError(f"{init} has width {begin.config.width} and {begin.config.blocks} blocks")
            if begin.config.steered and not config.steered:
                raise ValueError(f"{init} is steered and needs --steered")
            self.network.load_state_dict({**self.network.state_dict(), **begin.state_dict()})
        self.average = MimoUNet(config).to(self.device)
        self.average.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-3, weight_decay=1e-4)
        self.step, self.seconds = 0, 0.0

    def advance(self, batch: Batch, rate: float, more: Batch | None = None) -> tuple[float, float]:
        """One step; returns the loss of the picture and of the codes.

        more: further pictures to read codes from; with them the network is steered by the true codes. The moving
        average's memory grows from 10 to 1000 steps.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        blurred = batch.blurred.contiguous(memory_format=torch.channels_last)
        codes, code_loss = None, blurred.new_zeros(())
        if self.config.steered and more is None:
            codes = self.network.estimator(blurred)
            code_loss = _code_loss(codes, batch.codes)
        elif more is not None:
            codes = batch.codes
            read = self.network.estimator(torch.cat([blurred, more.blurred]))
            code_loss = _code_loss(read, torch.cat([batch.codes, more.codes]))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            outputs = self.network(blurred, codes)
        picture_loss = restoration_loss(outputs, batch.sharp)
        loss = picture_loss + CODE_WEIGHT * code_loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(0.999, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        return float(picture_loss.detach()), float(code_loss.detach())

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
        """Continue from `save`; False when there is nothing to continue from."""
        if not (folder / "checkpoint.json").exists():
            return False
        record = json.loads((folder / "checkpoint.json").read_text())
        tensors: dict[str, Tensor] = {}
        for name in record["parts"]:
            tensors |= load_file(folder / name)
        for prefix, module in (("network.", self.network), ("average.", self.average)):
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.step, self.seconds = record["step"], record["seconds"]
        return True


def _code_loss(read: Tensor, true: Tensor) -> Tensor:
    """The squared error, relative to each code's own squared size: a code of a small blur has large numbers."""
    return (((read - true) ** 2).sum(1) / (true**2).sum(1)).mean()


def learning_rate(peak: float, step: int, done: float) -> float:
    """Linear warm-up, then half a cosine down to 1 % of the peak; done in [0,1]."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return peak * min(1.0, (step + 1) / WARM_UP_STEPS) * (0.01 + 0.99 * cosine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of PNG tiles (collect_photos.py)")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--base", action="store_true", help="MIMO-UNet (width 32, 8 blocks)")
    parser.add_argument("--width", type=int, default=12)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--steered", action="store_true", help="blur codes steer the network")
    parser.add_argument("--taught", type=float, default=0.2, help="share of the time with true codes, 0 to 1")
    parser.add_argument("--init", type=Path, help="weights of the same width and blocks to begin with")
    parser.add_argument("--patch", type=int, help="pixels, a multiple of 4; default 96, steered always 128")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--steps", type=int, default=500_000)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--bf16", action="store_true", help="also on a CPU: 1.6 times as fast where AVX-512 has it"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)
    photos = load_photos(arguments.photos)
    if not photos:
        parser.error(f"no PNG tiles in {arguments.photos}: run tools/collect_photos.py first")
    arguments.patch = arguments.patch or (WINDOW_PX if arguments.steered else 96)
    if arguments.steered and arguments.patch != WINDOW_PX:
        parser.error(f"--steered needs --patch {WINDOW_PX}: one window")
    base = MIMO_UNET if arguments.base else MimoConfig(arguments.width, arguments.blocks)
    config = replace(base, steered=arguments.steered)
    try:
        training = Training(config, arguments.device, arguments.bf16, arguments.init)
    except ValueError as error:
        parser.error(f"--init: {error}; name weights of the network that is trained")
    training.resume(arguments.output)
    rng = np.random.default_rng([arguments.seed, training.step])
    started = last_save = time.monotonic() - training.seconds
    recent: list[tuple[float, float]] = []
    with JsonLines(arguments.output / "metrics.jsonl") as log:
        while training.step < arguments.steps and training.seconds < 60 * arguments.minutes:
            done = max(training.step / arguments.steps, training.seconds / (60 * arguments.minutes))
            taught = arguments.steered and done < arguments.taught
            rate = learning_rate(arguments.rate, training.step, done)
            batch = draw_batch(rng, photos, arguments.patch, arguments.batch).to(training.device)
            more = None
            if taught:
                more = draw_batch(rng, photos, WINDOW_PX, TAUGHT_PICTURES).to(training.device)
            recent.append(training.advance(batch, rate, more))
            training.seconds = time.monotonic() - started
            if training.step % 50 == 0:
                loss, code_loss = np.mean(recent, axis=0)
                record = {"step": training.step, "loss": loss, "code_loss": code_loss}
                log.write({**record, "seconds": training.seconds})
                print(
                    f"{training.step} loss {loss:.4f} codes {code_loss:.4f} {training.seconds:.0f} s",
                    flush=True,
                )
                recent.clear()
            if time.monotonic() - last_save > 60:
                finish(training, arguments)
                last_save = time.monotonic()
    finish(training, arguments)


def finish(training: Training, arguments: argparse.Namespace) -> None:
    """Save the checkpoint and the moving average as weights."""
    training.save(arguments.output)
    notes: dict[str, object] = {
        "steps": training.step,
        "rate": arguments.rate,
        "batch": arguments.batch,
        "patch": arguments.patch,
        "minutes": round(training.seconds / 60, 1),
        "photos": "budgie-backgrounds (CC0) and scikit-image samples (public domain, CC0): docs/restore.md",
    }
    if arguments.init:
        notes["init"] = read_notes(arguments.init)
    save_weights(arguments.output / "weights.safetensors", training.average, notes=notes)


if __name__ == "__main__":
    main()
