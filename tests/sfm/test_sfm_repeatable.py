"""The same photos give the same cameras."""

from pathlib import Path

import pytest

from deblurgs.sfm.colmap import mapping
from deblurgs.sfm.colmap.repeatable import THREADS_FROM, adjustment_threads
from deblurgs.sfm.staging import Settings


@pytest.mark.parametrize(("num_images", "several"), [(THREADS_FROM - 1, False), (THREADS_FROM, True)])
def test_only_large_captures_are_adjusted_by_several_threads(
    num_images: int, several: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    for i in range(num_images):
        (tmp_path / f"{i:03d}.png").touch()
    wanted = 6 if several else 1
    assert adjustment_threads(num_images) == wanted
    assert mapping.pipeline_options(Settings("any"), tmp_path).num_threads == wanted
