"""Text into HTML: everything that comes from a user's files passes through here."""

import html
from collections.abc import Iterable, Sequence

from deblurgs.export.html import visible

MAX_NAME = 120


def text(value: object) -> str:
    """Escaped, and without characters that nobody sees."""
    return html.escape(visible(str(value)), quote=True)


def name(value: str) -> str:
    """A file name: escaped and cut to a readable length."""
    return text(value if len(value) <= MAX_NAME else value[: MAX_NAME - 1] + "…")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str) -> str:
    """Cells are HTML already; heads and the caption are text. The first cell of a row is its header."""
    columns = "".join(f'<th scope="col">{text(h)}</th>' for h in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def seconds(value: float | None) -> str:
    """12.3 s, 4 min 05 s, 1 h 02 min."""
    if value is None:
        return "-"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
