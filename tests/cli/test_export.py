"""deblurgs export: which format a command means."""

from pathlib import Path

import pytest

from deblurgs.cli import main
from deblurgs.cli.export import FormatName, format_meant
from deblurgs.errors import UsageError


@pytest.mark.parametrize(
    ("asked", "output", "meant"),
    [
        ("auto", None, "html"), ("auto", "desk.html", "html"), ("auto", "desk.PLY", "ply"), ("auto", "a/b.spz", "spz"),
        ("auto", "b.splat", "splat"), ("auto", "film.mp4", "mp4"), ("auto", "poses.tum", "tum"),
        ("depth", None, "depth"), ("tum", "poses.txt", "tum"), ("transforms", "for nerfstudio", "transforms"),
        ("camera-path", "calm.json", "camera-path"), ("colmap", "v1.2", "colmap"),
    ],
)  # fmt: skip
def test_the_ending_of_the_file_tells_the_format(asked: FormatName, output: str | None, meant: str) -> None:
    assert format_meant(asked, None if output is None else Path(output)) == meant


@pytest.mark.parametrize(
    ("asked", "output"),
    [
        ("html", "scene.ply"),
        ("ply", "film.mp4"),
        ("auto", "calm.json"),
        ("auto", "scene.obj"),
        ("auto", "page"),
    ],
)
def test_an_ending_that_says_something_else_is_refused(asked: FormatName, output: str) -> None:
    with pytest.raises(UsageError, match=f"{output}.*--format"):
        format_meant(asked, Path(output))


def test_nothing_is_written_under_a_wrong_ending(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), "--format", "html", "-o", str(tmp_path / "scene.ply")]) == 2
    assert "--format ply" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []
