"""Cameras brought to other picture sizes."""

import pytest

from deblurgs.scene.camera import Camera


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (200, 48), (31, 97)])
def test_a_fitted_camera_sees_all_that_the_own_one_saw_undistorted(size: tuple[int, int]) -> None:
    camera = Camera(60, 40, 55.0, 50.0, 28.0, 21.0)
    width, height = size
    fitted = camera.fitted(width, height)
    assert (fitted.width, fitted.height) == size
    assert fitted.fx / fitted.fy == pytest.approx(camera.fx / camera.fy), "circles stay circles"
    # The corners of the own picture, as directions, land inside, and two opposite sides on the border.
    left, right = (fitted.cx + (x - camera.cx) / camera.fx * fitted.fx for x in (0, 60))
    top, bottom = (fitted.cy + (y - camera.cy) / camera.fy * fitted.fy for y in (0, 40))
    assert left == pytest.approx(width - right) and top == pytest.approx(height - bottom), "in the middle"
    assert min(left, top) == pytest.approx(0.0, abs=1e-9) and max(left, top) >= 0


def test_a_camera_of_that_size_stays() -> None:
    camera = Camera(60, 40, 55.0, 50.0, 28.0, 21.0)
    assert camera.fitted(60, 40) == camera
