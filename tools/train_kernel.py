"""Train the network that reads the blur kernel of a photo (deblurgs/restore/blur_kernel.py).

    python tools/collect_photos.py --budgie budgie-backgrounds --elementary elementary --pop pop --output photos
    python tools/train_kernel.py --photos photos/train --output kernel --minutes 45 --bf16

Writes OUTPUT/checkpoint.json and its parts (the same command continues from them) and OUTPUT/estimator.safetensors (the
moving average: what `tools/train_restore.py --estimator` reads). Most of the time goes into drawing photos, so the maps
of those drawn before are used again, turned and mirrored.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from checkpoints import Trained, learning_rate, misfit
from restore_pairs import begin, draw_batch, largest_patch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from deblurgs.files import JsonLines, atomic_path
from deblurgs.math.color import linear_from_srgb
from deblurgs.restore.blur_kernel import KernelEstimator, photo_maps
from deblurgs.restore.losses import kernel_loss

SIZES_PX = (160, 192, 256)
# Photos drawn for a step, maps of a step, maps that are kept, and photos drawn before the first step.
NEW, BATCH, KEPT, FIRST = 4, 32, 40_000, 1024
BLUR_WEIGHT = 0.5  # what a filter leaves follows the kernel, and is the flatter measure far from the truth


class Pool:
    """The last maps [N,3,49,49] and kernels [N,65,65] that were drawn."""

    def __init__(self) -> None:
        self.maps: list[Tensor] = []
        self.kernels: list[Tensor] = []

    def add(self, maps: Tensor, kernels: Tensor) -> None:
        self.maps = [*self.maps, *maps.half()][-KEPT:]
        self.kernels = [*self.kernels, *kernels.half()][-KEPT:]

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The newest and some of all, turned by a multiple of 90 degrees and perhaps mirrored."""
        count = len(self.maps)
        newest = range(max(0, count - NEW), count)
        chosen = [*newest, *rng.integers(count, size=BATCH - len(newest))]
        maps = torch.stack([self.maps[i] for i in chosen]).float()
        kernels = torch.stack([self.kernels[i] for i in chosen]).float()
        turns = int(rng.integers(4))
        maps, kernels = torch.rot90(maps, turns, (-2, -1)), torch.rot90(kernels, turns, (-2, -1))
        return (maps.flip(-1), kernels.flip(-1)) if rng.random() < 0.5 else (maps, kernels)


def read_estimator(path: Path) -> dict[str, Tensor]:
    """The estimator's tensors in what this tool wrote, or in a guided network of any size. Raises ValueError."""
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read the estimator {path}: {error}") from error
    of_network = {k.removeprefix("estimator."): v for k, v in state.items() if k.startswith("estimator.")}
    state = {name: value.float() for name, value in (of_network or state).items()}
    if problem := misfit(state, KernelEstimator()):
        raise ValueError(
            f"{path} holds no estimator ({problem}); name a file of train_kernel.py or guided weights"
        )
    return state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--init", type=Path, help="an estimator to begin with")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--bf16", action="store_true", help="faster where AVX-512 has it")
    arguments, photos = begin(parser)
    if largest_patch(photos) < max(SIZES_PX):
        parser.error(
            f"the smallest photo allows patches of {largest_patch(photos)} pixels, not of {max(SIZES_PX)}"
        )
    network = KernelEstimator()
    training = Trained(network.to(memory_format=torch.channels_last), KernelEstimator())  # pyright: ignore[reportCallIssue]
    try:
        if arguments.init:
            network.load_state_dict(read_estimator(arguments.init))
            training.average.load_state_dict(network.state_dict())
        training.resume(arguments.output)
    except ValueError as error:
        parser.error(str(error))
    rng = np.random.default_rng([arguments.seed, training.step])
    pool = Pool()
    for _ in range(FIRST // NEW):
        draw_into(pool, rng, photos)
    started = last_save = time.monotonic() - training.seconds
    recent: list[tuple[float, float]] = []
    with JsonLines(arguments.output / "metrics.jsonl") as log:
        while training.seconds < 60 * arguments.minutes:
            draw_into(pool, rng, photos)
            rate = learning_rate(arguments.rate, training.step, training.seconds / (60 * arguments.minutes))
            recent.append(step(training, *pool.draw(rng), rate, arguments.bf16))
            training.seconds = time.monotonic() - started
            if training.step % 100 == 0:
                kernel, blur = np.mean(recent, axis=0)
                record = {"step": training.step, "kernel": kernel, "blur": blur, "seconds": training.seconds}
                log.write(record)
                print(
                    f"{training.step} kernel {kernel:.4f} blur left {blur:.4f} {training.seconds:.0f} s",
                    flush=True,
                )
                recent.clear()
            if time.monotonic() - last_save > 60:
                finish(training, arguments)
                last_save = time.monotonic()
    finish(training, arguments)


def draw_into(pool: Pool, rng: np.random.Generator, photos: list[Tensor]) -> None:
    batch = draw_batch(rng, photos, int(rng.choice(SIZES_PX)), NEW)
    pool.add(photo_maps(linear_from_srgb(batch.blurred).mean(1)), batch.kernels)


def step(
    training: Trained[KernelEstimator], maps: Tensor, kernels: Tensor, rate: float, bf16: bool = False
) -> tuple[float, float]:
    """Returns the two parts of the loss."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        read = training.network.read(maps.contiguous(memory_format=torch.channels_last))
    kernel, blur = (part.mean() for part in kernel_loss(read, kernels))
    training.descend(kernel + BLUR_WEIGHT * blur, rate)
    return float(kernel.detach()), float(blur.detach())


def finish(training: Trained[KernelEstimator], arguments: argparse.Namespace) -> None:
    """Save the checkpoint and the moving average."""
    training.save(arguments.output)
    notes = {"steps": training.step, "rate": arguments.rate, "minutes": round(training.seconds / 60, 1)}
    state = {k: v.detach().contiguous() for k, v in training.average.state_dict().items()}
    with atomic_path(arguments.output / "estimator.safetensors") as temporary:
        save_file(state, temporary, {"deblurgs": json.dumps(notes, sort_keys=True)})


if __name__ == "__main__":
    main()
