"""Small rendered captures with exact cameras: three textured planes seen by a pinhole or a distorted camera."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from deblurgs.scene.frame import Frame

WIDTH, HEIGHT, FOCAL = 320, 240, 300.0


@cache
def texture(seed: int, size: int = 512) -> np.ndarray:
    """Coloured blobs and edges at several scales: many distinct corners. [size, size, 3] float in 0..255."""
    rng = np.random.default_rng(seed)
    result = np.zeros((size, size, 3))
    for cells, weight in ((8, 0.3), (32, 0.35), (96, 0.35)):
        noise = rng.uniform(0, 255, (cells, cells, 3)).astype(np.uint8)
        layer = Image.fromarray(noise).resize((size, size), Image.Resampling.NEAREST)
        result += weight * np.asarray(layer, dtype=np.float64)
    return result


# Each plane: a point on it, two unit axes along it, the world size its texture covers.
_PLANES = (
    (np.array([0.0, 0.0, 6.0]), np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 16.0),
    (np.array([0.0, 1.2, 3.0]), np.array([1.0, 0, 0]), np.array([0, 0, 1.0]), 8.0),
    (np.array([0.9, -0.2, 3.5]), np.array([0.8, 0, 0.6]), np.array([0, 1.0, 0]), 1.6),
)


def render(camera_from_world: np.ndarray, rays: np.ndarray, seed: int = 0) -> np.ndarray:
    """One image of the planes. rays: [H, W, 3] directions in the camera frame; seed: which textures they carry.
    Returns uint8 [H, W, 3].
    """
    rotation, centre = camera_from_world[:3, :3], -camera_from_world[:3, :3].T @ camera_from_world[:3, 3]
    directions = rays @ rotation
    nearest = np.full(rays.shape[:2], np.inf)
    image = np.zeros(rays.shape)
    for number, (origin, a, b, extent) in enumerate(_PLANES):
        normal = np.cross(a, b)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = ((origin - centre) @ normal) / (directions @ normal)
            hits = centre + directions * depth[..., None] - origin
        s, t = hits @ a / extent + 0.5, hits @ b / extent + 0.5
        ok = (depth > 0.1) & (depth < nearest) & (s > 0) & (s < 1) & (t > 0) & (t < 1)
        tex = texture(number + 100 * seed)
        image[ok] = _bilinear(tex, s[ok] * (len(tex) - 1), t[ok] * (len(tex) - 1))
        nearest[ok] = depth[ok]
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def pinhole_rays(width: int = WIDTH, height: int = HEIGHT, focal: float = FOCAL) -> np.ndarray:
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    return np.stack([x / focal, y / focal, np.ones_like(x)], axis=-1)


def arc(count: int) -> list[np.ndarray]:
    """camera_from_world of cameras on a wavy sideways path, all looking near (0, 0, 4)."""
    poses = []
    for u in np.linspace(-1, 1, count):
        centre = np.array([1.6 * u, 0.35 * np.sin(3 * u) - 0.2, 0.3 * np.cos(2 * u)])
        forward = np.array([0.1 * u, 0.1, 4.0]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross([0, 1.0, 0], forward)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        poses.append(pose(rotation, centre))
    return poses


def turns(count: int) -> list[np.ndarray]:
    """camera_from_world of a camera that turns on the spot by up to 15 degrees."""
    poses = []
    for u in np.linspace(-1, 1, count):
        yaw, pitch = np.radians(15) * u, np.radians(6) * np.sin(4 * u)
        ry = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        rx = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
        poses.append(pose(rx @ ry, np.zeros(3)))
    return poses


def pose(rotation: np.ndarray, centre: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ centre
    return matrix


def save(images: list[np.ndarray], folder: Path, prefix: str = "img") -> list[Frame]:
    """Write images as PNG and describe them as frames."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = []
    for i, image in enumerate(images):
        path = folder / f"{prefix} {i:02d}.png"  # the blank in the name is on purpose
        Image.fromarray(image).save(path)
        frames.append(Frame(path.name, path, image.shape[1], image.shape[0]))
    return frames


def _bilinear(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x0, y0 = np.minimum(x.astype(int), image.shape[1] - 2), np.minimum(y.astype(int), image.shape[0] - 2)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    top = image[y0, x0] * (1 - fx) + image[y0, x0 + 1] * fx
    bottom = image[y0 + 1, x0] * (1 - fx) + image[y0 + 1, x0 + 1] * fx
    return top * (1 - fy) + bottom * fy


def distorted_rays(k: float) -> np.ndarray:
    """Rays of a SIMPLE_RADIAL camera: a pixel shows the ray x whose distorted place x (1 + k x^2) it is."""
    rays = pinhole_rays()
    place = rays[..., :2]
    ray = place.copy()
    for _ in range(50):
        ray = place / (1 + k * (ray**2).sum(-1, keepdims=True))
    return np.concatenate([ray, np.ones((*ray.shape[:2], 1))], axis=-1)


def pose_errors(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """(largest rotation error in degrees, RMSE of centres / RMS radius) after the best similarity."""
    x, y = (-np.einsum("nji,nj->ni", p[:, :3, :3], p[:, :3, 3]) for p in (found, true))
    x, y = x - x.mean(0), y - y.mean(0)
    u, s, vt = np.linalg.svd(y.T @ x)
    sign = np.diag([1.0, 1.0, np.linalg.det(u @ vt)])
    turn = u @ sign @ vt
    scale = np.trace(np.diag(s) @ sign) / (x**2).sum()
    relative = np.einsum("nij,nkj->nik", true[:, :3, :3], found[:, :3, :3] @ turn.T)
    cosine = (np.trace(relative, axis1=1, axis2=2) - 1) / 2
    residual = scale * x @ turn.T - y
    return (
        float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).max()),
        float(np.sqrt((residual**2).sum() / (y**2).sum())),
    )
