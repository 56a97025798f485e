"""Train the blur classifier and write deblurgs/restore/blur_trees.json.

    python tools/train_triage.py PHOTOS [--held FOLDER] [--real FOLDER] [--cache FOLDER] [--out FILE]

PHOTOS: a folder of sharp photographs with free licences (docs/triage.md lists those of the shipped trees). Pictures are
blurred by tools/blur_samples.py; a photograph and all that is made of it stays on one side of every split. `--held` is
a folder of photographs from other sources, only tested on. `--real` holds SOURCE/sharp and SOURCE/blurred with real
photographs: they are never trained on, but where between sharp and blurred the line runs is taken from them, one
number, because synthetic blur is stronger than a hand's; and measured with each source left out in turn. `--cache`
keeps the features of blurred pictures. Needs the extra `train` (xgboost).
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from blur_samples import BLURRED_ABOVE_PX, KINDS, SHARP_BELOW_PX, crop, make_sample
from numpy.typing import NDArray
from PIL import Image, ImageOps

from deblurgs.capture.greys import grey_picture
from deblurgs.files import write_bytes_atomic
from deblurgs.math.blur_spectrum import fit_blur
from deblurgs.math.color import srgb_from_linear_numpy
from deblurgs.math.patches import FEATURES, PATCH, WORKING_SIDE, patch_features
from deblurgs.restore.classifier import FORMAT, INPUTS, SHIPPED, picture_inputs, sigmoid
from deblurgs.restore.trees import Trees

DEPTH = 3
ROUNDS, PATCH_ROUNDS = 150, 100
PICTURE_INPUTS = np.array([not name.startswith("lbp_") for name in INPUTS])
"""What the picture's trees may read. Patterns stay with the patches: over a whole picture they tell the noise and the
compression of the training sources."""
IN_FOCUS = np.log(0.015)
"""A patch of the untouched photograph is in focus when its least fine share is above this."""
PLAN = (0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2)
"""Kinds made of every photograph."""
FOLDS = 5


@dataclass
class Samples:
    rows: NDArray[np.float32]
    kinds: NDArray[np.int64]
    extents: NDArray[np.float64]
    photos: NDArray[np.int64]
    patches: NDArray[np.float32]
    patch_blurred: NDArray[np.int64]
    patch_photos: NDArray[np.int64]


def make_samples(folder: Path, seed: int, plan: tuple[int, ...] = PLAN) -> Samples:
    """Blur every photograph of the folder; features and labels of pictures and patches."""
    table: list[tuple[Any, ...]] = []
    patches: list[tuple[NDArray[np.float32], NDArray[np.bool_], int]] = []
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for number, path in enumerate(paths):
        rng = np.random.default_rng([seed, number])
        with Image.open(path) as opened:
            photo = opened.convert("RGB")
        for kind in plan:
            linear = crop(photo, rng)
            base = patch_features(srgb_from_linear_numpy(np.clip(linear, 0, 1)))
            focus = base.textured & (base.values[..., FEATURES.index("fine_share_min")] > IN_FOCUS)
            if focus.sum() < 6:
                continue  # Too little that is in focus to call the picture sharp or blurred.
            sample = make_sample(linear, kind, rng)
            found, fit = patch_features(sample.grey), fit_blur(sample.grey)
            table.append((picture_inputs(found, fit.numbers()), kind, sample.extent_px, number))
            low, high = _patch_range(sample.blurred, found.values.shape[:2])
            known = focus & found.textured & ((high <= SHARP_BELOW_PX) | (low >= BLURRED_ABOVE_PX))
            patches.append((found.values[known], low[known] >= BLURRED_ABOVE_PX, number))
        print(f"{number + 1}/{len(paths)} {path.name}", flush=True)
    columns = list(zip(*table, strict=True))
    return Samples(
        np.stack(columns[0]), *(np.asarray(column) for column in columns[1:]),
        np.concatenate([p[0] for p in patches]), np.concatenate([p[1] for p in patches]).astype(np.int64),  # pyright: ignore[reportCallIssue]
        np.concatenate([np.full(len(p[0]), p[2]) for p in patches]),  # pyright: ignore[reportCallIssue]
    )  # fmt: skip


def cached_samples(folder: Path, seed: int, plan: tuple[int, ...], cache: Path | None) -> Samples:
    file = None if cache is None else cache / f"{folder.resolve().name}-{seed}.npz"
    if file is not None and file.is_file():
        with np.load(file) as stored:
            return Samples(**stored)
    samples = make_samples(folder, seed, plan)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, **vars(samples))
    return samples


def real_rows(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.str_]]:
    """Inputs, labels and sources of SOURCE/{sharp,blurred}/* below `folder`."""
    rows, labels, sources = [], [], []
    for path in sorted(folder.glob("*/*/*")):
        if path.parent.name not in ("sharp", "blurred"):
            continue
        with Image.open(path) as opened:
            pixels = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
        grey = grey_picture(path.name, pixels, WORKING_SIDE).grey
        rows.append(picture_inputs(patch_features(grey), fit_blur(grey).numbers()))
        labels.append(int(path.parent.name == "blurred"))
        sources.append(path.parent.parent.name)
    return np.stack(rows), np.asarray(labels), np.asarray(sources)


def dividing_score(score: NDArray[Any], target: NDArray[Any], sources: NDArray[Any]) -> float:
    """The middle of the range of raw scores that divides best, every source weighted alike."""
    steps = np.linspace(-6.0, 6.0, 241)
    names = np.unique(sources)
    quality = [
        np.mean([balanced(target[sources == n], score[sources == n] > step) for n in names]) for step in steps
    ]
    best = np.flatnonzero(np.asarray(quality) >= max(quality) - 1e-9)
    return float(0.5 * (steps[best[0]] + steps[best[-1]]))


def report_real(
    score: NDArray[Any], target: NDArray[Any], sources: NDArray[Any], names: list[str]
) -> dict[str, dict[str, float]]:
    """Each source called with the line drawn by the others."""
    result = {}
    for name in names:
        own = sources == name
        others = np.isin(sources, [n for n in names if n != name])
        called = score[own] > dividing_score(score[others], target[others], sources[others])
        blurred = target[own] > 0
        result[name] = {
            "pictures": int(own.sum()), "blurred_found": round(float(called[blurred].mean()), 3),
            "sharp_left": round(float((~called[~blurred]).mean()), 3),
            "balanced_accuracy": round(balanced(target[own], called), 4),
        }  # fmt: skip
        print("real, left out:", name, result[name], flush=True)
    return result


def _patch_range(extent: NDArray[np.float32], grid: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Least and largest blur extent within each patch; NaN where it is not known."""
    rows, columns = grid
    top, left = (extent.shape[0] - rows * PATCH) // 2, (extent.shape[1] - columns * PATCH) // 2
    cells = extent[top : top + rows * PATCH, left : left + columns * PATCH].reshape(
        rows, PATCH, columns, PATCH
    )
    return cells.min((1, 3)), cells.max((1, 3))


def boost(rows: NDArray[Any], target: NDArray[Any], rounds: int, *, classify: bool) -> xgboost.Booster:
    settings = {
        "objective": "binary:logistic" if classify else "reg:squarederror", "max_depth": DEPTH, "eta": 0.08,
        "subsample": 0.7, "colsample_bytree": 0.3, "lambda": 5, "min_child_weight": 5, "seed": 0,
        "base_score": 0.5 if classify else float(target.mean()),
    }  # fmt: skip
    share = float(target.mean()) if classify else 0.5
    weight = np.where(target > 0.5, 0.5 / share, 0.5 / (1 - share)) if classify else np.ones(len(target))
    return xgboost.train(settings, xgboost.DMatrix(rows, target, weight=weight), rounds)


def to_trees(model: xgboost.Booster, base: float) -> Trees:
    """xgboost's trees, filled up to complete trees of one depth (a missing split sends both ways to the same leaf)."""
    features, thresholds, leaves = [], [], []
    for text in model.get_dump(dump_format="json"):
        f, t = [0] * (2**DEPTH - 1), [0.0] * (2**DEPTH - 1)
        out = [0.0] * 2**DEPTH

        def walk(node: dict[str, Any], place: int, depth: int, f=f, t=t, out=out) -> None:
            if depth == DEPTH:
                out[place - (2**DEPTH - 1)] = node["leaf"]
                return
            if "leaf" in node:
                below = [node, node]
            else:
                f[place], t[place] = int(node["split"].removeprefix("f")), node["split_condition"]
                children = {child["nodeid"]: child for child in node["children"]}
                below = [children[node["yes"]], children[node["no"]]]
            for side in (0, 1):
                walk(below[side], 2 * place + 1 + side, depth + 1)

        walk(json.loads(text), 0, 0)
        features.append(f)
        thresholds.append(t)
        leaves.append(out)
    return Trees(
        np.asarray(features, np.int32),
        np.asarray(thresholds, np.float32),
        np.asarray(leaves, np.float32),
        base,
    )


def out_of_fold(rows: NDArray[Any], target: NDArray[Any], groups: NDArray[Any], rounds: int) -> NDArray[Any]:
    """Raw score of every row from a model that saw no picture of the same photograph."""
    score = np.zeros(len(rows))
    for fold in range(FOLDS):
        test = groups % FOLDS == fold
        model = boost(rows[~test], target[~test], rounds, classify=True)
        score[test] = to_trees(model, 0.0).predict(rows[test])
    return score


def calibrate(score: NDArray[Any], target: NDArray[Any]) -> tuple[float, float]:
    """Platt 1999: slope and offset of the log odds by Newton's method, both classes weighted alike."""
    x = np.stack([score, np.ones_like(score)], axis=1)
    weight = np.where(target > 0, 0.5 / target.mean(), 0.5 / (1 - target.mean()))
    a = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ a, -30, 30)))
        gradient = x.T @ (weight * (p - target)) + 1e-3 * (a - (1.0, 0.0))
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-3 * np.eye(2)
        a = a - np.linalg.solve(hessian, gradient)
    return float(a[0]), float(a[1])


def balanced(target: NDArray[Any], called: NDArray[Any]) -> float:
    return float(0.5 * (called[target > 0].mean() + (~called[target == 0]).mean()))


def report(name: str, s: Samples, picture: NDArray[Any], pair: tuple[float, float], kind: NDArray[Any] | None,
           extent: NDArray[Any] | None) -> dict[str, float]:  # fmt: skip
    blurred = s.kinds > 0
    called = sigmoid(picture, pair) >= 0.5
    result = {"pictures": len(s.kinds), "balanced_accuracy": round(balanced(blurred, called), 4)}
    if kind is not None:
        result["kind_balanced_accuracy"] = round(balanced(s.kinds[blurred] == 1, kind[blurred] > 0), 4)
    if extent is not None:
        ratio = np.abs(extent[blurred] - np.log(s.extents[blurred]))
        result["extent_median_factor"] = round(float(np.exp(np.median(ratio))), 3)
    print(name, result, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("--held", type=Path)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    options = parser.parse_args()
    s = cached_samples(options.photos, 0, PLAN, options.cache)
    blurred = (s.kinds > 0).astype(np.int64)
    rows = np.where(PICTURE_INPUTS, s.rows, 0.0)  # A constant input is never split on.
    picture = boost(rows, blurred, ROUNDS, classify=True)
    score = out_of_fold(rows, blurred, s.photos, ROUNDS)
    pair = calibrate(score, blurred)
    some = s.kinds > 0
    motion = boost(
        s.rows[some], (s.kinds[some] == KINDS.index("camera motion")).astype(int), ROUNDS, classify=True
    )
    logs = np.log(s.extents[some])  # Of blurred pictures: with the sharp ones among them all extents shrink.
    extent = boost(s.rows[some], logs, ROUNDS, classify=False)
    patch = boost(s.patches, s.patch_blurred, PATCH_ROUNDS, classify=True)
    patch_score = out_of_fold(s.patches, s.patch_blurred, s.patch_photos, PATCH_ROUNDS)
    patch_pair = calibrate(patch_score, s.patch_blurred)
    trees = {
        "picture": to_trees(picture, 0.0), "motion": to_trees(motion, 0.0),
        "extent": to_trees(extent, float(logs.mean())), "patch": to_trees(patch, 0.0),
    }  # fmt: skip
    measured: dict[str, Any] = {"out_of_fold": report("out of fold", s, score, pair, None, None)}
    measured["out_of_fold"]["patch_balanced_accuracy"] = round(
        balanced(s.patch_blurred, sigmoid(patch_score, patch_pair) >= 0.5), 4
    )
    if options.held:
        h = cached_samples(options.held, 1, (0, 0, 1, 1, 2), options.cache)
        one, two, three = (trees[name].predict(h.rows) for name in ("picture", "motion", "extent"))
        measured["held_sources"] = report("held-out sources", h, one, pair, two, three)
    if options.real:
        real, target, sources = real_rows(options.real)
        found = trees["picture"].predict(real)
        names = [n for n in np.unique(sources).tolist() if len(np.unique(target[sources == n])) == 2]
        measured["real_left_out"] = report_real(found, target, sources, names)
        both = np.isin(sources, names)
        pair = (pair[0], -pair[0] * dividing_score(found[both], target[both], sources[both]))
        if options.held:
            measured["held_sources_final"] = report("held-out sources, final line", h, one, pair, two, three)
    record = {
        "format": FORMAT, "version": 1, "inputs": INPUTS, "patch_inputs": FEATURES, "patch": PATCH,
        "working_side": WORKING_SIDE, "calibration": pair, "patch_calibration": patch_pair, "measured": measured,
        "trees": {name: model.as_json() for name, model in trees.items()},
    }  # fmt: skip
    write_bytes_atomic(options.out, (json.dumps(record, separators=(",", ":")) + "\n").encode("ascii"))
    print(options.out, f"{options.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
