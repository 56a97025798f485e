"""Pinhole cameras. Pixels; the centre of the top-left pixel is (0.5, 0.5); axes +x right, +y down, +z forward."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Camera:
    """An undistorted pinhole camera.

    width, height: image size in pixels. fx, fy: focal lengths in pixels. cx, cy: principal point in pixels, in
    the convention where the centre of the top-left pixel is (0.5, 0.5).
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def resized(self, width: int, height: int) -> "Camera":
        """The same camera for the image resampled to width x height (exact for area averaging)."""
        sx, sy = width / self.width, height / self.height
        return Camera(width, height, self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy)

    def fitted(self, width: int, height: int) -> "Camera":
        """The same view in the middle of a picture of another shape: all of it, undistorted, as large as fits.

        What lies beside it is seen too.
        """
        scale = min(width / self.width, height / self.height)
        return Camera(
            width, height, self.fx * scale, self.fy * scale,
            width / 2 + (self.cx - self.width / 2) * scale, height / 2 + (self.cy - self.height / 2) * scale,
        )  # fmt: skip

    @property
    def extent(self) -> tuple[float, float]:
        """How far the picture reaches from the optical axis to its farther side, in focal lengths: |x/z| and |y/z|."""
        return (
            max(self.cx, self.width - self.cx) / self.fx,
            max(self.cy, self.height - self.cy) / self.fy,
        )

    def rows(self, top: int, bottom: int) -> "RowBand":
        """The camera of the rows [top, bottom) alone."""
        return RowBand(self.width, bottom - top, self.fx, self.fy, self.cx, self.cy - top, self.extent)


@dataclass(frozen=True)
class RowBand(Camera):
    """Some rows of a larger picture, drawn as they are there: they reach as far from the axis as the whole of it."""

    whole_extent: tuple[float, float]

    @property
    def extent(self) -> tuple[float, float]:
        return self.whole_extent
