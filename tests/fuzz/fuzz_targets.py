"""What the fuzzers feed to the readers: good files, how they are damaged, and what a reader may say about them.

A target's `read` gets bytes and a scratch folder. It returns (the file was read) or raises one of `refusals` (the file
was refused in words); everything else is a fault. Used by tests/fuzz/test_fuzz.py, bounded, and by tools/fuzz.py, as
long as one likes.
"""

import gzip
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from deblurgs.errors import DeblurgsError
from deblurgs.log import Log

SPLATS = 7


@dataclass(frozen=True)
class Target:
    """seeds: good files. read: the reader under test. refusals: what it may raise. examples: for the bounded test."""

    seeds: Callable[[Path], list[bytes]]
    read: Callable[[bytes, Path], None]
    refusals: tuple[type[BaseException], ...] = (DeblurgsError,)
    examples: int = 60


_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_WORDS = (
    b"-1", b"4000000000", b"99999999999999999999", b"1e400", b"nan", b"NaN", b"null", b"[]", b"{}", b'"', b"\\u0000",
    b"../../x", b"/etc/passwd", b"\r\n", b"\0", b"\xff\xfe", b"[[[[[[[[", b"list uchar int ", b"double",
)  # fmt: skip


def damaged(seed: bytes, draw: random.Random) -> bytes:
    """A few random changes of a file: bits, numbers, words, cuts, repeats."""
    data = bytearray(seed)
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        if not data:
            return bytes(data)
        # Headers decide most; half of the changes go there.
        at = draw.randrange(min(len(data), 400)) if draw.random() < 0.5 else draw.randrange(len(data))
        kind = draw.randrange(7)
        if kind == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at] = draw.randrange(256)
        elif kind == 2:
            order, size = draw.choice("<>"), draw.choice("HIQ")
            value = draw.choice(_NUMBERS) & (0xFFFF if size == "H" else 0xFFFFFFFF)
            packed = struct.pack(order + size, value)
            data[at : at + len(packed)] = packed
        elif kind == 3:
            data[at:at] = draw.choice(_WORDS)
        elif kind == 4:
            del data[at : at + draw.choice((1, 4, 100, 10**6))]
        elif kind == 5:
            data[at:at] = data[at : at + draw.choice((1, 8, 200))]
        else:
            word = draw.choice(_WORDS)
            data[at : at + len(word)] = word
    return bytes(data)


def _ply_seeds(folder: Path) -> list[bytes]:
    from deblurgs.export.ply import SplatArrays, write_ply

    rng = np.random.default_rng(0)
    path = folder / "good.ply"
    numbers = {
        "means": (SPLATS, 3), "quats_wxyz": (SPLATS, 4), "log_scales": (SPLATS, 3), "logit_opacities": (SPLATS,),
        "sh0": (SPLATS, 3), "shN": (SPLATS, 3, 3),
    }  # fmt: skip
    write_ply(path, SplatArrays(**{k: rng.normal(size=s).astype(np.float32) for k, s in numbers.items()}))
    return [path.read_bytes()]


def _read_ply(data: bytes, folder: Path) -> None:
    from deblurgs.export.ply import read_ply

    path = folder / "a.ply"
    path.write_bytes(data)
    read_ply(path)


def _transforms_seeds(folder: Path) -> list[bytes]:
    pose = [[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]]
    frames = [{"file_path": f"images/{i}.png", "transform_matrix": pose} for i in range(3)]
    lens = {
        "w": 16,
        "h": 12,
        "fl_x": 20.0,
        "fl_y": 20.0,
        "cx": 8.0,
        "cy": 6.0,
        "k1": 0.1,
        "camera_model": "OPENCV",
    }
    short = [{**f, "file_path": f"images/{i}"} for i, f in enumerate(frames)]
    ngp = {"camera_angle_x": 0.7, "w": 16, "h": 12, "frames": short}
    return [json.dumps({**lens, "frames": frames}).encode(), json.dumps(ngp).encode()]


def _read_transforms(data: bytes, folder: Path) -> None:
    from deblurgs.capture.transforms import read_transforms

    (folder / "images").mkdir(exist_ok=True)
    for i in range(3):
        (folder / "images" / f"{i}.png").touch()
    (folder / "transforms.json").write_bytes(data)
    found = read_transforms(folder / "transforms.json")
    root = folder.resolve()
    assert all(p.resolve().is_relative_to(root) for p in (*found.photos.values(), *found.masks.values()))
    assert all(
        np.isfinite(v.camera_from_world).all() and np.isfinite(v.params).all() for v in found.views.values()
    )


@cache
def _checkpoint() -> tuple[bytes, bytes]:
    import torch
    from safetensors.torch import save

    blob = save({"gaussians.means": torch.zeros(5, 3), "rng": torch.zeros(16, dtype=torch.uint8)})
    header = {
        "format": "deblurgs-checkpoint-1",
        "crc32": zlib.crc32(blob),
        "bytes": len(blob),
        "state": {"step": 3},
    }
    return blob, json.dumps(header).encode()


def _read_checkpoint(data: bytes, folder: Path) -> None:
    """The first four bytes say how long the JSON is; the checksum is mended, so that the damage reaches the reader."""
    from deblurgs.train.keeper import read_checkpoint

    length = int.from_bytes(data[:4], "big") % (len(data) + 1)
    text, blob = data[4 : 4 + length], data[4 + length :]
    try:
        header = json.loads(text)
        header["bytes"], header["crc32"] = len(blob), zlib.crc32(blob)
        text = json.dumps(header).encode()
    except (ValueError, TypeError, RecursionError):
        pass
    (folder / "step-1.json").write_bytes(text)
    (folder / "step-1.safetensors").write_bytes(blob)
    read_checkpoint(folder / "step-1.json")


def _checkpoint_seeds(folder: Path) -> list[bytes]:
    blob, header = _checkpoint()
    return [len(header).to_bytes(4, "big") + header + blob]


def _read_scene(data: bytes, folder: Path) -> None:
    from deblurgs.train.checkpoint import load_scene

    (folder / "scene.safetensors").write_bytes(data)
    load_scene(folder / "scene.safetensors")


def _scene_seeds(folder: Path) -> list[bytes]:
    import torch

    from deblurgs.config import TrainConfig
    from deblurgs.scene.camera import Camera
    from deblurgs.scene.gaussians import Gaussians
    from deblurgs.scene.photometry import Photometry
    from deblurgs.scene.trajectory import Trajectory
    from deblurgs.scene.transform import Similarity
    from deblurgs.train.checkpoint import save_scene
    from deblurgs.train.trained import TrainedScene

    gaussians = Gaussians.from_points(torch.rand(4, 3), torch.rand(4, 3), 1)
    scene = TrainedScene(
        gaussians, Trajectory(torch.eye(4).repeat(2, 1, 1), "bezier", 4), Photometry(2),
        [Camera(16, 12, 20.0, 20.0, 8.0, 6.0)] * 2, torch.ones(2), TrainConfig(), 1.0,
    )  # fmt: skip
    save_scene(folder / "good.safetensors", scene, ["a.png", "b.png"], Similarity.identity())
    return [(folder / "good.safetensors").read_bytes()]


def _image_seeds(folder: Path) -> list[bytes]:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x829A] = 0.02
    seeds = []
    for kind, options in (
        ("JPEG", {"exif": exif}), ("PNG", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {}), ("GIF", {}),
        ("BMP", {}),
    ):  # fmt: skip
        file = BytesIO()
        picture.save(file, kind, **options)
        seeds.append(file.getvalue())
    return seeds


def _read_image(data: bytes, folder: Path) -> None:
    from deblurgs.capture.photo import decode_photo

    (folder / "a.img").write_bytes(data)
    photo = decode_photo(folder / "a.img", 1e6)
    assert photo.pixels.ndim == 3 and photo.pixels.shape[2] == 3


def _video_seeds(folder: Path) -> list[bytes]:
    from deblurgs.export.video import write_mp4

    rng = np.random.default_rng(0)
    big = np.repeat(np.repeat(rng.integers(0, 255, (30, 60, 3), dtype=np.uint8), 4, 0), 4, 1)
    from fractions import Fraction

    write_mp4(folder / "good.mp4", (big[:48, 4 * i : 4 * i + 64] for i in range(8)), Fraction(10))
    return [(folder / "good.mp4").read_bytes()]


def _read_video(data: bytes, folder: Path) -> None:
    from deblurgs.capture.source import ingest

    (folder / "a.mp4").write_bytes(data)
    ingest(folder / "a.mp4", folder / "out", max_pixels=1e6, log=Log(quiet=True))


def _archive_seeds(folder: Path) -> list[bytes]:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            archive.writestr(f"photos/{i}.png", bytes(range(50)) * 3)
    return [file.getvalue()]


def _read_archive(data: bytes, folder: Path) -> None:
    from deblurgs.capture.archive import unpack

    (folder / "a.zip").write_bytes(data)
    unpack(folder / "a.zip", folder / "unpacked")


def _spz_seeds(folder: Path) -> list[bytes]:
    """Both versions, as they lie on disk. Of version 3 the damage mostly breaks the checksum of gzip."""
    from deblurgs.export.ply import read_ply
    from deblurgs.export.spz import write_spz

    (folder / "good.ply").write_bytes(_ply_seeds(folder)[0])
    seeds = []
    for version in (3, 4) if find_spec("zstandard") else (3,):
        write_spz(folder / f"{version}.spz", read_ply(folder / "good.ply"), version=version)
        seeds.append((folder / f"{version}.spz").read_bytes())
    return seeds


def _read_spz(data: bytes, folder: Path) -> None:
    from deblurgs.export.spz import read_spz

    (folder / "a.spz").write_bytes(data)
    read_spz(folder / "a.spz")


def _spz_inside_seeds(folder: Path) -> list[bytes]:
    return [gzip.decompress(_spz_seeds(folder)[0])]


def _read_spz_inside(data: bytes, folder: Path) -> None:
    """Packed after the damage, so that it reaches what lies behind gzip."""
    _read_spz(gzip.compress(data, 1), folder)


def _photo_refusals() -> tuple[type[BaseException], ...]:
    from deblurgs.capture.photo import UnusablePhoto

    return (UnusablePhoto,)


TARGETS: dict[str, Target] = {
    "ply": Target(_ply_seeds, _read_ply, examples=120),
    "transforms": Target(_transforms_seeds, _read_transforms, examples=120),
    "checkpoint": Target(_checkpoint_seeds, _read_checkpoint, (ValueError,), examples=120),
    "scene": Target(_scene_seeds, _read_scene),
    "image": Target(_image_seeds, _read_image, _photo_refusals(), examples=120),
    "video": Target(_video_seeds, _read_video, examples=12),
    "archive": Target(_archive_seeds, _read_archive, examples=120),
    "spz": Target(_spz_seeds, _read_spz, examples=120),
    "spz inside": Target(_spz_inside_seeds, _read_spz_inside, examples=120),
}


def one_input(target: Target, seeds: list[bytes], number: int, folder: Path) -> bool:
    """Damage a good file in the way that `number` says and read it in `folder`. Returns whether it was read; raises for
    a fault, which a file beside the folder is too."""
    draw = random.Random(number)
    data = damaged(draw.choice(seeds), draw)
    beside = sorted(folder.parent.iterdir())
    try:
        target.read(data, folder)
    except target.refusals:
        return False
    finally:
        assert sorted(folder.parent.iterdir()) == beside, f"input {number} wrote outside of its folder"
    return True
