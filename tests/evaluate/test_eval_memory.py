"""`eval` asks for memory before it trains, as `train` does."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from deblurgs.capture.dataset import Capture
from deblurgs.config import TrainConfig
from deblurgs.errors import ResourceError
from deblurgs.log import Log
from deblurgs.run import RunFolder
from deblurgs.scene.camera import Camera
from deblurgs.stages import evaluate


def test_a_scene_that_does_not_fit_is_refused_before_anything_is_trained(tmp_path: Path, monkeypatch) -> None:
    camera = Camera(4000, 3000, 3000.0, 3000.0, 2000.0, 1500.0)
    capture = Capture("twins", [], twins={"a.png": tmp_path / "a.png"})
    monkeypatch.setattr(evaluate, "read_frames", lambda *_, **__: None)
    monkeypatch.setattr(evaluate, "find_cameras", lambda *_, **__: None)
    monkeypatch.setattr("deblurgs.capture.dataset.load_capture", lambda _: capture)
    monkeypatch.setattr("deblurgs.sfm.model.load_model", lambda _: SimpleNamespace(cameras=[camera] * 300))
    monkeypatch.setattr("deblurgs.train.memory.available_memory_bytes", lambda: 2**30)
    with RunFolder(tmp_path / "run") as run, pytest.raises(ResourceError, match="memory are free"):
        evaluate.evaluate(
            run, tmp_path, TrainConfig(), Log(quiet=True), methods=("plain",), seeds=(0,), sfm="auto", json_path=None,
        )  # fmt: skip
