"""Removes lens distortion: resamples a frame to the pinhole camera of the same size that shows no blank pixels.

Runs in the SfM child. The lens model itself is pycolmap's (any COLMAP model), passed in as a function.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblurgs.errors import SfmError
from deblurgs.scene.camera import Camera

# Maps points of the camera frame [n, 3] to pixels [n, 2]; NaN where the lens cannot see the point.
ImgFromCam = Callable[[NDArray[np.float64]], NDArray[np.float64]]

NEGLIGIBLE_PX = 0.1
_MAX_ZOOM = 4.0


def pinhole_without_blanks(camera: Camera, img_from_cam: ImgFromCam) -> Camera:
    """The pinhole camera of the same size and centre whose every pixel lies inside the distorted image.

    `camera` is the distorted camera's own size, focal lengths and principal point (px). The focal length is
    multiplied by the smallest factor s >= 1 that leaves no blank pixel: the centre never loses resolution. With
    barrel distortion s = 1 and the outermost border of the observed image is cut off.
    Raises SfmError if the lens sees more than a pinhole camera can show (beyond a factor of 4).
    """
    border = _border(camera)

    def inside(zoom: float) -> bool:
        pixels = img_from_cam(_rays(_zoomed(camera, zoom), border))
        # Half a pixel of tolerance is the border of the outermost pixel centres: no extrapolation beyond it.
        return bool(
            np.isfinite(pixels).all()
            and (pixels >= 0).all()
            and (pixels[:, 0] <= camera.width).all()
            and (pixels[:, 1] <= camera.height).all()
        )

    if inside(1.0):
        return camera
    low, high = 1.0, 1.02
    while not inside(high):
        low, high = high, 1.0 + (high - 1.0) * 1.5
        if high > _MAX_ZOOM:
            raise SfmError(
                f"The lens distortion of the {camera.width}x{camera.height} px camera is too strong for a "
                "pinhole view. Undistort the frames first (`colmap image_undistorter`) or crop their border."
            )
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if inside(middle) else (middle, high)
    return _zoomed(camera, high)


def max_displacement_px(camera: Camera, img_from_cam: ImgFromCam) -> float:
    """How far the lens moves the image's border and corners against the ideal pinhole camera, in pixels."""
    border = _border(camera)
    moved = img_from_cam(_rays(camera, border)) - border
    length = np.linalg.norm(moved, axis=1)
    return float(length.max()) if np.isfinite(length).all() else float("inf")


def sampling_map(pinhole: Camera, img_from_cam: ImgFromCam) -> NDArray[np.float32]:
    """For each pixel of the pinhole image its place in the distorted image: [height, width, 2] px, (x, y)."""
    rows = []
    x = np.arange(pinhole.width, dtype=np.float64) + 0.5
    for y in range(pinhole.height):
        points = np.stack([x, np.full_like(x, y + 0.5)], axis=1)
        rows.append(img_from_cam(_rays(pinhole, points)).astype(np.float32))
    return np.stack(rows)


def resample(image: NDArray[np.uint8], places: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Catmull-Rom bicubic interpolation of image [H, W, C] at places [h, w, 2] (px, pixel centres at 0.5).

    Pixels beyond the border repeat the border. Interpolation is done on the stored (sRGB) values: displacements
    are smooth and near unit scale, where the difference to linear light is far below one grey level.
    """
    height, width = image.shape[:2]
    source = image.reshape(height * width, -1).astype(np.float32)
    result = np.empty((*places.shape[:2], source.shape[1]), dtype=np.uint8)
    # Bands of rows keep the sixteen gathered taps small enough for the cache and for large photos.
    band = max(1, 200_000 // max(1, places.shape[1]))
    for top in range(0, places.shape[0], band):
        part = places[top : top + band] - np.float32(0.5)
        base = np.floor(part).astype(np.int64)
        wx = _catmull_rom((part[..., 0] - base[..., 0]).astype(np.float32))
        wy = _catmull_rom((part[..., 1] - base[..., 1]).astype(np.float32))
        total = np.zeros((*part.shape[:2], source.shape[1]), dtype=np.float32)
        for j in range(4):
            row = np.clip(base[..., 1] + j - 1, 0, height - 1) * width
            for i in range(4):
                column = np.clip(base[..., 0] + i - 1, 0, width - 1)
                total += (wy[j] * wx[i])[..., None] * source[row + column]
        result[top : top + band] = np.clip(total + 0.5, 0, 255).astype(np.uint8)
    return result.reshape(*places.shape[:2], *image.shape[2:])


def resample_mask(opaque: NDArray[np.bool_], places: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where `resample` at the same places uses opaque pixels only: all sixteen of them. opaque [H, W] -> [h, w].

    Places outside the image count as masked.
    """
    height, width = opaque.shape
    # Entry [y, x] tells whether rows y-1..y+2 of columns x-1..x+2 are all opaque.
    padded = np.pad(opaque, ((1, 2), (1, 2)), mode="edge")
    whole = np.ones((height, width), dtype=bool)
    for j in range(4):
        for i in range(4):
            whole &= padded[j : j + height, i : i + width]
    base = np.floor(places - np.float32(0.5)).astype(np.int64)
    inside = (places >= 0).all(-1) & (places[..., 0] <= width) & (places[..., 1] <= height)
    x, y = np.clip(base[..., 0], 0, width - 1), np.clip(base[..., 1], 0, height - 1)
    return whole[y, x] & inside


def undistort_mask_file(source: Path, target: Path, places: NDArray[np.float32]) -> None:
    """Write the mask that belongs to the image of `undistort_file` with the same places, atomically."""
    with Image.open(source) as opened:
        opaque = np.asarray(opened.convert("L")) > 0
    _save_png(Image.fromarray(resample_mask(opaque, places).astype(np.uint8) * np.uint8(255)), target)


def undistort_file(source: Path, target: Path, places: NDArray[np.float32]) -> None:
    """Write the undistorted 8-bit RGB copy of one image as PNG, atomically."""
    with Image.open(source) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    _save_png(Image.fromarray(resample(pixels, places)), target)


def _save_png(image: Image.Image, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    image.save(temporary, format="PNG", compress_level=3)
    temporary.replace(target)


def _catmull_rom(t: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Weights of the four neighbours (Keys 1981, a = -1/2), which sum to one."""
    t2, t3 = t * t, t * t * t
    weights = [
        -0.5 * t3 + t2 - 0.5 * t,
        1.5 * t3 - 2.5 * t2 + 1.0,
        -1.5 * t3 + 2.0 * t2 + 0.5 * t,
        0.5 * t3 - 0.5 * t2,
    ]
    return [w.astype(np.float32) for w in weights]


def _zoomed(camera: Camera, zoom: float) -> Camera:
    return Camera(camera.width, camera.height, camera.fx * zoom, camera.fy * zoom, camera.cx, camera.cy)


def _border(camera: Camera) -> NDArray[np.float64]:
    """The centres of the outermost pixels, [n, 2] px, about 64 per side and all corners."""
    x = np.linspace(0.5, camera.width - 0.5, 64)
    y = np.linspace(0.5, camera.height - 0.5, 64)
    sides = [
        np.stack([x, np.full_like(x, 0.5)], 1),
        np.stack([x, np.full_like(x, camera.height - 0.5)], 1),
        np.stack([np.full_like(y, 0.5), y], 1),
        np.stack([np.full_like(y, camera.width - 0.5), y], 1),
    ]
    return np.concatenate(sides)


def _rays(camera: Camera, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    x = (pixels[:, 0] - camera.cx) / camera.fx
    y = (pixels[:, 1] - camera.cy) / camera.fy
    return np.stack([x, y, np.ones_like(x)], axis=1)
