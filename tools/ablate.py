"""What each ingredient of the method is worth: one evaluation per ingredient left out, same frames, poses and budget.

    python tools/ablate.py SCENE --json benchmarks/ablation.json [--docs docs/method.md] [--only full,static]
                           [-- OPTIONS OF `deblurgs eval`]

SCENE is a capture with sharp twins or held-out views (`tools/make_scenes.py` makes some). Cameras are estimated once.
Options behind `--` go to every evaluation, for instance fewer steps. With --docs the table in that file is replaced.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from results import commit, today, write_between

from deblurgs.config import preset

START, END = "<!-- ablation: written by tools/ablate.py -->", "<!-- end of ablation -->"

VARIANTS: dict[str, tuple[str, list[str]]] = {
    "full": ("everything as in the preset", []),
    "static": ("one pose per frame (plain splats)", ["--trajectory", "static", "--train.trajectory.num-knots", "1"]),
    "linear": ("straight, uniform paths only", ["--trajectory", "linear", "--train.trajectory.num-knots", "2"]),
    "cubic": ("cubic B-spline for the Bezier curve", ["--trajectory", "cubic"]),
    "free": ("paths may bend from the first step", ["--train.trajectory.straight-until", "0"]),
    "rough": ("no temporal smoothness", ["--train.trajectory.smoothness", "0"]),
    "few-views": ("3 virtual views for every frame", ["--train.trajectory.max-views", "3"]),
    "shifted-views": ("half the views, shifted at random", [
        "--train.trajectory.jitter", "--train.trajectory.px-per-view", "3.6"]),
    "one-scale": ("no coarse scales", []),  # its options depend on the number of steps, see `options_of`
    "no-edges": ("no comparison of steps between pixels", ["--train.edge-weight", "0"]),
    "stay": ("Gaussians stay where they were put", ["--train.density.relocate", "0"]),
    "mcmc": ("relocation for annealed splitting", ["--train.density.strategy", "mcmc"]),
    "no-gain": ("no gains per frame", ["--train.photometry.no-gain"]),
    "no-saturation": ("clipped highlights hold the scene down", ["--train.photometry.no-saturation"]),
    "revisit": ("badly explained frames come again", ["--train.revisit", "0.5"]),
    "last-state": ("last state instead of the best", ["--train.held-out", "0"]),
}  # fmt: skip


def options_of(name: str, common: list[str]) -> list[str]:
    """Command line options of a variant. One scale gets as many steps as all scales together."""
    if name != "one-scale":
        return VARIANTS[name][1]
    steps = list(preset("default").steps)
    if "--train.steps" in common:
        at = common.index("--train.steps") + 1
        steps = []
        while at < len(common) and common[at].isdecimal():
            steps.append(int(common[at]))
            at += 1
    return ["--train.scales", "1.0", "--train.steps", str(sum(steps))]


def evaluate(scene: Path, folder: Path, options: list[str]) -> list[dict]:
    target = folder / "result.json"
    command = [
        sys.executable, "-m", "deblurgs.cli", "eval", str(scene), "--methods", "deblurgs", "--quiet",
        "--output", str(folder / "run"), "--json", str(target), *options,
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads(target.read_text())["rows"]


def table(result: dict) -> str:
    """The results as a markdown table; differences are against `full`."""
    columns = [(t, c) for t in ("novel", "deblurring") for c in ("refined", "restored")]
    have = result["variants"]
    columns = [(t, c) for t, c in columns if any(c in v["scores"].get(t, {}) for v in have.values())]
    lines = [
        f"Scene `{result['scene']}`, options `{' '.join(result['options']) or 'preset default'}`, commit "
        f"{result['commit']}; PSNR in dB, in brackets the difference to the first line; one seed, so small differences "
        "mean nothing.",
        "",
        "| ingredient changed | " + " | ".join(f"{t}, {c}" for t, c in columns) + " | seconds |",
        "|---|" + "---|" * (len(columns) + 1),
    ]
    for name, variant in have.items():
        cells = []
        for task, column in columns:
            value = variant["scores"][task][column]
            full = have["full"]["scores"][task][column] if "full" in have else value
            cells.append(f"{value:.2f}" + (f" ({value - full:+.2f})" if name != "full" else ""))
        lines.append(f"| {VARIANTS[name][0]} | " + " | ".join(cells) + f" | {variant['train_seconds']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scene", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--only", default=",".join(VARIANTS))
    arguments = sys.argv[1:]
    common: list[str] = []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, common = arguments[:at], arguments[at + 1 :]
    options = parser.parse_args(arguments)
    result: dict = {
        "scene": options.scene.resolve().name, "options": common, "commit": commit(), "date": today(), "variants": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only.split(","):
            # Of an option given twice the last one counts.
            rows = evaluate(options.scene, Path(folder), [*common, *options_of(name, common)])
            result["variants"][name] = {
                "scores": {
                    row["task"]: {
                        c: row[c]["psnr"] for c in ("raw", "aligned", "refined", "restored") if c in row
                    }
                    for row in rows
                },
                "train_seconds": rows[0]["train_seconds"],
            }
            options.json.write_text(json.dumps(result, indent=1) + "\n")
            print(name, json.dumps(result["variants"][name]), flush=True)
    if options.docs:
        write_between(options.docs, START, END, table(result))
    print(table(result))


if __name__ == "__main__":
    main()
