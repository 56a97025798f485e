"""Line charts as inline SVG that follow the page's colours."""

import math
from collections.abc import Sequence

from deblurgs.report.markup import text

_W, _H = 560, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 14, 34


def line_chart(points: Sequence[tuple[float, float]], *, title: str, unit: str, log: bool = False) -> str:
    """points: (step, value) with increasing steps. log: a logarithmic axis (values above 0). Empty without two
    points. The axis has round levels; the last value is written at the end of the line."""
    points = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y) and (y > 0 or not log)]
    if len(points) < 2:
        return ""
    f = math.log10 if log else float
    xs, ys = [x for x, _ in points], [f(y) for _, y in points]
    values = [y for _, y in points]
    levels = (_log_levels if log else _levels)(min(values), max(values))
    low, high = f(levels[0]), f(levels[-1])

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - xs[0]) / ((xs[-1] - xs[0]) or 1)
        return (
            _LEFT + across * (_W - _LEFT - _RIGHT),
            _H - _BOTTOM - (y - low) / (high - low) * (_H - _TOP - _BOTTOM),
        )

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(a, b) for a, b in zip(xs, ys, strict=True)))
    grid = []
    for level in levels:
        _, y = at(xs[0], f(level))
        grid.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(level)}</text>'
        )
    end_x, end_y = at(xs[-1], ys[-1])
    # Above the line, or below it where it ends at the upper border.
    label_y = end_y - 9 if end_y > _TOP + 12 else end_y + 20
    summary = f"{title}: from {points[0][1]:.4g} to {points[-1][1]:.4g} {unit} over {xs[-1]:.0f} steps"
    return (
        f'<figure class="chart"><figcaption>{text(title)} <span class="quiet">{text(unit)}</span></figcaption>'
        f'<svg viewBox="0 0 {_W} {_H}" role="img" aria-label="{text(summary)}">{"".join(grid)}'
        f'<text x="{_LEFT}" y="{_H - 10}">{xs[0]:.0f}</text>'
        f'<text x="{_W - _RIGHT}" y="{_H - 10}" text-anchor="end">step {xs[-1]:.0f}</text>'
        f'<polyline class="line" points="{line}"/>'
        f'<circle class="dot" cx="{end_x:.1f}" cy="{end_y:.1f}" r="4"/>'
        f'<text class="strong" x="{end_x - 8:.1f}" y="{label_y:.1f}" text-anchor="end">'
        f"{_short(points[-1][1], 4)}</text>"
        "</svg></figure>"
    )


def _levels(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten that enclose low and high: three to six of them."""
    if high <= low:
        half = 0.5 * max(abs(low), 1.0)
        low, high = low - half, high + half
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def _log_levels(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten that enclose low and high; powers of ten alone where that is too many."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 2)
    steps = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
    ladder = [float(f"{m}e{e}") for e in exponents for m in steps]
    first = max(i for i, level in enumerate(ladder) if level <= low)
    last = next(i for i, level in enumerate(ladder) if level >= high)
    return ladder[first : max(last, first + 1) + 1]


def _short(value: float, digits: int = 3) -> str:
    """A few digits, but no powers of ten for counts."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
