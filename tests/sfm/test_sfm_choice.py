"""Which model is believed when several attempts found one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sfm_rendered as rendered

from deblurgs.errors import SfmError
from deblurgs.sfm import choice, colmap, diagnose, ladder
from deblurgs.sfm.attempt import Candidate
from deblurgs.sfm.diagnose import Health
from deblurgs.sfm.rungs import RUNGS, TOGETHER, in_order
from deblurgs.sfm.staging import FrameFile, Settings

Poses = dict[str, np.ndarray]
FINE, COARSE, POOLED, _, GLOBAL, AFFINE, _ = RUNGS
TRUE: Poses = dict(zip("abcdefghi", np.array(rendered.arc(9)), strict=True))
WRONG: Poses = dict(zip("abcdefghi", np.array(rendered.turns(9)[::-1]), strict=True))


@pytest.fixture(autouse=True)
def models_are_poses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colmap, "poses", lambda model: model)


def candidate(settings: Settings, poses: Poses, frames: str = "abcdefghi", error: float = 1.0) -> Candidate:
    poses = {n: poses[n] for n in frames}
    health = Health(len(poses), 500, 0.8, 9.0, 80.0, 0.0, 9.0, 0.95, (1.0,), ())
    return Candidate(poses, settings, Path(), health, {}, {"rung": settings.name, "epipolar_px": error})  # type: ignore[arg-type]


def test_more_frames_win_if_the_common_ones_agree() -> None:
    strict, loose = candidate(FINE, TRUE, "abcdef"), candidate(COARSE, TRUE)
    chosen = choice.choose([strict, loose])
    assert chosen.best is loose and loose.entry["kept"] and not strict.entry["kept"]
    assert "is better" in strict.entry["why"]


def test_more_frames_do_not_count_when_the_common_ones_contradict_the_stricter_model() -> None:
    strict, loose = candidate(FINE, TRUE, "abcdef"), candidate(POOLED, WRONG)
    chosen = choice.choose([strict, loose])
    assert chosen.best is strict and chosen.contradicted == [POOLED.name]
    assert "disagrees with fine" in loose.entry["why"]
    assert "Do not trust" in choice.doubts(chosen, 9, strictest=True)[0]


def test_a_wrong_strict_model_gives_way_to_two_that_confirm_each_other() -> None:
    strict = candidate(FINE, WRONG, "abcdef")
    first, second = candidate(COARSE, TRUE, "abcdefgh"), candidate(POOLED, TRUE)
    chosen = choice.choose([strict, first, second])
    assert chosen.best is second and chosen.confirmed == [COARSE.name]
    assert choice.doubts(chosen, 9, strictest=False) == []


def test_two_that_confirm_each_other_outweigh_one_with_more_frames() -> None:
    strict = candidate(FINE, WRONG, "abcdefgh")
    first, second = candidate(COARSE, TRUE, "abcdefg"), candidate(POOLED, TRUE, "abcdefg")
    chosen = choice.choose([strict, first, second])
    assert chosen.best is first and chosen.confirmed == [POOLED.name]
    # The wrong model contradicts the chosen one as a whole; it has no say about single frames.
    model, lost = choice.without_lost_frames(chosen, [strict, first, second])
    assert lost == [] and model is first.model


def test_equal_frames_are_decided_by_the_error_on_the_finest_matches() -> None:
    pooled, together = candidate(POOLED, TRUE, error=1.0), candidate(TOGETHER, TRUE, error=0.9)
    assert choice.choose([pooled, together]).best is together
    pooled, affine = candidate(POOLED, TRUE, error=1.0), candidate(AFFINE, TRUE, error=0.99)
    assert choice.choose([pooled, affine]).best is pooled
    assert "does not lower its error" in affine.entry["why"]


def test_global_mapping_needs_confirmation() -> None:
    few, wrong = candidate(FINE, TRUE, "abcd"), candidate(GLOBAL, WRONG)
    chosen = choice.choose([few, wrong])
    assert chosen.best is few and not wrong.entry["kept"]
    # The few frames in common may agree by chance; that is no confirmation of nine.
    lucky = candidate(GLOBAL, TRUE)
    assert choice.choose([few, lucky]).best is few and "must be confirmed" in lucky.entry["why"]


def test_a_contradicted_model_of_forgiving_settings_is_an_error() -> None:
    chosen = choice.Choice(candidate(POOLED, TRUE), contradicted=["affine, guided"])
    with pytest.raises(SfmError, match=r"disagree with those of 'affine, guided'.*no other attempt confirms"):
        choice.doubts(chosen, 9, strictest=False)
    alone = choice.Choice(candidate(POOLED, TRUE))
    assert "not confirmed by any other attempt" in choice.doubts(alone, 9, strictest=False)[0]
    assert choice.doubts(choice.Choice(candidate(FINE, TRUE)), 9, strictest=True) == []


def test_models_of_too_few_frames_or_with_problems_are_not_believed() -> None:
    assert "2 of 9" in (choice.problem_of(candidate(FINE, TRUE, "ab"), 9) or "")
    sick = candidate(FINE, TRUE)
    sick.health = replace(sick.health, problems=("no parallax",))
    assert choice.problem_of(sick, 9) == "no parallax"


def test_when_the_climb_may_end() -> None:
    full, most = choice.Choice(candidate(FINE, TRUE)), choice.Choice(candidate(COARSE, TRUE, "abcdefgh"))
    one, two = [{"rung": FINE.name}], [{"rung": FINE.name}, {"rung": COARSE.name}]
    assert ladder._enough(full, one, 9), "a sharp capture pays for one attempt"
    assert not ladder._enough(most, two, 9), "a ninth of the frames is worth any time of the budget"
    assert not ladder._enough(replace(full, best=candidate(COARSE, TRUE)), two, 9), "unconfirmed"
    confirmed = choice.Choice(candidate(COARSE, TRUE), confirmed=[FINE.name])
    assert ladder._enough(confirmed, two, 9)
    assert not ladder._enough(confirmed, [*two, {"rung": POOLED.name}], 9), "the joint model is cheap now"
    many = choice.Choice(candidate(COARSE, TRUE))
    many.best.health = replace(many.best.health, registered=191)
    assert ladder._enough(many, two, 200) and not ladder._enough(many, two, 202)


def test_frames_that_all_others_place_elsewhere_are_lost() -> None:
    astray = {**TRUE, "d": TRUE["d"].copy()}
    astray["d"][:3, 3] += [6.0, -4.0, 3.0]
    assert diagnose.lost_frames(astray, [TRUE, {n: TRUE[n] for n in "abcdefg"}]) == ["d"]
    # One of two others agrees: who is right is open.
    assert diagnose.lost_frames(astray, [TRUE, astray]) == []
    assert diagnose.lost_frames(astray, [{n: TRUE[n] for n in "abcefghi"}]) == [], "nobody else has seen it"
    plain, robust = diagnose.disagreement(astray, TRUE), diagnose.robust_disagreement(astray, TRUE)
    assert plain is not None and plain[1] > 0.4 and robust is not None and robust[1] < 0.01


def blurred_frames(*paths_px: float | None) -> list[FrameFile]:
    return [
        FrameFile(f"f{i}.png", f"{i}", Path(f"{i}.png"), 640, 360, path_px=px)
        for i, px in enumerate(paths_px)
    ]


def test_only_clearly_long_blur_changes_where_the_climb_begins() -> None:
    assert in_order(blurred_frames(4.0, 8.0, 12.0)) is RUNGS
    assert in_order(blurred_frames(None, None, None)) is RUNGS, "nothing is known"
    assert in_order(blurred_frames(90.0, None, None)) is RUNGS, "of most frames nothing is known"
    order = in_order(blurred_frames(60.0, 50.0, 2.0, None))
    assert order[:2] == (POOLED, TOGETHER) and order[-1] == RUNGS[-1]
    assert len(order) == len(RUNGS) and {r.name for r in order} == {r.name for r in RUNGS}


def test_a_forgiving_beginning_is_not_believed_alone() -> None:
    """Whatever the order, only the strictest rung may end the climb unconfirmed."""
    alone = choice.Choice(candidate(POOLED, TRUE))
    assert not ladder._enough(alone, [{"rung": POOLED.name}], 9)
    joint = choice.Choice(candidate(TOGETHER, TRUE), confirmed=[POOLED.name])
    assert ladder._enough(joint, [{"rung": POOLED.name}, {"rung": TOGETHER.name}], 9)
