"""The wheel runs where there is no compiler, no checkout and no network."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_WHEEL_BYTES_WITHOUT_DEMO = 5_000_000

pytestmark = pytest.mark.slow


def run(
    command: list[str | Path], *, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True, check=False,
        timeout=900, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source archive, so what the archive lacks is found too."""
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--outdir", folder, ROOT], cwd=folder)
    wheels = list(folder.glob("*.whl"))
    assert len(wheels) == 1
    return wheels[0]


_OFFLINE = """
import socket
def refused(*_, **__):
    raise OSError("there is no network here")
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = socket.getaddrinfo = refused
"""


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A new virtual environment with the wheel, without network, and an environment whose PATH has no compiler.

    The dependencies are borrowed from this environment by a .pth file: installing them again would need the network
    and minutes. An editable deblurgs among them comes after the wheel on the path; the test checks which one runs.
    """
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    target = run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], cwd=folder
    ).stdout.strip()
    run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel],
        cwd=folder,
    )
    borrowed = Path(sysconfig.get_path("purelib"))
    (Path(target) / "borrowed.pth").write_text(f"{borrowed}\n")
    (Path(target) / "offline.py").write_text(_OFFLINE)
    (Path(target) / "offline.pth").write_text("import offline\n")
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "DEBLURGS_CPU_LIBRARY", "DEBLURGS_CPU_ISA", "CC", "CXX")
    }
    env["PATH"] = str(folder / "venv" / "bin")
    return python, env


def test_the_wheel_is_small_and_for_every_python(wheel: Path) -> None:
    assert "-py3-none-" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        items = archive.infolist()
    demo_bytes = sum(item.compress_size for item in items if "/scenes/" in item.filename)
    assert wheel.stat().st_size - demo_bytes < MAX_WHEEL_BYTES_WITHOUT_DEMO
    names = {item.filename for item in items}
    assert any(name.startswith("deblurgs/_native/") and "deblurgs_cpu" in name for name in names)
    # The GPU kernels as sources, for NVRTC at first use, without what only the tests compile.
    root = "deblurgs/_native/gpu"
    assert {f"{root}/cuda/deblurgs.cu", f"{root}/include/deblurgs/splat_math.h"} <= names
    assert not any("emulate" in name for name in names)
    assert sum(name.startswith("deblurgs/scenes/desk/images/") for name in names) == 28
    assert "deblurgs/scenes/desk/README.md" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "tools/", "cpu/")) for name in names)


def test_the_source_archive_is_complete_and_clean(wheel: Path) -> None:
    (archive,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "CMakeLists.txt",
        "tools/setup",
        "constraints.txt",
    } <= names
    assert any(name.startswith("cpu/") for name in names) and any(name.startswith("tests/") for name in names)
    assert not any(name.startswith((".venv", "runs/", "build/")) or name.endswith(".so") for name in names)


def test_no_compiler_is_in_reach(clean: tuple[Path, dict[str, str]]) -> None:
    python, env = clean
    code = "import shutil; assert not any(map(shutil.which, ('cc', 'c++', 'gcc', 'g++', 'clang', 'cmake')))"
    run([python, "-c", code], cwd=python.parent, env=env)


def test_no_network_is_in_reach(clean: tuple[Path, dict[str, str]]) -> None:
    """Of Python code: what the tests below run in."""
    python, env = clean
    code = (
        "import urllib.request\n"
        "try: urllib.request.urlopen('http://127.0.0.1:9/')\n"
        "except OSError as error: assert 'no network' in str(error), error\n"
        "else: raise SystemExit('reached')\n"
    )
    run([python, "-c", code], cwd=python.parent, env=env)


def test_help_and_doctor_run_from_the_wheel(clean: tuple[Path, dict[str, str]]) -> None:
    python, env = clean
    command = python.parent / "deblurgs"
    assert "usage: deblurgs" in run([command, "--help"], cwd=python.parent, env=env).stdout
    text = run([command, "doctor"], cwd=python.parent, env=env).stdout
    assert "ok      rasterizer cpu" in text
    assert str(python.parents[1]) in text, "the kernels of the wheel, not those of the checkout"


_RENDER = """
import sys, torch, deblurgs
from deblurgs.demo import demo_source
from deblurgs.raster.api import rasterize
from deblurgs.scene.camera import Camera
assert sys.prefix in deblurgs.__file__, deblurgs.__file__
assert sys.prefix in str(demo_source()) and len(list(demo_source().iterdir())) == 28
means = torch.tensor([[0.0, 0.0, 2.0]], requires_grad=True)
rendered = rasterize(
    means, torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.full((1, 3), 0.3), torch.full((1,), 0.9),
    torch.ones(1, 1, 3), torch.zeros(1, 0, 3), torch.eye(4), Camera(16, 16, 16.0, 16.0, 8.0, 8.0), backend="cpu",
)
rendered.image[:, :8].sum().backward()
assert 0.6 < float(rendered.image[8, 8].mean()) < 0.75, rendered.image[8, 8]
assert means.grad is not None and float(means.grad[0, 0]) < 0
"""


def test_a_picture_and_its_gradient_come_from_the_wheel(clean: tuple[Path, dict[str, str]]) -> None:
    python, env = clean
    run([python, "-W", "error::RuntimeWarning", "-c", _RENDER], cwd=python.parent, env=env)
