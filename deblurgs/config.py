"""All settings. A field's docstring is its help text; `preset(name)` gives the named starting points.

Nothing here imports torch: `deblurgs --help` must stay fast. Saved as JSON with only what differs from the preset.
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from tyro import conf

T = TypeVar("T")

PresetName = Literal["fast", "default", "best"]
TrajectoryKind = Literal["static", "linear", "cubic", "bezier", "continuous"]
DensityStrategy = Literal["mcmc", "annealed"]


MIN_SIDE_PX = 32
"""Smaller training images hold less than three windows of the structural similarity."""


def _require(config: object, holds: bool, name: str, wanted: str) -> None:
    """Raise ValueError, which the command line shows as wrong usage, unless the setting `name` may have its value."""
    value = getattr(config, name)
    if not holds or (isinstance(value, float) and not math.isfinite(value)):
        told = " ".join(map(str, value)) if isinstance(value, tuple) else value
        raise ValueError(f"{name} must be {wanted}, not {told}")


@dataclass(frozen=True)
class TrajectoryConfig:
    kind: Annotated[TrajectoryKind, conf.arg(aliases=["--trajectory"])] = "bezier"
    """Curve of the camera during one exposure.
    static: one pose per frame, as plain splats have it.
    continuous: one path through a whole video, of which the exposures are pieces; their length is estimated."""
    num_knots: int = 4
    """Control knots per exposure (2 or more; `linear` with 2 is a straight line)."""
    start_spread: float = 4e-3
    """Standard deviation of the knots at the start, in radians and units of the median scene depth.
    It breaks the forward/backward symmetry of an exposure."""
    lr: float = 5e-3
    """Learning rate of the knots at the start (rotation in radians, translation in median scene depths)."""
    lr_end: float = 1e-4
    """Learning rate of the knots at the end; exponential in between."""
    start_step: int = 50
    """Knots are held fixed for this many steps while the first Gaussians settle."""
    straight_until: float = 0.5
    """Share of all steps during which every path is held straight; a curve that folds back early stays folded."""
    smoothness: float = 1e-4
    """Weight of the temporal smoothness loss: squared second differences of the knots, in pixels."""
    sub_frame_times: bool = False
    """Learn for every frame when its camera passed along the path, beside the path itself.
    A path with many knots can already be travelled unevenly, which is why this is off."""
    times_lr: float = 1e-2
    """Learning rate of these times (logarithm of relative speed) at the start; it falls to a twentieth."""
    min_views: int = 3
    """Fewest virtual views of one exposure."""
    max_views: int = 15
    """Most virtual views of one exposure."""
    px_per_view: float = 1.8
    """Path length in pixels that one more virtual view covers."""

    rolling_shutter: bool = False
    """Expose the rows of a frame one after the other, and estimate how long that takes.
    The cameras of a video are estimated for it, too."""
    readout: Annotated[float | None, conf.arg(help_behavior_hint="(default: none, or estimated)")] = None
    """Known time from the first to the last row, in units of the exposure; for `continuous` of the frame interval.
    Negative from bottom to top."""
    duty: float = 0.5
    """`continuous`: share of the frame interval with an open shutter, at the start."""
    timing_lr: float = 2e-2
    """Learning rate of readout and duty at the start; it falls to a twentieth.
    Single frames say little about them, so most of the steps cancel."""
    jitter: bool = False
    """Shift the virtual views of every step at random within the exposure, so that few of them leave no ghosts."""

    def __post_init__(self) -> None:
        _require(self, self.num_knots >= (1 if self.kind == "static" else 2), "num_knots", "at least 2")
        _require(self, self.start_spread >= 0, "start_spread", "0 or more")
        _require(self, self.lr > 0, "lr", "above 0")
        _require(self, self.lr_end > 0, "lr_end", "above 0")
        _require(self, self.start_step >= 0, "start_step", "0 or more")
        _require(self, 0 <= self.straight_until <= 1, "straight_until", "from 0 to 1")
        _require(self, self.smoothness >= 0, "smoothness", "0 or more")
        _require(self, self.min_views >= 1, "min_views", "at least 1")
        _require(
            self, self.max_views >= self.min_views, "max_views", f"at least min_views ({self.min_views})"
        )
        _require(self, self.px_per_view > 0, "px_per_view", "above 0")
        _require(self, self.readout is None or abs(self.readout) <= 4, "readout", "between -4 and 4")
        _require(self, 0 < self.duty < 1, "duty", "above 0 and below 1")
        _require(self, self.timing_lr > 0, "timing_lr", "above 0")
        _require(self, self.times_lr > 0, "times_lr", "above 0")
        if self.sub_frame_times and self.kind == "continuous":
            raise ValueError(
                "sub_frame_times needs separate paths: a continuous one has its own course of time"
            )


@dataclass(frozen=True)
class PhotometryConfig:
    gain: bool = True
    """Learn the exposure and white balance of each frame."""
    gain_lr: float = 2e-3
    """Learning rate of the gains (natural logarithm)."""
    saturation: bool = True
    """Let the scene be brighter than the photo where the photo is clipped."""
    num_bends: int = 0
    """Coefficients of a learnt response curve; 0 = the sRGB curve."""
    bends_lr: float = 2e-3
    """Learning rate of the response curve at the start; it falls to a twentieth."""

    def __post_init__(self) -> None:
        _require(self, self.gain_lr > 0, "gain_lr", "above 0")
        _require(self, 0 <= self.num_bends <= 8, "num_bends", "from 0 to 8")
        _require(self, self.bends_lr > 0, "bends_lr", "above 0")


@dataclass(frozen=True)
class DensityConfig:
    strategy: DensityStrategy = "annealed"
    """`annealed` splits where frames are matched worst, above a falling gradient threshold;
    `mcmc` relocates dead Gaussians and grows to the cap."""
    max_gaussians: int = 40_000
    """Hard cap on the number of Gaussians. At a coarser image scale the cap is that scale's share of it."""
    every: int = 60
    """Steps between two rounds of density control."""
    growth: float = 0.25
    """Most relative growth per round.
    More is allowed where the cap would otherwise not be reached at two fifths of the run."""
    until: float = 0.8
    """Share of all steps after which the number of Gaussians stays fixed."""
    relocate: float = 0.1
    """`annealed`: most of the Gaussians, as a share, that a round moves once the cap is reached:
    from where they show least to where frames are matched worst."""
    noise: float = 0.0
    """Strength of the positional exploration noise of `mcmc` (0 = off), relative to the position learning rate."""
    min_opacity: float = 0.005
    """Gaussians below this opacity count as dead."""
    threshold_start: float = 4e-4
    """`annealed`: screen gradient above which a Gaussian is split at the start (normalised image coordinates)."""
    threshold_end: float = 2e-4
    """`annealed`: the same at the end; exponential in between."""

    def __post_init__(self) -> None:
        _require(self, self.max_gaussians >= 1, "max_gaussians", "at least 1")
        _require(self, self.every >= 1, "every", "at least 1")
        _require(self, self.growth >= 0, "growth", "0 or more")
        _require(self, 0 <= self.until <= 1, "until", "from 0 to 1")
        _require(self, 0 <= self.relocate < 1, "relocate", "from 0 to below 1")
        _require(self, self.noise >= 0, "noise", "0 or more")
        _require(self, 0 < self.min_opacity < 0.5, "min_opacity", "above 0 and below 0.5")
        _require(self, self.threshold_start > 0, "threshold_start", "above 0")
        _require(self, self.threshold_end > 0, "threshold_end", "above 0")


@dataclass(frozen=True)
class TrainConfig:
    scales: tuple[float, ...] = (0.25, 0.5, 1.0)
    """Image scales from coarse to fine, relative to the training size."""
    steps: tuple[int, ...] = (800, 2400, 1250)
    """Optimisation steps at each scale."""
    downscale: float = 1.0
    """Train on frames reduced by this factor. Sharp frames are still rendered at full input size."""
    train_scale: Annotated[int, conf.arg(aliases=["--train-scale"])] = 1
    """Multi-frame super-resolution: pixels per side, relative to the photos, with which the finest scale is drawn.
    Each drawing is averaged to the photo's size before it is compared; shifts between frames bring finer detail.
    2 costs about three times as much time; `deblurgs render RUN --scale 2` shows it."""
    max_side: int = 960
    """Largest side of the training images in pixels; larger ones are reduced further."""
    sh_degree: int = 2
    """Spherical harmonics degree of view-dependent colour, 0 to 3."""
    ssim_weight: float = 0.2
    """Weight of D-SSIM; L1 gets the rest."""
    edge_weight: float = 10.0
    """Weight of the L1 of steps between neighbouring pixels, added to both.
    What is fine survives blur weakest and would be learnt last; steps count it more."""
    edges_from: float = 0.6
    """Share of all steps after which these steps count: before, they would draw detail along wrong paths."""
    opacity_reg: float = 0.01
    """Weight of the mean opacity (keeps Gaussians ready for relocation)."""
    scale_reg: float = 0.01
    """Weight of the mean scale."""
    means_lr: float = 1.6e-3
    """Learning rate of positions at the start, in median scene depths."""
    means_lr_end: float = 5e-5
    """Learning rate of positions at the end; exponential in between."""
    scales_lr: float = 5e-3
    """Learning rate of log scales."""
    opacities_lr: float = 5e-2
    """Learning rate of opacity logits."""
    colors_lr: float = 2.5e-3
    """Learning rate of base colours; higher harmonics get 1/15 of it."""
    quats_lr: float = 1e-3
    """Learning rate of quaternions."""
    cool_from: float = 0.7
    """Share of all steps after which the learning rates of shapes, opacities and colours fall, too."""
    cool_to: float = 0.1
    """What is left of them at the end; 1 = they stay."""
    antialiased: bool = False
    """Train with the 2-D Mip filter. The PLY is then tagged, and viewers that ignore the tag show it slightly off."""
    held_out: float = 0.02
    """Share of blocks of pixels that the finest scale does not train on.
    How well they are predicted decides which state is kept; 0 keeps the last."""
    patience: int = 6
    """End the training early when the held-out blocks did not improve this many times in a row.
    They are looked at every 200 steps."""
    revisit: float = 0.0
    """Further visits per round of all frames, as a share of their number, to those with the largest loss."""
    seed: int = 0
    """Seed of every random choice. Equal seeds give equal results on the CPU for any number of threads."""
    trajectory: TrajectoryConfig = field(default_factory=TrajectoryConfig)
    density: DensityConfig = field(default_factory=DensityConfig)
    photometry: PhotometryConfig = field(default_factory=PhotometryConfig)

    def __post_init__(self) -> None:
        _require(
            self, bool(self.scales) and all(0 < s <= 1 for s in self.scales), "scales", "above 0, up to 1"
        )
        _require(self, all(s >= 1 for s in self.steps), "steps", "at least 1 at each scale")
        _require(
            self,
            len(self.steps) == len(self.scales),
            "steps",
            f"{len(self.scales)} numbers, one for each of the scales {' '.join(map(str, self.scales))}",
        )
        _require(self, self.downscale >= 1, "downscale", "1 or more")
        _require(self, 1 <= self.train_scale <= 4, "train_scale", "from 1 to 4")
        _require(self, self.max_side >= MIN_SIDE_PX, "max_side", f"at least {MIN_SIDE_PX}")
        _require(self, 0 <= self.sh_degree <= 3, "sh_degree", "from 0 to 3")
        _require(self, 0 <= self.ssim_weight <= 1, "ssim_weight", "from 0 to 1")
        for name in ("edge_weight", "opacity_reg", "scale_reg"):
            _require(self, getattr(self, name) >= 0, name, "0 or more")
        # Rates fall along a straight line on a log scale, which zero is not on.
        for name in ("means_lr", "means_lr_end", "scales_lr", "opacities_lr", "colors_lr", "quats_lr"):
            _require(self, getattr(self, name) > 0, name, "above 0")
        _require(self, 0 <= self.edges_from <= 1, "edges_from", "from 0 to 1")
        _require(self, 0 <= self.cool_from <= 1, "cool_from", "from 0 to 1")
        _require(self, 0 < self.cool_to <= 1, "cool_to", "above 0, up to 1")
        _require(self, 0 <= self.held_out <= 0.5, "held_out", "from 0 to 0.5")
        _require(self, self.patience >= 1, "patience", "at least 1")
        _require(self, 0 <= self.revisit <= 10, "revisit", "from 0 to 10")
        _require(self, 0 <= self.seed < 2**63, "seed", "from 0 to 2^63 - 1")

    @property
    def total_steps(self) -> int:
        return sum(self.steps)

    def work_done(self, step: int) -> float:
        """Share of the whole training that its first `step` steps are, 0 to 1. A step costs what it has pixels."""
        costs = [scale * scale for scale in self.scales]
        costs[-1] *= self.train_scale**1.5  # drawn finer than the photos: three times as long for 2
        done = whole = 0.0
        for steps, cost in zip(self.steps, costs, strict=True):
            done += cost * min(max(step, 0), steps)
            whole += cost * steps
            step -= steps
        return done / whole if whole else 1.0


def preset(name: PresetName) -> TrainConfig:
    """The named starting points of `--preset`: fast (about a minute), default (minutes), best (as long as it helps)."""
    if name == "fast":
        return TrainConfig(
            downscale=2.0, max_side=480, scales=(0.5, 1.0), steps=(1600, 800),
            density=DensityConfig(max_gaussians=20_000),
        )  # fmt: skip
    if name == "best":
        return TrainConfig(
            max_side=1920, steps=(1500, 5000, 2500), cool_from=0.75, density=DensityConfig(max_gaussians=60_000),
        )  # fmt: skip
    return TrainConfig()


def to_dict(config: Any, base: Any | None = None) -> dict[str, Any]:
    """Fields of a config dataclass as plain JSON data; with `base` only those that differ from it."""
    out: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        other = getattr(base, f.name) if base is not None else None
        if dataclasses.is_dataclass(value):
            nested = to_dict(value, other)
            if nested or base is None:
                out[f.name] = nested
        elif base is None or value != other:
            out[f.name] = list(value) if isinstance(value, tuple) else value
    return out


def from_dict(base: T, data: dict[str, Any]) -> T:
    """`base` with the fields of `data` replaced. Raises ValueError for unknown fields or wrong types."""
    changes: dict[str, Any] = {}
    fields = {f.name: f for f in dataclasses.fields(base)}  # type: ignore[arg-type]
    for key, value in data.items():
        if key not in fields:
            raise ValueError(f"unknown setting {key!r}; known: {', '.join(sorted(fields))}")
        current = getattr(base, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, dict):
                raise ValueError(f"setting {key!r} must be an object, not {json.dumps(value)}")
            changes[key] = from_dict(current, value)
        elif isinstance(current, tuple) and isinstance(value, list):
            changes[key] = tuple(value)
        elif (
            isinstance(current, float | None)
            and isinstance(value, int | float)
            and not isinstance(value, bool)
        ):
            changes[key] = float(value)  # the only settings that may be None are numbers
        elif isinstance(value, type(current)):
            changes[key] = value
        else:
            raise ValueError(f"setting {key!r} must be a {type(current).__name__}, not {json.dumps(value)}")
    return dataclasses.replace(base, **changes)  # type: ignore[type-var]
