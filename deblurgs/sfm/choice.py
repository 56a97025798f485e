"""Which of several models may be believed, and which of those is best? Runs in the SfM child.

Registered count and reprojection error do not prove correct poses. A model counts only if it passes the sanity check of
diagnose.py; and wherever the strictest settings did not register everything, models of different features must confirm
each other: agree after one similarity on most of their frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deblurgs.errors import SfmError
from deblurgs.sfm import colmap, diagnose, support
from deblurgs.sfm.attempt import Candidate

# Global mapping loses single frames more often than it says, so a few more do not speak for it.
_GLOBAL_GAIN = 1.1
# At equal frames a model replaces another only if it lowers the error by more than chance.
_CLEARLY_LOWER = 0.98


@dataclass
class Choice:
    """The model to use, and what the other believable ones say about it.

    confirmed, contradicted: rungs that agree with it, or not, on most of its frames.
    """

    best: Candidate
    confirmed: list[str] = field(default_factory=list)
    contradicted: list[str] = field(default_factory=list)


def problem_of(candidate: Candidate, total: int) -> str | None:
    """Why a model may not be believed whatever the others say; None if it may."""
    problem = diagnose.floor_problem(candidate.health.registered, total)
    if problem is None and candidate.health.problems:
        problem = "; ".join(candidate.health.problems)
    return problem


def choose(sane: Sequence[Candidate]) -> Choice:
    """The best of the believable models in the order of their rungs (strictest first), with reasons in all entries.

    A confirmed model goes before an unconfirmed one; of those the one with most frames, at equal frames the one whose
    cameras explain the finest matches better. Of several unconfirmed ones that contradict each other the strictest is
    taken. `sane` must not be empty.
    """
    agreement = _agreement(sane)
    choices = []
    for i, candidate in enumerate(sane):
        names: dict[bool, list[str]] = {True: [], False: []}
        for j, other in enumerate(sane):
            verdict = agreement.get((i, j))
            # Equal features make equal mistakes.
            if verdict is not None and _independent(candidate, other):
                names[verdict].append(other.settings.name)
        choices.append(Choice(candidate, names[True], names[False]))
    best = choices[0]
    reasons: dict[int, str] = {}
    for k, choice in enumerate(choices[1:], start=1):
        reason = _not_better(choice, best)
        if reason is None:
            reasons[id(best.best)] = f"{choice.best.settings.name} is better"
            best = choice
        else:
            reasons[id(sane[k])] = reason
    for candidate in sane:
        kept = candidate is best.best
        candidate.entry.update(kept=kept, why="" if kept else reasons.get(id(candidate), ""))
    return best


def without_lost_frames(choice: Choice, sane: Sequence[Candidate]) -> tuple[colmap.Model, list[str]]:
    """The chosen model without the frames that all others place elsewhere, adjusted again, and their staged names.

    Settings that let a frame in with few matches let it in at a wrong place now and then. Only models that confirm the
    chosen one are asked: one that contradicts it as a whole knows nothing about single frames.
    """
    others = [colmap.poses(c.model) for c in sane if c.settings.name in choice.confirmed]
    if not others:
        return choice.best.model, []
    lost = diagnose.lost_frames(colmap.poses(choice.best.model), others)
    return (colmap.without_images(choice.best.model, lost) if lost else choice.best.model), lost


def doubts(choice: Choice, total: int, *, strictest: bool) -> list[str]:
    """Warnings about a chosen model. `strictest`: it comes from the first rung.

    Raises SfmError if forgiving settings found it, no other attempt confirms it, and at least one contradicts it.
    """
    best, name = choice.best, choice.best.settings.name
    complete = best.health.registered == total
    if choice.confirmed or (strictest and complete):
        return []
    if choice.contradicted:
        text = (
            f"the cameras of SfM attempt {name!r} ({best.health.registered} of {total} frames) disagree with those of "
            f"{', '.join(repr(c) for c in choice.contradicted)}, and no other attempt confirms them"
        )
        if not strictest:
            raise SfmError(
                f"No trustworthy camera poses: {text}. Use frames with more overlap, more texture or less blur, or "
                "give a COLMAP model."
            )
        return [f"Do not trust these poses blindly: {text}."]
    if strictest and best.health.registered >= 0.5 * total:
        return []
    return [
        f"The cameras of SfM attempt {name!r} ({best.health.registered} of {total} frames) are not confirmed by any "
        "other attempt; look at the result before you trust it."
    ]


def _not_better(choice: Choice, best: Choice) -> str | None:
    """Why `choice` (of a more forgiving rung) may not replace `best`; None if it does."""
    new, old = choice.best, best.best
    compared = diagnose.robust_disagreement(colmap.poses(new.model), colmap.poses(old.model))
    agrees = compared is None or _agrees(compared)
    if compared is not None:
        new.entry["disagreement"] = {
            "with": old.settings.name, "rotation_deg": round(compared[0], 3), "centers": round(compared[1], 4)
        }  # fmt: skip
    if not agrees and compared is not None:
        if choice.confirmed and not best.confirmed:
            return None  # however many frames the one has that stands alone
        return (
            f"disagrees with {old.settings.name} by {compared[0]:.1f} deg and {100 * compared[1]:.0f} % of the camera "
            "radius"
        )
    if new.settings.mapping == "global":
        if not choice.confirmed:
            return "global mapping must be confirmed by another attempt"
        if new.health.registered < _GLOBAL_GAIN * old.health.registered:
            return f"global mapping registers hardly more frames than {old.settings.name}"
    if new.health.registered > old.health.registered:
        return None
    if new.health.registered < old.health.registered:
        return f"registers no more frames than {old.settings.name}"
    errors = [c.entry.get("epipolar_px", float("nan")) for c in (new, old)]
    if errors[0] < _CLEARLY_LOWER * errors[1]:
        return None
    return f"registers no more frames than {old.settings.name}, and does not lower its error"


def _agreement(sane: Sequence[Candidate]) -> dict[tuple[int, int], bool]:
    """For (i, j): does model j agree with model i? Only where j has at least half of i's frames."""
    poses = [colmap.poses(c.model) for c in sane]
    result = {}
    for i, mine in enumerate(poses):
        for j, other in enumerate(poses):
            if i == j or len(mine.keys() & other.keys()) < 0.5 * len(mine):
                continue
            compared = diagnose.robust_disagreement(mine, other)
            if compared is not None:
                result[i, j] = _agrees(compared)
    return result


def _agrees(compared: tuple[float, float]) -> bool:
    return compared[0] <= diagnose.MAX_DISAGREEMENT_DEG and compared[1] <= diagnose.MAX_DISAGREEMENT_SHARE


def _independent(first: Candidate, second: Candidate) -> bool:
    """Do two models rest on different features, or on the same features in different ways of mapping?

    Equal settings but for how many matches a frame needs are not two opinions.
    """
    return first.settings.features != second.settings.features or (
        first.settings.mapping != second.settings.mapping
    )


def measure(candidate: Candidate, finest_database: Path) -> None:
    """Note once how well the cameras explain the matches of the finest features, the common measure of all rungs."""
    if "epipolar_px" in candidate.entry:
        return
    pairs = colmap.explained_pairs(finest_database, candidate.model)
    candidate.entry["epipolar_px"] = round(support.typical_px(pairs), 4)
