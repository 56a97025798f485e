"""The self-check as a picture, as `trust.json` and in words."""

import statistics
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deblurgs.render.trust import REASONS, FrameTrust, TrustMaps

# Told apart also by people who confuse red and green: the three differ in lightness and in blue.
OWN_RGB = (0.35, 0.60, 1.00)
RECOVERED_RGB = (0.45, 0.90, 0.45)
GUESS_RGB = (0.85, 0.10, 0.10)
_INK = 0.65
"""How much of the picture shows through: brightness runs from 1 - _INK to 1."""
_MOST_LINES = 5
"""Of warnings about single frames."""


def support_picture(maps: TrustMaps) -> Tensor:
    """The sharp frame in grey, tinted by where each pixel's detail comes from; [H,W,3] display values.

    Blue: this photo shows it sharp itself. Green: recovered from other photos. Red: a guess. Mixtures mix.
    """
    height, width = maps.grey.shape
    shares = torch.stack([maps.own, maps.recovered, 1.0 - maps.trust])[None]
    shares = F.interpolate(shares, (height, width), mode="bilinear", align_corners=False)[0]
    tint = torch.einsum("shw,sc->hwc", shares, shares.new_tensor([OWN_RGB, RECOVERED_RGB, GUESS_RGB]))
    return (tint * (1.0 - _INK + _INK * maps.grey)[..., None]).clamp(0.0, 1.0)


def as_json(verdicts: Sequence[FrameTrust], by_network: Sequence[str] = ()) -> dict[str, Any]:
    """The documented contents of trust.json (docs/formats.md). by_network: frames that the scene did not make."""
    return {
        "format": "deblurgs-trust",
        "version": 1,
        "trust": round(statistics.mean(v.trust for v in verdicts), 4),
        "num_reliable": sum(v.reliable for v in verdicts),
        "made_by_network": list(by_network),
        "reasons": REASONS,
        "frames": [
            {
                "name": v.name, "trust": round(v.trust, 4), "reliable": v.reliable, "reasons": list(v.reasons),
                "own": round(v.own, 4), "recovered": round(v.recovered, 4), "guessed": round(v.guessed, 4),
                "support": round(v.support, 4), "residual": round(v.residual, 5), "path_px": round(v.path_px, 2),
                "sharper_views": round(v.sharper_views, 2),
            }
            for v in verdicts
        ],
    }  # fmt: skip


def problem_line(verdict: FrameTrust) -> str:
    """One sentence about a frame that is not reliable."""
    why = "; ".join(REASONS[word] for word in verdict.reasons)
    return (
        f"{verdict.name} is not reliable (trust {verdict.trust:.2f}, residual {verdict.residual:.3f}, "
        f"path {verdict.path_px:.0f} px): {why}"
    )


def problem_lines(verdicts: Sequence[FrameTrust]) -> list[str]:
    """A sentence about each frame that is not reliable, in the order of the frames; of many only about the least
    trusted, and one that counts the others."""
    problems = [v for v in verdicts if not v.reliable]
    if len(problems) <= _MOST_LINES:
        return [problem_line(v) for v in problems]
    worst = sorted(problems, key=lambda v: v.trust)[: _MOST_LINES - 1]
    return [
        *(problem_line(v) for v in problems if v in worst),
        f"{len(problems) - len(worst)} more frames are not reliable, none trusted less than these; trust.json tells of "
        "each",
    ]


def summary_line(verdicts: Sequence[FrameTrust]) -> str:
    """One sentence about all frames."""
    own, recovered = (statistics.mean(getattr(v, name) for v in verdicts) for name in ("own", "recovered"))
    lowest = min(verdicts, key=lambda v: v.trust)
    return (
        f"self-check: {sum(v.reliable for v in verdicts)} of {len(verdicts)} frames reliable; of the fine detail "
        f"{own:.0%} was sharp in the frame itself, {recovered:.0%} recovered from other frames, "
        f"{max(0.0, 1.0 - own - recovered):.0%} is a guess; lowest trust {lowest.trust:.2f} ({lowest.name})"
    )
