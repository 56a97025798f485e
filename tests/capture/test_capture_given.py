"""Photos that come with cameras, masks or exposure times: transforms.json, Polycam, archives, EXIF."""

import json
import math
import stat
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from capture_media import moving, save_photos
from PIL import Image

from deblurgs.capture import archive
from deblurgs.capture.given import from_opengl
from deblurgs.capture.source import ingest
from deblurgs.errors import CaptureError, DeblurgsError
from deblurgs.files import MANIFEST
from deblurgs.log import Log
from deblurgs.run import RunFolder
from deblurgs.sfm.given import read_poses


@pytest.fixture
def log() -> Log:
    return Log(quiet=True)


def pose(x: float) -> list[list[float]]:
    """Camera-to-world, OpenGL axes: at (x, 0, 2), looking along the world's -z."""
    return [[1.0, 0, 0, x], [0, 1.0, 0, 0], [0, 0, 1.0, 2.0], [0, 0, 0, 1.0]]


def nerfstudio(root: Path, count: int = 4, **changes: object) -> dict:
    save_photos(root / "images", moving(count), "frame_{}.png")
    data = {
        "w": 128, "h": 96, "fl_x": 110.0, "fl_y": 112.0, "cx": 63.0, "cy": 47.0, "k1": 0.01, "k2": 0.0, "p1": 0.0,
        "p2": 0.0, "camera_model": "OPENCV",
        "frames": [
            {"file_path": f"images/frame_{i + 1}.png", "transform_matrix": pose(0.1 * i)} for i in range(count)
        ],
    } | changes  # fmt: skip
    (root / "transforms.json").write_text(json.dumps(data))
    return data


@pytest.mark.parametrize("given", ["folder", "file"])
def test_transforms_bring_lenses_and_poses(tmp_path: Path, log: Log, given: str) -> None:
    root = tmp_path / "in"
    data = nerfstudio(root)
    data["frames"][2] |= {"fl_x": 220.0, "camera_model": "PINHOLE", "transform_matrix": pose(0.2)[:3]}
    (root / "transforms.json").write_text(json.dumps(data))
    source = root if given == "folder" else root / "transforms.json"
    capture = ingest(source, tmp_path / "out", log=log)
    assert capture.kind == "transforms" and len(capture.frames) == 4 and capture.given_poses is not None
    poses = read_poses(capture.given_poses)
    names = [f.name for f in capture.frames]
    first, third = poses.lenses[names[0]], poses.lenses[names[2]]
    assert (first.model, first.params) == ("OPENCV", (110.0, 112.0, 63.0, 47.0, 0.01, 0.0, 0.0, 0.0))
    assert (third.model, third.params) == ("PINHOLE", (220.0, 112.0, 63.0, 47.0))
    # A point above the axis and before the camera appears above the middle, in front.
    for x, name in zip((0.0, 0.1, 0.2, 0.3), names, strict=True):
        seen = poses.camera_from_world[name] @ [x, 0.5, 0.0, 1.0]
        assert np.allclose(seen, [0.0, -0.5, 2.0, 1.0])


def test_instant_ngp_gives_an_angle_and_names_without_suffix(tmp_path: Path, log: Log) -> None:
    root = tmp_path / "in"
    data = nerfstudio(root)
    angle = 2 * math.atan(0.5 * 128 / 100.0)
    for key in ("fl_x", "fl_y", "cx", "cy", "k1", "camera_model"):
        del data[key]
    data["camera_angle_x"] = angle
    for frame in data["frames"]:
        frame["file_path"] = "./" + frame["file_path"].removesuffix(".png")
    (root / "transforms.json").write_text(json.dumps(data))
    capture = ingest(root, tmp_path / "out", log=log)
    lens = read_poses(capture.given_poses).lenses[capture.frames[0].name]  # type: ignore[arg-type]
    assert lens.model == "PINHOLE" and np.allclose(lens.params, (100.0, 100.0, 64.0, 48.0))


# Case 42.
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"transform_matrix": [[math.nan] * 4] * 4}, "not finite"),
        ({"transform_matrix": [[0.0] * 4] * 4}, "no rotation"),
        ({"transform_matrix": [[1.0, 2.0]]}, "3x4"),
        ({"transform_matrix": "eye"}, "no matrix"),
        ({"file_path": "../../secret.png"}, "leaves the folder"),
        ({"file_path": "/etc/passwd"}, "leaves the folder"),
        ({"file_path": "C:\\secret.png"}, "leaves the folder"),
        ({"file_path": "images/link.png"}, "leaves the folder"),
        ({"file_path": "images/gone.png"}, "does not exist"),
        ({"file_path": "images/frame_2.png"}, "twice"),
        ({"file_path": 7}, "no file_path"),
    ],
)
def test_a_bad_frame_is_left_out_with_its_reason(tmp_path: Path, log: Log, change: dict, said: str) -> None:
    root = tmp_path / "in"
    (tmp_path / "secret.png").write_bytes(b"secret")
    data = nerfstudio(root)
    (root / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    data["frames"].append(data["frames"][0] | {"file_path": "images/frame_1.png"} | change)
    data["frames"][0], data["frames"][-1] = data["frames"][-1], data["frames"][0]
    if "file_path" in change:
        data["frames"] = data["frames"][1:4] + data["frames"][:1]
    (root / "transforms.json").write_text(json.dumps(data))
    if "transform_matrix" in change:
        data["frames"].pop()
        (root / "transforms.json").write_text(json.dumps(data))
    capture = ingest(root, tmp_path / "out", log=log)
    assert len(capture.frames) == 3 and any(said in reason for _, reason in capture.dropped), capture.dropped


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"frames": []}, "no frames"),
        ({"frames": {}}, "no frames"),
        ({"camera_model": "EQUIRECTANGULAR"}, "not supported; known: PINHOLE"),
        ({"fl_x": "wide"}, "fl_x is 'wide'"),
        ({"fl_x": None, "fl_y": None}, "no focal length"),
        ({"w": None}, "no image size"),
        ({"k1": 1e300}, "k1"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, log: Log, changes: dict, said: str) -> None:
    nerfstudio(tmp_path / "in", **changes)
    with pytest.raises(CaptureError, match=said) as caught:
        ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert "transforms.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[", "[1]", "[" * 100_000, "\xff"])
def test_what_is_no_transforms_file_is_named(tmp_path: Path, log: Log, text: str) -> None:
    nerfstudio(tmp_path / "in")
    (tmp_path / "in" / "transforms.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CaptureError, match=r"transforms\.json"):
        ingest(tmp_path / "in", tmp_path / "out", log=log)


def test_opengl_axes_are_turned_once() -> None:
    found = from_opengl(pose(0.0))
    assert np.allclose(found, [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2.0], [0, 0, 0, 1]])


def polycam(root: Path, count: int = 4) -> None:
    save_photos(root / "keyframes" / "corrected_images", moving(count), "10{}.jpg")
    cameras = root / "keyframes" / "corrected_cameras"
    cameras.mkdir()
    for i in range(count):
        matrix = pose(0.1 * i)
        data = {f"t_{r}{c}": matrix[r][c] for r in range(3) for c in range(4)}
        data |= {
            "fx": 100.0 + i,
            "fy": 100.0,
            "cx": 64.0,
            "cy": 48.0,
            "width": 128,
            "height": 96,
            "blur_score": 90,
        }
        (cameras / f"10{i + 1}.json").write_text(json.dumps(data))


@pytest.mark.parametrize("packed", [False, True])
def test_polycam_brings_a_lens_for_each_photo(tmp_path: Path, log: Log, packed: bool) -> None:
    polycam(tmp_path / "scan" / "inside")
    source = tmp_path / "scan" / "inside"
    if packed:
        source = tmp_path / "scan.zip"
        with zipfile.ZipFile(source, "w") as file:
            for path in sorted((tmp_path / "scan").rglob("*")):
                file.write(path, path.relative_to(tmp_path / "scan"))
    capture = ingest(source, tmp_path / "out", log=log)
    assert capture.kind == "polycam" and capture.given_poses is not None
    poses = read_poses(capture.given_poses)
    assert [poses.lenses[f.name].params[0] for f in capture.frames] == [100.0, 101.0, 102.0, 103.0]
    assert np.allclose(poses.camera_from_world[capture.frames[3].name][:3, 3], [-0.3, 0.0, 2.0])
    assert not (tmp_path / "out" / ".capture-unpacked").exists(), "nothing unpacked is left"


def test_an_archive_of_photos_is_a_folder_of_photos(tmp_path: Path, log: Log) -> None:
    with zipfile.ZipFile(tmp_path / "clip.zip", "w") as file:
        for path in save_photos(tmp_path / "in", moving(4)):
            file.write(path, f"my photos/{path.name}")
        file.writestr("__MACOSX/my photos/._img1.png", b"junk")
    assert len(ingest(tmp_path / "clip.zip", tmp_path / "out", log=log).frames) == 4


@pytest.mark.parametrize("inside", ["a run folder", "a text"])
def test_what_is_wrong_with_an_archive_is_told_by_its_own_name(tmp_path: Path, log: Log, inside: str) -> None:
    with zipfile.ZipFile(tmp_path / "clip.zip", "w") as file:
        if inside == "a text":
            file.writestr("clip/notes.txt", "no photo")
        else:
            with RunFolder(tmp_path / "run"):
                pass
            file.write(tmp_path / "run" / MANIFEST, f"clip/{MANIFEST}")
    with pytest.raises(DeblurgsError, match="a run folder" if inside != "a text" else "no ") as error:
        ingest(tmp_path / "clip.zip", tmp_path / "out", log=log)
    assert str(tmp_path / "clip.zip") in str(error.value) and "unpacked" not in str(error.value)


@pytest.mark.parametrize(
    "kind",
    [
        "up",
        "absolute",
        "link",
        "bomb",
        "many",
        "cut",
        "empty",
        "encrypted",
        "twice",
        "bzip2",
        "inside a file",
        "on a folder",
        "deep",
    ],
)
def test_a_hostile_archive_writes_nothing(tmp_path: Path, log: Log, monkeypatch, kind: str) -> None:
    path = tmp_path / "in.zip"
    packing = zipfile.ZIP_BZIP2 if kind == "bzip2" else zipfile.ZIP_DEFLATED
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", packing) as file:
        warnings.simplefilter("ignore", UserWarning)  # of the second member with the same name
        if kind in ("up", "absolute"):
            file.writestr("../canary.png" if kind == "up" else "/tmp/deblurgs-canary.png", b"x")
        elif kind == "link":
            link = zipfile.ZipInfo("photo.png")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            file.writestr(link, "/etc/passwd")
        elif kind == "bomb":
            file.writestr("photo.png", bytes(4 * 2**20))
        elif kind != "empty":
            for i in range(5):
                file.writestr(f"{i}.png", b"x" * 100)
        if kind == "twice":
            file.writestr("0.png", b"y" * 100)
        if kind == "inside a file":
            file.writestr("0.png/a/b.png", b"y" * 100)
        if kind == "deep":
            file.writestr("a/" * 30000 + "b.png", b"y" * 100)
        if kind == "on a folder":
            file.writestr("a/b/c.png", b"y" * 100)
            file.writestr("a", b"y" * 100)
    if kind == "bzip2":
        path.write_bytes(path.read_bytes().replace(b"1AY&SY", b"1AY&SX"))
    if kind == "many":
        monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    if kind == "encrypted":
        blob = bytearray(path.read_bytes())
        for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = blob.find(magic)
            while at >= 0:
                blob[at + offset] |= 1
                at = blob.find(magic, at + 4)
        path.write_bytes(blob)
    with pytest.raises(CaptureError, match="archive"):
        ingest(path, tmp_path / "out", log=log)
    assert not list(tmp_path.rglob("*canary*")) and not Path("/tmp/deblurgs-canary.png").exists()
    assert not (tmp_path / "out" / ".capture-unpacked").exists()


def test_masks_follow_colmaps_rule(tmp_path: Path, log: Log) -> None:
    paths = save_photos(tmp_path / "in", moving(5))
    turned = Image.fromarray(moving(6)[5])
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "in" / "turned.jpg", exif=exif)
    masks = tmp_path / "in" / "masks"
    masks.mkdir()
    left = np.full((96, 128), 255, np.uint8)
    left[:, :40] = 0
    Image.fromarray(left).save(masks / "img1.png.png")
    Image.fromarray(left).resize((64, 48)).save(masks / "img2.png")  # the photo's stem, another size
    Image.fromarray(np.zeros((96, 128), np.uint8)).save(masks / "img3.png.png")
    Image.fromarray(left[:, :64]).save(masks / "img4.png.png")
    Image.fromarray(left).save(masks / "turned.jpg.png")
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    read = {name: np.asarray(Image.open(path)) for name, path in capture.masks.items()}
    assert set(read) == {"img1.png", "img2.png", "turned.jpg"}
    assert (read["img1.png"] == left).all() and (read["img2.png"] == left).mean() > 0.99
    assert read["turned.jpg"].shape == (128, 96) and not read["turned.jpg"][:40].any(), (
        "turned like its photo"
    )
    assert ("img3.png", "its mask leaves nothing of it") in capture.dropped
    assert any("img4.png is not used" in text for text in log.warnings)
    assert len(capture.frames) == 5 and len(paths) == 5


def test_a_mask_of_transforms_is_used(tmp_path: Path, log: Log) -> None:
    data = nerfstudio(tmp_path / "in")
    half = np.full((96, 128), 255, np.uint8)
    half[:30] = 0
    Image.fromarray(half).save(tmp_path / "in" / "half.png")
    data["frames"][1]["mask_path"] = "half.png"
    data["frames"][2]["mask_path"] = "../half.png"
    (tmp_path / "in" / "transforms.json").write_text(json.dumps(data))
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert list(capture.masks) == [capture.frames[1].name]


def test_exposure_and_camera_are_read_from_exif(tmp_path: Path, log: Log) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for i, picture in enumerate(moving(4)):
        exif = Image.Exif()
        exif[0x010F], exif[0x0110] = "Maker", "One" if i < 2 else "Two"
        exif.get_ifd(0x8769)[0x829A] = (1.0 / 50) * (1 + i)
        exif.get_ifd(0x8769)[0x920A] = 4.2
        if i < 3:
            Image.fromarray(picture).save(folder / f"{i}.jpg", exif=exif)
        else:
            Image.fromarray(picture).save(folder / f"{i}.jpg")
    frames = ingest(folder, tmp_path / "out", log=log).frames
    assert np.allclose([f.exposure_s or 0.0 for f in frames], [0.02, 0.04, 0.06, 0.0], atol=1e-4)
    assert [f.camera for f in frames] == ["Maker One 4.2 mm"] * 2 + ["Maker Two 4.2 mm", None]


def test_a_focal_length_in_exif_does_not_reach_camera_estimation(tmp_path: Path, log: Log) -> None:
    """COLMAP would believe a wrong one; here it makes another camera at most."""
    import zlib  # noqa: F401  (pycolmap damages the heap unless zlib is loaded before it)

    import pycolmap

    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 300  # FocalLengthIn35mmFilm
    (tmp_path / "in").mkdir()
    for i, picture in enumerate(moving(4)):
        Image.fromarray(picture).save(tmp_path / "in" / f"{i}.jpg", exif=exif)
    assert pycolmap.infer_camera_from_image(str(tmp_path / "in" / "0.jpg")).has_prior_focal_length
    for frame in ingest(tmp_path / "in", tmp_path / "out", log=log).frames:
        assert not Image.open(frame.path).getexif()
        assert not pycolmap.infer_camera_from_image(str(frame.path)).has_prior_focal_length


def test_avif_is_read(tmp_path: Path, log: Log) -> None:
    from PIL import features

    if not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    save_photos(tmp_path / "in", moving(4), "img{}.avif")
    assert len(ingest(tmp_path / "in", tmp_path / "out", log=log).frames) == 4


def test_heic_is_read_with_the_extra(tmp_path: Path, log: Log) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    folder = tmp_path / "in"
    folder.mkdir()
    pictures = moving(4)
    for i, picture in enumerate(pictures):
        pillow_heif.from_pillow(Image.fromarray(picture)).save(folder / f"{i}.heic", quality=95)
    frames = ingest(folder, tmp_path / "out", log=log).frames
    assert len(frames) == 4
    stored = np.asarray(Image.open(frames[0].path)).astype(float)
    assert np.abs(stored - pictures[0]).mean() < 12


def test_raw_is_developed_with_the_extra(tmp_path: Path, log: Log) -> None:
    pytest.importorskip("rawpy")
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(3):
        write_dng(folder / f"{i}.dng", red_side=0.2 + 0.1 * i)
    (folder / "3.dng").write_bytes(b"II*\0" + bytes(50))
    capture = ingest(folder, tmp_path / "out", log=log)
    assert len(capture.frames) == 3 and "camera raw" in dict(capture.dropped)["3.dng"]
    pixels = np.asarray(Image.open(capture.frames[0].path)).astype(float)
    assert pixels.shape[:2] == (128, 192) and pixels.max() > 1
    left, right = pixels[30:-30, 20:70].mean(axis=(0, 1)), pixels[30:-30, -70:-20].mean(axis=(0, 1))
    assert left[0] > 2 * left[1] and abs(right[0] - right[1]) < 0.3 * right[1], (
        "the left side is red, the right grey"
    )


def test_raw_without_the_extra_names_it(tmp_path: Path, log: Log, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    (tmp_path / "in").mkdir()
    for i in range(3):
        write_dng(tmp_path / "in" / f"{i}.dng", red_side=0.5)
    with pytest.raises(CaptureError, match=r"rawpy \(pip install deblurgs\[phone\]\)"):
        ingest(tmp_path / "in", tmp_path / "out", log=log)


def write_dng(path: Path, red_side: float, shape: tuple[int, int] = (128, 192)) -> None:
    """A minimal DNG (Adobe's specification 1.4): one uncompressed 16-bit RGGB mosaic, red on its left half."""
    import struct

    height, width = shape
    rng = np.random.default_rng(int(red_side * 100))
    mosaic = (30000 * (0.25 + 0.05 * rng.random(shape))).astype(np.uint16)
    half = mosaic[:, : width // 2]
    half[0::2, 0::2] = int(60000 * red_side)
    half[0::2, 1::2] //= 8
    half[1::2, :] //= 8
    identity = [(1, 1) if i % 4 == 0 else (0, 1) for i in range(9)]
    shorts, longs = ("<H", 3), ("<I", 4)
    entries: list[tuple[int, int, bytes, int]] = []

    def add(tag: int, kind: int, values: bytes, count: int) -> None:
        entries.append((tag, kind, values, count))

    def number(tag: int, value: int, form: tuple[str, int] = shorts) -> None:
        add(tag, form[1], struct.pack(form[0], value), 1)

    number(254, 0, longs), number(256, width, longs), number(257, height, longs)
    number(258, 16), number(259, 1), number(262, 32803)
    add(271, 2, b"Maker\0", 6), add(272, 2, b"Model\0", 6)
    number(273, 0, longs)  # the strip's place, filled in below
    number(274, 1), number(277, 1), number(278, height, longs), number(279, height * width * 2, longs)
    add(33421, 3, struct.pack("<HH", 2, 2), 2), add(33422, 1, bytes([0, 1, 1, 2]), 4)
    add(50706, 1, bytes([1, 4, 0, 0]), 4), add(50708, 2, b"Maker Model\0", 12)
    number(50717, 65535, longs)
    add(50721, 10, b"".join(struct.pack("<ii", *v) for v in identity), 9)
    add(50728, 5, struct.pack("<IIIIII", 1, 1, 1, 1, 1, 1), 3)
    number(50778, 21)
    entries.sort()
    place = 8 + 2 + 12 * len(entries) + 4
    extra, table = b"", b""
    strip = place + sum(len(v) for _, _, v, _ in entries if len(v) > 4)
    for tag, kind, values, count in entries:
        if tag == 273:
            values = struct.pack("<I", strip)
        if len(values) > 4:
            table += struct.pack("<HHII", tag, kind, count, place + len(extra))
            extra += values
        else:
            table += struct.pack("<HHI", tag, kind, count) + values.ljust(4, b"\0")
    path.write_bytes(
        b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + table + bytes(4) + extra + mosaic.tobytes()
    )
