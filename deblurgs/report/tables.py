"""The table parts of a report: how the cameras were found, what each stage took, the settings."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from deblurgs.report.data import Candidate, ReportData, number
from deblurgs.report.markup import name, seconds, table, text


def registration(candidates: Sequence[Candidate], data: ReportData) -> str:
    """Every frame: whether a camera was found for it, and why not."""
    by_name = {frame.name: frame for frame in data.frames}
    rows = []
    for c in candidates:
        if not c.kept:
            state = '<span class="badge bad">left out</span>'
        elif c.registered:
            state = '<span class="badge good">camera found</span>'
        else:
            state = '<span class="badge bad">no camera</span>'
        frame = by_name.get(c.name)
        path = f"{frame.path_px:.1f} px" if frame is not None and frame.path_px else "-"
        trust = number(frame.trust.get("trust")) if frame is not None else None
        rows.append(
            [
                name(c.name),
                state,
                path,
                "-" if trust is None else f"{100 * trust:.0f} %",
                text(c.reason) or "-",
            ]
        )
    if not rows:
        return ""
    return table(["frame", "camera", "path in exposure", "trust", "reason"], rows, caption="Registration")


def ladder(sfm: Mapping[str, Any]) -> str:
    """What was tried to find the cameras, and what came of it."""
    rows = []
    tried = sfm.get("tried")
    for rung in tried if isinstance(tried, list) else []:
        if not isinstance(rung, dict):
            continue
        spent = rung.get("seconds")
        parts = [number(v) or 0.0 for v in spent.values()] if isinstance(spent, dict) else []
        rows.append(
            [
                text(rung.get("rung", "?")), text(rung.get("registered", "-")), text(rung.get("points", "-")),
                _px(rung.get("error_px")), seconds(sum(parts)) if parts else "-",
                '<span class="badge good">kept</span>' if rung.get("kept") else text(rung.get("why") or "not kept"),
            ]
        )  # fmt: skip
    if not rows:
        return ""
    return table(["attempt", "frames", "points", "error", "time", "result"], rows, caption="What was tried")


def _px(value: Any) -> str:
    known = number(value)
    return "-" if known is None else f"{known:.2f} px"


def stages(manifest: Mapping[str, Any]) -> str:
    """Time and memory per stage, with a bar for the share of the time, and the warnings."""
    entries = {k: v for k, v in (manifest.get("stages") or {}).items() if isinstance(v, dict)}
    spent = {key: number(entry.get("seconds")) for key, entry in entries.items()}
    total = sum(v or 0.0 for v in spent.values())
    rows, warnings = [], []
    for key, entry in entries.items():
        share = 100 * (spent[key] or 0.0) / (total or 1.0)
        memory = max(number(entry.get(f)) or 0.0 for f in ("peak_memory_mb", "peak_child_memory_mb"))
        rows.append(
            [
                text(key), text(entry.get("status", "-")), seconds(spent[key]),
                f'<span class="meter wide" role="img" aria-label="{share:.0f} percent of the time">'
                f'<span style="width:{share:.1f}%"></span></span>',
                f"{memory:.0f} MB" if memory else "-",
            ]
        )  # fmt: skip
        warnings += [f"<li><strong>{text(key)}</strong> {text(w)}</li>" for w in entry.get("warnings") or []]
    rows.append(["all", "", seconds(total), "", ""])
    said = f'<ul class="warnings">{"".join(warnings)}</ul>' if warnings else "<p>No warnings.</p>"
    head = ["stage", "status", "time", "share", "peak memory"]
    return table(head, rows, caption="Time and memory") + f"<h3>Warnings</h3>{said}"


def reproduce(data: ReportData) -> str:
    """The exact command, versions and settings."""
    versions = data.manifest.get("versions") or {}
    listed = ", ".join(f"{text(k)} {text(v)}" for k, v in versions.items())
    settings = json.dumps(data.config, indent=1, ensure_ascii=False)
    return (
        f'<pre class="command" tabindex="0" aria-label="command line"><code>{text(data.command)}</code></pre>'
        f'<p class="quiet">{listed}; {text(data.manifest.get("threads", "?"))} threads</p>'
        f"<details><summary>Settings that differ from the preset</summary><pre><code>{text(settings)}</code></pre>"
        "</details>"
    )
