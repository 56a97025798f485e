"""The splat file: bit-exact through our reader and an independent one, and no trust in headers."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import plyfile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deblurgs.errors import CaptureError, UsageError
from deblurgs.export.ply import SplatArrays, property_names, read_ply, write_ply

FIELDS = ("means", "quats_wxyz", "log_scales", "logit_opacities", "sh0", "shN")


def splats(n: int, degree: int, *, seed: int = 0, antialiased: bool = False) -> SplatArrays:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    k = (degree + 1) ** 2
    return SplatArrays(
        normal(n, 3), normal(n, 4), normal(n, 3), normal(n), normal(n, 3), normal(n, k - 1, 3), antialiased
    )


def assert_same_bits(a: SplatArrays, b: SplatArrays) -> None:
    for name in FIELDS:
        x, y = getattr(a, name), getattr(b, name)
        assert x.shape == y.shape and y.dtype == np.float32, name
        assert x.tobytes() == np.ascontiguousarray(y).tobytes(), name
    assert a.antialiased == b.antialiased


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("n", [0, 1, 257])
def test_round_trip_is_bit_exact(tmp_path: Path, degree: int, n: int) -> None:
    written = splats(n, degree)
    assert write_ply(tmp_path / "a.ply", written) == 0
    read = read_ply(tmp_path / "a.ply")
    assert_same_bits(written, read)
    assert read.sh_degree == degree
    write_ply(tmp_path / "b.ply", read)
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


@pytest.mark.parametrize(("degree", "num_rest"), [(0, 0), (1, 9), (2, 24), (3, 45)])
def test_an_independent_reader_finds_the_standard(tmp_path: Path, degree: int, num_rest: int) -> None:
    written = splats(31, degree)
    write_ply(tmp_path / "a.ply", written)
    vertex = plyfile.PlyData.read(str(tmp_path / "a.ply"))["vertex"]
    assert [item.name for item in vertex.properties] == property_names(num_rest)
    assert vertex.data.dtype.itemsize == 4 * (17 + num_rest)
    columns = {
        "means": ("x", "y", "z"),
        "quats_wxyz": ("rot_0", "rot_1", "rot_2", "rot_3"),
        "log_scales": ("scale_0", "scale_1", "scale_2"),
        "sh0": ("f_dc_0", "f_dc_1", "f_dc_2"),
    }
    for name, wanted in columns.items():
        np.testing.assert_array_equal(np.stack([vertex[c] for c in wanted], 1), getattr(written, name))
    np.testing.assert_array_equal(vertex["opacity"], written.logit_opacities)
    assert not np.any([vertex["nx"], vertex["ny"], vertex["nz"]])


def test_rest_is_channel_major(tmp_path: Path) -> None:
    """One probe Gaussian whose second green coefficient alone is set: green starts after the 15 red ones."""
    probe = splats(1, 3)
    probe.shN[:] = 0
    probe.shN[0, 1, 1] = 7
    write_ply(tmp_path / "a.ply", probe)
    vertex = plyfile.PlyData.read(str(tmp_path / "a.ply"))["vertex"]
    assert [i for i in range(45) if vertex[f"f_rest_{i}"][0] != 0] == [16]


def test_a_file_of_an_independent_writer_is_read(tmp_path: Path) -> None:
    """No normals, another order, doubles, an extra property and an extra element, in three encodings."""
    original = splats(12, 1)
    names = [name for name in property_names(9) if name not in ("nx", "ny", "nz")][::-1]
    table = np.zeros(12, [(name, "f8" if name == "x" else "f4") for name in names] + [("confidence", "u1")])
    rest = original.shN.transpose(0, 2, 1).reshape(12, 9)
    for i in range(9):
        table[f"f_rest_{i}"] = rest[:, i]
    for i, name in enumerate("xyz"):
        table[name] = original.means[:, i]
    for i in range(3):
        table[f"f_dc_{i}"], table[f"scale_{i}"] = original.sh0[:, i], original.log_scales[:, i]
    for i in range(4):
        table[f"rot_{i}"] = original.quats_wxyz[:, i]
    table["opacity"] = original.logit_opacities
    camera = plyfile.PlyElement.describe(np.ones(2, [("focal", "f4"), ("id", "i2")]), "camera")
    vertex = plyfile.PlyElement.describe(table, "vertex")
    for text, order in ((False, "<"), (False, ">"), (True, "=")):
        file = plyfile.PlyData([camera, vertex], text=text, byte_order=order)
        file.write(str(tmp_path / "a.ply"))
        read = read_ply(tmp_path / "a.ply")
        for name in FIELDS:
            np.testing.assert_allclose(
                getattr(read, name), getattr(original, name), rtol=1e-6 if text else 0, atol=0, err_msg=name
            )


@pytest.mark.parametrize("antialiased", [False, True])
def test_the_antialias_tag_is_written_and_honoured(tmp_path: Path, antialiased: bool) -> None:
    write_ply(tmp_path / "a.ply", splats(2, 0, antialiased=antialiased))
    mode = b"mip" if antialiased else b"default"
    assert b"comment SplatRenderMode: " + mode + b"\n" in (tmp_path / "a.ply").read_bytes()
    assert read_ply(tmp_path / "a.ply").antialiased is antialiased
    write_ply(tmp_path / "a.ply", splats(2, 0), antialiased=True)
    assert read_ply(tmp_path / "a.ply").antialiased


def test_the_other_spelling_of_the_antialias_tag_is_understood(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", splats(2, 0))
    data = (tmp_path / "a.ply").read_bytes().replace(b"SplatRenderMode: default", b"antialiased 1")
    (tmp_path / "a.ply").write_bytes(data)
    assert read_ply(tmp_path / "a.ply").antialiased


def test_rows_that_are_not_finite_are_dropped_and_counted(tmp_path: Path) -> None:
    written = splats(10, 1)
    written.means[2, 1] = np.nan
    written.shN[5, 2, 0] = np.inf
    written.logit_opacities[9] = -np.inf
    assert write_ply(tmp_path / "a.ply", written) == 3
    np.testing.assert_array_equal(read_ply(tmp_path / "a.ply").means, np.delete(written.means, [2, 5, 9], 0))


def test_existing_files_are_kept_without_overwrite(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", splats(1, 0))
    with pytest.raises(UsageError, match="--overwrite"):
        write_ply(tmp_path / "a.ply", splats(2, 0), overwrite=False)
    assert len(read_ply(tmp_path / "a.ply")) == 1


def test_wrong_shapes_are_refused() -> None:
    good = splats(4, 1)
    with pytest.raises(ValueError, match="quats_wxyz"):
        SplatArrays(good.means, good.means, good.log_scales, good.logit_opacities, good.sh0, good.shN)
    with pytest.raises(ValueError, match="coefficients"):
        SplatArrays(
            good.means, good.quats_wxyz, good.log_scales, good.logit_opacities, good.sh0, good.shN[:, :2]
        )


def header(count: str = "2", *, names: list[str] | None = None, fmt: str = "binary_little_endian") -> bytes:
    names = property_names(0) if names is None else names
    lines = ["ply", f"format {fmt} 1.0", f"element vertex {count}", *(f"property float {n}" for n in names)]
    return ("\n".join([*lines, "end_header"]) + "\n").encode()


def with_rest(numbers: range) -> bytes:
    return header("0", names=[*property_names(0), *(f"f_rest_{i}" for i in numbers)])


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a PLY"),
    "picture": (b"\x89PNG\r\n\x1a\n", "not a PLY"),
    "header bomb": (header("4000000000"), "truncated"),
    "astronomic count": (header("9" * 5000), "makes no sense"),
    "negative count": (header("-1"), "makes no sense"),
    "no end": (header()[:-12], "no end_header"),
    "1 MB line": (b"ply\nformat ascii 1.0\ncomment " + b"x" * 2**20 + b"\nend_header\n", "no end_header"),
    "list": (header().replace(b"property float x\n", b"property list uchar int x\n"), "list properties"),
    "list before": (
        b"ply\nformat binary_little_endian 1.0\nelement face 1\nproperty list uchar int v\n"
        + header().split(b"1.0\n", 1)[1],
        "cannot be skipped",
    ),
    "point cloud": (header("0", names=["x", "y", "z"]), "not a splat file"),
    "truncated data": (header() + b"\0" * 100, "truncated"),
    "unknown type": (header().replace(b"float x", b"quad x"), "makes no sense"),
    "unknown format": (header(fmt="binary_middle_endian"), "makes no sense"),
    "no format": (header().replace(b"format binary_little_endian 1.0\n", b""), "which PLY format"),
    "no vertex": (b"ply\nformat ascii 1.0\nend_header\n", "no vertices"),
    "twice": (header(names=[*property_names(0), "x"]), "twice"),
    "odd rest": (with_rest(range(10)), "f_rest"),
    "hole in rest": (with_rest(range(1, 10)), "f_rest"),
    "many properties": (header("0", names=[f"p{i}" for i in range(1100)]), "more than 1024"),
    "property first": (b"ply\nformat ascii 1.0\nproperty float x\nend_header\n", "makes no sense"),
    "ascii words": (header("1", fmt="ascii") + b"zero " * 17 + b"\n", "cannot be read"),
    "ascii short": (header("1", fmt="ascii") + b"0 " * 16 + b"       \n", "truncated"),
    "ascii bomb": (header("4000000000", fmt="ascii") + b"0 " * 17, "truncated"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_errors_without_large_allocations(tmp_path: Path, name: str) -> None:
    content, words = BAD[name]
    path = tmp_path / "bad.ply"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CaptureError, match=words) as caught:
            read_ply(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "bad.ply" in str(caught.value)
    assert peak < 2 * len(content) + 2**20


def test_memory_stays_near_the_size_of_the_file(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", splats(20_000, 3))
    size = (tmp_path / "a.ply").stat().st_size
    tracemalloc.start()
    read_ply(tmp_path / "a.ply")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.9 * size  # The table, the arrays and f_rest once more while it is transposed.


def _flip(data: bytes, position: int, value: int) -> bytes:
    return data[:position] + bytes([value]) + data[position + 1 :]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 520), value=st.integers(0, 255), cut=st.integers(0, 700))
def test_fuzzed_files_are_read_or_refused(tmp_path: Path, position: int, value: int, cut: int) -> None:
    write_ply(tmp_path / "good.ply", splats(3, 0))
    data = (tmp_path / "good.ply").read_bytes()
    damage: list[Callable[[], bytes]] = [
        lambda: _flip(data, position % len(data), value),
        lambda: data[: max(len(data) - cut, 0)],
    ]
    for make in damage:
        (tmp_path / "bad.ply").write_bytes(make())
        try:
            read = read_ply(tmp_path / "bad.ply")
        except CaptureError:
            continue
        assert read.means.shape == (len(read), 3)
