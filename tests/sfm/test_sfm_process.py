"""The child process: crashes, hangs, limits and interruptions must be explained and leave nothing behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sfm_rendered as rendered
from PIL import Image

from deblurgs.errors import ResourceError, SfmError
from deblurgs.log import Log
from deblurgs.sfm import colmap, process
from deblurgs.sfm.features import features_and_matches
from deblurgs.sfm.rungs import RUNGS
from deblurgs.sfm.stage import run_sfm
from deblurgs.sfm.staging import FrameFile, stage_images
from deblurgs.sfm.worker import _classify

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and process groups of POSIX")


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replaces the worker by a script of the test, which gets the paths of request and result."""

    def use(source: str) -> None:
        (tmp_path / "strange_worker.py").write_text(textwrap.dedent(source))
        monkeypatch.setattr(process, "_WORKER", "strange_worker")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return use


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return not Path("/proc/self/stat").exists()
    return status.rsplit(")", 1)[1].split()[0] != "Z"


def gone(pid: int, within_s: float = 10.0) -> bool:
    end = time.monotonic() + within_s
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGKILL, "memory runs out"), (signal.SIGSEGV, "report it")]
)
def test_a_killed_child_is_explained_with_its_last_lines(
    number: signal.Signals, said: str, worker: Callable[[str], None], tmp_path: Path
) -> None:
    worker(f"import os; print('last \\x1b[31mwords', flush=True); os.kill(os.getpid(), {int(number)})")
    with pytest.raises(SfmError) as caught:
        process.run_child("sfm", {}, tmp_path / "work", log=Log(quiet=True))
    text = str(caught.value)
    assert number.name in text and "last " in text and "words" in text and said in text
    assert "\x1b" not in text


def test_an_exit_without_result_is_an_error(worker: Callable[[str], None], tmp_path: Path) -> None:
    worker("import sys; sys.exit(3)")
    with pytest.raises(SfmError, match="code 3"):
        process.run_child("sfm", {}, tmp_path / "work", log=Log(quiet=True))


def test_a_stale_result_is_not_taken_for_a_new_one(worker: Callable[[str], None], tmp_path: Path) -> None:
    worker("pass")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "result.json").write_text("{}")
    with pytest.raises(SfmError, match="before it had a result"):
        process.run_child("sfm", {}, tmp_path / "work", log=Log(quiet=True))


def test_a_hanging_child_and_its_children_end_at_the_time_limit(
    worker: Callable[[str], None], tmp_path: Path
) -> None:
    worker(
        f"""
        import os, pathlib, signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        pathlib.Path({str(tmp_path / "pids")!r}).write_text(f"{{os.getpid()}} {{other.pid}}")
        time.sleep(60)
        """
    )
    begun = time.monotonic()
    with pytest.raises(SfmError, match="time limit"):
        process.run_child("sfm", {}, tmp_path / "work", log=Log(quiet=True), timeout_s=1.5)
    assert time.monotonic() - begun < 15
    assert all(gone(int(p)) for p in (tmp_path / "pids").read_text().split())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_parent_end_the_child(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "strange_worker.py").write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    script = f"""
        import pathlib
        from deblurgs.log import Log
        from deblurgs.sfm import process
        process._WORKER = "strange_worker"
        process.run_child("sfm", {{}}, pathlib.Path({str(tmp_path / "work")!r}), log=Log(quiet=True))
    """
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 30
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert parent.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        child = int((tmp_path / "pid").read_text())
        parent.send_signal(number)
        assert parent.wait(20) in (-number, 128 + number, 1)
        assert gone(child)
    finally:
        parent.kill()


def test_a_child_whose_parent_is_killed_ends_itself(tmp_path: Path) -> None:
    """The real worker watches its parent. Here it waits for a request that a named pipe never delivers."""
    pipe = tmp_path / "request.json"
    os.mkfifo(pipe)
    script = f"""
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-m", "deblurgs.sfm.worker", {str(pipe)!r}, "unused"])
        print(child.pid, flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        # The child must have looked at its parent before that one goes.
        time.sleep(2.0)
        assert alive(child)
        parent.kill()
        parent.wait()
        assert gone(child)
    finally:
        parent.kill()
        parent.stdout.close()


def test_too_little_memory_is_a_resource_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rendered.save(
        [rng.integers(0, 255, (1500, 2000, 3)).astype(np.uint8) for _ in range(3)], tmp_path / "in"
    )
    with pytest.raises(ResourceError, match="memory"):
        run_sfm(frames, tmp_path / "sfm", memory_limit_mb=900, max_image_size=2000, log=Log(quiet=True))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(28, "No space left on device"), "ResourceError"),
        (RuntimeError("SQLite error: database or disk is full"), "ResourceError"),
        (RuntimeError("std::bad_alloc"), "ResourceError"),
        (KeyError("x"), "KeyError"),
    ],
)
def test_errors_of_the_child_are_classified(error: Exception, kind: str) -> None:
    assert _classify(error)[0] == kind


def test_features_are_reused_on_a_retry_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [rendered.render(p, rendered.pinhole_rays()) for p in rendered.arc(3)]
    frames = [
        FrameFile(f"f{i}.png", f.name, f.path, f.width, f.height)
        for i, f in enumerate(rendered.save(images, tmp_path / "in"))
    ]
    stage_images(frames, tmp_path / "stage")
    settings = RUNGS[1]

    def run() -> Path:
        return features_and_matches(frames, tmp_path / "stage", tmp_path / "rung", settings, print)[0]

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    calls = []
    extract, match = colmap.extract, colmap.match
    monkeypatch.setattr(colmap, "extract", lambda *a: (calls.append("extract"), extract(*a)))
    monkeypatch.setattr(colmap, "match", killed)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(colmap, "match", match)
    database = run()
    assert calls == ["extract"] and len(colmap.verified_pairs(database)) == 3
    # Another image under the same name must not be met with the old features.
    Image.fromarray(images[0][:, ::-1]).save(frames[1].path)
    run()
    assert calls == ["extract", "extract"]


def test_pycolmap_first_leaves_zlib_intact(tmp_path: Path) -> None:
    """pycolmap before zlib corrupts the heap of later PNG and npz writers; our module loads zlib first."""
    script = f"""
        import deblurgs.sfm.colmap
        import zlib, numpy as np
        from PIL import Image
        pixels = np.random.default_rng(0).integers(0, 255, (400, 500, 3), dtype=np.uint8)
        for i in range(5):
            Image.fromarray(pixels).save({str(tmp_path / "a.png")!r})
            np.savez_compressed({str(tmp_path / "a.npz")!r}, pixels=pixels, more=np.arange(100000))
            assert zlib.decompress(zlib.compress(pixels.tobytes())) == pixels.tobytes()
        assert (np.asarray(Image.open({str(tmp_path / "a.png")!r})) == pixels).all()
        assert (np.load({str(tmp_path / "a.npz")!r})["pixels"] == pixels).all()
        print("intact")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "intact"), done.stderr
