"""The doctor tells the truth about this machine, and about a broken one."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deblurgs import doctor as module
from deblurgs import machine
from deblurgs.doctor import Check, Health, Report, doctor, examine, json_from_report, text_from_report
from deblurgs.errors import DeblurgsError


@pytest.fixture(scope="module")
def report() -> Report:
    return examine()


def check(report: Report, name: str) -> Check:
    return next(item for item in report.checks if item.name.startswith(name))


def test_this_machine_can_run(report: Report) -> None:
    assert report.can_run, text_from_report(report)
    names = {item.name for item in report.checks}
    assert names == {
        "packages", "processor", "memory", "disk", "torch", "rasterizer cpu", "rasterizer cuda", "render",
        "video",
        "camera poses (pycolmap)",
    }  # fmt: skip
    assert "intact" in check(report, "camera poses").detail
    assert "writes libx264" in check(report, "video").detail


def test_text_and_json_say_the_same(report: Report) -> None:
    text, data = text_from_report(report), json.loads(json_from_report(report))
    assert data["can_run"] is True and len(data["checks"]) == len(report.checks)
    for item in data["checks"]:
        assert item["name"] in text and item["detail"] in text
    assert data["versions"]["torch"] in text


def _raises(error: BaseException) -> Callable[..., Any]:
    def call(*_: object, **__: object) -> Any:
        raise error

    return call


@pytest.mark.parametrize(
    ("function", "target", "name", "value", "health", "words"),
    [
        ("_check_memory", machine, "available_memory_bytes", lambda: 2**20, Health.WARNING, "1 MB free"),
        ("_check_memory", machine, "available_memory_bytes", lambda: None, Health.OK, "does not tell"),
        ("_check_sfm", module, "_SFM_CHILD", "raise SystemExit('heap broken')", Health.PROBLEM, "heap broken"),
        ("_check_sfm", module, "_SFM_CHILD", "import os; os.abort()", Health.PROBLEM, "exit code -6"),
        ("_check_sfm", subprocess, "run", _raises(OSError("no more processes")), Health.PROBLEM, "no more proc"),
        (
            "_check_sfm", subprocess, "run", _raises(subprocess.TimeoutExpired("python", 1)), Health.PROBLEM,
            "hangs",
        ),
    ],
)  # fmt: skip
def test_trouble_is_named(
    monkeypatch: pytest.MonkeyPatch, function: str, target: Any, name: str, value: object, health: Health,
    words: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(target, name, value)
    result = getattr(module, function)()
    assert result.health is health and words in result.detail


def test_missing_kernels_are_a_warning_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from deblurgs.raster.cpu import CpuBackend

    monkeypatch.setattr(CpuBackend, "available", lambda self: "it was built for another machine")
    result = next(item for item in module._check_rasterizer() if item.name == "rasterizer cpu")
    assert result.health is Health.WARNING and "another machine" in result.detail


def test_wrong_pictures_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from deblurgs.raster import api

    black = api.Rendered(torch.zeros(16, 16, 3), torch.zeros(16, 16), torch.zeros(16, 16))
    monkeypatch.setattr(api, "rasterize", lambda *_, **__: black)
    assert module._try_render().health is Health.PROBLEM
    monkeypatch.setattr(api, "rasterize", _raises(RuntimeError("boom")))
    assert "boom" in module._try_render().detail


def test_missing_packages_are_a_problem_that_names_the_command() -> None:
    result = module._check_packages({"torch": None, "numpy": "2"})
    assert result.health is Health.PROBLEM and "pip install torch" in result.detail


def test_a_broken_machine_exits_with_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], report: Report
) -> None:
    broken = Report(report.versions, (Check("torch", Health.PROBLEM, "does not load: half a file"),))
    monkeypatch.setattr(module, "examine", lambda folder: broken)
    with pytest.raises(DeblurgsError, match="torch") as caught:
        doctor()
    assert caught.value.exit_code == 1
    assert "half a file" in capsys.readouterr().out


def test_the_doctor_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    doctor(as_json=True)
    assert not list(tmp_path.iterdir())
