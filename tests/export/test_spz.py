"""SPZ and .splat: round trips within the formats' own precision, foreign readers, damaged files."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from deblurgs.errors import CaptureError
from deblurgs.export.ply import SplatArrays, read_ply, write_ply
from deblurgs.export.splat import read_splat, write_splat
from deblurgs.export.spz import _FLIP_SH, read_spz, write_spz
from deblurgs.math.sh_rotation import rotate_sh


def splats(n: int = 300, degree: int = 3, *, antialiased: bool = False) -> SplatArrays:
    rng = np.random.default_rng(n + degree)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return SplatArrays(
        means=4 * normal(n, 3), quats_wxyz=normal(n, 4), log_scales=normal(n, 3) - 4, logit_opacities=2 * normal(n),
        sh0=0.5 * normal(n, 3), shN=0.2 * normal(n, (degree + 1) ** 2 - 1, 3).clip(-3, 3), antialiased=antialiased,
    )  # fmt: skip


def same_rotation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|cosine| between quaternions of any length: 1 for the same rotation."""
    return np.abs((a * b).sum(1)) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def check_close(read: SplatArrays, written: SplatArrays) -> None:
    np.testing.assert_allclose(read.means, written.means, atol=1e-4)
    assert same_rotation(read.quats_wxyz, written.quats_wxyz).min() > 0.99999
    np.testing.assert_allclose(read.log_scales, written.log_scales, atol=1 / 31)
    opacity = [1 / (1 + np.exp(-a.logit_opacities)) for a in (read, written)]
    np.testing.assert_allclose(opacity[0], opacity[1], atol=1 / 254)
    np.testing.assert_allclose(read.sh0, written.sh0, atol=1 / 70)
    np.testing.assert_allclose(read.shN, written.shN.clip(-1, 127 / 128), atol=0.0745)
    np.testing.assert_allclose(read.shN[:, :3], written.shN[:, :3].clip(-1, 127 / 128), atol=0.0745 / 2)
    assert read.antialiased == written.antialiased and read.sh_degree == written.sh_degree


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(("degree", "antialiased"), [(0, False), (1, True), (2, False), (3, True)])
def test_spz_comes_back(tmp_path: Path, version: int, degree: int, antialiased: bool) -> None:
    if version == 4:
        pytest.importorskip("zstandard")
    written = splats(degree=degree, antialiased=antialiased)
    assert write_spz(tmp_path / "a.spz", written, version=version) == 0  # type: ignore[arg-type]
    check_close(read_spz(tmp_path / "a.spz"), written)


def test_the_sign_changes_of_sh_are_a_half_turn_about_x() -> None:
    turn = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    rest = torch.from_numpy(splats(20).shN).double()
    expected = rotate_sh(rest, turn)
    np.testing.assert_allclose(expected.numpy(), rest.numpy() * _FLIP_SH[:, None], atol=1e-9)


def gaussforge():
    """An independent converter of splat files, which reads SPZ with the library of the format's makers."""
    module = pytest.importorskip(
        "gaussforge", reason="the Python package gaussforge is missing (extra `dev`)"
    )
    return module.GaussForge()


def foreign(path: Path, kind: str) -> dict[str, np.ndarray]:
    """What it finds in a file, values and axes as they are stored there; none but scenes with SH are handed out."""
    result = gaussforge().read(path.read_bytes(), kind)
    assert not result.get("error"), result
    parts = {"positions": 3, "scales": 3, "rotations": 4, "alphas": 0, "colors": 3}
    read = {name: np.frombuffer(result["data"][name], np.float32) for name in (*parts, "sh")}
    n = result["data"]["numPoints"]
    shaped = {name: read[name].reshape(n, width) if width else read[name] for name, width in parts.items()}
    return {**shaped, "sh": read["sh"].reshape(n, -1, 3)}


def converted(path: Path, kind: str, wanted: str, **options: int) -> Path:
    """The file as it converts it."""
    result = gaussforge().convert(path.read_bytes(), kind, wanted, **options)
    assert result.get("data"), result
    target = path.with_name(f"{path.name}-converted.{wanted}")
    target.write_bytes(result["data"])
    return target


def opacities(logits: np.ndarray) -> np.ndarray:
    """Where a byte says 0 or 255 some programs say infinite, we say nearly."""
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-logits))


def check_same(read: dict[str, np.ndarray], own: SplatArrays) -> None:
    np.testing.assert_allclose(read["positions"], own.means, atol=1e-6)
    np.testing.assert_allclose(read["scales"], own.log_scales, atol=1e-6)
    np.testing.assert_allclose(opacities(read["alphas"]), opacities(own.logit_opacities), atol=1.1e-4)
    np.testing.assert_allclose(read["colors"], own.sh0, atol=1e-6)
    np.testing.assert_allclose(read["sh"], own.shN, atol=1e-6)
    assert same_rotation(read["rotations"], own.quats_wxyz).min() > 0.99999


def test_an_independent_reader_finds_the_same_in_a_ply_file(tmp_path: Path) -> None:
    written = splats(degree=3)
    write_ply(tmp_path / "a.ply", written)
    check_same(foreign(tmp_path / "a.ply", "ply"), written)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_an_independent_reader_finds_the_same_in_an_spz_file(
    tmp_path: Path, version: int, degree: int
) -> None:
    if version == 4:
        pytest.importorskip("zstandard")
    write_spz(tmp_path / "a.spz", splats(degree=degree), version=version)  # type: ignore[arg-type]
    read = foreign(tmp_path / "a.spz", "spz")
    # SPZ's own axes: +y up, +z back.
    read["positions"] = read["positions"] * [1, -1, -1]
    read["rotations"] = read["rotations"] * [1, 1, -1, -1]
    read["sh"] = read["sh"] * _FLIP_SH[: read["sh"].shape[1], None]
    check_same(read, read_spz(tmp_path / "a.spz"))


@pytest.mark.parametrize("kind", ["splat", "spz3", "spz4"])
def test_an_independent_program_converts_files_without_harmonics(tmp_path: Path, kind: str) -> None:
    written, path = splats(degree=0), tmp_path / "a"
    if kind == "splat":
        write_splat(path, written)
        own = read_splat(path)
    else:
        if kind == "spz4":
            pytest.importorskip("zstandard")
        write_spz(path, written, version=int(kind[-1]))  # type: ignore[arg-type]
        own = read_spz(path)
    read = read_ply(converted(path, kind.rstrip("34"), "ply"))
    # It takes the axes of SPZ for those of PLY.
    np.testing.assert_allclose(
        read.means * ([1, 1, 1] if kind == "splat" else [1, -1, -1]), own.means, atol=1e-6
    )
    np.testing.assert_allclose(read.log_scales, own.log_scales, atol=1e-6)
    np.testing.assert_allclose(opacities(read.logit_opacities), opacities(own.logit_opacities), atol=1.1e-4)
    np.testing.assert_allclose(read.sh0, own.sh0, atol=1e-6)
    turn = [1, 1, 1, 1] if kind == "splat" else [1, 1, -1, -1]
    assert same_rotation(read.quats_wxyz * turn, own.quats_wxyz).min() > 0.99999


@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize("kind", ["splat", "spz3", "spz4"])
def test_files_of_an_independent_writer_are_read(tmp_path: Path, kind: str, degree: int) -> None:
    written = splats(degree=degree)
    write_ply(tmp_path / "a.ply", written)
    if kind == "splat":
        read = read_splat(converted(tmp_path / "a.ply", "ply", "splat"))
        np.testing.assert_array_equal(np.sort(read.means, 0), np.sort(written.means, 0))
        return
    if kind == "spz4":
        pytest.importorskip("zstandard")
    read = read_spz(converted(tmp_path / "a.ply", "ply", "spz", spz_version=int(kind[-1])))
    # It takes the axes of PLY for those of SPZ, and keeps twelve bits behind the point.
    np.testing.assert_allclose(read.means * [1, -1, -1], written.means, atol=0.51 / 2**12)
    np.testing.assert_allclose(read.sh0, written.sh0, atol=1 / 70)
    shown = read.shN * _FLIP_SH[: read.shN.shape[1], None]
    np.testing.assert_allclose(shown, written.shN.clip(-1, 127 / 128), atol=0.0745)


def test_empty_and_non_finite_scenes(tmp_path: Path) -> None:
    broken = splats(5)
    broken.means[2, 0] = np.nan
    assert write_spz(tmp_path / "a.spz", broken) == 1
    assert write_splat(tmp_path / "a.splat", broken) == 1
    assert len(read_spz(tmp_path / "a.spz")) == len(read_splat(tmp_path / "a.splat")) == 4
    write_spz(tmp_path / "b.spz", splats(0))
    write_splat(tmp_path / "b.splat", splats(0))
    assert len(read_spz(tmp_path / "b.spz")) == len(read_splat(tmp_path / "b.splat")) == 0


def test_far_scenes_give_up_fractional_bits(tmp_path: Path) -> None:
    far = splats(50)
    far.means[:] *= 1e4
    write_spz(tmp_path / "a.spz", far)
    np.testing.assert_allclose(read_spz(tmp_path / "a.spz").means, far.means, atol=1e5 / 2**22)


def header(count: int, version: int = 3) -> bytes:
    return struct.pack("<IIIBBBB", 0x5053474E, version, count, 0, 12, 0, 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "SPZ"),
        (b"not gzip at all", "SPZ"),
        (gzip.compress(header(4_000_000_000)), "promised"),
        (gzip.compress(header(1, version=9)), "version 9"),
        (gzip.compress(header(1) + bytes(20), 9)[:-9], "cut off"),
        (b"NGSP" + bytes(8), "SPZ"),
        (struct.pack("<IIIBBBBI12x", 0x5053474E, 4, 2**31, 0, 12, 0, 6, 32) + bytes(96), "claims"),
    ],
)
def test_damaged_spz_is_a_named_error(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.spz").write_bytes(data)
    with pytest.raises(CaptureError, match=words) as caught:
        read_spz(tmp_path / "a.spz")
    assert "a.spz" in str(caught.value)


def test_a_stream_that_claims_a_huge_size_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    pytest.importorskip("zstandard")
    write_spz(tmp_path / "a.spz", splats(degree=0), version=4)
    data = bytearray((tmp_path / "a.spz").read_bytes())
    at = data.index(b"\x28\xb5\x2f\xfd")
    # A frame header with a content size of eight bytes (RFC 8878, section 3.1.1.1): 2^50 bytes.
    data[at + 4 : at + 13] = b"\xe0" + (2**50).to_bytes(8, "little")
    (tmp_path / "a.spz").write_bytes(data)
    with pytest.raises(CaptureError, match="stream 0"):
        read_spz(tmp_path / "a.spz")


def test_splat_comes_back_most_important_first(tmp_path: Path) -> None:
    written = splats(degree=0)
    write_splat(tmp_path / "a.splat", written)
    assert (tmp_path / "a.splat").stat().st_size == 32 * len(written)
    read, expected = read_splat(tmp_path / "a.splat"), written.chosen(np.argsort(-written.importance()))
    np.testing.assert_array_equal(read.means, expected.means)
    np.testing.assert_allclose(read.log_scales, expected.log_scales, atol=1e-5)
    assert same_rotation(read.quats_wxyz, expected.quats_wxyz).min() > 0.9998
    np.testing.assert_allclose(read.sh0, expected.sh0.clip(-1.7725, 1.7725), atol=1 / 140)


def test_a_cut_splat_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "a.splat").write_bytes(bytes(40))
    with pytest.raises(CaptureError, match="cut off"):
        read_splat(tmp_path / "a.splat")
