"""Choosing a backend, and the one check of arguments that all backends share."""

import _ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deblurgs.errors import UsageError
from deblurgs.raster import api, backend, native
from deblurgs.raster.backend import check_inputs, choose
from deblurgs.scene.camera import Camera

N, V = 3, 2


def arguments() -> dict[str, Any]:
    return {
        "means": torch.zeros(N, 3), "quats": torch.ones(N, 4), "scales": torch.ones(N, 3),
        "opacities": torch.full((N,), 0.5), "sh0": torch.zeros(N, 1, 3), "shN": torch.zeros(N, 8, 3),
        "viewmats": torch.eye(4).repeat(V, 1, 1), "weights": torch.full((V,), 0.5),
        "camera": Camera(8, 6, 7.0, 7.0, 4.0, 3.0), "background": torch.zeros(3), "sh_degree": None,
    }  # fmt: skip


def test_right_arguments_pass_and_the_degree_is_resolved() -> None:
    assert check_inputs(**arguments()) == 2
    assert check_inputs(**{**arguments(), "sh_degree": 1, "background": None}) == 1
    empty = {name: arguments()[name][:0] for name in ("means", "quats", "scales", "opacities", "sh0", "shN")}
    assert check_inputs(**{**arguments(), **empty}) == 2


def _bad_pose(viewmats: torch.Tensor) -> torch.Tensor:
    viewmats[1, 0, 3] = float("nan")
    return viewmats


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *(
            (name, lambda t: t[..., :-1])
            for name in ("means", "quats", "scales", "sh0", "viewmats", "background")
        ),
        *((name, lambda t: t[:-1]) for name in ("quats", "scales", "opacities", "sh0", "shN", "weights")),
        *(
            (name, lambda t: t[None])
            for name in ("means", "quats", "opacities", "shN", "viewmats", "weights")
        ),
        *((name, lambda t: t.double()) for name in ("quats", "opacities", "shN", "viewmats", "background")),
        *((name, lambda t: t.to("meta")) for name in ("scales", "weights")),
        ("means", lambda t: t.long()),
        ("shN", lambda t: t[:, :4]),
        ("viewmats", _bad_pose),
        ("sh_degree", lambda _: 3),
        ("sh_degree", lambda _: -1),
        ("camera", lambda _: Camera(0, 6, 7.0, 7.0, 4.0, 3.0)),
        ("camera", lambda _: Camera(8, 6, 7.0, float("nan"), 4.0, 3.0)),
    ],
)
def test_every_wrong_argument_is_named_first(name: str, change: Callable[[Any], Any]) -> None:
    given = arguments()
    given[name] = change(given[name])
    with pytest.raises(ValueError, match=rf"^{name}: "):
        check_inputs(**given)


def test_no_view_is_refused_and_a_bad_one_is_counted() -> None:
    given = {**arguments(), "viewmats": torch.zeros(0, 4, 4), "weights": torch.zeros(0)}
    with pytest.raises(ValueError, match=r"^viewmats: at least one"):
        check_inputs(**given)
    with pytest.raises(ValueError, match=r"view 1 of 2"):
        check_inputs(**{**arguments(), "viewmats": _bad_pose(torch.eye(4).repeat(2, 1, 1))})


def test_the_border_refuses_wrong_arguments_too() -> None:
    given = arguments()
    given.pop("background"), given.pop("sh_degree")
    given["quats"] = given["quats"][:, :3]
    with pytest.raises(ValueError, match=r"^quats: "):
        api.render_exposure(**given, backend="reference")


def test_names_choose_backends() -> None:
    means = torch.zeros(1, 3)
    assert choose("reference", means).name == "reference"
    with pytest.raises(ValueError, match="opengl"):
        choose("opengl", means)  # type: ignore[arg-type]


def test_other_precisions_fall_back_to_the_reference_with_a_warning() -> None:
    with pytest.warns(RuntimeWarning, match=r"slow reference rasterizer.*float64"):
        assert choose("auto", torch.zeros(1, 3, dtype=torch.float64)).name == "reference"


def test_a_missing_compiled_backend_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_cpu", lambda: (None, "the kernels were not built"))
    with pytest.raises(UsageError, match=r"kernels were not built.*reference"):
        choose("cpu", torch.zeros(1, 3))
    with pytest.warns(RuntimeWarning, match="kernels were not built"):
        assert choose("auto", torch.zeros(1, 3)).name == "reference"


@pytest.mark.parametrize("wrong", ["missing", "no library", "another library", "old interface"])
def test_a_wrong_library_is_told_apart(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "libdeblurgs_cpu.so"
    if wrong == "no library":
        path.write_bytes(b"\x7fELF of another machine")
    if wrong == "another library":
        path.symlink_to(_ctypes.__file__)
    if wrong == "old interface":
        if native.load()[0] is None:
            pytest.skip("there is no compiled library here")
        path.symlink_to(next(p for p in native.library_candidates() if p.is_file()))
        monkeypatch.setattr(native, "ABI_VERSION", native.ABI_VERSION + 1)
    monkeypatch.setenv("DEBLURGS_CPU_LIBRARY", str(path))
    library, reason = native.load.__wrapped__()
    words = {"missing": "is missing", "old interface": "interface version"}.get(wrong, "cannot be loaded")
    assert library is None and words in reason and str(path) in reason


def test_an_available_compiled_backend_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = object()
    monkeypatch.setattr(backend, "_cpu", lambda: (compiled, ""))
    assert choose("auto", torch.zeros(1, 3)) is compiled
    assert choose("cpu", torch.zeros(1, 3)) is compiled
