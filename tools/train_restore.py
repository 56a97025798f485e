"""Train the single-photo restorer (MIMO-UNet) on synthetic camera shake.

    python tools/collect_photos.py --budgie budgie-backgrounds --elementary elementary --pop pop --output photos
    python tools/train_restore.py --photos photos/train --output plain --minutes 100 --bf16
    python tools/train_kernel.py --photos photos/train --output kernel --minutes 45 --bf16
    python tools/train_restore.py --photos photos/train --output guided --init plain/weights.safetensors \\
        --estimator kernel/estimator.safetensors --minutes 60 --bf16
    python tools/train_restore.py --photos photos/train --output base --base --device cuda --minutes 25 \\
        --estimator guided/weights.safetensors

With an estimator the network is a guided one: it also sees the photo deconvolved with the kernel that the estimator
reads. Both go on learning together, the estimator slowly.

Writes OUTPUT/checkpoint.json and its parts (network, moving average and optimiser state, less than 16 MB each; the same
command continues from them) and OUTPUT/weights.safetensors (moving average, fp16: what `deblurgs deblur --weights`
reads). The learning rate follows a cosine over the steps or the minutes, whichever ends first.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from checkpoints import Trained, learning_rate
from restore_pairs import Batch, begin, draw_batch, largest_patch
from train_kernel import read_estimator

from deblurgs.errors import CaptureError
from deblurgs.files import JsonLines
from deblurgs.restore.deconvolution import trial_deconvolutions
from deblurgs.restore.losses import kernel_loss, restoration_loss
from deblurgs.restore.mimo_unet import MIMO_UNET, SIZE_MULTIPLE, MimoConfig, MimoUNet
from deblurgs.restore.weights import load_network, read_notes, save_weights

# A kernel is read from more than the pixels that are trained on, as from a tile of a photo.
CONTEXT_PX = 64
ESTIMATOR_RATE = 0.3
KERNEL_WEIGHT = 0.1
PHOTOS = (
    "budgie-backgrounds, elementary and pop-os wallpapers, scikit-image (CC0, public domain): docs/restore.md"
)


class Training(Trained[MimoUNet]):
    """One step of a network that restores."""

    def __init__(
        self,
        config: MimoConfig,
        device: str,
        *,
        bf16: bool = False,
        init: Path | None = None,
        estimator: Path | None = None,
    ) -> None:
        """bf16: also on a CPU; on a GPU that has it, it is always used. init: weights to begin with, of the same width
        and blocks. estimator: what `train_kernel.read_estimator` reads. A guided network needs it or a guided `init`.
        Raises ValueError when they do not fit.
        """
        self.device = torch.device(device)
        self.bf16 = bf16 or (self.device.type == "cuda" and torch.cuda.is_bf16_supported())
        network = MimoUNet(config)
        begin = load_network(init) if init else None
        if begin is not None:
            if (begin.config.width, begin.config.blocks) != (config.width, config.blocks):
                raise ValueError(f"{init} has width {begin.config.width} and {begin.config.blocks} blocks")
            if begin.config.guided and not config.guided:
                raise ValueError(f"{init} is guided and needs --guided")
            network.load_state_dict({**network.state_dict(), **begin.state_dict()})
        if config.guided:
            if estimator is not None:
                network.estimator.load_state_dict(read_estimator(estimator))
            elif begin is None or not begin.config.guided:
                raise ValueError("a guided network needs --estimator, or --init with a guided one")
        super().__init__(
            network.to(self.device, memory_format=torch.channels_last),  # pyright: ignore[reportCallIssue]
            MimoUNet(config).to(self.device),
            slower={"estimator": ESTIMATOR_RATE},
        )

    def advance(self, batch: Batch, rate: float, cut: tuple[int, int] = (0, 0)) -> float:
        """One step; returns the loss of its pictures. Of a guided network's batch it restores all but `CONTEXT_PX` rows
        and columns, beginning with row and column `cut`.
        """
        blurred, sharp, trials = batch.blurred, batch.sharp, None
        loss = blurred.new_zeros(())
        if self.network.config.guided:
            kernels = self.network.estimator(blurred)
            loss = KERNEL_WEIGHT * sum(part.mean() for part in kernel_loss(kernels, batch.kernels))
            trials = trial_deconvolutions(blurred, kernels)
            size = blurred.shape[-1] - CONTEXT_PX
            blurred, sharp, trials = (
                x[..., cut[0] : cut[0] + size, cut[1] : cut[1] + size] for x in (blurred, sharp, trials)
            )
        blurred = blurred.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            outputs = self.network(blurred, trials)
        picture_loss = restoration_loss(outputs, sharp)
        self.descend(picture_loss + loss, rate)
        return float(picture_loss.detach())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base", action="store_true", help="MIMO-UNet (width 32, 8 blocks)")
    parser.add_argument("--width", type=int, default=12)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument(
        "--estimator", type=Path, help="of train_kernel.py, or guided weights: train a guided network"
    )
    parser.add_argument("--guided", action="store_true", help="go on with the guided network of --init")
    parser.add_argument("--init", type=Path, help="weights of the same width and blocks to begin with")
    parser.add_argument("--patch", type=int, help="pixels, a multiple of 4; default 96, guided 128")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--steps", type=int, default=500_000)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--bf16", action="store_true", help="also on a CPU: 1.6 times as fast where AVX-512 has it"
    )
    arguments, photos = begin(parser)
    guided = arguments.guided or arguments.estimator is not None
    patch = arguments.patch or (128 if guided else 96)
    most = largest_patch(photos)
    size = patch + CONTEXT_PX if guided else patch
    if patch % SIZE_MULTIPLE or not SIZE_MULTIPLE <= size <= most:
        parser.error(
            f"--patch must be a multiple of {SIZE_MULTIPLE} and at most {patch + most - size} for these photos"
        )
    base = MIMO_UNET if arguments.base else MimoConfig(arguments.width, arguments.blocks)
    try:
        training = Training(
            replace(base, guided=guided),
            arguments.device,
            bf16=arguments.bf16,
            init=arguments.init,
            estimator=arguments.estimator,
        )
        training.resume(arguments.output)
    except (ValueError, CaptureError) as error:
        parser.error(str(error))
    rng = np.random.default_rng([arguments.seed, training.step])
    started = last_save = time.monotonic() - training.seconds
    recent: list[float] = []
    with JsonLines(arguments.output / "metrics.jsonl") as log:
        while training.step < arguments.steps and training.seconds < 60 * arguments.minutes:
            done = max(training.step / arguments.steps, training.seconds / (60 * arguments.minutes))
            rate = learning_rate(arguments.rate, training.step, done)
            batch = draw_batch(rng, photos, size, arguments.batch).to(training.device)
            cut = (int(rng.integers(CONTEXT_PX + 1)), int(rng.integers(CONTEXT_PX + 1)))
            recent.append(training.advance(batch, rate, cut))
            training.seconds = time.monotonic() - started
            if training.step % 50 == 0:
                loss = float(np.mean(recent))
                log.write({"step": training.step, "loss": loss, "seconds": training.seconds})
                print(f"{training.step} loss {loss:.4f} {training.seconds:.0f} s", flush=True)
                recent.clear()
            if time.monotonic() - last_save > 60:
                finish(training, arguments, patch)
                last_save = time.monotonic()
    finish(training, arguments, patch)


def finish(training: Training, arguments: argparse.Namespace, patch: int) -> None:
    """Save the checkpoint and the moving average as weights."""
    training.save(arguments.output)
    notes: dict[str, object] = {
        "steps": training.step,
        "rate": arguments.rate,
        "batch": arguments.batch,
        "patch": patch,
        "minutes": round(training.seconds / 60, 1),
        "photos": PHOTOS,
    }
    for name, path in (("init", arguments.init), ("estimator", arguments.estimator)):
        if path is not None and path.suffix == ".safetensors":
            notes[name] = read_notes(path)
    save_weights(arguments.output / "weights.safetensors", training.average, notes=notes)


if __name__ == "__main__":
    main()
