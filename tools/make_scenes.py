#!/usr/bin/env python3
"""Render a blurred capture with exact truth:  tools/make_scenes.py --scene desk --seed 3 --output DIR

Writes images/ (blurred), sharp/ (their twins at mid-exposure), test/ (held-out sharp views) and cameras.json (poses,
sub-frame poses, shutter times, gains, noise). Needs Blender's bpy in a Python 3.11 environment of its own; see
scenes/README.md.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scenes.generator import sensor
from scenes.generator.layouts import NAMES
from scenes.generator.make import Settings, make_capture
from scenes.generator.plan import Video
from scenes.generator.sensor import Noise


def parse(arguments: list[str] | None = None) -> tuple[Settings, Path, int]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scene", choices=NAMES, required=True)
    parser.add_argument(
        "--seed", type=int, required=True, help="the same seed and options give the same files"
    )
    parser.add_argument("--output", type=Path, required=True, help="a folder that does not exist yet")
    parser.add_argument("--size", default="360x240", help="width x height in pixels (default %(default)s)")
    parser.add_argument("--views", type=int, default=20, help="blurred frames (default %(default)s)")
    parser.add_argument(
        "--test-views", type=int, default=4, help="held-out sharp views (default %(default)s)"
    )
    parser.add_argument("--samples", type=int, default=48, help="light paths per pixel (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (default %(default)s)")

    blur = parser.add_argument_group("blur")
    blur.add_argument("--path-px", type=float, default=8.0, help="median length of the blur path (default 8)")
    blur.add_argument(
        "--video", action="store_true", help="one continuous hand-held clip instead of single photos"
    )
    blur.add_argument("--fps", type=float, default=10.0, help="of the clip (default 10)")
    blur.add_argument(
        "--duty", type=float, default=0.6, help="exposure / frame interval of the clip (default 0.6)"
    )
    blur.add_argument(
        "--sweep", type=float, default=1.0, help="share of the arc that the clip covers (default 1)"
    )
    blur.add_argument("--exposure-s", type=float, default=0.1, help="of single photos (default 0.1)")
    blur.add_argument(
        "--readout", default="0", metavar="SHARE|TIMEs",
        help="rolling shutter: readout time as a share of the frame interval (0.5, clips only) or in seconds (0.02s)",
    )  # fmt: skip

    camera = parser.add_argument_group("camera")
    camera.add_argument(
        "--exposure-ev", type=float, default=0.0, help="spread of auto-exposure, stops (default 0)"
    )
    camera.add_argument(
        "--balance-ev", type=float, default=0.0, help="spread of white balance, stops (default 0)"
    )
    camera.add_argument(
        "--full-well", type=float, default=0.0, help="electrons at white; 0: no noise (default)"
    )
    camera.add_argument(
        "--read-noise", type=float, default=0.0, help="electrons, with --full-well (default 0)"
    )
    camera.add_argument("--response", choices=sensor.RESPONSES, default="srgb")
    camera.add_argument(
        "--jpeg", type=int, metavar="QUALITY", help="write JPEG of this quality instead of PNG"
    )
    given = parser.parse_args(arguments)

    try:
        width, height = (int(part) for part in given.size.lower().split("x"))
    except ValueError:
        parser.error(f"--size {given.size}: expected WIDTHxHEIGHT, e.g. 360x240")
    if min(width, height) < 16 or given.views < 3 or given.test_views < 1 or given.samples < 1:
        parser.error("at least 16x16 pixels, 3 --views, 1 of --test-views and 1 of --samples are needed")
    if given.video and not 0.0 < given.duty <= 1.0:
        parser.error(f"--duty {given.duty}: a share of the frame interval, above 0 and at most 1")
    if given.jpeg is not None and not 1 <= given.jpeg <= 100:
        parser.error(f"--jpeg {given.jpeg}: a quality from 1 to 100")
    try:
        if given.readout.endswith("s"):
            readout_s = float(given.readout[:-1])
        else:
            readout_s = float(given.readout) / given.fps
            if readout_s and not given.video:
                parser.error(
                    "--readout of single photos needs seconds, e.g. 0.02s: they have no frame interval"
                )
    except ValueError:
        parser.error(f"--readout {given.readout}: expected a share (0.5) or seconds (0.02s)")
    settings = Settings(
        given.scene, given.seed, (width, height), given.views, given.test_views, given.path_px,
        given.duty / given.fps if given.video else given.exposure_s, readout_s,
        Video(given.fps, given.sweep) if given.video else None, given.exposure_ev, given.balance_ev,
        Noise(given.full_well, given.read_noise), given.response, given.jpeg, given.samples,
    )  # fmt: skip
    return settings, given.output, given.threads


def main() -> int:
    settings, output, threads = parse()
    try:
        make_capture(settings, output, threads, lambda text: print(text, flush=True))
    except ImportError as error:
        print(
            f"make_scenes: {error}. Blender's Python module runs on Python 3.11 with numpy 1 only: make an "
            "environment of its own, see scenes/README.md.", file=sys.stderr,
        )  # fmt: skip
        return 2
    except (ValueError, OSError) as error:
        print(f"make_scenes: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
