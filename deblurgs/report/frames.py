"""The picture parts of a report: before and after, the contact sheet, and the evidence per frame."""

from collections.abc import Sequence
from dataclasses import dataclass

from deblurgs.export.contact_sheet import evenly_chosen
from deblurgs.report.data import Candidate, ReportFrame, number
from deblurgs.report.markup import name, text
from deblurgs.report.pictures import data_uri

_BY_NETWORK = "restored by a neural network alone"


@dataclass(frozen=True)
class Sizes:
    """How much of a report's size goes where: widths in pixels, JPEG quality, numbers of frames and Gaussians."""

    slider_px: int
    evidence_px: int
    thumb_px: int
    quality: int
    sliders: int
    evidence: int
    splats: int


def telling_frames(frames: Sequence[ReportFrame], count: int) -> list[ReportFrame]:
    """For before and after: the longest paths, the least trusted frame, and an even choice of the others, in order."""
    by_path = sorted(frames, key=lambda f: -f.path_px)[: max(count // 2, 1)]
    judged = [f for f in frames if number(f.trust.get("trust")) is not None]
    worst = sorted(judged, key=lambda f: float(f.trust["trust"]))[:1]
    chosen = {id(f) for f in [*by_path, *worst][:count]}
    for frame in evenly_chosen(frames, count):
        if len(chosen) < count:
            chosen.add(id(frame))
    return [f for f in frames if id(f) in chosen]


def before_after(frames: Sequence[ReportFrame], sizes: Sizes) -> str:
    """Sliders; without scripts the two pictures stand side by side."""
    parts = []
    for i, frame in enumerate(telling_frames(frames, sizes.sliders)):
        after = data_uri(frame.sharp, sizes.slider_px, sizes.quality)
        label = name(frame.name)
        if frame.observed is None and after is not None:
            parts.append(
                f'<figure class="compare"><img src="{after}" alt="{label}, by a neural network alone">'
                f"<figcaption><strong>{label}</strong> <span class='quiet'>{_BY_NETWORK}</span></figcaption></figure>"
            )
        before = _photo(frame, sizes.slider_px, sizes.quality)
        if before is None or after is None:
            continue
        note = f"{frame.path_px:.0f} px of blur" if frame.path_px else ""
        tag = "sharp"
        if frame.by_network:
            note, tag = _BY_NETWORK, "network"
        parts.append(
            f'<figure class="compare" style="--ratio:{frame.width}/{frame.height}"><div class="stage">'
            f'<img class="before" src="{before}" alt="{label}, observed" width="{frame.width}" height="{frame.height}">'
            f'<img class="after" src="{after}" alt="{label}, sharp" width="{frame.width}" height="{frame.height}">'
            f'<span class="tag left">observed</span><span class="tag right">{tag}</span>'
            f'<input type="range" min="0" max="100" value="50" id="slider{i}" '
            f'aria-label="{label}: the bar between observed and sharp" hidden></div>'
            f"<figcaption><strong>{label}</strong> <span class='quiet'>{text(note)}</span></figcaption></figure>"
        )
    return "".join(parts)


def contact_sheet(candidates: Sequence[Candidate], sizes: Sizes) -> str:
    """All photos with their blur scores; those left out are marked, with the reason."""
    sharpest = max((c.sharpness for c in candidates if c.sharpness is not None), default=0.0) or 1.0
    parts = []
    for c in candidates:
        uri = None if c.image is None else data_uri(c.image, sizes.thumb_px, sizes.quality)
        picture = (
            f'<img src="{uri}" alt="" decoding="async">'
            if uri
            else '<div class="empty" aria-hidden="true"></div>'
        )
        scores = []
        if c.sharpness is not None:
            share = max(0.0, min(1.0, c.sharpness / sharpest))
            scores.append(
                f'<span class="meter" role="img" aria-label="sharpness {c.sharpness:.2f}">'
                f'<span style="width:{100 * share:.0f}%"></span></span><span class="quiet">{c.sharpness:.2f}</span>'
            )
        if c.blur_probability is not None:
            scores.append(f'<span class="quiet">blur {100 * c.blur_probability:.0f} %</span>')
        state = (
            ""
            if c.kept and c.registered
            else f'<span class="badge bad">{text(c.reason or ("no camera" if c.kept else "left out"))}</span>'
        )
        parts.append(
            f'<li class="{"kept" if c.kept and c.registered else "left-out"}">{picture}'
            f'<span class="file">{name(c.name)}</span><span class="scores">{"".join(scores)}</span>{state}</li>'
        )
    return f'<ul class="sheet">{"".join(parts)}</ul>' if parts else ""


def evidence(frames: Sequence[ReportFrame], sizes: Sizes, reasons: dict[str, str]) -> str:
    """Per frame: the paths over the photo, where its pixels come from, and how far it can be trusted."""
    parts = []
    for frame in evenly_chosen(frames, sizes.evidence):
        if frame.by_network:
            parts.append(_network_evidence(frame, sizes, reasons))
            continue
        photo = _photo(frame, sizes.evidence_px, sizes.quality)
        if photo is None:
            continue
        label = name(frame.name)
        picture = f'<img src="{photo}" alt="{label}, observed" decoding="async">'
        overlay = f'<div class="over">{picture}{paths_svg(frame)}</div>'
        support = None if frame.support is None else data_uri(frame.support, sizes.evidence_px, sizes.quality)
        trust_map = (
            f'<img src="{support}" alt="{label}: where the pixels of the sharp frame come from" decoding="async">'
            if support else '<div class="empty">no map</div>'
        )  # fmt: skip
        parts.append(
            f'<article class="frame"><h3>{label}</h3><div class="pair"><figure>{overlay}<figcaption>Camera path during '
            f"the exposure</figcaption></figure><figure>{trust_map}<figcaption>Support and trust: where the pixels "
            f"come from</figcaption></figure></div>{_verdict(frame, reasons)}</article>"
        )
    return "".join(parts)


def _network_evidence(frame: ReportFrame, sizes: Sizes, reasons: dict[str, str]) -> str:
    """There is no path and no support: the photo, and what the network made of it."""
    label, figures = name(frame.name), []
    for path, caption in ((frame.observed, "As recorded"), (frame.sharp, "By a neural network alone")):
        uri = None if path is None else data_uri(path, sizes.evidence_px, sizes.quality)
        if uri is not None:
            picture = f'<img src="{uri}" alt="{label}: {caption.lower()}" decoding="async">'
            figures.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
    return (
        f'<article class="frame"><h3>{label}</h3><div class="pair">{"".join(figures)}</div>'
        f"{_verdict(frame, reasons)}</article>"
    )


def _photo(frame: ReportFrame, width: int, quality: int) -> str | None:
    return None if frame.observed is None else data_uri(frame.observed, width, quality)


def paths_svg(frame: ReportFrame) -> str:
    """The paths of some points of the scene; a dot where each is at mid-exposure."""
    lines, dots = [], []
    for path in frame.paths:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in path)
        lines.append(f'<polyline points="{points}"/>')
        x, y = path[len(path) // 2]
        dots.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{frame.width / 160:.1f}"/>')
    width = f"{frame.width / 110:.1f}", f"{frame.width / 240:.1f}"
    return (
        f'<svg viewBox="0 0 {frame.width} {frame.height}" role="img" '
        f'aria-label="paths of {len(lines)} scene points, longest {frame.path_px:.0f} pixels">'
        f'<g class="halo" stroke-width="{width[0]}">{"".join(lines)}</g>'
        f'<g class="path" stroke-width="{width[1]}">{"".join(lines)}</g><g class="mid">{"".join(dots)}</g></svg>'
    )


def _verdict(frame: ReportFrame, reasons: dict[str, str]) -> str:
    shares = [(key, number(frame.trust.get(key))) for key in ("own", "recovered", "guessed")]
    trust = number(frame.trust.get("trust"))
    if frame.by_network:
        return (
            '<div class="shares" role="img" aria-label="all by a neural network"><span class="network" '
            'style="flex-grow:1"></span></div><p class="verdict"><span class="badge bad">network alone</span> No '
            "camera was found for this photo; every pixel comes from a neural network.</p>"
        )
    if trust is None or any(value is None for _, value in shares):
        return '<p class="quiet">No self-check for this frame.</p>'
    words = {"own": "sharp in this frame", "recovered": "from other frames", "guessed": "a guess"}
    spoken = ", ".join(f"{words[key]} {100 * (value or 0):.0f} %" for key, value in shares)
    bars = "".join(
        f'<span class="{key}" style="flex-grow:{max(value or 0, 0):.4f}"></span>' for key, value in shares
    )
    recorded = number(frame.trust.get("support"))
    share = "" if recorded is None else f"; recorded by any photo {100 * recorded:.0f} %"
    why = "; ".join(text(reasons.get(str(r), str(r))) for r in frame.trust.get("reasons", []))
    badge = (
        '<span class="badge good">reliable</span>'
        if frame.trust.get("reliable") else f'<span class="badge bad">look twice</span> {why}'
    )  # fmt: skip
    return (
        f'<div class="shares" role="img" aria-label="{text(spoken)}">{bars}</div>'
        f'<p class="verdict"><strong>{100 * trust:.0f} % trust</strong> {badge} '
        f'<span class="quiet">{text(spoken + share)}; path {frame.path_px:.1f} px</span></p>'
    )
