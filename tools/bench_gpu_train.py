"""Train a scene with held-out sharp views and print their PSNR against seconds of training.

    python tools/bench_gpu_train.py SCENE [--preset default] [--side 600] [--device cuda] [--json FILE]

The PSNR is that of the first held-out view at its aligned pose, looked at every 200 steps; the looks count as training
time. Afterwards all held-out views are scored as `deblurgs eval` does.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import get_args

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    from deblurgs.config import PresetName, preset

    parser.add_argument("scene", type=Path)
    parser.add_argument("--preset", choices=get_args(PresetName), default="default")
    parser.add_argument("--side", type=int, default=600, help="longest side of the training images")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cuda")
    parser.add_argument(
        "--steps", type=int, nargs="+", help="instead of the preset's, one number for each scale"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    from deblurgs.evaluate import protocol
    from deblurgs.log import Log
    from deblurgs.raster.devices import resolve
    from deblurgs.run import RunFolder
    from deblurgs.stages.evaluate import prepared_scene

    config = dataclasses.replace(preset(arguments.preset), max_side=arguments.side)
    if arguments.steps:
        config = dataclasses.replace(config, steps=tuple(arguments.steps))
    place, log = resolve(arguments.device), Log(quiet=True)
    curve: list[tuple[float, float]] = []
    original = protocol.held_out_probe

    def recording(scene: protocol.EvaluationScene, settings: protocol.TrainConfig) -> protocol.Probe | None:
        probe, start = original(scene, settings), time.perf_counter()
        if probe is None:
            return None

        def look(gaussians: protocol.Gaussians, trajectory: protocol.AnyTrajectory) -> float:
            value = probe(gaussians, trajectory)
            curve.append((round(time.perf_counter() - start, 2), round(value, 3)))
            print(f"{curve[-1][0]:8.2f} s  {value:.2f} dB", flush=True)
            return value

        return look

    protocol.held_out_probe = recording
    with tempfile.TemporaryDirectory() as folder, RunFolder(Path(folder) / "run", log=log) as run:
        scene = prepared_scene(run, arguments.scene, config, log, sfm="given")
        (row,) = protocol.evaluate(scene, config, ("deblurgs",), (0,), log, device=place)
    result = {
        "scene": scene.name, "preset": arguments.preset, "side": arguments.side, "device": str(place),
        "curve_s_db": curve, "train_seconds": row.train_seconds, "size": list(row.size), "columns": row.columns,
        "num_gaussians": row.num_gaussians,
    }  # fmt: skip
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
