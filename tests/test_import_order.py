"""Who may import whom. The table is the architecture; this test parses every import of the package.

Lazy imports and imports for type checking count like any other: they are dependencies of thought.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "deblurgs"

# Rooms a module of the key's room may import from, besides its own room and the base modules.
LOWER_ROOMS: dict[str, set[str]] = {
    "math": set(),
    "scene": {"math"},
    "raster": {"math", "scene"},
    "train": {"math", "scene", "raster"},
    "evaluate": {"math", "scene", "raster", "train", "capture", "sfm", "render"},
    "capture": {"math", "scene"},
    "sfm": {"math", "scene"},
    "export": {"math", "scene"},
    "restore": {"math", "scene"},
    "render": {"math", "scene", "raster", "train", "export"},
    "view": {"math", "scene", "raster", "train", "export", "render"},
    "report": {"math", "scene", "raster", "train", "export", "render", "evaluate"},
}
# Modules directly in deblurgs/ are the base: they know no room, and every room may use them. Pure maths needs none
# of the ones that do I/O.
BASE_FOR_PURE_ROOMS = {"errors"}
PURE_ROOMS = {"math", "scene", "raster"}
# Single modules of these rooms with a reason of their own: code compiled at first use is kept on disk.
MORE_BASE = {"raster/cubins.py": {"files"}}
# The top sees everything. The command line is imported by nobody, stages and doctor only by the command line.
TOP = {"cli", "stages", "doctor", "__main__"}
TOP_EDGES = {("cli", "__main__"), ("stages", "cli"), ("doctor", "cli"), ("stages", "stages"), ("cli", "cli")}

# Third-party packages with one home each, so that replacing one touches one place.
HOMES: dict[str, set[str]] = {
    "pycolmap": {"sfm/colmap/"},
    "av": {"capture/video.py", "export/video.py"},
    "gsplat": {"raster/gsplat.py"},
    "viser": {"view/"},
    "websockets": {"view/guard.py"},
    "rerun": {"stages/observe.py"},
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def imported_names(source: str, module: str) -> set[str]:
    """Dotted names of everything imported anywhere in a module; `module` is its own dotted name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: -node.level]
                base = ".".join([*parents, base] if base else parents)
            # `from deblurgs import cli` imports a module, so the imported names count as candidates too.
            names |= {f"{base}.{alias.name}" for alias in node.names} | {base}
    return names


def is_base_module(name: str) -> bool:
    return (PACKAGE / f"{name}.py").exists()


def violations(path: str, source: str) -> list[str]:
    """What is wrong with the imports of the module at `path` (relative to the package), as sentences."""
    parts = path.removesuffix(".py").split("/")
    own_room = parts[0] if len(parts) > 1 else None
    found: list[str] = []
    for name in sorted(imported_names(source, ".".join(["deblurgs", *parts]))):
        root, *rest = name.split(".")
        homes = HOMES.get(root)
        if homes and not any(
            path == home or (home.endswith("/") and path.startswith(home)) for home in homes
        ):
            found.append(f"{path} imports {root}, which belongs to {', '.join(sorted(homes))}")
        if root != "deblurgs" or not rest:
            continue
        target = rest[0]
        on_top = parts[0] in TOP
        if target in TOP:
            if not (on_top and (target, parts[0]) in TOP_EDGES):
                found.append(f"{path} imports {name}, but nobody imports the command line")
        elif on_top:
            continue
        elif target in LOWER_ROOMS:
            allowed = LOWER_ROOMS.get(own_room, set()) | {own_room} if own_room else set()
            if target not in allowed:
                found.append(f"{path} imports {name}, but {own_room or 'a base module'} may not see {target}")
        elif (
            own_room in PURE_ROOMS
            and target not in BASE_FOR_PURE_ROOMS | MORE_BASE.get(path, set())
            and is_base_module(target)
        ):
            found.append(f"{path} imports {name}, but {own_room} does no I/O and needs no {target}")
    return found


def test_every_room_of_the_package_is_in_the_table() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    known = set(LOWER_ROOMS) | TOP
    assert rooms <= known, f"rooms without a line in the table: {rooms - known}"
    assert len(MODULES) > 10


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_follow_the_table(path: Path) -> None:
    assert not violations(path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("math/lie.py", "from deblurgs.scene.camera import Camera"),
        ("math/lie.py", "from deblurgs.log import Log"),
        ("scene/camera.py", "def f():\n    import deblurgs.raster.api"),
        ("sfm/ladder.py", "from ..raster import api"),
        ("sfm/ladder.py", "import pycolmap"),
        ("export/ply.py", "import av.video"),
        ("train/loop.py", "from deblurgs import cli"),
        ("train/loop.py", "from deblurgs.evaluate.table import Table"),
        ("train/loop.py", "from deblurgs.stages.train import train"),
        ("stages/train.py", "import deblurgs.cli"),
        ("run.py", "from deblurgs.scene.camera import Camera"),
        ("raster/nvrtc.py", "from deblurgs.files import write_bytes_atomic"),
    ],
)
def test_the_check_finds_what_is_forbidden(path: str, source: str) -> None:
    assert violations(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("cli/run.py", "from deblurgs.stages.train import train\nfrom deblurgs.evaluate import protocol"),
        ("sfm/colmap/model.py", "import pycolmap\nfrom deblurgs.errors import SfmError"),
        ("evaluate/table.py", "from deblurgs.train.loop import train"),
        ("capture/video.py", "import av\nfrom ..scene.frame import Frame"),
    ],
)
def test_the_check_lets_pass_what_is_allowed(path: str, source: str) -> None:
    assert not violations(path, source)


def test_light_modules_do_not_import_heavy_packages() -> None:
    """`--help` must not wait for torch, so neither the base modules nor the rasterizer's border may import it."""
    code = (
        "import sys, deblurgs, deblurgs.config, deblurgs.errors, deblurgs.log, deblurgs.raster.api;"
        "print([name for name in ('torch', 'pycolmap', 'av', 'skimage') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[]"
