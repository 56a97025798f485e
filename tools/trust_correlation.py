"""Does low trust predict high error? Rank correlation per pixel block on finished runs of captures with sharp twins.

    python tools/trust_correlation.py RUN [RUN ...] [--json benchmarks/trust.json] [--block 16]

Each RUN is the run folder of `deblurgs run` on a capture that brings sharp twins (images/ + sharp/); the twins were
never seen by the run. Every frame is rendered at training size from its mid-exposure pose, refined on the twin as the
evaluation's "refined" column does (else the offset between the two cameras would be all one measures), and compared
with the twin: the error of a block is the rms difference in display values. Distrust is 1 minus the mean of the trust
map over the block, as `deblurgs run` computes it, without a look at the twin.

Reported are Spearman's rank correlations of distrust and error over all blocks and, averaged, within each frame. Beside
them stand what one might suspect to do the work: the texture contrast of the sharp render alone, and the partial
correlation of distrust and error with that contrast held fixed; the two ingredients of trust on their own; and the
half of the frames with the longest paths, whose photos look least like the twins.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from results import commit  # noqa: E402

from deblurgs.capture.dataset import load_capture  # noqa: E402
from deblurgs.capture.image import read_rgb  # noqa: E402
from deblurgs.evaluate.protocol import EvaluationScene  # noqa: E402
from deblurgs.evaluate.refine import refine_pose, sharp_image  # noqa: E402
from deblurgs.evaluate.scenes import evaluation_scene  # noqa: E402
from deblurgs.log import Log  # noqa: E402
from deblurgs.render.support import frame_support  # noqa: E402
from deblurgs.render.trust import trace_scene, trust_maps  # noqa: E402
from deblurgs.sfm.model import load_model  # noqa: E402
from deblurgs.stages.data import training_set  # noqa: E402
from deblurgs.stages.train import SCENE_FILE  # noqa: E402
from deblurgs.train.checkpoint import load_scene  # noqa: E402
from deblurgs.train.data import as_tensor, pyramid_level  # noqa: E402

Column = NDArray[np.float64]


def ranks(values: Column) -> Column:
    """Ranks from 0; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2.0)[inverse]


def spearman(a: Column, b: Column) -> float:
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def partial_spearman(a: Column, b: Column, given: Column) -> float:
    """Rank correlation of a and b with `given` held fixed."""
    ab, ac, bc = spearman(a, b), spearman(a, given), spearman(b, given)
    return float((ab - ac * bc) / np.sqrt((1 - ac**2) * (1 - bc**2)))


def block_means(image: Tensor, rows: int, columns: int) -> Column:
    """Means of [h,w] over rows x columns blocks that tile it, flat."""
    return F.adaptive_avg_pool2d(image[None, None], (rows, columns)).flatten().double().numpy()


def contrast(image: Tensor) -> Tensor:
    """Squared difference [H,W] of an image [H,W,3] from its 5 x 5 mean."""
    planes = image.permute(2, 0, 1)[:, None]
    mean = F.avg_pool2d(F.pad(planes, (2, 2, 2, 2), mode="reflect"), 5, stride=1)
    return (planes - mean).square().mean((0, 1))


def twins_of(run: Path, work: Path) -> EvaluationScene:
    capture, model = load_capture(run), load_model(run / "sfm")
    if not capture.twins:
        raise SystemExit(f"{run}: the capture has no sharp twins (a folder sharp/ beside images/)")
    without_tests = dataclasses.replace(capture, test_frames=[])
    return evaluation_scene(
        run.name, None, without_tests, model, training_set(model, capture), run / "sfm", work, Log()
    )


def measure(run: Path, block: int) -> dict[str, Any]:
    """Correlations of one run folder."""
    scene, names, _ = load_scene(run / "checkpoint" / SCENE_FILE)
    model = load_model(run / "sfm")
    traced = trace_scene(scene, model.cameras, lambda f: as_tensor(read_rgb(model.image_paths[f])))
    mid = scene.trajectory.all_at(0.5).detach()
    columns: dict[str, list[Column]] = {
        k: [] for k in ("distrust", "unseen", "disagreement", "contrast", "error")
    }
    with tempfile.TemporaryDirectory() as work:
        twins = twins_of(run, Path(work)).twins
    for done, twin in enumerate(twins):
        f = names.index(twin.name)
        camera, aa = scene.training_cameras[f], scene.config.antialiased
        target = pyramid_level([twin.image], [camera]).images[0]
        pose = refine_pose(scene.gaussians, mid[f], camera, target, antialiased=aa)
        image = sharp_image(scene.gaussians, pose, camera, antialiased=aa)
        support = frame_support(traced.exposures, f)
        tiles = (camera.height // block, camera.width // block)
        whole = (slice(0, tiles[0] * block), slice(0, tiles[1] * block))

        def blocks(full: Tensor, tiles=tiles, whole=whole, camera=camera) -> Column:
            if full.shape != (camera.height, camera.width):
                size = (camera.height, camera.width)
                full = F.interpolate(full[None, None], size, mode="bilinear", align_corners=False)[0, 0]
            return block_means(full[whole], *tiles)

        columns["distrust"].append(1.0 - blocks(trust_maps(support, traced.grey[f]).trust))
        columns["unseen"].append(1.0 - blocks(support.total))
        columns["disagreement"].append(1.0 - blocks(support.agreement))
        columns["contrast"].append(np.sqrt(blocks(contrast(image))))
        columns["error"].append(np.sqrt(blocks((image - target).square().mean(-1))))
        print(f"{run.name}: {done + 1}/{len(twins)} {twin.name}", file=sys.stderr, flush=True)
    every = {name: np.concatenate(parts) for name, parts in columns.items()}
    within = [spearman(d, e) for d, e in zip(columns["distrust"], columns["error"], strict=True)]
    longest = np.argsort([-traced.paths_px[names.index(twin.name)] for twin in twins])[
        : (len(twins) + 1) // 2
    ]
    blurred = {k: np.concatenate([columns[k][i] for i in longest]) for k in ("distrust", "error")}
    frame_means = [np.array([c.mean() for c in columns[k]]) for k in ("distrust", "error")]
    fifths = np.array_split(every["error"][np.argsort(every["distrust"], kind="stable")], 5)
    preset = json.loads((run / "config.json").read_text())["preset"]
    return {
        "preset": preset, "frames": len(twins), "blocks": len(every["error"]), "block_px": block,
        "size": [scene.training_cameras[0].width, scene.training_cameras[0].height],
        "spearman": round(spearman(every["distrust"], every["error"]), 3),
        "spearman_within_frames": round(float(np.mean(within)), 3),
        "spearman_given_contrast": round(
            partial_spearman(every["distrust"], every["error"], every["contrast"]), 3
        ),
        "spearman_in_blurred_half": round(spearman(blurred["distrust"], blurred["error"]), 3),
        "spearman_of_frame_means": round(spearman(*frame_means), 3),
        "spearman_of": {
            name: round(spearman(every[name], every["error"]), 3) for name in ("unseen", "disagreement", "contrast")
        },
        "rms_error_by_fifth_of_distrust": [round(float(np.sqrt((e**2).mean())), 4) for e in fifths],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--block", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)  # many small tensors; the kernels have their own threads
    results = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    for run in options.runs:
        result = measure(run, options.block)
        print(json.dumps({run.name: result}, indent=1))
        results[run.name] = {
            "date": datetime.now(UTC).date().isoformat(), "commit": commit(), **result
        }  # fmt: skip
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
