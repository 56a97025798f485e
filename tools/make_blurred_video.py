"""A blurred capture with sharp twins from a video: k consecutive frames averaged in linear light.

    python tools/make_blurred_video.py VIDEO OUTPUT --frames 7 [--stride 8] [--width 640] [--hold 8]

Each window of `--frames` consecutive frames becomes images/NNN.png, its middle frame sharp/NNN.png; frames.json tells
which frame that was and how long the blur is. Between two frames further instants are interpolated along the optical
flow (DIS, Kroeger et al., ECCV 2016), because an average of few instants shows ghost edges instead of blur. With
`--hold n` every n-th window gives its sharp middle frame to test/ and no blurred one. Needs opencv-python-headless.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblurgs.math.color import linear_from_srgb_numpy, srgb_from_linear_numpy

Pixels = NDArray[np.uint8]
Flow = NDArray[np.float32]


def frames(path: Path, width: int) -> Iterator[Pixels]:
    """Upright RGB frames [H, W, 3] in presentation order, reduced to `width` px (even height)."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
            height = 2 * round(pixels.shape[0] * width / pixels.shape[1] / 2)
            yield cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=cv2.INTER_AREA)


def flow(first: Pixels, second: Pixels) -> Flow:
    """Optical flow [H, W, 2] px: what is at x in `first` is at x + flow(x) in `second`."""
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second)]
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)


def warped(linear: NDArray[np.float32], motion: Flow, share: float) -> NDArray[np.float32]:
    """`linear` moved along `share` of its own motion. The flow at the target stands in for that at the source: between
    consecutive frames it hardly differs."""
    y, x = np.mgrid[: linear.shape[0], : linear.shape[1]].astype(np.float32)
    return cv2.remap(
        linear, x - share * motion[..., 0], y - share * motion[..., 1], cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


def exposure(window: list[Pixels], in_betweens: int) -> tuple[Pixels, float]:
    """The mean of a window in linear light, and the median length of the blur in pixels.

    The time integral is a trapezoid sum: the first and the last instant count half.
    """
    linear = [linear_from_srgb_numpy(image.astype(np.float32) / 255.0) for image in window]
    total, weight, length = np.zeros_like(linear[0]), 0.0, 0.0
    for k in range(len(window) - 1):
        forward, backward = flow(window[k], window[k + 1]), flow(window[k + 1], window[k])
        length += float(np.median(np.linalg.norm(forward, axis=2)))
        for step in range(in_betweens + 1):
            t = step / (in_betweens + 1)
            instant = (
                linear[k]
                if step == 0
                else (1 - t) * warped(linear[k], forward, t) + t * warped(linear[k + 1], backward, 1 - t)
            )
            share = 0.5 if k == 0 and step == 0 else 1.0
            total, weight = total + share * instant, weight + share
    total, weight = total + 0.5 * linear[-1], weight + 0.5
    encoded = srgb_from_linear_numpy(total / np.float32(weight))
    return np.clip(255.0 * encoded + 0.5, 0, 255).astype(np.uint8), length


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--frames", type=int, default=7, help="consecutive frames in one exposure (odd)")
    parser.add_argument("--stride", type=int, default=8, help="frames from one window to the next")
    parser.add_argument("--in-betweens", type=int, default=3, help="instants between two frames")
    parser.add_argument("--width", type=int, default=640, help="width of the results in pixels")
    parser.add_argument("--hold", type=int, default=0, help="every n-th window is a sharp test view; 0: none")
    options = parser.parse_args(arguments)
    if options.frames < 1 or options.frames % 2 == 0 or options.stride < 1 or options.in_betweens < 0:
        parser.error("--frames must be odd, --stride at least 1 and --in-betweens at least 0")
    if options.output.exists() and any(options.output.iterdir()):
        parser.error(f"{options.output} is not empty")
    for name in ("images", "sharp", *(("test",) if options.hold else ())):
        (options.output / name).mkdir(parents=True)
    window: list[Pixels] = []
    listing: list[dict[str, object]] = []
    for number, frame in enumerate(frames(options.video, options.width)):
        window = [*window, frame][-options.frames :]
        start = number - options.frames + 1
        if start < 0 or start % options.stride:
            continue
        name, middle = f"{len(listing):03d}.png", options.frames // 2
        entry: dict[str, object] = {"name": name, "split": "train", "frame": start + middle}
        if options.hold and len(listing) % options.hold == options.hold // 2:
            entry["split"] = "test"
            Image.fromarray(window[middle]).save(options.output / "test" / name)
        else:
            blurred, length = exposure(window, options.in_betweens)
            entry["blur_px"] = round(length, 1)
            Image.fromarray(blurred).save(options.output / "images" / name)
            Image.fromarray(window[middle]).save(options.output / "sharp" / name)
        listing.append(entry)
    lengths = [float(str(e["blur_px"])) for e in listing if "blur_px" in e]
    if not lengths:
        print(f"{options.video}: fewer than {options.frames} frames", file=sys.stderr)
        return 1
    settings = {"k": options.frames, "stride": options.stride, "in_betweens": options.in_betweens}
    (options.output / "frames.json").write_text(
        json.dumps({**settings, "frames": listing}, indent=1) + "\n", encoding="utf-8"
    )
    print(f"{len(lengths)} blurred frames, blur {np.median(lengths):.1f} px (up to {max(lengths):.1f} px)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
