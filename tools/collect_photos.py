"""Collect the freely licensed photographs that the shipped restorer is trained and measured on.

    git clone https://github.com/BuddiesOfBudgie/budgie-backgrounds
    git clone https://github.com/elementary/wallpapers elementary
    git clone https://github.com/pop-os/wallpapers pop
    pip install scikit-image
    python tools/collect_photos.py --budgie budgie-backgrounds --elementary elementary --pop pop --output photos

Writes photos, reduced so that JPEG traces and softness (almost) vanish, into OUTPUT/train (35 MB) and tiles of others
into OUTPUT/test (these need --budgie only): no photo gives to both. Sources and licences: docs/restore.md.
"""

import argparse
import io
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

# CC0, photographs only (the same collection also holds drawings and space renderings).
BUDGIE_TRAIN = (
    "beacon-street-sunset", "blue-periwinkle", "budgie-branch", "canyon-wren", "colorful-wall",
    "dragonfly-on-lavender", "extreme-desert-hike", "high-trestle-trail", "kitten-on-lawn",
    "lake-sherburne", "motherboard-circuits", "ocean-waves", "orange-hallway", "perched-osprey", "roman-colosseum",
    "san-francisco-skyline", "serene", "solaris-grapes", "tea-gardens",
)  # fmt: skip
BUDGIE_TEST = (
    "casa-mila",
    "oakland-zoo-otters",
    "piazza-gae-aulenti",
    "singaporean-cityscape",
    "the-spices-of-life",
)
# Published on Unsplash before June 8, 2017, when that meant CC0 (docs/restore.md says how that is known); NASA's are in
# the public domain.
ELEMENTARY_TRAIN = {
    "jay-ruzesky": "199596cf56e8d94eef988a3617f6aa6ed5f48593",
    "jonas-nilsson-lee": "024d7e341e105d8d8b4d1d0437874907f870559e",
    "mr-lee": "ba00b62e63f7a66e34b3625fdeded46bb14e6faf",
    "pablo-garcia-saldana": "4f6cfa4b6452eaab9d1b4b135e95dad59ebd7f46",
    "spacex": "f0e950deb1eefcd320d114b9c025ffddf41fdf75",
    "rob-bye": "99476eabd668a152e17a6bcccc48895a474c18f6",
    "ryan-schroeder": "7a0323177d618e648c3899fc3f37fe335b40451e",
    "sunset-by-the-pier": "0f1ce9cb132f26d2135be9ac86247459abf4442a",
}
POP_COMMIT = "03a25a14a76eaf3825b980ab50aad6698c1c5a35"
POP_TRAIN = (
    "galen-crout-175291", "jad-limcaco-183877", "jared-evans-119758", "kait-herzog-8242", "nasa-45068", "nasa-53884",
    "sean-afnan-244576", "sebastien-gabriel-232361", "tony-webster-97532",
)  # fmt: skip
# Public domain or CC0 (scikit-image: skimage/data, each picture's page states it).
SKIMAGE_TRAIN = ("rocket.jpg", "grass.png", "gravel.png", "brick.png")
SKIMAGE_TEST = ("astronaut.png", "coffee.png")
TILE = 320
LONG_SIDE = 1920  # most photos are 3840 and more pixels wide
JPEG = {"quality": 95, "subsampling": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--budgie", type=Path, required=True, help="clone of budgie-backgrounds")
    parser.add_argument("--elementary", type=Path, help="clone of elementary/wallpapers")
    parser.add_argument("--pop", type=Path, help="clone of pop-os/wallpapers")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()

    import skimage

    train, test = arguments.output / "train", arguments.output / "test"
    if train.is_dir() and any(train.iterdir()):
        parser.error(f"{train} is not empty: name a new folder")
    train.mkdir(parents=True, exist_ok=True)
    test.mkdir(parents=True, exist_ok=True)
    samples = Path(skimage.__file__).parent / "data"
    for name in SKIMAGE_TRAIN:
        _reduced((samples / name).read_bytes()).save(train / f"{Path(name).stem}.png")
    for name in SKIMAGE_TEST:
        _write_tiles(_reduced((samples / name).read_bytes()), test, Path(name).stem, 1)
    photos = {name: _newest_version(arguments.budgie, name) for name in (*BUDGIE_TRAIN, *BUDGIE_TEST)}
    if arguments.elementary:
        photos |= {name: _blob(arguments.elementary, blob) for name, blob in ELEMENTARY_TRAIN.items()}
    if arguments.pop:
        photos |= {name: _blob(arguments.pop, f"{POP_COMMIT}:original/{name}.jpg") for name in POP_TRAIN}
    for name, photo in photos.items():
        if photo is None:
            print(f"{name} is missing from its clone: left out. A full clone has it.")
        elif name in BUDGIE_TEST:
            _write_tiles(_reduced(photo), test, name, 2)
        else:
            _reduced(photo).save(train / f"{name}.jpg", **JPEG)


def _newest_version(repository: Path, name: str) -> bytes | None:
    """The photo's bytes: some were removed from the newest release and live on in the history."""
    path = f"backgrounds/{name}.jpg"
    log = ["log", "--all", "--format=", "--raw", "--no-abbrev", "--diff-filter=AM", "--", path]
    changes = subprocess.run(
        ["git", "-C", str(repository), *log], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    found = (_blob(repository, line.split()[3]) for line in changes)
    return next((photo for photo in found if photo is not None), None)


def _blob(repository: Path, name: str) -> bytes | None:
    command = ["git", "-C", str(repository), "cat-file", "blob", name]
    found = subprocess.run(command, check=False, capture_output=True)
    return found.stdout if found.returncode == 0 else None


def _reduced(photo: bytes) -> Image.Image:
    with Image.open(io.BytesIO(photo)) as image:
        image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
        return image.convert("RGB")


def _write_tiles(image: Image.Image, folder: Path, name: str, count: int) -> None:
    pixels = np.asarray(image)
    tiles: list[tuple[float, np.ndarray]] = []
    for top in range(0, pixels.shape[0] - TILE + 1, TILE):
        for left in range(0, pixels.shape[1] - TILE + 1, TILE):
            tile = pixels[top : top + TILE, left : left + TILE]
            grey = tile.astype(np.float32).mean(axis=2)
            detail = float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())
            tiles.append((detail, tile))
    tiles.sort(key=lambda item: -item[0])
    for index, (_, tile) in enumerate(tiles[:count]):
        Image.fromarray(tile).save(folder / f"{name}-{index:02d}.png")


if __name__ == "__main__":
    main()
