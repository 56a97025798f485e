"""Atomic writes: complete or not at all, never over something that is not a plain file."""

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest

from deblurgs.errors import ResourceError, UsageError
from deblurgs.files import (
    TEMPORARY_PREFIX,
    JsonLines,
    atomic_path,
    checked_target,
    explained_write_errors,
    plain_json,
    read_json,
    read_json_lines,
    remove_forgotten_temporaries,
    require_free_space,
    write_bytes_atomic,
    write_json_atomic,
)


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Every file of this process may grow to `limit` bytes only: a full disk without a device file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_bytes_are_written_and_replaced_completely(tmp_path: Path) -> None:
    target = tmp_path / "data.bin"
    write_bytes_atomic(target, b"one")
    write_bytes_atomic(target, b"two")
    assert target.read_bytes() == b"two"
    assert [item.name for item in tmp_path.iterdir()] == ["data.bin"]


def test_permissions_follow_the_umask_even_if_the_writer_creates_a_private_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "x.bin") as temporary:
            temporary.unlink()
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.bin").stat().st_mode) == 0o640


@pytest.mark.parametrize("failure", [ValueError("bug"), KeyboardInterrupt()])
def test_a_failed_block_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, failure: BaseException) -> None:
    target = tmp_path / "data.png"
    target.write_bytes(b"good")
    with pytest.raises(type(failure)), atomic_path(target) as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"half")
        raise failure
    assert target.read_bytes() == b"good"
    assert [item.name for item in tmp_path.iterdir()] == ["data.png"]


def test_a_full_disk_keeps_the_old_file_and_is_a_resource_error(tmp_path: Path) -> None:
    target = tmp_path / "data.bin"
    target.write_bytes(b"good")
    with file_size_limit(1000), pytest.raises(ResourceError, match=r"data\.bin.*--output"):
        write_bytes_atomic(target, b"x" * 5000)
    assert target.read_bytes() == b"good"
    assert [item.name for item in tmp_path.iterdir()] == ["data.bin"]


@pytest.mark.parametrize("writer", ["torch", "safetensors", "numpy", "pillow"])
def test_every_library_on_a_full_disk_is_a_resource_error(tmp_path: Path, writer: str) -> None:
    import PIL.Image
    import safetensors.numpy
    import torch

    numbers = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    with (
        file_size_limit(1000),
        pytest.raises(ResourceError, match=r"good\.png"),
        atomic_path(tmp_path / "good.png") as temporary,
    ):
        if writer == "torch":
            torch.save(torch.from_numpy(numbers), temporary)
        elif writer == "safetensors":
            safetensors.numpy.save_file({"x": numbers}, temporary)
        elif writer == "numpy":
            with temporary.open("wb") as file:
                np.save(file, numbers)
        else:
            PIL.Image.fromarray(numbers).save(temporary)
    assert not (tmp_path / "good.png").exists()
    assert not list(tmp_path.glob(TEMPORARY_PREFIX + "*"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_all_three_ways_of_being_full(tmp_path: Path, number: int) -> None:
    with pytest.raises(ResourceError) as caught, explained_write_errors(tmp_path / "f"):
        raise OSError(number, os.strerror(number))
    assert caught.value.exit_code == 5


def test_other_runtime_errors_stay_bugs(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shape"), explained_write_errors(tmp_path / "f"):
        raise RuntimeError("shape mismatch")


def test_a_pipe_is_refused_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.ply"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="not a regular file"):
        write_bytes_atomic(pipe, b"x")
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


def test_a_device_is_refused() -> None:
    """Asked, not written: root could replace it."""
    with pytest.raises(UsageError, match="not a regular file"):
        checked_target(Path(os.devnull), overwrite=True)
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="it is a folder"):
        write_bytes_atomic(tmp_path / "folder", b"x")


def test_links_outside_are_refused_and_inside_are_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "victim").write_bytes(b"victim")
    (inside / "link").symlink_to(outside / "victim")
    with pytest.raises(UsageError, match="outside its folder"):
        write_bytes_atomic(inside / "link", b"x")
    assert (outside / "victim").read_bytes() == b"victim"

    (inside / "real").write_bytes(b"old")
    (inside / "alias").symlink_to("real")
    write_bytes_atomic(inside / "alias", b"new")
    assert (inside / "alias").is_symlink() and (inside / "real").read_bytes() == b"new"

    (inside / "a").symlink_to("b")
    (inside / "b").symlink_to("a")
    with pytest.raises(UsageError):
        write_bytes_atomic(inside / "a", b"x")


def test_existing_files_are_refused_without_overwrite(tmp_path: Path) -> None:
    target = tmp_path / "scene.ply"
    assert checked_target(target, overwrite=False) == target
    target.write_bytes(b"old")
    with pytest.raises(UsageError, match="--overwrite"):
        write_bytes_atomic(target, b"new", overwrite=False)
    assert target.read_bytes() == b"old"


def test_a_missing_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--output"):
        write_bytes_atomic(tmp_path / "no" / "x", b"x")


def test_a_read_only_folder_suggests_another_output() -> None:
    """Root may write everywhere, so the check runs as an ordinary user where the tests run as root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        code = (
            "import os, sys; from pathlib import Path; from deblurgs.files import write_bytes_atomic\n"
            "os.getuid() or os.setuid(65534)\n"
            "write_bytes_atomic(Path(sys.argv[1]) / 'x', b'x')"
        )
        result = subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1],
        )  # fmt: skip
        folder.chmod(0o755)
        assert "UsageError" in result.stderr and "--output" in result.stderr, result.stderr


class _Kind(Enum):
    A = "a"


@dataclass(frozen=True)
class _Config:
    path: Path
    kind: _Kind
    size: tuple[int, int]


def test_plain_json_of_everything_a_config_or_metric_holds(tmp_path: Path) -> None:
    value = {
        "config": _Config(Path("a") / "b", _Kind.A, (1, 2)),
        "nan": float("nan"),
        "array": np.array([1.0, np.inf]),
        "number": np.float32(0.5),
        "set": {2, 1},
    }
    write_json_atomic(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == {
        "config": {"path": "a/b", "kind": "a", "size": [1, 2]},
        "nan": None,
        "array": [1.0, None],
        "number": 0.5,
        "set": [1, 2],
    }
    with pytest.raises(TypeError, match="object"):
        plain_json(object())


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 200_000, b""])
def test_bad_json_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.json"):
        read_json(tmp_path / "bad.json")


def test_json_size_is_limited(tmp_path: Path) -> None:
    (tmp_path / "big.json").write_text(json.dumps(["x" * 2000]))
    with pytest.raises(ValueError, match="limit of 1000"):
        read_json(tmp_path / "big.json", max_bytes=1000)


def test_json_lines_survive_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with JsonLines(path) as lines:
        lines.write({"step": 1, "loss": float("inf")})
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    with JsonLines(path) as lines:
        lines.write({"step": 3})
    assert read_json_lines(path) == [{"step": 1, "loss": None}, {"step": 3}]
    with JsonLines(path, append=False) as lines:
        lines.write({"step": 4})
    assert read_json_lines(path) == [{"step": 4}]


def test_json_lines_reach_the_disk_at_once(tmp_path: Path) -> None:
    with JsonLines(tmp_path / "m.jsonl") as lines:
        lines.write({"step": 1})
        assert read_json_lines(tmp_path / "m.jsonl") == [{"step": 1}]


def test_json_lines_on_a_full_disk(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "m.jsonl")
    with file_size_limit(500), pytest.raises(ResourceError):
        for step in range(100):
            lines.write({"step": step})
    lines.close()
    assert len(read_json_lines(tmp_path / "m.jsonl")) > 10


def test_free_space_is_checked_before_work_even_for_a_new_folder(tmp_path: Path) -> None:
    require_free_space(tmp_path / "new" / "run", 1, "rendering")
    with pytest.raises(ResourceError, match=r"rendering needs about .* MB"):
        require_free_space(tmp_path / "new" / "run", 2**62, "rendering")


def test_forgotten_temporaries_are_removed_but_nothing_behind_links(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    (inside / "deep").mkdir(parents=True)
    outside.mkdir()
    (inside / "deep" / f"{TEMPORARY_PREFIX}1.png").touch()
    (inside / "keep.png").touch()
    (outside / f"{TEMPORARY_PREFIX}2.png").touch()
    (inside / "link").symlink_to(outside)
    assert remove_forgotten_temporaries(inside) == 1
    assert (inside / "keep.png").exists() and (outside / f"{TEMPORARY_PREFIX}2.png").exists()
