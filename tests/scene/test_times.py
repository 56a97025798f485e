"""When frames were taken."""

import pytest

from deblurgs.scene.times import video_times


def test_times_come_before_numbers_and_numbers_before_the_order() -> None:
    assert video_times(["a7.png", "a9.png"], [0.5, 0.75]).tolist() == [0.5, 0.75]
    assert video_times(["a7.png", "a9.png"], [0.5, None]).tolist() == [7.0, 9.0]
    assert video_times(["2x-a7.png", "2x-a10.png", "2x-a12.png"], None).tolist() == [7.0, 10.0, 12.0]
    assert video_times(["x.png", "a.png", "b3.png"], None).tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("names", "times"),
    [
        (["3.png", "2.png"], None), (["1.png"], None), (["a.png", "b.png"], [1.0, 1.0]),
        (["1.png", "2.png", "3.png", "20210101.png"], None),
    ],
)  # fmt: skip
def test_what_is_no_video_is_refused(names: list[str], times: list[float | None] | None) -> None:
    with pytest.raises(ValueError, match="increase"):
        video_times(names, times)
