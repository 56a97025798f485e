"""Collect the freely licensed photographs that the shipped restorer is trained and measured on.

    git clone https://github.com/BuddiesOfBudgie/budgie-backgrounds
    pip install scikit-image
    python tools/collect_photos.py --budgie budgie-backgrounds --output photos

Writes PNG tiles (photos reduced so that JPEG traces and softness vanish) into OUTPUT/train and OUTPUT/test, split by
source photo: no photo gives tiles to both. Sources and licences: docs/restore.md. About 40 MB.
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
# Public domain or CC0 (scikit-image: skimage/data, each picture's page states it).
SKIMAGE_TRAIN = ("rocket.jpg", "grass.png", "gravel.png", "brick.png")
SKIMAGE_TEST = ("astronaut.png", "coffee.png")
TILE = 320
LONG_SIDE = 1920  # the photos are 3840 and more pixels wide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--budgie", type=Path, required=True, help="clone of budgie-backgrounds")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--tiles", type=int, default=12, help="tiles kept per photo, those with most detail")
    arguments = parser.parse_args()

    import skimage

    packaged = Path(skimage.__file__).parent / "data"
    for split, budgie, samples in (
        ("train", BUDGIE_TRAIN, SKIMAGE_TRAIN),
        ("test", BUDGIE_TEST, SKIMAGE_TEST),
    ):
        folder = arguments.output / split
        folder.mkdir(parents=True, exist_ok=True)
        for name in budgie:
            photo = _newest_version(arguments.budgie, name)
            if photo is None:
                print(f"{name} is not in {arguments.budgie}: left out. A full clone holds it in its history.")
                continue
            with Image.open(io.BytesIO(photo)) as image:
                image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
                _write_tiles(image.convert("RGB"), folder, name, arguments.tiles if split == "train" else 2)
        for name in samples:
            with Image.open(packaged / name) as image:
                _write_tiles(image.convert("RGB"), folder, Path(name).stem, 4 if split == "train" else 1)


def _newest_version(repository: Path, name: str) -> bytes | None:
    """The photo's bytes: some were removed from the newest release and live on in the history."""
    git = ["git", "-C", str(repository)]
    path = f"backgrounds/{name}.jpg"
    changes = subprocess.run(
        [*git, "log", "--all", "--format=", "--raw", "--no-abbrev", "--diff-filter=AM", "--", path],
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    for blob in (line.split()[3] for line in changes):
        found = subprocess.run([*git, "cat-file", "blob", blob], check=False, capture_output=True)
        if found.returncode == 0:
            return found.stdout
    return None


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
