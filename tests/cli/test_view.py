"""deblurgs view from the outside: what is refused, and with which exit code."""

import http.client
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deblurgs.cli import main
from deblurgs.export.ply import SplatArrays, write_ply
from deblurgs.log import Log
from deblurgs.stages.view import open_viewer

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.ply"], "does not exist"),
        (["EMPTY"], "is not a run folder (it holds a splat file)"),
        (["EMPTY", "--port", "70000"], "--port"),
        (["EMPTY", "--port", "-1"], "--port"),
        (["SPLATS", "--host", "0.0.0.0"], "--allow-remote"),
    ],
)
def test_what_cannot_be_shown_is_wrong_usage(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splats = tmp_path / "scene.ply"
    write_splats(splats)
    places = {"EMPTY": str(tmp_path), "SPLATS": str(splats)}
    assert main(["view", *(places.get(a, a) for a in arguments)]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_video_leads_to_the_command_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"\0\0\0\x20ftypisom")
    assert main(["view", str(path)]) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "is not a PLY file" in said and "deblurgs run" in said


def test_a_page_needs_no_viewer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scene.html"
    path.write_text("<!doctype html>")
    assert main(["view", str(path)]) == 2
    assert "opens in any browser by itself" in capsys.readouterr().err


def test_another_file_is_unusable_input(tmp_path: Path) -> None:
    path = tmp_path / "scene.ply"
    path.write_bytes(b"no splats")
    assert main(["view", str(path)]) == 3


def test_it_prints_its_real_address_serves_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    path = tmp_path / "scene.ply"
    write_splats(path)
    command = [sys.executable, "-m", "deblurgs.cli", "view", str(path), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline().strip())
            assert found
            connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=20)
            connection.request("GET", "/")
            with connection.getresponse() as response:
                assert response.status == 200
                response.read()
            connection.close()
            while "Ctrl-C" not in process.stderr.readline():
                pass
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
            assert process.stdout.read() == ""
        finally:
            process.kill()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scene.ply"]


def test_other_machines_need_the_secret_of_the_printed_address(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_splats(tmp_path / "scene.ply")
    log = Log(quiet=True)
    viewer = open_viewer(tmp_path / "scene.ply", log, host="127.0.0.1", port=0, allow_remote=True)
    try:
        found = re.fullmatch(r"http://[^/]+:(\d+)(/\?t=[\w-]{20,})", capsys.readouterr().out.strip())
        assert found and any("other machines" in w for w in log.warnings)
        for path, status in (("/", 403), ("/?t=guess", 403), (found[2], 302)):
            connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=20)
            connection.request("GET", path)
            assert connection.getresponse().status == status, path
            connection.close()
    finally:
        viewer.close()


def write_splats(path: Path) -> None:
    import numpy as np

    zeros = np.zeros((5, 3), np.float32)
    quats = np.tile(np.array([1, 0, 0, 0], np.float32), (5, 1))
    write_ply(path, SplatArrays(zeros, quats, zeros - 3, zeros[:, 0], zeros, np.zeros((5, 0, 3), np.float32)))
