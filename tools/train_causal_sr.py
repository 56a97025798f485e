"""Train the weights of `deblurgs upscale` on free photographs, on a CPU, within a given time.

    python tools/train_causal_sr.py prepare PHOTOS TILES     # reduce photographs and keep their richest 256 px tiles
    python tools/train_causal_sr.py train TILES --out DIR --minutes 40

`train` first fits the encoder and the linear filters (about a minute), which need no gradient steps through pictures,
then trains the blocks beside them. It goes on from DIR/state.pt if it is there, writes it every minute, and leaves
DIR/causal_sr.safetensors (the running mean of the weights, fp16). docs/upscale.md lists the photographs.
"""

import argparse
import itertools
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from deblurgs.restore.causal_sr import (
    LINEAR_PX,
    NODES,
    NUM_CLASSES,
    SCALES,
    CausalSR,
    Posterior,
    neighbourhood_classes,
)
from deblurgs.restore.degradation import FACTORS, Observation, enlarge, observe, random_factors, random_shape

TILE = 256
TILES_PER_PHOTO = 12
PATCH = 32  # pixels of the small picture
ENCODER_PATCH = 48
PAIRS = 5
EMA = 0.995
WEIGHTS = {"consistency": 0.1, "sparsity": 0.01, "corrected": 1.0}
STILL = 0.2


def prepare(photos: Path, tiles: Path) -> None:
    """Halve photographs (at least) until about 1080 rows are left, which removes their JPEG traces; cut tiles."""
    tiles.mkdir(parents=True, exist_ok=True)
    for path in sorted(p for p in photos.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
        photo = Image.open(path).convert("RGB")
        factor = max(2, round(min(photo.size) / 1080))
        small = np.asarray(
            photo.resize((photo.width // factor, photo.height // factor), Image.Resampling.LANCZOS)
        )
        found = []
        for y in range(0, small.shape[0] - TILE + 1, TILE):
            for x in range(0, small.shape[1] - TILE + 1, TILE):
                grey = small[y : y + TILE, x : x + TILE].mean(2)
                found.append((np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey)).mean(), y, x))
        for _, y, x in sorted(found, reverse=True)[:TILES_PER_PHOTO]:
            Image.fromarray(small[y : y + TILE, x : x + TILE]).save(tiles / f"{path.stem}-{y}-{x}.png")


def load_tiles(folder: Path) -> Tensor:
    """All tiles as uint8 [N,3,256,256]."""
    pictures = [np.asarray(Image.open(p).convert("RGB")) for p in sorted(folder.glob("*.png"))]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def sharp_patches(tiles: Tensor, scale: int, generator: torch.Generator, patch_px: int = PATCH) -> Tensor:
    """PAIRS random crops of patch_px * scale pixels, turned and flipped; [PAIRS,3,P,P] in [0,1]."""
    size = patch_px * scale
    out = []
    for _ in range(PAIRS):
        t, y, x, turn, flip = torch.randint(0, 1 << 30, (5,), generator=generator).tolist()
        tile = tiles[t % len(tiles)]
        patch = tile[:, y % (TILE - size + 1) :, x % (TILE - size + 1) :][:, :size, :size]
        patch = torch.rot90(patch, turn % 4, (1, 2))
        out.append(patch.flip(2) if flip % 2 else patch)
    return torch.stack(out).float() / 255.0


def one_changed(factors: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Counterfactual factors: one coordinate of each row drawn anew. -> (factors [B,3], changed one-hot [B,3])."""
    which = torch.randint(0, len(FACTORS), (len(factors),), generator=generator)
    changed = torch.nn.functional.one_hot(which, len(FACTORS)).bool()
    fresh = torch.rand(len(factors), 1, generator=generator)
    return torch.where(changed, fresh, factors), changed


def partly_taken(factors: Tensor, generator: torch.Generator) -> Tensor:
    """do-operations: some coordinates lowered, half the time to exactly 0. [B,3] <= factors."""
    shape = factors.shape
    share = torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) > 0.5)
    lowered = torch.rand(shape, generator=generator) < 0.5
    return torch.where(lowered, factors * share, factors)


def observed_pair(
    tiles: Tensor, scale: int, generator: torch.Generator, patch_px: int = PATCH
) -> tuple[Observation, Observation, Tensor]:
    """The same sharp patches and the same noise twice, with one factor changed. -> (seen, twin, changed [B,3])."""
    sharp = sharp_patches(tiles, scale, generator, patch_px)
    shape, factors = random_shape(PAIRS, generator), random_factors(PAIRS, generator)
    other, changed = one_changed(factors, generator)
    noise = torch.randn(PAIRS, 3, patch_px, patch_px, generator=generator)
    return (
        observe(sharp, factors, shape, noise, scale),
        observe(sharp, other, shape, noise, scale),
        changed,
    )


def random_scale(generator: torch.Generator) -> int:
    return SCALES[int(torch.multinomial(torch.tensor([0.4, 0.2, 0.4]), 1, generator=generator))]


def fit_encoder(model: CausalSR, tiles: Tensor, generator: torch.Generator, pairs: int, epochs: int) -> None:
    """Statistics of many counterfactual pairs once, then the perceptron on them: factor and only-that-moves losses."""
    encoder, rows, truths, changes = model.encoder, [], [], []
    with torch.no_grad():
        for _ in range(pairs // PAIRS):
            seen, twin, changed = observed_pair(tiles, random_scale(generator), generator, ENCODER_PATCH)
            both = torch.cat([seen.observed, twin.observed])
            rows.append(encoder.statistics(both).reshape(2, PAIRS, -1).transpose(0, 1))
            truths.append(torch.stack([seen.factors, twin.factors], 1))
            changes.append(changed)
    data, truth, changed = torch.cat(rows), torch.cat(truths), torch.cat(changes)
    encoder.centre.copy_(data.mean((0, 1)))
    encoder.spread.copy_(data.std((0, 1)).clamp_min(1e-3))
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=2e-3, weight_decay=1e-3)
    batch, total = 64, epochs * (len(data) // 64)
    for step in range(total):
        optimizer.param_groups[0]["lr"] = 2e-3 * (0.02 + 0.49 * (1 + math.cos(math.pi * step / total)))
        chosen = torch.randint(0, len(data), (batch,), generator=generator)
        posterior = encoder.read(data[chosen].flatten(0, 1))
        moved = posterior.mean.reshape(batch, 2, -1).diff(dim=1)[:, 0].abs()
        still = (moved * ~changed[chosen]).mean()
        loss = _factor_loss(posterior, truth[chosen].flatten(0, 1)) + STILL * still
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(json.dumps({"encoder": {"pairs": len(data), "loss": round(float(loss.detach()), 4)}}), flush=True)


def fit_linear(model: CausalSR, tiles: Tensor, generator: torch.Generator, batches: int) -> None:
    """At each node of z and for each kind of neighbourhood: ridge regression of what bicubic lacks on 7x7 pixels."""
    side = LINEAR_PX**2
    for scale in SCALES:
        filters = model.net.linear.filters[str(scale)].data
        for n, node in enumerate(itertools.product(*NODES)):
            gram = torch.zeros(NUM_CLASSES, side, side)
            moments = torch.zeros(NUM_CLASSES, side, scale * scale)
            for _ in range(batches):
                sharp = sharp_patches(tiles, scale, generator, ENCODER_PATCH)
                noise = torch.randn(PAIRS, 3, ENCODER_PATCH, ENCODER_PATCH, generator=generator)
                z = torch.tensor(node).expand(PAIRS, 3)
                seen = observe(sharp, z, random_shape(PAIRS, generator), noise, scale)
                lacking = sharp - enlarge(seen.observed, scale)
                wanted = F.pixel_unshuffle(lacking.flatten(0, 1)[:, None], scale).flatten(2)  # [3B,s*s,P]
                around = F.pad(seen.observed, (LINEAR_PX // 2,) * 4, mode="replicate")
                around = F.unfold(around.flatten(0, 1)[:, None], LINEAR_PX)  # [3B,49,P]
                kinds = neighbourhood_classes(seen.observed, z[:, 1]).flatten(1).repeat_interleave(3, 0)
                x, y = around.transpose(1, 2).flatten(0, 1), wanted.transpose(1, 2).flatten(0, 1)
                for c in range(NUM_CLASSES):
                    chosen = (kinds.flatten() == c).nonzero()[:6000, 0]
                    rows = x[chosen]
                    gram[c] += rows.T @ rows
                    moments[c] += rows.T @ y[chosen]
            # A kind that was seen rarely leans on all kinds together; the diagonal keeps filters calm.
            gram, moments = gram + 0.02 * gram.sum(0), moments + 0.02 * moments.sum(0)
            energy = gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
            ridge = 2e-6 * energy * torch.eye(side)
            filters[n] = torch.linalg.solve((gram + ridge).double(), moments.double()).transpose(1, 2).float()
        print(json.dumps({"linear": {"scale": scale}}), flush=True)


def loss_of(
    model: CausalSR, tiles: Tensor, generator: torch.Generator, bf16: bool = False
) -> tuple[Tensor, dict[str, float]]:
    """One batch of counterfactual pairs and do-operations. bf16: the blocks compute with 8 bits of mantissa."""
    scale = random_scale(generator)
    seen, twin, _ = observed_pair(tiles, scale, generator)
    pictures = torch.cat([seen.observed, twin.observed])
    with torch.no_grad():
        posterior = model.encoder(pictures)
    # First half: what the degradation is said to be is the truth, or the posterior, or a do-operation on the truth.
    # Second half: the counterfactual twin with the corrected estimate.
    corrected, mask = model.intervention(Posterior(posterior.mean[PAIRS:], posterior.log_variance[PAIRS:]))
    first, target = _told(seen, posterior, generator)
    told = torch.cat([first, corrected])
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        detail = model.net.detail(pictures.contiguous(memory_format=torch.channels_last), told, scale)
    enlarged = model.net.filtered(pictures, told, scale) + detail.float()
    content = (enlarged[:PAIRS] - target).abs().mean()
    errors = (enlarged[:PAIRS] - target, enlarged[PAIRS:] - twin.sharp)
    parts = {
        "sparsity": mask.mean(),
        "corrected": errors[1].abs().mean(),
        "consistency": (errors[0] - errors[1]).abs().mean(),
    }
    total = content + sum(WEIGHTS[name] * value for name, value in parts.items())
    return total, {"content": float(content.detach())} | {k: float(v.detach()) for k, v in parts.items()}


def _factor_loss(posterior: Posterior, truth: Tensor) -> Tensor:
    """Absolute error plus a small Gaussian negative log likelihood, which teaches the variance."""
    error = posterior.mean - truth
    likelihood = error.detach().square() * torch.exp(-posterior.log_variance) + posterior.log_variance
    return error.abs().mean() + 0.02 * likelihood.mean()


def _told(seen: Observation, posterior: Posterior, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(factors the network is told [B,3], the picture it must then answer with)."""
    taken = partly_taken(seen.factors, generator)
    noise = torch.randn(2 * PAIRS, len(FACTORS), generator=generator)
    sampled = posterior.sample(noise)[:PAIRS].detach()
    kind = torch.rand(PAIRS, 1, generator=generator)
    told = torch.where(kind < 0.5, taken, torch.where(kind < 0.7, seen.factors, sampled))
    taken = torch.where(kind < 0.5, taken, seen.factors)
    return told, seen.explained(taken).clamp(0, 1)


def learnt_parameters(model: CausalSR) -> list[torch.nn.Parameter]:
    """What steps along the gradient may change.

    Not the encoder, which is fitted before, and not the filters, which are frozen here: they are the best ones already,
    and steps of the size that the blocks need ruin them (measured: the loss rose by a third within 200 steps).
    """
    model.net.linear.requires_grad_(False)
    # Without blocks the rest of the network is not used.
    network = [p for p in model.net.parameters() if p.requires_grad] if len(model.net.blocks) else []
    return [*network, *model.intervention.parameters()]


def train(
    folder: Path, out: Path, minutes: float, rate: float, blocks: int, width: int, bf16: bool = False
) -> None:
    """Adam with a cosine over the given time, norm-clipped gradients, a running mean of the weights."""
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    tiles, generator = load_tiles(folder), torch.Generator().manual_seed(0)
    model, mean = CausalSR(width, blocks), CausalSR(width, blocks)
    learnt = learnt_parameters(model)
    optimizer = torch.optim.Adam(learnt, lr=rate, betas=(0.9, 0.99))
    state = {"step": 0, "seconds": 0.0}
    if (out / "state.pt").exists():
        saved = torch.load(out / "state.pt", weights_only=True)
        if len(saved["optimizer"]["param_groups"][0]["params"]) != len(learnt):
            raise SystemExit(
                f"{out}/state.pt is of another network or of an older training: give another --out"
            )
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        mean.load_state_dict(saved["mean"])
        generator.set_state(saved["generator"])
        state = saved["state"]
    else:
        fit_encoder(model, tiles, generator, pairs=900, epochs=90)
        fit_linear(model, tiles, generator, batches=3)
        mean.load_state_dict(model.state_dict())
    started, kept, sums = time.monotonic() - state["seconds"], time.monotonic(), {}

    def save() -> None:
        torch.save(
            {"model": model.state_dict(), "mean": mean.state_dict(), "optimizer": optimizer.state_dict(),
             "generator": generator.get_state(), "state": state}, out / "state.part")  # fmt: skip
        (out / "state.part").replace(out / "state.pt")
        half = {name: value.half().contiguous() for name, value in mean.state_dict().items()}
        save_file(half, out / "causal_sr.safetensors", metadata={"format": "deblurgs causal_sr 1"})

    save()
    while (elapsed := time.monotonic() - started) < 60 * minutes:
        done = elapsed / (60 * minutes)
        warm = min(1.0, (state["step"] + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        loss, parts = loss_of(model, tiles, generator, bf16)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        state["step"] += 1
        keep = min(EMA, state["step"] / (state["step"] + 10))
        with torch.no_grad():
            for slow, fast in zip(mean.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)
        sums = {k: sums.get(k, 0.0) + v for k, v in parts.items()}
        if state["step"] % 50 == 0:
            line = {"step": state["step"], "s": round(elapsed)} | {
                k: round(v / 50, 4) for k, v in sums.items()
            }
            print(json.dumps(line), flush=True)
            sums = {}
        if time.monotonic() - kept > 60:
            state["seconds"], kept = elapsed, time.monotonic()
            save()
    state["seconds"] = elapsed
    save()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("prepare")
    first.add_argument("photos", type=Path)
    first.add_argument("tiles", type=Path)
    second = commands.add_parser("train")
    second.add_argument("tiles", type=Path)
    second.add_argument("--out", type=Path, required=True)
    second.add_argument("--minutes", type=float, default=40.0)
    second.add_argument("--rate", type=float, default=1e-3)
    second.add_argument("--blocks", type=int, default=6, help="residual blocks beside the fitted filters")
    second.add_argument("--width", type=int, default=40, help="channels of these blocks")
    second.add_argument("--bf16", action="store_true", help="faster where the processor has AVX-512 for it")
    arguments = parser.parse_args()
    if arguments.command == "prepare":
        prepare(arguments.photos, arguments.tiles)
    else:
        train(
            arguments.tiles,
            arguments.out,
            arguments.minutes,
            arguments.rate,
            arguments.blocks,
            arguments.width,
            arguments.bf16,
        )


if __name__ == "__main__":
    main()
