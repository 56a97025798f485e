"""report.html: one page, one file, no other address; readable without scripts."""

import html
from importlib.resources import files

from deblurgs.export.html import viewer_page
from deblurgs.report import frames, tables
from deblurgs.report.curves import line_chart
from deblurgs.report.data import ReportData, number
from deblurgs.report.frames import Sizes
from deblurgs.report.markup import name, seconds, text

MAX_BYTES = 24_000_000

SIZES = (
    Sizes(1280, 480, 240, 84, 6, 300, 60_000),
    Sizes(1280, 420, 200, 78, 6, 120, 50_000),
    Sizes(960, 360, 160, 74, 5, 60, 40_000),
    Sizes(720, 320, 128, 68, 4, 40, 25_000),
    Sizes(640, 240, 96, 60, 3, 20, 10_000),
)
"""From generous to frugal: the first with which the page stays below the limit is used."""

_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline' blob:; "
    "worker-src blob:; frame-src 'self'; base-uri 'none'; form-action 'none'"
)


def report_page(data: ReportData, *, max_bytes: int = MAX_BYTES) -> str:
    """The page, with pictures as large as `max_bytes` allows. The most frugal one is handed out in any case."""
    page = ""
    for sizes in SIZES:
        page = _page(data, sizes)
        if len(page.encode("utf-8")) <= max_bytes:
            break
    return page


def _page(data: ReportData, sizes: Sizes) -> str:
    by_network = bool(data.frames) and all(frame.by_network for frame in data.frames)
    reasons = {str(k): str(v) for k, v in (data.trust.get("reasons") or {}).items()}
    pairs = frames.before_after(data.frames, sizes)
    found = tables.registration(data.candidates, data) + tables.ladder(data.sfm)
    sections = [
        ("compare", "Before and after", "Drag the bar, or use the arrow keys.", pairs)
        if any(frame.observed is not None for frame in data.frames) else
        ("compare", "Restored frames", "The photos themselves are not in the run folder.", pairs),
        ("scene", "The scene in 3-D", "Drag to turn, scroll to come nearer.", _viewer(data, sizes)),
        (
            "evidence", "Frame by frame",
            "Every pixel of the restored frames comes from <span class='key network'>a neural network</span>."
            if by_network else
            "Left: how points of the scene moved while the shutter was open. Right: where the sharp pixels come from: "
            "<span class='key own'>sharp in this frame</span> <span class='key recovered'>recovered from other frames"
            "</span> <span class='key guessed'>a guess of the model</span> "
            "<span class='key network'>restored alone by a neural network</span>. "
            "Blue and green together are the trust of a pixel: fine detail that photos recorded and that the model "
            "agrees with. Red is what is missing to 100 %. The percentage below is the mean over the frame.",
            frames.evidence(data.frames, sizes, reasons),
        ),
        ("learning", "Learning curves", "", _curves(data)),
        (
            "sheet", "All photos",
            "Sharpness is comparable within this capture only; a longer bar is sharper.",
            frames.contact_sheet(data.candidates, sizes),
        ),
        ("cameras", "Cameras", _camera_line(data), found),
        ("cost", "Time and memory", "", tables.stages(data.manifest)),
        ("reproduce", "Do it again", "", tables.reproduce(data)),
    ]  # fmt: skip
    sections = [s for s in sections if s[3]]
    notice = f'<p class="notice" role="note">{text(data.notice)}</p>' if data.notice else ""
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title, _, _ in sections)
    body = "".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>'
        f"{f'<p class=lead>{lead}</p>' if lead else ''}{content}</section>"
        for key, title, lead, content in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{name(data.title)} - deblurgs report</title><style>{_resource('report.css')}</style></head><body>"
        f'<a class="skip" href="#compare">To the pictures</a><header><p class="brand">deblurgs report</p>'
        f"<h1>{name(data.title)}</h1>{_summary(data, by_network=by_network)}{notice}</header>"
        f'<nav aria-label="Parts of the report">{links}</nav><main>{body}</main>'
        f"<footer>Written by deblurgs {text((data.manifest.get('versions') or {}).get('deblurgs', ''))}. "
        "Everything on this page lies in this file.</footer>"
        f"<script>{_resource('report.js')}</script></body></html>"
    )


def _resource(file: str) -> str:
    return (files("deblurgs.report") / file).read_text(encoding="utf-8")


def _summary(data: ReportData, *, by_network: bool) -> str:
    """The figures that decide whether to read on."""
    entries = [e for e in (data.manifest.get("stages") or {}).values() if isinstance(e, dict)]
    total = sum(number(e.get("seconds")) or 0.0 for e in entries)
    trust, reliable = number(data.trust.get("trust")), number(data.trust.get("num_reliable"))
    kept = [c for c in data.candidates if c.kept]
    figures = [
        (f"{sum(c.registered for c in kept)} of {len(kept)}", "frames with a camera"),
        ("-" if trust is None else f"{100 * trust:.0f} %", "mean trust of the sharp pixels"),
        ("-" if reliable is None else f"{reliable:.0f} of {len(data.frames)}", "sharp frames reliable"),
        (f"{max(f.path_px for f in data.frames):.0f} px" if data.frames else "-", "longest blur"),
        ("-" if data.splats is None else f"{len(data.splats):,}".replace(",", " "), "Gaussians"),
        (seconds(total), "in all"),
    ]
    if by_network and data.splats is None:
        figures = [
            (f"{len(data.frames)}", "frames restored by a neural network alone"),
            ("none", "scene and cameras"),
            (seconds(total), "in all"),
        ]
    items = "".join(f"<div><dt>{text(label)}</dt><dd>{text(value)}</dd></div>" for value, label in figures)
    return f'<dl class="figures">{items}</dl>'


def _camera_line(data: ReportData) -> str:
    error, angle = number(data.sfm.get("error_px")), number(data.sfm.get("median_triangulation_deg"))
    parts = []
    if data.sfm.get("given"):
        parts.append("The cameras came with the input.")
    if error is not None:
        parts.append(f"Mean reprojection error {error:.2f} px.")
    if angle is not None:
        parts.append(f"Median angle between the rays of a point {angle:.1f} degrees.")
    return " ".join(parts)


def _curves(data: ReportData) -> str:
    def series(key: str) -> list[tuple[float, float]]:
        points, offset, last = [], 0.0, 0.0
        for line in data.metrics:
            step, value = number(line.get("step")), number(line.get(key))
            if step is None:
                continue
            # A second training (with frames found later) counts its steps anew.
            if step < last:
                offset += last
            last = step
            if value is not None:
                points.append((offset + step, value))
        return points

    charts = (
        line_chart(series("loss"), title="Loss", unit="logarithmic", log=True),
        line_chart(series("held_out_blocks_psnr"), title="PSNR of held-out blocks of the photos", unit="dB"),
        line_chart(series("num_gaussians"), title="Number of Gaussians", unit=""),
    )
    joined = "".join(charts)
    return f'<div class="charts">{joined}</div>' if joined else ""


def _viewer(data: ReportData, sizes: Sizes) -> str:
    if data.splats is None or not len(data.splats) or not data.views:
        return ""
    page = viewer_page(data.splats, data.views, title=f"{data.title}: 3-D view", max_splats=sizes.splats)
    shown = min(sizes.splats, len(data.splats))
    note = f"{shown} of {len(data.splats)} Gaussians, colour without view dependence."
    return (
        f'<iframe class="viewer" title="3-D view of the scene" loading="lazy" '
        f'srcdoc="{html.escape(page, quote=True)}"></iframe><p class="quiet">{note}</p>'
    )
