"""Which kernels of cuda/ run in which order for one exposure, and the memory between them (docs/gpu-kernels.md)."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from deblurgs.errors import DeviceError, ResourceError
from deblurgs.raster.api import FRUSTUM_MARGIN
from deblurgs.raster.cuda_budget import STATUS_WORDS, EntryBudget, Shape
from deblurgs.raster.cuda_sort import sort_pairs
from deblurgs.raster.launcher import Launcher
from deblurgs.scene.camera import Camera

_TILE = 16
_RECORD_WORDS, _POSE_WORDS, _SLOT_SUMS, _POSE_SUMS = 12, 16, 9, 15
# Blocks of the compositing that keep a large GPU busy; below, the views are shared out among blocks too.
_BUSY_BLOCKS = 2048
# Sums of the backward pass held at once; beyond, views are taken in groups.
_SUMS_BYTES = 256 << 20
_MAX_ENTRIES = 2**31 - 1

GRADIENTS = ("means", "quats", "scales", "opacities", "sh0", "sh_rest")


@dataclass
class Exposure:
    """One exposure on the device: what it is, and between forward and backward what was computed of it.

    tensors: contiguous float32 `means`, `quats`, `scales`, `opacities`, `sh0`, `sh_rest`, `viewmats`, `weights` and
    `background` (or None).
    """

    tensors: dict[str, Tensor | None]
    camera: Camera
    degree: int
    flags: int
    one_order: bool
    kept: dict[str, Tensor] = field(default_factory=dict)
    room: tuple[int, int] = (0, 0)

    def tensor(self, name: str) -> Tensor:
        found = self.tensors[name]
        assert found is not None, name
        return found

    @property
    def num_gaussians(self) -> int:
        return self.tensor("means").shape[0]

    @property
    def num_views(self) -> int:
        return self.tensor("viewmats").shape[0]

    @property
    def tiles_x(self) -> int:
        return -(-self.camera.width // _TILE)

    @property
    def tiles(self) -> int:
        return self.tiles_x * -(-self.camera.height // _TILE)

    def shape(self) -> Shape:
        return self.num_views, self.camera.width, self.camera.height

    def inputs(self) -> list[Tensor | None]:
        """The first arguments of both projection kernels."""
        return [*(self.tensors[name] for name in GRADIENTS), self.kept["poses"]]

    def lens(self) -> list[np.float32]:
        c = self.camera
        limits = (FRUSTUM_MARGIN * reach for reach in c.extent)
        return [np.float32(value) for value in (c.fx, c.fy, c.cx, c.cy, *limits)]

    def sizes(self) -> list[np.int32]:
        return [np.int32(self.num_gaussians), np.int32(self.num_views)]

    def sh_stride(self) -> np.int32:
        return np.int32(3 * self.tensor("sh_rest").shape[1])


def run(
    launcher: Launcher, kernel: str, threads: int, block: int, *arguments: Tensor | np.generic | None
) -> None:
    """Start a kernel on at least `threads` threads in blocks of `block`; nothing to do, nothing started."""
    if threads > 0:
        launcher.launch(kernel, (-(-threads // block), 1, 1), (block, 1, 1), arguments)


def forward(
    launcher: Launcher,
    budget: EntryBudget,
    e: Exposure,
    *,
    keep: bool,
    visible: Tensor | None,
    capturing: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Image [H,W,3], alpha [H,W] and depth [H,W]. `keep`: a backward pass will follow. visible [N] uint8 zeros."""
    kind = {"dtype": torch.float32, "device": launcher.device}
    status = torch.zeros(STATUS_WORDS, dtype=torch.int64, device=launcher.device)
    e.kept["poses"] = torch.empty(e.num_views, _POSE_WORDS, **kind)
    run(
        launcher, "deblurgs_poses", 128, 128, e.tensor("viewmats"), e.tensor("weights"), e.kept["poses"], status,
        np.int32(e.num_views),
    )  # fmt: skip
    _bin(launcher, budget, e, status, exact=not keep, capturing=capturing)
    if not capturing:
        budget.send(e.shape(), status)

    height, width = e.camera.height, e.camera.width
    groups = min(e.num_views, max(1, _BUSY_BLOCKS // e.tiles))
    per_group = -(-e.num_views // groups)
    groups = -(-e.num_views // per_group)
    images = torch.empty(groups, height, width, 3, **kind)
    alphas, depths = torch.empty(groups, height, width, **kind), torch.empty(groups, height, width, **kind)
    finals = torch.empty(e.num_views, e.tiles, 3, _TILE * _TILE, **kind) if keep else None
    k = e.kept
    launcher.launch(
        "deblurgs_raster_forward", (e.tiles, groups, 1), (256, 1, 1),
        (
            k["records"], k["owners"], k["masks"], k["slots"], k["tile_starts"], k["poses"], e.tensors["background"],
            images, alphas, depths, finals, visible, *e.sizes(), np.int32(per_group), np.int32(e.tiles_x),
            np.int32(e.tiles), np.int32(width), np.int32(height), np.int32(e.flags),
        ),
    )  # fmt: skip
    if finals is not None:
        k["finals"] = finals
    if groups == 1:
        return images[0], alphas[0], depths[0]
    return images.sum(0), alphas.sum(0), depths.sum(0)


def _bin(
    launcher: Launcher, budget: EntryBudget, e: Exposure, status: Tensor, *, exact: bool, capturing: bool
) -> None:
    """Project, find the tiles, and sort the entries by view, tile and depth."""
    k, rows = e.kept, e.num_views * e.num_gaussians

    def integers(size: int, dtype: torch.dtype = torch.int32) -> Tensor:
        return torch.empty(size, dtype=dtype, device=launcher.device)

    k["records"] = torch.empty(rows, _RECORD_WORDS, dtype=torch.float32, device=launcher.device)
    k["counts"] = integers(rows)
    depth_keys = integers(e.num_gaussians if e.one_order else rows)
    run(
        launcher, f"deblurgs_project_{e.degree}", e.num_gaussians, 128,
        *e.inputs(), k["records"], depth_keys, *e.sizes(), np.int32(e.camera.width), np.int32(e.camera.height),
        e.sh_stride(), np.int32(e.flags), np.int32(e.num_views // 2 if e.one_order else -1), *e.lens(),
    )  # fmt: skip
    run(launcher, "deblurgs_count_tiles", rows, 128, k["records"], k["counts"], np.int32(rows))
    k["slot_ends"] = torch.cumsum(k["counts"], 0, dtype=torch.int64)
    e.room = _room(budget, e, exact=exact, capturing=capturing)
    capacity, view_capacity = e.room

    k["num_entries"] = torch.zeros(1, dtype=torch.int32, device=launcher.device)
    keys, slots, owners = integers(capacity), integers(capacity), integers(capacity)
    k["masks"] = integers(capacity, torch.uint8)
    if rows:
        _, order = sort_pairs(launcher, depth_keys, None, bits=32)
        how = (*e.sizes(), np.int32(e.one_order))
        ordered = integers(rows)
        run(launcher, "deblurgs_order_counts", rows, 256, k["counts"], order, ordered, *how)
        ordered_ends = torch.cumsum(ordered, 0, dtype=torch.int64)
        run(
            launcher, "deblurgs_admit_entries", 32, 32,
            k["slot_ends"], status, k["num_entries"], *e.sizes(), np.int64(capacity), np.int64(view_capacity),
        )  # fmt: skip
        run(
            launcher, "deblurgs_emit_entries", rows, 128,
            k["records"], order, k["counts"], k["slot_ends"], ordered_ends, k["num_entries"], keys, slots, owners,
            k["masks"], *how, np.int32(e.tiles_x), np.int32(e.tiles),
        )  # fmt: skip
        # Entries come in the order of depth, and the sort is stable.
        bits = max(1, (e.num_views * e.tiles - 1).bit_length())
        keys, slots = sort_pairs(launcher, keys, slots, bits=bits, count=k["num_entries"])
    k["tile_starts"] = integers(e.num_views * e.tiles + 1)
    run(
        launcher, "deblurgs_tile_starts", e.num_views * e.tiles + 1, 256,
        keys, k["num_entries"], k["tile_starts"], np.int32(e.num_views * e.tiles),
    )  # fmt: skip
    k["slots"], k["owners"] = slots, owners


def _room(budget: EntryBudget, e: Exposure, *, exact: bool, capturing: bool) -> tuple[int, int]:
    """Entries to make room for, in all and in one view. Waits for the device unless exposures like
    this one have been measured."""
    if e.num_gaussians == 0:
        return 0, 0
    if capturing and not budget.has_seen(e.shape()):
        raise DeviceError(
            "a CUDA graph is captured of an exposure whose size was never rendered: render it once before"
        )
    if capturing or (not exact and budget.knows(e.shape(), e.num_gaussians)):
        total, most = budget.room(e.shape())
        return min(total, _MAX_ENTRIES), min(most, _MAX_ENTRIES)
    last = e.kept["slot_ends"].view(e.num_views, e.num_gaussians)[:, -1].tolist()
    most = max(b - a for a, b in zip([0, *last[:-1]], last, strict=True))
    if last[-1] > _MAX_ENTRIES:
        raise ResourceError(
            "an exposure has more than 2^31 tile entries: the Gaussians are far too large for the image"
        )
    budget.measured(e.shape(), e.num_gaussians, last[-1], most)
    return last[-1], most


def backward(
    launcher: Launcher, e: Exposure, image_gradient: Tensor, wanted: set[str], *, statistics: bool
) -> dict[str, Tensor]:
    """Gradients by name (those of `wanted`; and `gradient_px` [N] with `statistics`). Consumes the kept state."""
    kind = {"dtype": torch.float32, "device": launcher.device}
    out = {name: torch.empty_like(e.tensor(name)) for name in wanted}
    if statistics:
        out["gradient_px"] = torch.empty(e.num_gaussians, **kind)
    background_sums = torch.empty(e.num_views * e.tiles, 3, **kind) if "background" in wanted else None
    _raster_backward(launcher, e, image_gradient, background_sums)
    if background_sums is not None:
        run(
            launcher, "deblurgs_background_gradient", 96, 96,
            background_sums, out["background"], np.int32(e.num_views * e.tiles),
        )  # fmt: skip

    pose_sums, warps = None, -(-e.num_gaussians // 128) * 4
    if "viewmats" in wanted:
        pose_sums = torch.empty(warps, e.num_views, _POSE_SUMS, **kind)
    run(
        launcher, f"deblurgs_project_backward_{e.degree}", e.num_gaussians, 128,
        *e.inputs(), e.kept["records"], *(out.get(name) for name in GRADIENTS), out.get("gradient_px"), pose_sums,
        *e.sizes(), e.sh_stride(), np.int32(e.flags), *e.lens(),
    )  # fmt: skip
    if pose_sums is not None:
        run(
            launcher, "deblurgs_pose_gradients", 480 * e.num_views, 480,
            pose_sums, e.tensor("viewmats"), out["viewmats"], np.int32(warps), np.int32(e.num_views),
        )  # fmt: skip
    return out


def _raster_backward(
    launcher: Launcher, e: Exposure, image_gradient: Tensor, background_sums: Tensor | None
) -> None:
    """Leaves every Gaussian's sums of every view in its record."""
    k, (capacity, view_capacity) = e.kept, e.room
    per_group = max(1, min(e.num_views, _SUMS_BYTES // (4 * _SLOT_SUMS * max(1, view_capacity))))
    entries = min(capacity, per_group * view_capacity)
    sums = torch.empty(entries, _SLOT_SUMS, dtype=torch.float32, device=launcher.device)
    for first in range(0, e.num_views, per_group):
        views = min(per_group, e.num_views - first)
        launcher.launch("deblurgs_raster_backward", (e.tiles, views, 1), (128, 1, 1), (
            k["records"], k["owners"], k["masks"], k["slots"], k["tile_starts"], k["slot_ends"], k["poses"],
            k["finals"], image_gradient, sums, background_sums, np.int32(e.num_gaussians), np.int32(first),
            np.int32(e.tiles_x), np.int32(e.tiles), np.int32(e.camera.width), np.int32(e.camera.height),
            np.int32(e.flags),
        ))  # fmt: skip
        run(
            launcher, "deblurgs_collect", views * e.num_gaussians, 128,
            k["records"], k["counts"], k["slot_ends"], k["num_entries"], sums, np.int64(first * e.num_gaussians),
            np.int32(views * e.num_gaussians),
        )  # fmt: skip
