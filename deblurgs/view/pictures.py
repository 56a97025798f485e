"""Pictures for the canvas: true renders of any view, and the kinds of picture that belong to a frame."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from deblurgs.raster.api import rasterize
from deblurgs.render.render import frame_depth, reblurred_frame, sharp_frame
from deblurgs.scene.gaussians import Gaussians
from deblurgs.train.data import scaled
from deblurgs.train.model import gathered, supersampled
from deblurgs.view.compose import MAX_SIDE_PX, Pixels, as_pixels, depth_picture, wiped
from deblurgs.view.content import Content, Frames
from deblurgs.view.pose import View
from deblurgs.view.trust import tinted_by_trust

FrameKind = Literal["observed", "sharp", "re-blurred", "support map", "depth", "before/after"]
FRAME_KINDS: tuple[FrameKind, ...] = (
    "observed", "sharp", "re-blurred", "support map", "depth", "before/after",
)  # fmt: skip
Overlay = Literal["none", "depth", "trust"]
OVERLAYS: tuple[Overlay, ...] = ("none", "depth", "trust")
_CACHED_PICTURES = 96


@dataclass(frozen=True)
class TrueRender:
    """image [H,W,3]; depth [H,W] camera z in scene units, infinite where nothing is."""

    image: Pixels
    depth: NDArray[np.float32]


@dataclass
class Painter:
    """Draws what the browsers ask for, one picture at a time: more would only share the same processors."""

    content: Content
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _tinted: Gaussians | None = None
    _cache: "OrderedDict[tuple[FrameKind, int, float], Pixels]" = field(default_factory=OrderedDict)

    @property
    def knows_trust(self) -> bool:
        """Whether the scene was judged already, so that the trust overlay comes at once."""
        return self._tinted is not None

    def true_render(self, view: View, overlay: Overlay = "none", max_side: int = MAX_SIDE_PX) -> TrueRender:
        """With all colour and antialiasing that a splat in the browser does not have."""
        camera, factor = view.camera(max_side), self.content.supersample
        with self._lock, torch.no_grad():
            g = self._tinted_gaussians() if overlay == "trust" else self.content.gaussians
            rendered = rasterize(
                g.means, g.quats, g.scales, g.opacities, g.sh0, g.shN,
                torch.from_numpy(view.camera_from_world()).float(), supersampled(camera, factor),
                antialiased=self.content.antialiased,
            )  # fmt: skip
        seen, far = (gathered(x[..., None], factor)[..., 0] for x in (rendered.alpha, rendered.depth))
        depth = torch.where(seen > 0.05, far / seen.clamp_min(0.05), torch.inf).numpy()
        image = (
            depth_picture(depth)
            if overlay == "depth"
            else as_pixels(gathered(rendered.image, factor).numpy())
        )
        return TrueRender(image, depth)

    def frame_picture(self, kind: FrameKind, frame: int, u: float = 0.5, wipe: float = 0.5) -> Pixels:
        """One kind of picture of a frame, [H,W,3]. u: instant of the exposure, for `sharp`; wipe: share of the width
        that shows the observed photo, for `before/after`. Raises ValueError where there is no such picture.
        """
        with self._lock:
            if kind == "before/after":
                return wiped(self._kept("observed", frame, 0.5), self._kept("sharp", frame, 0.5), wipe)
            return self._kept(kind, frame, round(u, 3) if kind == "sharp" else 0.5)

    def _kept(self, kind: FrameKind, frame: int, u: float) -> Pixels:
        """The picture, drawn anew only when it was not asked for lately."""
        key = (kind, frame, u)
        if key not in self._cache:
            self._cache[key] = as_pixels(self._drawn(kind, frame, u))
            if len(self._cache) > _CACHED_PICTURES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    @torch.no_grad()
    def _drawn(self, kind: FrameKind, frame: int, u: float) -> NDArray[np.floating] | Pixels:
        frames = self._frames()
        full = frames.cameras[frame]
        camera = scaled(full, min(1.0, MAX_SIDE_PX / max(full.width, full.height)))
        if kind == "observed":
            return frames.observed(frame)
        if kind == "depth":
            depth = frame_depth(frames.scene, frame, camera).numpy()
            return depth_picture(np.where(depth > 0, depth, np.inf))
        if kind == "support map":
            stored = frames.stored("support", frame)
            if stored is None:
                raise ValueError("there is no support map of this frame yet: `deblurgs render` makes it")
            return stored
        if kind == "sharp":
            stored = frames.stored("sharp", frame) if u == 0.5 else None
            return sharp_frame(frames.scene, frame, camera, u).numpy() if stored is None else stored
        stored = frames.stored("reblur", frame)
        if stored is not None:
            return stored
        views = frames.scene.num_views([camera] * len(frames.names))[frame]
        return reblurred_frame(frames.scene, frame, camera, views).numpy()

    def _tinted_gaussians(self) -> Gaussians:
        if self._tinted is None:
            self._tinted = tinted_by_trust(self._frames())
        return self._tinted

    def _frames(self) -> Frames:
        if self.content.frames is None:
            raise ValueError("a splat file brings no frames, so there is nothing to judge it by")
        return self.content.frames
