"""One time budget for the whole search, however many child processes it takes."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sfm_rendered as rendered

from deblurgs.errors import SfmError
from deblurgs.log import Log
from deblurgs.sfm import ladder, stage
from deblurgs.sfm.staging import FrameFile


def test_the_second_process_is_told_what_the_first_has_used(tmp_path: Path, monkeypatch) -> None:
    frames = rendered.save([np.full((20, 30, 3), 90, np.uint8)] * 3, tmp_path)
    calls: list[tuple[dict[str, Any], float | None]] = []

    def child(
        job: str, request: dict[str, Any], folder: Path, *, log: Log, timeout_s: float | None
    ) -> dict[str, Any]:
        calls.append((dict(request), timeout_s))
        time.sleep(0.2)
        return {"needs_restored": True} if len(calls) == 1 else {}

    monkeypatch.setattr(stage, "run_child", child)
    monkeypatch.setattr(stage, "write_restored", lambda *_: {})
    monkeypatch.setattr(stage, "load_model", lambda _: None)
    stage.run_sfm(frames, tmp_path / "sfm", budget_s=100.0, timeout_s=50.0, log=Log(quiet=True))
    (first, limit), (second, less) = calls
    assert "spent_s" not in first and limit == 50.0
    assert second["budget_s"] == 100.0 and 0.2 <= second["spent_s"] < 50.0
    assert less is not None and less == pytest.approx(50.0 - second["spent_s"], abs=0.01)


@pytest.mark.parametrize(("spent_s", "begun"), [(0.0, len(ladder.RUNGS)), (99.0, ladder.FIRST_RESTORED)])
def test_no_rung_is_begun_after_the_common_budget(
    spent_s: float, begun: int, tmp_path: Path, monkeypatch
) -> None:
    """Rungs that an earlier process finished are read again; those that need restored copies are new."""
    tried: list[int] = []

    def attempt(files: Any, place: Any, folder: Any, number: int, *_: Any) -> dict[str, Any]:
        tried.append(number)
        return {"rung": str(number), "why": "no model"}

    monkeypatch.setattr(ladder, "attempt", attempt)
    monkeypatch.setattr(ladder, "stage_images", lambda *_: None)
    monkeypatch.setattr(ladder.diagnose, "hopeless", lambda _: False)
    monkeypatch.setattr(ladder.diagnose, "explain_failure", lambda _: "none")
    monkeypatch.setattr(ladder, "_evidence", lambda *_: None)
    frame = FrameFile("f000000.png", "a", tmp_path / "a.png", 30, 20)
    with pytest.raises(SfmError):
        ladder.climb([frame], tmp_path, 100, 50.0, lambda _: None, {}, spent_s=spent_s)
    assert len(tried) == begun
