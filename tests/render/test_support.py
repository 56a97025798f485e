"""A wall at depth 2 seen by cameras whose blur is known: what the exposures have recorded can be said by hand."""

import math

import pytest
import torch
from torch import Tensor

from deblurgs.math.lie import se3_exp
from deblurgs.render import support as module
from deblurgs.render.support import NOISE_TO_SIGNAL, WAVELENGTHS_PX, Exposures, frame_support
from deblurgs.scene.camera import Camera

CAMERA = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)
DEPTH = 2.0
SAMPLES = 9


def path(dx_px: float, dy_px: float, *, back: float = 0.0, right: float = 0.0) -> Tensor:
    """[U,4,4]: during the exposure, points of the wall move by (dx, dy) pixels in a camera at x = right, z = -back."""
    u = (torch.arange(SAMPLES) + 0.5) / SAMPLES - 0.5
    poses = torch.eye(4).repeat(SAMPLES, 1, 1)
    poses[:, 0, 3] = u * dx_px * (DEPTH + back) / CAMERA.fx - right
    poses[:, 1, 3] = u * dy_px * (DEPTH + back) / CAMERA.fy
    poses[:, 2, 3] = back
    return poses


def capture(
    *paths: Tensor, depths: list[Tensor] | None = None, agreements: list[float] | None = None
) -> Exposures:
    walls = [torch.full((24, 32), DEPTH + float(p[0, 2, 3])) for p in paths]
    maps = [torch.full((24, 32), e) for e in (agreements or [1.0] * len(paths))]
    return Exposures([CAMERA] * len(paths), torch.stack(paths), depths or walls, maps)


def variance(length_px: float) -> float:
    """Of SAMPLES points in the middle of equal pieces of a line."""
    return length_px**2 / 12.0 * (1.0 - 1.0 / SAMPLES**2)


def share(*variances: float) -> float:
    """Recovered share when the worst direction has these variances in the photos, by the definition."""
    parts = []
    for wavelength in WAVELENGTHS_PX:
        evidence = sum(math.exp(-4 * math.pi**2 / wavelength**2 * v) for v in variances)
        parts.append(evidence / (evidence + NOISE_TO_SIGNAL))
    return sum(parts) / len(parts)


def centre(image: Tensor) -> float:
    return float(image[12, 16])


def test_a_frame_taken_with_a_still_camera_vouches_for_itself() -> None:
    result = frame_support(capture(path(0, 0)), 0)
    expected = 1.0 / (1.0 + NOISE_TO_SIGNAL)
    assert torch.allclose(result.own, torch.full((24, 32), expected), atol=1e-4)
    assert torch.allclose(result.total, result.own)
    assert (result.sharper == 0).all()


def test_one_blurred_frame_alone_has_lost_what_lies_along_its_path() -> None:
    result = frame_support(capture(path(5, 0)), 0)
    assert centre(result.own) == pytest.approx(share(variance(5)), abs=2e-3)
    assert centre(frame_support(capture(path(20, 0)), 0).own) < 0.01


def test_perpendicular_blurs_complement_each_other_and_parallel_ones_do_not() -> None:
    across = frame_support(capture(path(5, 0), path(0, 5)), 0)
    along = frame_support(capture(path(5, 0), path(5, 0)), 0)
    # Of perpendicular blurs the diagonals are seen worst: half the variance, but in both photos.
    assert centre(across.total) == pytest.approx(share(variance(5) / 2, variance(5) / 2), abs=2e-3)
    assert centre(along.total) == pytest.approx(share(variance(5), variance(5)), abs=2e-3)
    assert centre(across.total) > centre(along.total) + 0.2
    many = frame_support(capture(*[path(20, 0)] * 8), 0)
    assert centre(many.total) < 0.01, "eight photos blurred the same way know no more than one"


def test_a_sharp_neighbour_recovers_a_blurred_frame() -> None:
    result = frame_support(capture(path(20, 3), path(0, 0)), 0)
    assert centre(result.own) < 0.01 and centre(result.total) == pytest.approx(
        1 / (1 + NOISE_TO_SIGNAL), abs=2e-3
    )
    assert centre(result.sharper) == 1
    assert centre(frame_support(capture(path(20, 3), path(0, 0)), 1).sharper) == 0


def test_what_another_photo_cannot_see_it_does_not_support() -> None:
    """A thing at depth 1 stands before the left half of the wall in the second photo only."""
    occluded = torch.full((24, 32), DEPTH)
    occluded[:, :16] = 1.0
    wall = torch.full((24, 32), DEPTH)
    result = frame_support(capture(path(20, 0), path(0, 0), depths=[wall, occluded]), 0)
    assert (result.total[:, :15] == result.own[:, :15]).all() and (result.sharper[:, :15] == 0).all()
    assert (result.total[:, 17:] > 0.9).all()


def test_what_floats_before_the_surface_of_the_others_is_not_supported() -> None:
    floater = torch.full((24, 32), 1.0)
    wall = torch.full((24, 32), DEPTH)
    result = frame_support(capture(path(20, 0), path(0, 0), depths=[floater, wall]), 0)
    assert torch.equal(result.total, result.own)


def test_outside_the_other_photo_there_is_no_support() -> None:
    half_a_picture = 32 * DEPTH / CAMERA.fx
    result = frame_support(capture(path(20, 0), path(0, 0, right=half_a_picture)), 0)
    assert (result.total[:, :15] == result.own[:, :15]).all()
    assert (result.total[:, 17:] > 0.9).all()
    behind = se3_exp(torch.tensor([0.0, 0.0, 0.0, 0.0, math.pi, 0.0])).expand(SAMPLES, 4, 4)
    result = frame_support(capture(path(20, 0), behind), 0)
    assert torch.equal(result.total, result.own)


def test_a_photo_from_farther_away_shows_less_detail() -> None:
    """From twice the distance a pixel covers 2 x 2 of ours: its box has 4/12 of our pixel^2 instead of 1/12."""
    result = frame_support(capture(path(40, 40), path(0, 0, back=DEPTH)), 0)
    assert centre(result.total) == pytest.approx(share(3.0 / 12.0), abs=2e-3)
    near = frame_support(capture(path(40, 40), path(0, 0, back=-DEPTH / 2)), 0)
    assert centre(near.total) == pytest.approx(1 / (1 + NOISE_TO_SIGNAL), abs=1e-3), "a closer one, not more"


def test_a_turned_camera_blurs_in_our_directions() -> None:
    """The other camera is rolled by 90 degrees: the same motion runs along its y, and is still parallel to ours."""
    turn = se3_exp(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, math.pi / 2]))
    same = frame_support(capture(path(5, 0), turn @ path(5, 0)), 0)
    other = frame_support(capture(path(5, 0), turn @ path(0, 5)), 0)
    assert centre(same.total) == pytest.approx(share(variance(5), variance(5)), abs=2e-3)
    assert centre(other.total) == pytest.approx(share(variance(5) / 2, variance(5) / 2), abs=2e-3)


def test_what_is_near_blurs_more_than_what_is_far() -> None:
    depth = torch.full((24, 32), 2.0)
    depth[:, 16:] = 20.0
    own = frame_support(capture(path(8, 0), depths=[depth]), 0).own
    assert (own[:, :16] < 0.3).all() and (own[:, 16:] > 0.8).all()


def test_the_gain_follows_the_sinc_of_a_straight_path() -> None:
    for length in (0.5, 1.0, 1.5):
        blur = torch.tensor([[length**2 / 12], [0.0], [0.0]])
        for gain, wavelength in zip(module._gain(blur)[:, 0, 0], WAVELENGTHS_PX, strict=True):
            assert float(gain) == pytest.approx(
                float(torch.sinc(torch.tensor(length / wavelength)) ** 2), abs=0.015
            )
    assert torch.allclose(module._gain(blur)[:, module.NUM_DIRECTIONS // 2], torch.ones(2, 1)), (
        "across the path"
    )


def test_the_own_photo_must_agree_and_so_must_the_others_that_show_the_point() -> None:
    still, smeared = path(0, 0), path(0, 40)
    two = frame_support(capture(still, still, agreements=[0.9, 0.5]), 0)
    assert centre(two.agreement) == pytest.approx(0.45, rel=1e-3)
    three = frame_support(capture(still, still, still, agreements=[0.9, 0.5, 0.7]), 0)
    assert centre(three.agreement) == pytest.approx(0.9 * 0.6, rel=1e-3)
    weighed = frame_support(capture(still, still, smeared, agreements=[1.0, 0.9, 0.0]), 0)
    assert 0.7 < centre(weighed.agreement) < 0.9, "a smeared photo only knows what lies across its path"
    alone = frame_support(capture(smeared, agreements=[0.4]), 0)
    assert centre(alone.agreement) == pytest.approx(0.4)


def test_of_too_many_photos_the_telling_ones_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_VIEWS", 1)
    result = frame_support(capture(path(20, 0), path(20, 0), path(0, 0), path(15, 15)), 0)
    assert centre(result.total) > 0.9
