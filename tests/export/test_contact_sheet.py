"""The contact sheet: readable, bounded, and with the right picture on the right side."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deblurgs.export.contact_sheet import compare_sheet, evenly_chosen


def flat(colour: tuple[int, int, int], height: int = 60, width: int = 90) -> NDArray[np.uint8]:
    return np.broadcast_to(np.array(colour, np.uint8), (height, width, 3)).copy()


def share_of(sheet: NDArray[np.uint8], colour: tuple[int, int, int]) -> float:
    near = np.abs(sheet.astype(int) - colour).max(axis=2) < 30
    return float(near.mean())


def test_observed_is_left_and_sharp_is_right(tmp_path: Path) -> None:
    red, blue = (200, 30, 30), (30, 30, 200)
    assert compare_sheet(tmp_path / "c.jpg", [("a.png", flat(red), flat(blue))] * 3) == 3
    with Image.open(tmp_path / "c.jpg") as image:
        assert image.format == "JPEG"
        sheet = np.asarray(image)
    half = sheet.shape[1] // 2
    assert share_of(sheet[:, :half], red) > 0.5 and share_of(sheet[:, :half], blue) == 0
    assert share_of(sheet[:, half:], blue) > 0.5 and share_of(sheet[:, half:], red) == 0


def test_names_and_titles_are_written(tmp_path: Path) -> None:
    black = flat((24, 24, 24))
    compare_sheet(tmp_path / "a.jpg", [("first.png", black, black)])
    compare_sheet(tmp_path / "b.jpg", [("other.png", black, black)])
    compare_sheet(tmp_path / "c.jpg", [("first.png", black, black)], titles=("left", "right"))
    sheets = [np.asarray(Image.open(tmp_path / f"{name}.jpg")).astype(int) for name in "abc"]
    assert sheets[0].max() > 180
    assert np.abs(sheets[0] - sheets[1])[22:].max() > 80 and np.abs(sheets[0] - sheets[1])[:20].max() < 20
    assert np.abs(sheets[0] - sheets[2])[:20].max() > 80


def test_many_large_frames_stay_bounded(tmp_path: Path) -> None:
    tall = flat((90, 120, 60), 4000, 1500)
    assert compare_sheet(tmp_path / "c.jpg", [(f"{i}.png", tall, tall) for i in range(40)]) == 16
    with Image.open(tmp_path / "c.jpg") as image:
        assert image.width <= 1600 and image.width * image.height < 26_000_000


def test_mixed_sizes_and_files(tmp_path: Path) -> None:
    Image.fromarray(flat((10, 200, 10), 40, 30)).save(tmp_path / "o.png")
    rows = [
        ("file.png", tmp_path / "o.png", flat((10, 200, 10), 80, 60)),
        ("wide.png", flat((10, 200, 10), 30, 3000), flat((10, 200, 10), 30, 3000)),
        ("dot.png", flat((10, 200, 10), 1, 1), flat((10, 200, 10), 1, 1)),
    ]
    assert compare_sheet(tmp_path / "c.jpg", rows, max_width=400) == 3
    with Image.open(tmp_path / "c.jpg") as image:
        assert image.width <= 400


@pytest.mark.parametrize("name", ["x" * 10_000, "\u202egnp.exe", "a\nb\x1b[31m", "<script>&", "日本.png", ""])
def test_hostile_names_are_only_pictures_of_text(tmp_path: Path, name: str) -> None:
    assert compare_sheet(tmp_path / "c.jpg", [(name, flat((9, 9, 9)), flat((9, 9, 9)))]) == 1
    with Image.open(tmp_path / "c.jpg") as image:
        assert image.width < 300


def test_floats_and_sixteen_bit_grey_are_scaled_not_saturated(tmp_path: Path) -> None:
    grey = np.full((60, 90), 100 * 256, np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    half = np.full((60, 90, 3), 0.5, np.float32)
    half[0, 0, 0] = np.nan
    compare_sheet(tmp_path / "c.jpg", [("a", tmp_path / "grey.png", half)])
    sheet = np.asarray(Image.open(tmp_path / "c.jpg"))
    middle = sheet.shape[1] // 2
    assert share_of(sheet[:, :middle], (100, 100, 100)) > 0.4
    assert share_of(sheet[:, middle:], (128, 128, 128)) > 0.4


def test_no_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frames"):
        compare_sheet(tmp_path / "c.jpg", [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("total", "count"), [(5, 16), (16, 16), (17, 16), (100, 16), (3, 1), (2, 2)])
def test_the_choice_is_even_and_keeps_both_ends(total: int, count: int) -> None:
    chosen = evenly_chosen(range(total), count)
    assert len(chosen) == min(total, count)
    assert chosen == sorted(set(chosen))
    if count > 1:
        assert (chosen[0], chosen[-1]) == (0, total - 1)
        steps = np.diff(chosen)
        assert steps.max() - steps.min() <= 1
