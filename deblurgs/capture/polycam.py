"""Polycam's raw data: `keyframes/` with photos and, in a JSON file each, a pinhole camera and its pose."""

from pathlib import Path

from deblurgs.capture.given import GivenView, NoRigidPoseError, from_opengl
from deblurgs.capture.transforms import Transforms
from deblurgs.errors import CaptureError
from deblurgs.files import read_json

_MAX_BYTES = 2**20
_PLACES = (("corrected_images", "corrected_cameras"), ("images", "cameras"))
_SUFFIXES = (".jpg", ".jpeg", ".png")


def polycam_folders(root: Path) -> tuple[Path, Path] | None:
    """Photos and cameras of a Polycam folder; the corrected ones (poses after its own optimisation) come first."""
    for images, cameras in _PLACES:
        pair = root / "keyframes" / images, root / "keyframes" / cameras
        if all(folder.is_dir() for folder in pair):
            return pair
    return None


def read_polycam(root: Path, images: Path, cameras: Path) -> Transforms:
    """Photos with lenses and poses, named by their path below `root`. Raises CaptureError when none can be used."""
    found = Transforms()
    for path in sorted(cameras.glob("*.json")):
        photo = next((p for s in _SUFFIXES if (p := images / f"{path.stem}{s}").is_file()), None)
        if photo is None:
            found.left_out.append((path.name, "it has no photo"))
            continue
        name = photo.relative_to(root).as_posix()
        try:
            found.views[name] = _view(read_json(path, max_bytes=_MAX_BYTES))
            found.photos[name] = photo
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            found.left_out.append((name, f"its camera file cannot be used ({error})"))
    if not found.photos:
        why = f": {found.left_out[0][0]}: {found.left_out[0][1]}" if found.left_out else ""
        raise CaptureError(f"{cameras} describes no photo of {images}{why}")
    return found


def _view(data: dict[str, float]) -> GivenView:
    """t_00 .. t_23 are the rows of camera-to-world with OpenGL axes, in ARKit's world."""
    matrix = [[float(data[f"t_{row}{column}"]) for column in range(4)] for row in range(3)]
    params = tuple(float(data[key]) for key in ("fx", "fy", "cx", "cy"))
    width, height = int(data["width"]), int(data["height"])
    if min(width, height) <= 0 or not 0 < min(params[:2]) <= max(params) < 1e9:
        raise NoRigidPoseError("its intrinsics are impossible")
    return GivenView("PINHOLE", width, height, params, from_opengl(matrix))
