"""Line charts as inline SVG that follow the page's colours."""

import math
from collections.abc import Sequence

from deblurgs.report.markup import text

_W, _H = 560, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 14, 34


def line_chart(points: Sequence[tuple[float, float]], *, title: str, unit: str, log: bool = False) -> str:
    """points: (step, value) with increasing steps. log: a logarithmic axis (values above 0). Empty without two
    points. The last value is written at the end of the line."""
    points = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y) and (y > 0 or not log)]
    if len(points) < 2:
        return ""
    f = math.log10 if log else float
    xs, ys = [x for x, _ in points], [f(y) for _, y in points]
    low, high = min(ys), max(ys)
    pad = 0.08 * (high - low) or 0.5
    low, high = low - pad, high + pad

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - xs[0]) / ((xs[-1] - xs[0]) or 1)
        return (
            _LEFT + across * (_W - _LEFT - _RIGHT),
            _H - _BOTTOM - (y - low) / (high - low) * (_H - _TOP - _BOTTOM),
        )

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(a, b) for a, b in zip(xs, ys, strict=True)))
    grid = []
    for i in range(5):
        level = low + (high - low) * i / 4
        _, y = at(xs[0], level)
        value = 10**level if log else level
        grid.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>'
        )
    end_x, end_y = at(xs[-1], ys[-1])
    summary = f"{title}: from {points[0][1]:.4g} to {points[-1][1]:.4g} {unit} over {xs[-1]:.0f} steps"
    return (
        f'<figure class="chart"><figcaption>{text(title)} <span class="quiet">{text(unit)}</span></figcaption>'
        f'<svg viewBox="0 0 {_W} {_H}" role="img" aria-label="{text(summary)}">{"".join(grid)}'
        f'<text x="{_LEFT}" y="{_H - 10}">{xs[0]:.0f}</text>'
        f'<text x="{_W - _RIGHT}" y="{_H - 10}" text-anchor="end">step {xs[-1]:.0f}</text>'
        f'<polyline class="line" points="{line}"/>'
        f'<circle class="dot" cx="{end_x:.1f}" cy="{end_y:.1f}" r="4"/>'
        f'<text class="strong" x="{end_x - 8:.1f}" y="{end_y - 9:.1f}" text-anchor="end">'
        f"{_short(points[-1][1], 4)}</text>"
        "</svg></figure>"
    )


def _short(value: float, digits: int = 3) -> str:
    """A few digits, but no powers of ten for counts."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
