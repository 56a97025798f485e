"""One HTML file that shows the splats in any browser, also offline from a disk: viewer, scene and cameras inside.

The scene travels as base64 of `.splat` records (export/splat.py), so colour does not depend on the direction. The page
asks for nothing else: no script, font or picture from elsewhere, and its own policy forbids connections.
"""

import base64
import html
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deblurgs.errors import CaptureError
from deblurgs.export.ply import SplatArrays
from deblurgs.export.splat import RECORD, encode_splat
from deblurgs.files import write_bytes_atomic
from deblurgs.scene.camera import Camera

_SCENE_START, _SCENE_END = '<script id="scene" type="application/json">', "</script>"


@dataclass(frozen=True)
class View:
    """Where the viewer can stand: a frame's name, camera_from_world [4,4] (OpenCV axes) and camera."""

    name: str
    camera_from_world: NDArray[np.float64]
    camera: Camera


def viewer_page(
    arrays: SplatArrays, views: Sequence[View], *, title: str = "deblurgs", max_splats: int | None = None
) -> str:
    """The page. max_splats keeps the Gaussians that fill most of the picture. Raises ValueError without views."""
    if not views:
        raise ValueError("a viewer needs at least one view to start from")
    arrays = arrays.finite()
    scene = {
        "splats": base64.b64encode(encode_splat(arrays, max_splats=max_splats)).decode("ascii"),
        "antialiased": arrays.antialiased,
        "depth": _typical_depth(arrays, views),
        "down": _down(views),
        "start": len(views) // 2,
        "views": [
            {
                "name": visible(view.name[:200]),
                "camera_from_world": [round(float(x), 7) for x in view.camera_from_world.ravel()],
                "width": view.camera.width, "height": view.camera.height, "fx": view.camera.fx, "fy": view.camera.fy,
            }
            for view in views
        ],
    }  # fmt: skip
    parts = {
        "TITLE": html.escape(visible(title)),
        "SCRIPT": _resource("viewer.js"),
        "SCENE": json_for_html(scene),
    }
    page = _resource("viewer.html")
    # In this order and once each, so that a title cannot stand for another part.
    for name, text in parts.items():
        before, _, after = page.partition("{{" + name + "}}")
        page = before + text + after
    return page


def write_html(
    path: Path,
    arrays: SplatArrays,
    views: Sequence[View],
    *,
    title: str = "deblurgs",
    overwrite: bool = True,
) -> int:
    """Write the page; returns how many Gaussians were left out because a value is NaN or infinite."""
    write_bytes_atomic(path, viewer_page(arrays, views, title=title).encode("utf-8"), overwrite=overwrite)
    return len(arrays) - len(arrays.finite())


def read_html(path: Path) -> bytes:
    """The `.splat` bytes inside a page of `write_html`. Raises CaptureError for another file."""
    text = path.read_text(encoding="utf-8", errors="replace")
    _, found, rest = text.partition(_SCENE_START)
    try:
        if not found:
            raise ValueError("no scene in it")
        data = base64.b64decode(json.loads(rest.partition(_SCENE_END)[0])["splats"], validate=True)
        if len(data) % RECORD.itemsize:
            raise ValueError("its scene is cut off")
    except (KeyError, TypeError, ValueError) as error:
        raise CaptureError(f"{path} is not a viewer page of deblurgs: {error}") from error
    return data


def visible(text: str) -> str:
    """Without control and direction-changing characters, with which a name could rearrange what stands around it."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c)[0] != "C")


def json_for_html(value: object) -> str:
    """JSON that cannot end the script element it stands in, whatever names it holds."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _resource(name: str) -> str:
    return (files("deblurgs.export") / name).read_text(encoding="utf-8")


def _typical_depth(arrays: SplatArrays, views: Sequence[View]) -> float:
    """Median distance of what the middle view sees, around which the viewer turns; 1 where it sees nothing."""
    view = views[len(views) // 2]
    inside = arrays.means @ view.camera_from_world[:3, :3].T + view.camera_from_world[:3, 3]
    x, y, z = inside[:, 0], inside[:, 1], inside[:, 2]
    camera = view.camera
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = (
            (z > 0)
            & (np.abs(x / z) < camera.width / camera.fx / 2)
            & (np.abs(y / z) < camera.height / camera.fy / 2)
        )
    return float(np.median(z[seen])) if seen.any() else 1.0


def _down(views: Sequence[View]) -> list[float]:
    """The mean of the cameras' down directions in the world, unit length."""
    mean = np.mean([view.camera_from_world[1, :3] for view in views], axis=0)
    length = float(np.linalg.norm(mean))
    return (mean / length).tolist() if length > 1e-6 else views[0].camera_from_world[1, :3].tolist()
